import DeviceModel

/// Marlin's int4 matrix product on simulated warps: C = A · dequantized(B), A and C binary16.
///
/// 8 warps a block. The packed words of a tile and its input rows come into shared memory by
/// asynchronous copies, four stages deep; the input's 16-byte units are xored with their row, so
/// that neither copies nor `ldmatrix` meet a bank twice; registers are double-buffered. A word is
/// dequantized once for up to 64 rows. The warps share a tile's columns, 64 each, and its K: warps
/// of the same columns take every second (every fourth in tiles 128 wide) run of 16 inputs and are
/// summed through shared memory. Blocks take equal runs of tiles (striped partition); a column that
/// several of them share is summed in place, in binary16, in lock order from the end of K to its
/// start, each turn of the lock being one pass of the simulation.
///
/// **Order of sums.** For an output, with kw = 4 warp layers (tiles of 128 columns) or 2 (256): layer
/// l of a block's slice is the chain, from 0 and in ascending k, of fused multiply-adds in float32
/// over the inputs k with (k div 16) mod kw = l. A slice is s₀ + (s₁ + (s₃ + s₂)), or s₀ + s₁. The
/// slice at the end of K is rounded to binary16; each further one adds it as float32 and is rounded
/// again. With one group of scales the last result is multiplied by the scale in binary16 after its
/// rounding; with groups each weight is, (q − 8)·s rounded to binary16.
///
/// Differences from the original, all without effect on the result: rows past M of the last panel
/// read row 0's shared memory, where the original reads what an earlier kernel left there (the
/// passes are the same); the register fetch behind the last tile of a slice is left out; a barrier
/// stands behind the result's write, without which a fast warp's next copies could overwrite what a
/// slow one still reads; the last panel of more than 64 rows may be ragged, where the original
/// launches a kernel more.
///
/// Source: IST-DASLab/marlin, `marlin/marlin_cuda_kernel.cu` (arXiv 2408.11743).
public struct MarlinGemm: WarpKernel {
  /// What a block works on at a time.
  public struct Tile: Sendable, Hashable {
    /// Rows of the input: 16, 32, 48 or 64.
    public let rows: Int
    /// Outputs: 128 or 256.
    public let columns: Int
    /// Inputs: 128 or 64.
    public let inputs: Int

    /// The tile that Marlin picks: 128 × 128 up to 16 rows, where an even partition counts most,
    /// else 256 outputs × 64 inputs.
    public init(rows: Int) {
      self.rows = rows <= 16 ? 16 : rows >= 64 ? 64 : (rows + 15) / 16 * 16
      columns = rows <= 16 ? 128 : 256
      inputs = rows <= 16 ? 128 : 64
    }
  }

  /// What a warp keeps.
  public struct Registers: Sendable {
    /// A fragments of two halves of a tile, `[half · blocks of 16 rows + block]`.
    var inputs: [Registers4]
    /// Packed words of two halves of a tile.
    var words = (Registers4(), Registers4())
    /// Eight scales a lane, for each half; with one group the scales of two runs of 32 outputs.
    var scales = (Registers4(), Registers4())
    /// `[block of 16 rows · 8 + n-tile]`.
    var sums: [FloatAccumulator]
  }

  static let warps = 8
  static let stages = 4

  /// Rows of the input, M.
  public let rows: Int
  /// Outputs of the layer, N, without padding.
  public let outputs: Int
  /// Inputs of the layer, K, without padding.
  public let inputs: Int
  /// Inputs that share a scale; `inputs` means one group.
  public let groupSize: Int
  /// What a block works on at a time.
  public let tile: Tile
  /// The order of the packed words.
  public let layout: InterleavedLayout
  /// The order of the scales.
  public let scaleLayout: InterleavedLayout

  public let blocks: Int
  public let passes: Int

  let stripes: MarlinStripes
  let addresses: MarlinAddresses
  /// A, binary16 `[M, padded K]`.
  let input: GlobalBuffer
  /// Packed words.
  let weights: GlobalBuffer
  let scales: GlobalBuffer
  /// C, binary16 `[M, padded N]`.
  let product: GlobalBuffer
  /// One word a column.
  let locks: GlobalBuffer

  public var name: String { "marlin" }
  public var warpsPerBlock: Int { Self.warps }
  /// What the original asks for whatever the tile, so that one block fills a multiprocessor.
  public var sharedBytesPerBlock: Int { 96 << 10 }
  /// Of it, the bytes that the tile needs.
  public var usedSharedBytes: Int { addresses.sharedBytes }

  enum Site: Int, CaseIterable {
    case inputCopy, weightCopy, scaleCopy, inputMatrix, weightLoad, scaleLoad
    case sumStore, sumLoad
    case lockLoad, lockStore, reduceCopy, reduceLoad, reduceStore
    case resultStage, resultLoad, resultStore
  }

  public var sites: [String] {
    [
      "A copy", "B copy", "scale copy", "A ldmatrix", "B load", "scale load",
      "sum store", "sum load",
      "lock load", "lock add", "C copy", "C load", "C partial store",
      "C stage", "C stage load", "C store",
    ]
  }

  /// The product of real weights and inputs.
  ///
  /// - Parameters:
  ///   - matrix: symmetric (or all zero points 8), one group or groups of 128; its input
  ///     permutation is applied to `input` here, as the original knows none.
  ///   - input: `[rows · weights.columns]` binary16 bits, row-major.
  ///   - rows: M, at least 1.
  ///   - multiprocessors: blocks of the grid; the device's SM count.
  ///   - padded: pad outputs to 256 and inputs to 128 with weights of 0 instead of refusing.
  /// - Throws: ``QuantError`` for shapes, groups, offsets or lengths that the kernel does not take,
  ///   and for scales that binary16 cannot hold.
  public init(
    weights matrix: Int4Matrix, input: [UInt16], rows: Int, multiprocessors: Int,
    padded: Bool = false
  ) throws(QuantError) {
    let subject = "Marlin \(matrix.rows)×\(matrix.columns)"
    switch matrix.offsets {
    case .symmetric: break
    case .zeroPoints(let zeros):
      if let bad = zeros.firstIndex(where: { $0 != 8 }) {
        throw QuantError(
          .unsupported, subject, "zero point \(zeros[bad]) of group \(bad)",
          remedy: "Marlin's zero point is 8; quantize symmetrically or use another kernel")
      }
    case .minimums:
      throw QuantError(
        .unsupported, subject, "weights with minimums",
        remedy: "quantize symmetrically or use another kernel")
    }
    let scales = matrix.scales.map(HalfPrecision.half)
    if let bad = scales.firstIndex(where: { !HalfPrecision.isFinite(half: $0) }) {
      throw QuantError(
        .invalidData, subject, "scale \(matrix.scales[bad]) of group \(bad) overflows binary16",
        remedy: "scale the layer down")
    }
    guard rows > 0, !rows.multipliedReportingOverflow(by: matrix.columns).overflow,
      input.count == rows * matrix.columns
    else {
      throw QuantError(
        .invalidArgument, subject, "\(input.count) inputs for \(rows) rows of \(matrix.columns)",
        remedy: "pass rows · columns halves, at least one row")
    }
    try self.init(
      rows: rows, outputs: matrix.rows, inputs: matrix.columns, groupSize: matrix.groupSize,
      multiprocessors: multiprocessors, padded: padded
    ) { layout, scaleLayout throws(QuantError) in
      let (height, width) = (layout.paddedRows, layout.paddedColumns)
      var codes = matrix.codes
      if height != matrix.rows || width != matrix.columns {
        codes = Self.padded(codes, columns: matrix.columns, toRows: height, columns: width, with: 8)
      }
      // Padded outputs need a finite scale; their sums are 0.
      let padding = scaleLayout.rows - matrix.rows
      let allScales = scales + Array(repeating: 0, count: padding * matrix.groups)
      var values = input
      if let order = matrix.inputPermutation {
        for row in 0..<rows {
          for column in 0..<matrix.columns {
            values[row * matrix.columns + column] =
              input[row * matrix.columns + Int(order[column])]
          }
        }
      }
      if width != matrix.columns {
        values = Self.padded(values, columns: matrix.columns, toRows: rows, columns: width, with: 0)
      }
      return (values, try layout.pack(codes, padding: 8), try scaleLayout.pack(halves: allScales))
    }
  }

  /// A kernel of this shape whose buffers hold zeros, for runs that only count.
  ///
  /// - Throws: as ``init(weights:input:rows:multiprocessors:padded:)``.
  public init(
    countingRows rows: Int, outputs: Int, inputs: Int, groupSize: Int, multiprocessors: Int,
    padded: Bool = false
  ) throws(QuantError) {
    try self.init(
      rows: rows, outputs: outputs, inputs: inputs, groupSize: groupSize,
      multiprocessors: multiprocessors, padded: padded, contents: nil)
  }

  private typealias Contents = (
    _ layout: InterleavedLayout, _ scales: InterleavedLayout
  ) throws(QuantError) -> (input: [UInt16], words: [UInt8], scales: [UInt16])

  private init(
    rows: Int, outputs: Int, inputs: Int, groupSize: Int, multiprocessors: Int, padded: Bool,
    contents: Contents?
  ) throws(QuantError) {
    let subject = "Marlin \(outputs)×\(inputs)"
    func refuse(_ problem: String, _ remedy: String) -> QuantError {
      QuantError(.invalidArgument, subject, problem, remedy: remedy)
    }
    guard rows > 0, outputs > 0, inputs > 0, max(rows, outputs, inputs) <= 1 << 24 else {
      throw refuse("\(rows) rows", "use 1 to 2²⁴ rows, outputs and inputs")
    }
    guard multiprocessors > 0, multiprocessors <= 1 << 16 else {
      throw refuse("\(multiprocessors) multiprocessors", "pass the device's count")
    }
    guard padded || (outputs % 256 == 0 && inputs % 128 == 0) else {
      throw refuse(
        "Marlin needs a multiple of 256 outputs and of 128 inputs", "pad the layer, or ask for it")
    }
    guard groupSize == inputs || (groupSize == 128 && inputs % 128 == 0) else {
      throw refuse("group size \(groupSize)", "use 128, or one group for all inputs")
    }
    let height = (outputs + 255) / 256 * 256
    let width = (inputs + 127) / 128 * 128
    let groups = inputs / groupSize
    self.rows = rows
    self.outputs = outputs
    self.inputs = inputs
    self.groupSize = groupSize
    tile = Tile(rows: rows)
    layout = try .marlin(rows: height, columns: width)
    scaleLayout = try .marlinScales(rows: height, groups: groups)
    let panels = (rows + tile.rows - 1) / tile.rows
    stripes = MarlinStripes(
      tilesPerColumn: width / tile.inputs, columns: height / tile.columns * panels,
      blocks: multiprocessors, tilesPerGroup: groups == 1 ? 1 : groupSize / tile.inputs)
    blocks = multiprocessors
    passes = stripes.longestChain
    addresses = try MarlinAddresses(
      rows: rows, outputs: height, tile: tile, weights: layout, scales: scaleLayout)
    let filled = try contents?(layout, scaleLayout)
    let (words, halves) = (layout.byteCount, scaleLayout.byteCount)
    let columns = stripes.columns
    let buffers = try QuantError.translating {
      (
        try filled.map { try GlobalBuffer("A", $0.input) }
          ?? GlobalBuffer("A", byteCount: rows * width * 2),
        try filled.map { try GlobalBuffer("B", $0.words) } ?? GlobalBuffer("B", byteCount: words),
        try filled.map { try GlobalBuffer("scales", $0.scales) }
          ?? GlobalBuffer("scales", byteCount: halves),
        try GlobalBuffer("C", byteCount: rows * height * 2),
        try GlobalBuffer("locks", byteCount: columns * 4)
      )
    }
    (input, weights, scales, product, locks) = buffers
  }

  private static func padded<Value>(
    _ values: [Value], columns: Int, toRows rows: Int, columns width: Int, with padding: Value
  ) -> [Value] {
    var out = [Value](repeating: padding, count: rows * width)
    for row in 0..<values.count / columns {
      for column in 0..<columns { out[row * width + column] = values[row * columns + column] }
    }
    return out
  }

  /// The result after a full run: `[rows · outputs]` binary16 bits.
  public var output: [UInt16] {
    let all = product.contents(as: UInt16.self)
    let width = layout.paddedRows
    guard width != outputs else { return all }
    return (0..<rows).flatMap { all[$0 * width..<$0 * width + outputs] }
  }

  public func makeRegisters() -> Registers {
    let blocks = tile.rows / 16
    return Registers(
      inputs: Array(repeating: Registers4(), count: 2 * blocks),
      sums: Array(repeating: FloatAccumulator(), count: 8 * blocks))
  }

  /// Blocks with the same runs of tiles, turns and panel heights.
  public var blockClasses: [BlockClass] {
    struct Key: Hashable {
      let tiles: Int
      let isFirst: Bool
      let isLast: Bool
      let rows: Int
    }
    var order: [[Key]] = []
    var classes: [[Key]: (representative: Int, count: Int)] = [:]
    for block in 0..<blocks {
      let key = stripes.slices(of: block).map {
        Key(
          tiles: $0.tiles, isFirst: $0.turn == 0, isLast: $0.isLast, rows: panel(of: $0).rows)
      }
      if classes[key] == nil { order.append(key) }
      classes[key, default: (block, 0)].count += 1
    }
    return order.compactMap { key in
      classes[key].map { BlockClass(representative: $0.representative, count: $0.count) }
    }
  }

  /// Whether each weight is scaled, and not the result.
  var isGrouped: Bool { scaleLayout.columns > 1 }

  func panel(of slice: MarlinStripes.Slice) -> MarlinAddresses.Panel {
    let perPanel = layout.paddedRows / tile.columns
    let isLast = slice.column / perPanel == stripes.columns / perPanel - 1
    return isLast ? addresses.last : addresses.full
  }
}
