import DeviceModel

/// Every address vector of a block of ``MemoryEfficientKernel``, made once from layout values.
struct MemoryEfficientAddresses: Sendable {
  /// Rows of a tile, 8 k or n a lane.
  struct Staging: Sendable {
    let rows: [Lanes<UInt32>]
    let columns: [Lanes<UInt32>]
    let from: [Lanes<UInt32>]
    /// One store of 16 bytes, or two of 8.
    let to: [[Lanes<UInt32>]]
  }

  /// A 16-byte load of rows r and r + 4, four k each; `swapped` when the second comes first.
  struct Pair: Sendable {
    let address: Lanes<UInt32>
    let swapped: Bool
  }

  let rows: Int
  let keys: Int
  let warpRows: Int
  let warpColumns: Int
  /// `[warp]`; slices of 32 of the width step by `sliceBytes` in device memory.
  let queries: [Staging]
  let keyRows: [Staging]
  let values: [Staging]
  /// `[warp][k4 of a slice]`.
  let queryOperands: [[Pair]]
  let keyOperands: [[Pair]]
  /// `[warp][k4 of all keys]`.
  let probabilityOperands: [[Pair]]
  /// `[warp][k4 of a slice]`.
  let valueOperands: [[Lanes<UInt32>]]
  /// `[warp][row block][column block][word]`, 4 bytes each.
  let probabilities: [[[[Lanes<UInt32>]]]]
  /// `[warp][row block · 2 + slot]`: the row's place among maxima, for warp column 0.
  let maxima: [[Lanes<UInt32>]]
  let maximumColumn: Int
  /// The output: `[warp][row block][column block][word]`, then rows to device memory.
  let stages: [[[[Lanes<UInt32>]]]]
  let results: [Staging]
  /// Bytes between the two stages of scores' and values' slices.
  let scoreStage: Int
  let valueStage: Int
  let sharedBytes: Int
  let queryRow: Int
  let keyRow: Int

  init(_ shape: DeviceAttentionShape) throws(QuantError) {
    let width = shape.tileWidth
    let (rows, keys) = width == 64 ? (64, 64) : (32, 128)
    (self.rows, self.keys) = (rows, keys)
    (warpRows, warpColumns) = (rows / 32, 4 * 32 / rows)
    let (warpRows, warpColumns) = (warpRows, warpColumns)
    queryRow = shape.heads * shape.pitch * 2
    keyRow = shape.keyValueHeads * shape.pitch * 2
    let queryTile = CrosswiseTile(rows: rows, columns: 32)
    let keyTile = CrosswiseTile(rows: keys, columns: 32)
    let left = CrosswiseTile(rows: rows, columns: keys)
    let valueTile = CongruousTile(rows: 32, columns: width)
    let outputTile = try OperandTile(rows: rows, columns: width, order: .padded)
    scoreStage = queryTile.byteCount + keyTile.byteCount
    valueStage = valueTile.byteCount
    let keyStart = queryTile.byteCount
    // P takes the place of the scores' operands when they are done; then values, then maxima.
    let valueStart = left.byteCount
    let body = max(2 * scoreStage, max(valueStart + 2 * valueStage, outputTile.byteCount))
    maximumColumn = rows * 4
    sharedBytes = body + warpColumns * maximumColumn

    func addresses(
      _ layout: some TileLayout, at start: Int = 0, _ place: (Int) -> (row: Int, column: Int)
    ) -> Lanes<UInt32> { TileAddresses.lanes(layout, place).moved(by: start) }

    // 4 lanes along the slice, 8 rows a warp.
    func slices(_ layout: CrosswiseTile, at start: Int, rowBytes: Int) -> [Staging] {
      (0..<4).map { warp in
        let rounds = 0..<max(1, layout.rows / 32)
        func row(_ round: Int, _ lane: Int) -> Int { (round * 4 + warp) * 8 + lane / 4 }
        return Staging(
          rows: rounds.map { round in .each { UInt32(row(round, Int($0))) } },
          columns: rounds.map { _ in .each { $0 % 4 * 8 } },
          from: rounds.map { round in
            .each { UInt32(truncatingIfNeeded: row(round, Int($0)) * rowBytes) &+ $0 % 4 * 16 }
          },
          to: rounds.map { round in
            (0..<2).map { half in
              addresses(layout, at: start) { (row(round, $0), $0 % 4 * 8 + 4 * half) }
            }
          })
      }
    }
    queries = slices(queryTile, at: 0, rowBytes: queryRow)
    keyRows = slices(keyTile, at: keyStart, rowBytes: keyRow)
    // 8 lanes along the width, 4 keys a warp.
    let groups = width / 64
    let keyRow = keyRow
    values = (0..<4).map { warp in
      let rounds = 0..<2 * groups
      func place(_ round: Int, _ lane: Int) -> (row: Int, column: Int) {
        let access = round * 4 + warp
        return (access / groups * 4 + lane / 8, access % groups * 64 + lane % 8 * 8)
      }
      return Staging(
        rows: rounds.map { round in .each { UInt32(place(round, Int($0)).row) } },
        columns: rounds.map { round in .each { UInt32(place(round, Int($0)).column) } },
        from: rounds.map { round in
          .each {
            let at = place(round, Int($0))
            return UInt32(truncatingIfNeeded: at.row * keyRow + at.column * 2)
          }
        },
        to: rounds.map { round in
          [addresses(valueTile, at: valueStart) { place(round, $0) }]
        })
    }

    func pair(_ layout: CrosswiseTile, at start: Int, first: Int, k4: Int, group: (Int) -> Int)
      -> Pair
    {
      func row(_ lane: Int, _ block: Int) -> Int {
        first
          + CutlassVoltaTile.spread(
            CutlassVoltaTile.seat(lane).t, block: block, group: group(lane))
      }
      let low = addresses(layout, at: start) { (row($0, 0), 4 * k4) }
      let high = addresses(layout, at: start) { (row($0, 1), 4 * k4) }
      let swapped = low[0] > high[0]
      return Pair(address: swapped ? high : low, swapped: swapped)
    }
    func rowGroup(_ lane: Int) -> Int { CutlassVoltaTile.seat(lane).row }
    func columnGroup(_ lane: Int) -> Int { CutlassVoltaTile.seat(lane).column }
    func firstRow(_ warp: Int) -> Int { warp % warpRows * 32 }
    func firstColumn(_ warp: Int) -> Int { warp / warpRows * 32 }
    queryOperands = (0..<4).map { warp in
      (0..<8).map {
        pair(queryTile, at: 0, first: firstRow(warp), k4: $0, group: rowGroup)
      }
    }
    keyOperands = (0..<4).map { warp in
      (0..<8).map {
        pair(keyTile, at: keyStart, first: firstColumn(warp), k4: $0, group: columnGroup)
      }
    }
    probabilityOperands = (0..<4).map { warp in
      (0..<keys / 4).map {
        pair(left, at: 0, first: firstRow(warp), k4: $0, group: rowGroup)
      }
    }
    valueOperands = (0..<4).map { warp in
      (0..<8).map { k4 in
        addresses(valueTile, at: valueStart) { lane in
          let seat = CutlassVoltaTile.seat(lane)
          return (
            4 * k4 + seat.t & 3, firstColumn(warp) + 8 * seat.column + 16 * (seat.t >> 2)
          )
        }
      }
    }
    func accumulators(_ layout: some TileLayout) -> [[[[Lanes<UInt32>]]]] {
      (0..<4).map { warp in
        (0..<2).map { rowBlock in
          (0..<2).map { columnBlock in
            (0..<4).map { word in
              addresses(layout) { lane in
                let at = CutlassVoltaTile.place(
                  lane: lane, element: 2 * word, rowBlock: rowBlock, columnBlock: columnBlock)
                return (firstRow(warp) + at.row, firstColumn(warp) + at.column)
              }
            }
          }
        }
      }
    }
    probabilities = accumulators(left)
    stages = accumulators(outputTile)
    maxima = (0..<4).map { warp in
      (0..<4).map { state in
        Lanes<UInt32>.each { lane in
          let at = CutlassVoltaTile.place(
            lane: Int(lane), element: state % 2 * 2, rowBlock: state / 2, columnBlock: 0)
          return UInt32(body + (firstRow(warp) + at.row) * 4)
        }
      }
    }
    let units = width / 8
    let queryRow = queryRow
    results = (0..<4).map { warp in
      let rounds = 0..<rows * units / 128
      func unit(_ round: Int, _ lane: Int) -> Int { (round * 4 + warp) * 32 + lane }
      return Staging(
        rows: rounds.map { round in .each { UInt32(unit(round, Int($0)) / units) } },
        columns: rounds.map { round in .each { UInt32(unit(round, Int($0)) % units * 8) } },
        from: rounds.map { round in
          .each {
            let unit = unit(round, Int($0))
            return UInt32(truncatingIfNeeded: unit / units * queryRow + unit % units * 16)
          }
        },
        to: rounds.map { round in
          [addresses(outputTile) { (unit(round, $0) / units, unit(round, $0) % units * 8) }]
        })
    }
  }
}
