import QuantKernels

/// Linear layers that read the same input, as one product: their outputs stand side by side in a
/// row.
///
/// Neighbors of one tensor type, or all of them ternary, are packed as one matrix, so that Q, K and V
/// cost one fork and join; files that mix types (Q4_K with Q6_K values) get one matrix a run.
final class StackedLinear: Sendable {
  let rows: Int
  let columns: Int
  private let blocks: [(weights: Weights, firstRow: Int)]
  /// One value an output row, or nil when no member has a bias.
  let bias: FloatBuffer?
  /// Bytes that a product of one row reads.
  let byteCount: Int

  /// One member: a matrix of the file, a factor of its values and its bias, if any.
  struct Member {
    let tensor: GGUFTensor
    var scale: Float?
    let bias: [Float]?
  }

  /// How matrices become kernels' weights.
  struct Packing {
    let file: GGUFFile
    let instructionSet: InstructionSet
    let arithmetic: Arithmetic
    let ternary: TernaryWeights
    let i2sOrder: I2SOrder
    let pool: WorkerPool
  }

  private enum Weights {
    case blocks(PackedWeights)
    case ternary(PackedTernary)

    var byteCount: Int {
      switch self {
      case .blocks(let weights): weights.byteCount
      case .ternary(let weights): weights.byteCount
      }
    }
  }

  init(_ members: [Member], columns: Int, packing: Packing) throws(QuantError) {
    var blocks: [(weights: Weights, firstRow: Int)] = []
    var firstRow = 0
    var next = 0
    while next < members.count {
      let (weights, count) = try Self.pack(members[next...], columns: columns, packing)
      blocks.append((weights, firstRow))
      firstRow += members[next..<next + count].reduce(0) { $0 + $1.tensor.rows }
      next += count
    }
    self.blocks = blocks
    rows = firstRow
    self.columns = columns
    byteCount = blocks.reduce(0) { $0 + $1.weights.byteCount }
    if members.contains(where: { $0.bias != nil }) {
      bias = FloatBuffer(
        members.flatMap { $0.bias ?? [Float](repeating: 0, count: $0.tensor.rows) })
    } else {
      bias = nil
    }
  }

  /// Packs the longest run of members that make one matrix, at least one.
  private static func pack(
    _ members: ArraySlice<Member>, columns: Int, _ packing: Packing
  ) throws(QuantError) -> (Weights, count: Int) {
    let ternary = members.prefix { TernaryWeights.mayBeTernary($0.tensor) }
    // Kernels of blocks have float products of TQ types too, at an eighth of the floats' bytes.
    let takesBlocks =
      packing.arithmetic == .exact
      && ternary.allSatisfy {
        !TernaryWeights.hasOneScale($0.tensor) && $0.scale == nil
      }
    if !ternary.isEmpty, !takesBlocks,
      let matrix = try TernaryWeights.matrix(
        ternary, columns: columns, file: packing.file, order: packing.i2sOrder)
    {
      if packing.arithmetic == .exact { return (try exact(matrix, packing), ternary.count) }
      let weights = try PackedTernary(
        matrix, format: packing.ternary.format, instructionSet: packing.instructionSet,
        pool: packing.pool)
      return (.ternary(weights), ternary.count)
    }
    let type = try ModelTensors(file: packing.file).type(of: members[members.startIndex].tensor)
    let run = members.prefix { $0.tensor.type == type }
    if let scaled = run.first(where: { $0.scale != nil }) {
      throw QuantError(
        .unsupported, scaled.tensor.name, "a scale beside a matrix that is not ternary",
        remedy: "convert the model again, with the scales in its matrices")
    }
    let weights = try PackedWeights(
      type: type,
      parts: run.map { (bytes: packing.file.bytes(of: $0.tensor), rows: $0.tensor.rows) },
      columns: columns, name: run.map(\.tensor.name).joined(separator: " + "),
      instructionSet: packing.instructionSet, pool: packing.pool)
    return (.blocks(weights), run.count)
  }

  /// Ternary kernels know int8 activations only; with float ones the weights are floats too.
  private static func exact(
    _ matrix: TernaryMatrix, _ packing: Packing
  ) throws(QuantError) -> Weights {
    let values = matrix.dequantized()
    var packed: Result<PackedWeights, QuantError>?
    values.withUnsafeBytes { bytes in
      packed = Result { () throws(QuantError) in
        try PackedWeights(
          type: .f32, parts: [(bytes: bytes, rows: matrix.rows)], columns: matrix.columns,
          name: "ternary", instructionSet: packing.instructionSet, pool: packing.pool)
      }
    }
    guard let packed else {
      throw QuantError(.invalidData, "ternary weights", "there are none", remedy: "report it")
    }
    return .blocks(try packed.get())
  }

  /// `y[i] = W x[i]`, without the bias: `x` is `[count × columns]`, `y` `[count × rows]`.
  func multiply(
    _ x: UnsafePointer<Float>, count: Int, into y: UnsafeMutablePointer<Float>,
    arithmetic: Arithmetic, workspace: Workspace, pool: WorkerPool
  ) throws(QuantError) {
    // By index: an unoptimized build allocates iterators, and a decode step must not, in tests
    // either.
    for index in 0..<blocks.count {
      let y = y + blocks[index].firstRow
      switch blocks[index].weights {
      case .blocks(let weights):
        try weights.multiply(
          x, count: count, into: y, outputStride: rows, arithmetic: arithmetic,
          workspace: workspace, pool: pool)
      case .ternary(let weights):
        try weights.multiply(
          x, count: count, into: y, outputStride: rows, workspace: workspace, pool: pool)
      }
    }
  }
}
