import DeviceModel

/// Every address vector of a Marlin block, made once from layout values; the kernel's text adds
/// strides to them.
struct MarlinAddresses: Sendable {
  /// A copy of 16 bytes a lane to shared memory, relative to a tile and a stage.
  struct Copy: Sendable {
    let from: Lanes<UInt32>
    let to: Lanes<UInt32>
  }

  /// What depends on how many rows of a panel there are.
  struct Panel: Sendable {
    let rows: Int
    /// Lanes of each warp and round that copy a row of the input: `[warp][round]`.
    let copyMasks: [[LaneMask]]
    /// Row addresses of `ldmatrix` inside a stage: `[warp][half][block of 16 rows]`.
    let matrices: [[[Lanes<UInt32>]]]
    /// Lanes that reduce rows 8·(round div 2)… in global memory, `[round]`.
    let reduceMasks: [LaneMask]
    /// Lanes that write a row of the result, `[warp][round]`.
    let resultMasks: [[LaneMask]]
  }

  /// Shared memory: four stages of input, of weights, of scales.
  let inputStageBytes: Int
  let weightStageBytes: Int
  let scaleStageBytes: Int
  var weightsBase: Int { 4 * inputStageBytes }
  var scalesBase: Int { weightsBase + 4 * weightStageBytes }
  /// Bytes that a block touches.
  var sharedBytes: Int { scalesBase + 4 * scaleStageBytes }

  /// `[warp][round]`.
  let inputCopies: [[Copy]]
  /// Bytes from a tile of the input to the next along K, and from panel to panel.
  let inputTileStride: Int
  let inputPanelStride: Int

  /// `[warp][round]`.
  let weightCopies: [[Copy]]
  let weightTileStride: Int
  let weightColumnStride: Int

  /// The copy of a row of scales by warp 0.
  let scaleCopy: Copy
  let scaleMask: LaneMask
  let scaleGroupStride: Int
  let scaleColumnStride: Int
  /// Where a warp finds its scales inside a stage: one vector with groups, two without.
  let scaleReads: [[Lanes<UInt32>]]

  let full: Panel
  let last: Panel

  /// In-block sum: a lane's place in a warp column's slot, `[warp]`; slot stride and step.
  let sumPlaces: [Lanes<UInt32>]
  let sumSlotBytes: Int
  let sumStepBytes: Int

  /// Reduction in global memory, `[warp][round]`.
  let reduceCopies: [[Copy]]
  /// Result: half pairs to shared memory `[warp][n-tile · 2 + row half]`, 16-row stride; and rows
  /// of 16 bytes a lane from there to global memory `[warp][round]`.
  let resultStores: [[Lanes<UInt32>]]
  let resultBlockStride: Int
  let resultCopies: [[Copy]]
  let outputPanelStride: Int
  let outputColumnStride: Int

  init(
    rows: Int, outputs: Int, tile: MarlinGemm.Tile, weights: InterleavedLayout,
    scales: InterleavedLayout
  ) throws(QuantError) {
    let inputs = weights.paddedColumns
    let input = try QuantError.translating {
      try RowMajor(rows: rows, columns: inputs, elementBits: 16)
    }
    let output = try QuantError.translating {
      try RowMajor(rows: rows, columns: outputs, elementBits: 16)
    }
    // 16-byte units of a row are xored with the row, so that eight lanes meet eight bank groups both
    // when a row is stored and when a column of them is read.
    let rowUnits = tile.inputs / 8
    let stage = try QuantError.translating {
      try Swizzled(
        RowMajor(rows: tile.rows, columns: tile.inputs, elementBits: 16),
        rowUnits == 16 ? Swizzle(4, 3, 4) : Swizzle(3, 3, 3))
    }
    let staged = try QuantError.translating {
      try RowMajor(
        rows: tile.rows, columns: tile.columns, elementBits: 16, pitch: tile.columns + 8)
    }
    let warpColumns = tile.columns / 64
    let warpLayers = MarlinGemm.warps / warpColumns
    let threads = 32 * MarlinGemm.warps
    func lanes(_ value: (Int) -> Int) -> Lanes<UInt32> {
      .each { UInt32(truncatingIfNeeded: value(Int($0))) }
    }
    func eachWarp<T>(_ rounds: Int, _ value: (_ warp: Int, _ round: Int) -> T) -> [[T]] {
      (0..<MarlinGemm.warps).map { warp in (0..<rounds).map { value(warp, $0) } }
    }

    inputStageBytes = stage.byteCount
    weightStageBytes = tile.columns * tile.inputs / 2
    scaleStageBytes = tile.columns * 2

    // Thread i copies unit i of the tile, row by row.
    let inputRounds = max(1, (tile.rows * rowUnits + threads - 1) / threads)
    func inputRow(_ warp: Int, _ round: Int, _ lane: Int) -> Int {
      (threads * round + 32 * warp + lane) / rowUnits
    }
    inputCopies = eachWarp(inputRounds) { warp, round in
      Copy(
        from: lanes { lane in
          input.byteOffset(row: inputRow(warp, round, lane), column: lane % rowUnits * 8)
        },
        to: lanes { lane in
          stage.byteOffset(row: inputRow(warp, round, lane), column: lane % rowUnits * 8)
        })
    }
    inputTileStride = input.byteOffset(row: 0, column: tile.inputs)
    inputPanelStride = input.byteOffset(row: tile.rows, column: 0)

    // A warp copies the 512 bytes that it will itself read: the words of 64 outputs × 16 inputs.
    weightCopies = eachWarp(2) { warp, half in
      let k16 = half * warpLayers + warp / warpColumns
      return Copy(
        from: lanes { lane in
          weights.byteOffset(
            row: warp % warpColumns * 64 + lane / 4, column: 16 * k16 + lane % 4 * 2)
        },
        to: lanes { lane in (threads * half + 32 * warp + lane) * 16 })
    }
    weightTileStride = weights.byteOffset(row: 0, column: tile.inputs)
    weightColumnStride = weights.byteOffset(row: tile.columns, column: 0)

    let scaleUnits = tile.columns / 8
    scaleCopy = Copy(from: lanes { $0 * 16 }, to: lanes { $0 * 16 })
    scaleMask = .first(scaleUnits)
    scaleGroupStride =
      scales.columns == 1 ? 0 : scales.byteOffset(row: 0, column: 1)
    scaleColumnStride = tile.columns * 2
    // With groups a lane's eight scales are those of outputs g + 8·i, as its B fragments lie; with
    // one group those of outputs 2t, 2t + 1 + 8·i, as its accumulators lie.
    let isGrouped = scales.columns > 1
    scaleReads = eachWarp(isGrouped ? 1 : 2) { warp, part in
      lanes { lane in
        let first = warp % warpColumns * 64
        let output = isGrouped ? first + lane / 4 : first + 32 * part + lane % 4 * 2
        return scales.byteOffset(row: output, column: 0)
      }
    }

    let resultUnits = tile.columns / 8
    let resultRounds = max(1, tile.rows * resultUnits / threads)
    func resultRow(_ warp: Int, _ round: Int, _ lane: Int) -> Int {
      (threads * round + 32 * warp + lane) / resultUnits
    }
    func panel(_ count: Int) -> Panel {
      Panel(
        rows: count,
        copyMasks: eachWarp(inputRounds) { warp, round in
          LaneMask { inputRow(warp, round, $0) < count }
        },
        matrices: (0..<MarlinGemm.warps).map { warp in
          (0..<2).map { half in
            (0..<tile.rows / 16).map { block in
              lanes { lane in
                let row = block * 16 + lane % 16
                let k16 = half * warpLayers + warp / warpColumns
                return stage.byteOffset(
                  row: MatrixRows.present(row, of: count), column: 16 * k16 + lane / 16 * 8)
              }
            }
          }
        },
        reduceMasks: (0..<tile.rows / 4).map { round in
          LaneMask { 8 * (round / 2) + $0 / 4 < count }
        },
        resultMasks: eachWarp(resultRounds) { warp, round in
          LaneMask { resultRow(warp, round, $0) < count }
        })
    }
    let panels = (rows + tile.rows - 1) / tile.rows
    let rest = rows - (panels - 1) * tile.rows
    last = panel(rest)
    full = rest == tile.rows || panels == 1 ? last : panel(tile.rows)

    sumStepBytes = 32 * warpColumns * 16
    sumSlotBytes = 8 * sumStepBytes
    sumPlaces = (0..<MarlinGemm.warps).map { warp in
      lanes { (warp % warpColumns * 32 + $0) * 16 }
    }

    reduceCopies = eachWarp(tile.rows / 4) { warp, round in
      Copy(
        from: lanes { lane in
          output.byteOffset(
            row: lane / 4 + 8 * (round / 2),
            column: 8 * (4 * (warp % warpColumns) + lane % 4 + 4 * warpColumns * (round % 2)))
        },
        to: lanes { (warp % warpColumns * 32 + $0 + 32 * warpColumns * round) * 16 })
    }

    resultStores = eachWarp(16) { warp, index in
      lanes { lane in
        staged.byteOffset(
          row: lane / 4 + index % 2 * 8,
          column: warp % warpColumns * 64 + index / 2 * 8 + lane % 4 * 2)
      }
    }
    resultBlockStride = staged.byteOffset(row: 16, column: 0)
    resultCopies = eachWarp(resultRounds) { warp, round in
      Copy(
        from: lanes { lane in
          staged.byteOffset(row: resultRow(warp, round, lane), column: lane % resultUnits * 8)
        },
        to: lanes { lane in
          output.byteOffset(row: resultRow(warp, round, lane), column: lane % resultUnits * 8)
        })
    }
    outputPanelStride = output.byteOffset(row: tile.rows, column: 0)
    outputColumnStride = output.byteOffset(row: 0, column: tile.columns)
  }
}
