import DeviceModel

/// Every address vector of a block of ``FlashAttentionKernel``, made once from layout values.
struct FlashAttentionAddresses: Sendable {
  /// A tile's way from device memory to shared memory: 16 bytes a lane, `[round]` of one warp.
  struct Staging: Sendable {
    /// Row and first column of each lane.
    let rows: [Lanes<UInt32>]
    let columns: [Lanes<UInt32>]
    /// Bytes from the tile's start in device memory.
    let from: [Lanes<UInt32>]
    let to: [Lanes<UInt32>]
  }

  /// `[warp]`.
  let queries: [Staging]
  let keys: [Staging]
  let values: [Staging]
  /// `[warp][row block][depth]`.
  let queryOperands: [[[Lanes<UInt32>]]]
  /// `[key block][depth]`.
  let keyOperands: [[Lanes<UInt32>]]
  /// `[step of value keys][load]`.
  let valueOperands: [[Lanes<UInt32>]]
  /// Where output goes in the queries' place: Volta `[warp][row block][load][half]` of 16 bytes,
  /// Ampere `[warp][row block][block][element pair]` of 4.
  let stages: [[[[Lanes<UInt32>]]]]
  let sharedBytes: Int
  /// Bytes from a row of queries (and output) to the next, and of keys.
  let queryRow: Int
  let keyRow: Int

  init(
    _ shape: DeviceAttentionShape, _ tile: FlashAttentionKernel.Tile, _ product: WarpProduct,
    _ order: OperandOrder
  ) throws(QuantError) {
    let width = shape.tileWidth
    let queryTile = try OperandTile(rows: tile.rows, columns: width, order: order)
    let keyTile = try OperandTile(rows: tile.keys, columns: width, order: order)
    let keyStart = queryTile.byteCount
    let valueStart = keyStart + keyTile.byteCount
    sharedBytes = valueStart + keyTile.byteCount
    guard sharedBytes <= 227 << 10 else {
      throw QuantError(
        .unsupported, "attention tile", "\(sharedBytes) bytes of shared memory",
        remedy: "use fewer warps or keys")
    }
    queryRow = shape.heads * shape.pitch * 2
    keyRow = shape.keyValueHeads * shape.pitch * 2
    queries = Self.staging(queryTile, at: 0, rowBytes: queryRow, warps: tile.warps, perWarp: true)
    keys = Self.staging(keyTile, at: keyStart, rowBytes: keyRow, warps: tile.warps)
    values = Self.staging(keyTile, at: valueStart, rowBytes: keyRow, warps: tile.warps)

    func lanes(
      _ layout: OperandTile, at start: Int, _ place: (Int) -> (row: Int, column: Int)
    ) -> Lanes<UInt32> {
      TileAddresses.lanes(layout, place).moved(by: start)
    }
    let blocks = 32 / product.rows
    queryOperands = (0..<tile.warps).map { warp in
      (0..<blocks).map { block in
        (0..<width / product.depth).map { step in
          lanes(queryTile, at: 0) { lane in
            let at = product.leftSource(lane: lane)
            return (
              32 * warp + block * product.rows + at.row, step * product.depth + at.column
            )
          }
        }
      }
    }
    keyOperands = (0..<tile.keys / product.columns).map { block in
      (0..<width / product.depth).map { step in
        lanes(keyTile, at: keyStart) { lane in
          let at = product.rightSource(lane: lane)
          return (block * product.columns + at.row, step * product.depth + at.column)
        }
      }
    }
    valueOperands = (0..<tile.keys / product.valueKeys).map { step in
      (0..<width / product.valueColumns).map { load in
        lanes(keyTile, at: valueStart) { lane in
          let at = product.valueSource(lane: lane, load: load)
          return (step * product.valueKeys + at.row, at.column)
        }
      }
    }
    stages = (0..<tile.warps).map { warp in
      (0..<blocks).map { block in
        if product.family == .ampere {
          return (0..<width / product.columns).map { index in
            (0..<4).map { pair in
              lanes(queryTile, at: 0) { lane in
                (
                  32 * warp + block * product.rows
                    + product.place(lane: lane, element: 2 * pair).row,
                  product.outputColumn(index: index, lane: lane, element: 2 * pair)
                )
              }
            }
          }
        }
        return (0..<width / product.valueColumns).map { load in
          (0..<2).map { half in
            lanes(queryTile, at: 0) { lane in
              let at = product.outputUnit(load: load, half: half, lane: lane)
              return (32 * warp + block * product.rows + at.row, at.column)
            }
          }
        }
      }
    }
  }

  /// 16-byte units of a tile over the lanes of all warps, row after row; or, with `perWarp`, each
  /// warp's own 32 rows over its lanes.
  private static func staging(
    _ layout: OperandTile, at start: Int, rowBytes: Int, warps: Int, perWarp: Bool = false
  ) -> [Staging] {
    let units = layout.columns / 8
    return (0..<warps).map { warp in
      let all = layout.rows * units
      let rounds = (all + 32 * warps - 1) / (32 * warps)
      func unit(_ round: Int, _ lane: Int) -> Int {
        perWarp ? (warp * rounds + round) * 32 + lane : (round * warps + warp) * 32 + lane
      }
      func each(_ value: (Int) -> Int) -> [Lanes<UInt32>] {
        (0..<rounds).map { round in
          Lanes<UInt32>.each { lane in
            UInt32(truncatingIfNeeded: value(unit(round, Int(lane))))
          }
        }
      }
      return Staging(
        rows: each { $0 / units }, columns: each { $0 % units * 8 },
        from: each { $0 / units * rowBytes + $0 % units * 16 },
        to: each { start + layout.byteOffset(row: $0 / units, column: $0 % units * 8) })
    }
  }
}
