import DeviceModel

/// A plain binary16 tensor-core matrix product on simulated warps, as a vendor library runs it: the
/// baseline that weight-only kernels are measured against.
///
/// C = A · Bᵀ with A `[M, K]`, B `[N, K]`, C `[M, N]`, all binary16 and row-major, sums in float32. Both
/// operands come into shared memory by asynchronous copies, several stages deep, 16-byte units xored
/// with their row so that neither copies nor `ldmatrix` meet a bank twice; one barrier a step. The
/// result goes through shared memory, padded by 16 bytes a row, to whole lines. With `splits` above 1
/// the inputs are cut into runs, each a block's; float32 parts go to a workspace and a second pass (a
/// kernel of its own on hardware) adds them.
///
/// **Order of sums.** Each split is one chain, from 0 and in ascending k, of fused multiply-adds in
/// float32; the splits are added in ascending order, starting from the first; one rounding to
/// binary16.
///
/// The tiles are those whose names cuBLAS prints on compute capability 8.x (`..._128x128_32x5`,
/// `256x128_32x3`, `64x64_64x5`), the rest after NVIDIA/cutlass' multistage kernel; stages are cut to
/// fit 100 KB of shared memory. Which one the library would pick is closed; see
/// ``plan(rows:outputs:inputs:multiprocessors:)``.
public struct HalfGemm: WarpKernel {
  /// What a block works on at a time.
  public struct Tile: Sendable, Hashable {
    /// Rows of the input.
    public let rows: Int
    /// Outputs.
    public let columns: Int
    /// Inputs of a step: 32 or 64.
    public let inputs: Int
    /// Warps along the rows and along the outputs.
    public let warpRows: Int
    /// Warps along the outputs.
    public let warpColumns: Int
    /// Steps in flight.
    public let stages: Int

    init(_ rows: Int, _ columns: Int, _ inputs: Int, warps: (Int, Int), stages: Int) {
      self.rows = rows
      self.columns = columns
      self.inputs = inputs
      (warpRows, warpColumns) = warps
      self.stages = stages
    }

    /// 64 × 64, 64 inputs a step, 4 warps.
    public static let m64n64 = Tile(64, 64, 64, warps: (2, 2), stages: 5)
    /// 64 × 128, 32 inputs a step, 4 warps.
    public static let m64n128 = Tile(64, 128, 32, warps: (2, 2), stages: 5)
    /// 128 × 128, 32 inputs a step, 4 warps.
    public static let m128n128 = Tile(128, 128, 32, warps: (2, 2), stages: 5)
    /// 256 × 128, 32 inputs a step, 8 warps.
    public static let m256n128 = Tile(256, 128, 32, warps: (4, 2), stages: 3)

    var warps: Int { warpRows * warpColumns }
    /// 16-row blocks and 8-column blocks of a warp.
    var warpRowBlocks: Int { rows / warpRows / 16 }
    var warpColumnBlocks: Int { columns / warpColumns / 8 }
    var inputStageBytes: Int { rows * inputs * 2 }
    var stageBytes: Int { (rows + columns) * inputs * 2 }
    var stagingPitch: Int { columns + 8 }
    /// Bytes of shared memory: the stages, or the staged result where that is more.
    public var sharedBytes: Int { max(stages * stageBytes, rows * stagingPitch * 2) }
  }

  /// What a warp keeps.
  public struct Registers: Sendable {
    var left: [Registers4]
    /// Two 8-column blocks an entry.
    var right: [Registers4]
    /// `[16-row block · 8-column blocks + 8-column block]`.
    var sums: [FloatAccumulator]
  }

  /// Rows of the input, M.
  public let rows: Int
  /// Outputs, N.
  public let outputs: Int
  /// Inputs, K.
  public let inputs: Int
  /// What a block works on at a time.
  public let tile: Tile
  /// Blocks along K.
  public let splits: Int

  let addresses: HalfGemmAddresses
  let input: GlobalBuffer
  let weights: GlobalBuffer
  let product: GlobalBuffer
  let workspace: GlobalBuffer

  public var name: String { "fp16" }
  public var blocks: Int { rowTiles * columnTiles * splits }
  public var warpsPerBlock: Int { tile.warps }
  public var sharedBytesPerBlock: Int { tile.sharedBytes }
  public var passes: Int { splits > 1 ? 2 : 1 }

  enum Site: Int, CaseIterable {
    case leftCopy, rightCopy, leftMatrix, rightMatrix, stage, stageLoad, store
    case partStore, partLoad
  }

  public var sites: [String] {
    [
      "A copy", "B copy", "A ldmatrix", "B ldmatrix", "C stage", "C stage load", "C store",
      "part store", "part load",
    ]
  }

  /// The product of real weights and inputs.
  ///
  /// - Parameters:
  ///   - weights: `[outputs · inputs]` binary16 bits, row-major.
  ///   - input: `[rows · inputs]` binary16 bits, row-major.
  ///   - splits: blocks along K, at most the steps that K has.
  ///   - rows: M.
  ///   - outputs: N.
  ///   - inputs: K.
  ///   - tile: a block's part of the product.
  /// - Throws: ``QuantError`` when a size is not positive or overflows, a length is wrong, outputs
  ///   are no multiple of 8 or inputs of the tile's step.
  public init(
    weights: [UInt16], input: [UInt16], rows: Int, outputs: Int, inputs: Int, tile: Tile,
    splits: Int = 1
  ) throws(QuantError) {
    try self.init(
      rows, outputs, inputs, tile, splits, contents: (weights: weights, input: input))
  }

  /// A kernel of this shape whose buffers hold zeros, for runs that only count.
  ///
  /// - Throws: as ``init(weights:input:rows:outputs:inputs:tile:splits:)``.
  public init(
    countingRows rows: Int, outputs: Int, inputs: Int, tile: Tile, splits: Int = 1
  ) throws(QuantError) {
    try self.init(rows, outputs, inputs, tile, splits, contents: nil)
  }

  private init(
    _ rows: Int, _ outputs: Int, _ inputs: Int, _ tile: Tile, _ splits: Int,
    contents: (weights: [UInt16], input: [UInt16])?
  ) throws(QuantError) {
    let subject = "fp16 product \(rows)×\(outputs)×\(inputs)"
    func refuse(_ problem: String, _ remedy: String) -> QuantError {
      QuantError(.invalidArgument, subject, problem, remedy: remedy)
    }
    guard rows > 0, outputs > 0, inputs > 0, max(rows, outputs, inputs) <= 1 << 24 else {
      throw refuse("sizes must be 1 to 2²⁴", "correct the shape")
    }
    guard outputs % 8 == 0, inputs % tile.inputs == 0 else {
      throw refuse(
        "outputs must be a multiple of 8 and inputs of \(tile.inputs)", "pad the layer")
    }
    guard splits >= 1, splits <= inputs / tile.inputs else {
      throw refuse(
        "\(splits) splits of \(inputs / tile.inputs) steps", "use 1 to the number of steps")
    }
    if let contents {
      guard contents.weights.count == outputs * inputs, contents.input.count == rows * inputs else {
        throw refuse(
          "\(contents.weights.count) weights and \(contents.input.count) inputs",
          "pass outputs · inputs and rows · inputs halves")
      }
    }
    self.rows = rows
    self.outputs = outputs
    self.inputs = inputs
    self.tile = tile
    self.splits = splits
    addresses = try HalfGemmAddresses(rows: rows, outputs: outputs, inputs: inputs, tile: tile)
    (input, weights, product, workspace) = try QuantError.translating {
      (
        try contents.map { try GlobalBuffer("A", $0.input) }
          ?? GlobalBuffer("A", byteCount: rows * inputs * 2),
        try contents.map { try GlobalBuffer("B", $0.weights) }
          ?? GlobalBuffer("B", byteCount: outputs * inputs * 2),
        try GlobalBuffer("C", byteCount: rows * outputs * 2),
        try GlobalBuffer("workspace", byteCount: splits > 1 ? splits * rows * outputs * 4 : 0)
      )
    }
  }

  /// The tile and splits to use where nothing else is said: the smallest tile that takes all rows up
  /// to 256, and as many splits (a power of two up to 16, at least 256 inputs each) as fill the
  /// multiprocessors.
  ///
  /// Assumed: what cuBLAS picks is closed. Published fp16 times up to 32 rows are those of reading
  /// the weights once, which a grid that fills the device reaches.
  public static func plan(
    rows: Int, outputs: Int, inputs: Int, multiprocessors: Int
  ) -> (tile: Tile, splits: Int) {
    let tile: Tile = rows <= 64 ? .m64n64 : rows <= 128 ? .m128n128 : .m256n128
    let rowTiles = (max(rows, 1) + tile.rows - 1) / tile.rows
    let columnTiles = (max(outputs, 1) + tile.columns - 1) / tile.columns
    let grid = rowTiles * columnTiles
    var splits = 1
    while splits < 16, grid * splits < multiprocessors, inputs / (2 * splits) >= 256 { splits *= 2 }
    return (tile, splits)
  }

  /// The result after a full run: `[rows · outputs]` binary16 bits.
  public var output: [UInt16] { product.contents(as: UInt16.self) }

  public func makeRegisters() -> Registers {
    Registers(
      left: Array(repeating: Registers4(), count: tile.warpRowBlocks),
      right: Array(repeating: Registers4(), count: tile.warpColumnBlocks / 2),
      sums: Array(
        repeating: FloatAccumulator(), count: tile.warpRowBlocks * tile.warpColumnBlocks))
  }

  var rowTiles: Int { (rows + tile.rows - 1) / tile.rows }
  var columnTiles: Int { (outputs + tile.columns - 1) / tile.columns }

  /// Where a block stands: neighbors in the grid share weights.
  struct Place {
    let rowTile: Int
    let columnTile: Int
    let split: Int
    let steps: Range<Int>
    let isLastRow: Bool
    let isLastColumn: Bool
  }

  func place(_ block: Int) -> Place {
    let rowTile = block % rowTiles
    let columnTile = block / rowTiles % columnTiles
    let split = block / (rowTiles * columnTiles)
    let steps = inputs / tile.inputs
    return Place(
      rowTile: rowTile, columnTile: columnTile, split: split,
      steps: steps * split / splits..<steps * (split + 1) / splits,
      isLastRow: rowTile == rowTiles - 1, isLastColumn: columnTile == columnTiles - 1)
  }

  /// Blocks inside, at the last rows, at the last columns, at both; by splits.
  public var blockClasses: [BlockClass] {
    struct Key: Hashable {
      let split: Int
      let rowEdge: Bool
      let columnEdge: Bool
    }
    var order: [Key] = []
    var classes: [Key: (representative: Int, count: Int)] = [:]
    for block in 0..<blocks {
      let place = place(block)
      let key = Key(
        split: place.split, rowEdge: place.isLastRow, columnEdge: place.isLastColumn)
      if classes[key] == nil { order.append(key) }
      classes[key, default: (block, 0)].count += 1
    }
    return order.compactMap { key in
      classes[key].map { BlockClass(representative: $0.representative, count: $0.count) }
    }
  }
}
