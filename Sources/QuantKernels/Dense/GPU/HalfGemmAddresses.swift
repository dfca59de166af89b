import DeviceModel

/// Every address vector of a block of ``HalfGemm``, made once from layout values.
struct HalfGemmAddresses: Sendable {
  /// A warp-wide move between two memories.
  struct Move: Sendable {
    let from: Lanes<UInt32>
    let to: Lanes<UInt32>
  }

  /// What depends on how many rows or columns of a tile there are: `[warp][round]` masks of copies,
  /// `[warp][k16][block]` row addresses of `ldmatrix`.
  struct Edge: Sendable {
    let count: Int
    let copyMasks: [[LaneMask]]
    let matrices: [[[Lanes<UInt32>]]]
  }

  /// An operand: both are rows of K.
  struct Operand: Sendable {
    /// `[warp][round]`.
    let copies: [[Move]]
    let stepStride: Int
    let tileStride: Int
    let full: Edge
    let last: Edge
  }

  let left: Operand
  let right: Operand
  /// Half pairs of the result to shared memory: `[warp][row half]` for block (0, 0).
  let stageStores: [[Lanes<UInt32>]]
  let stageBlockRow: Int
  let stageBlockColumn: Int
  /// The staged result to global memory, `[warp][round]`, and each lane's row and column.
  let results: [[Move]]
  let resultRows: [[Lanes<UInt32>]]
  let resultColumns: [[Lanes<UInt32>]]
  /// float32 parts from the accumulators: `[warp][row half]`, each lane's row and column for block
  /// (0, 0).
  let partRows: [[Lanes<UInt32>]]
  let partColumns: [[Lanes<UInt32>]]
  /// The second pass: 4 columns a lane, `[warp][round]`.
  let sumRows: [[Lanes<UInt32>]]
  let sumColumns: [[Lanes<UInt32>]]

  init(rows: Int, outputs: Int, inputs: Int, tile: HalfGemm.Tile) throws(QuantError) {
    func lanes(_ value: (Int) -> Int) -> Lanes<UInt32> {
      .each { UInt32(truncatingIfNeeded: value(Int($0))) }
    }
    func eachWarp<T>(_ rounds: Int, _ value: (_ warp: Int, _ round: Int) -> T) -> [[T]] {
      (0..<tile.warps).map { warp in (0..<rounds).map { value(warp, $0) } }
    }
    let threads = 32 * tile.warps
    let units = tile.inputs / 8

    func operand(
      rows: Int, tileRows: Int, warpRow: (Int) -> Int, blocks: Int, isLeft: Bool
    ) throws(QuantError) -> Operand {
      let memory = try QuantError.translating {
        try RowMajor(rows: rows, columns: inputs, elementBits: 16)
      }
      let stage = try QuantError.translating {
        try Swizzled(
          RowMajor(rows: tileRows, columns: tile.inputs, elementBits: 16),
          units == 8 ? Swizzle(3, 3, 3) : Swizzle(2, 3, 3))
      }
      let base = isLeft ? 0 : tile.inputStageBytes
      let rounds = max(1, tileRows * units / threads)
      func row(_ warp: Int, _ round: Int, _ lane: Int) -> Int {
        (threads * round + 32 * warp + lane) / units
      }
      func edge(_ count: Int) -> Edge {
        Edge(
          count: count,
          copyMasks: eachWarp(rounds) { warp, round in LaneMask { row(warp, round, $0) < count } },
          matrices: (0..<tile.warps).map { warp in
            (0..<tile.inputs / 16).map { k16 in
              (0..<blocks).map { block in
                lanes { lane in
                  // A: matrices are rows 0–7, 8–15 at k 0–7, then both at k 8–15. B: both k of
                  // columns 0–7, then of 8–15.
                  let down = isLeft ? lane % 16 : lane / 16 * 8 + lane % 8
                  let along = isLeft ? lane / 16 : lane / 8 % 2
                  let row = warpRow(warp) + 16 * block + down
                  return base
                    + stage.byteOffset(
                      row: MatrixRows.present(row, of: count), column: 16 * k16 + 8 * along)
                }
              }
            }
          })
      }
      let tiles = (rows + tileRows - 1) / tileRows
      let last = edge(rows - (tiles - 1) * tileRows)
      return Operand(
        copies: eachWarp(rounds) { warp, round in
          Move(
            from: lanes { lane in
              memory.byteOffset(row: row(warp, round, lane), column: lane % units * 8)
            },
            to: lanes { lane in
              base + stage.byteOffset(row: row(warp, round, lane), column: lane % units * 8)
            })
        },
        stepStride: memory.byteOffset(row: 0, column: tile.inputs),
        tileStride: memory.byteOffset(row: tileRows, column: 0),
        full: tiles == 1 || last.count == tileRows ? last : edge(tileRows), last: last)
    }

    let warpRows = tile.rows / tile.warpRows
    let warpColumns = tile.columns / tile.warpColumns
    func firstRow(_ warp: Int) -> Int { warp % tile.warpRows * warpRows }
    func firstColumn(_ warp: Int) -> Int { warp / tile.warpRows * warpColumns }
    left = try operand(
      rows: rows, tileRows: tile.rows, warpRow: firstRow, blocks: tile.warpRowBlocks, isLeft: true)
    right = try operand(
      rows: outputs, tileRows: tile.columns, warpRow: firstColumn,
      blocks: tile.warpColumnBlocks / 2, isLeft: false)

    let staged = try QuantError.translating {
      try RowMajor(
        rows: tile.rows, columns: tile.columns, elementBits: 16, pitch: tile.stagingPitch)
    }
    let output = try QuantError.translating {
      try RowMajor(rows: rows, columns: outputs, elementBits: 16)
    }
    partRows = eachWarp(2) { warp, half in lanes { firstRow(warp) + $0 / 4 + 8 * half } }
    partColumns = eachWarp(2) { warp, _ in lanes { firstColumn(warp) + $0 % 4 * 2 } }
    stageStores = eachWarp(2) { warp, half in
      lanes {
        staged.byteOffset(
          row: firstRow(warp) + $0 / 4 + 8 * half, column: firstColumn(warp) + $0 % 4 * 2)
      }
    }
    stageBlockRow = staged.byteOffset(row: 16, column: 0)
    stageBlockColumn = staged.byteOffset(row: 0, column: 8)

    let resultUnits = tile.columns / 8
    let resultRounds = tile.rows * resultUnits / threads
    func resultRow(_ warp: Int, _ round: Int, _ lane: Int) -> Int {
      (threads * round + 32 * warp + lane) / resultUnits
    }
    resultRows = eachWarp(resultRounds) { warp, round in lanes { resultRow(warp, round, $0) } }
    resultColumns = eachWarp(resultRounds) { _, _ in lanes { $0 % resultUnits * 8 } }
    results = eachWarp(resultRounds) { warp, round in
      Move(
        from: lanes {
          staged.byteOffset(row: resultRow(warp, round, $0), column: $0 % resultUnits * 8)
        },
        to: lanes {
          output.byteOffset(row: resultRow(warp, round, $0), column: $0 % resultUnits * 8)
        })
    }
    let sumUnits = tile.columns / 4
    let sumRounds = tile.rows * sumUnits / threads
    sumRows = eachWarp(sumRounds) { warp, round in
      lanes { (threads * round + 32 * warp + $0) / sumUnits }
    }
    sumColumns = eachWarp(sumRounds) { _, _ in lanes { $0 % sumUnits * 4 } }
  }
}
