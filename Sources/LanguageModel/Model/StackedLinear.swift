import QuantKernels

/// Linear layers that read the same input, as one product: their outputs stand side by side in a
/// row.
///
/// Neighbors of one tensor type are packed as one matrix, so that Q, K and V cost one fork and
/// join; files that mix types (Q4_K with Q6_K values) get one matrix a run of equal types.
final class StackedLinear: Sendable {
  let rows: Int
  let columns: Int
  private let blocks: [(weights: PackedWeights, firstRow: Int)]
  /// One value an output row, or nil when no member has a bias.
  let bias: FloatBuffer?
  /// Bytes that a product of one row reads.
  let byteCount: Int

  /// One member: a matrix of the file and its bias, if any.
  struct Member {
    let tensor: GGUFTensor
    let bias: [Float]?
  }

  init(
    _ members: [Member], columns: Int, file: GGUFFile, instructionSet: InstructionSet,
    pool: WorkerPool
  ) throws(QuantError) {
    let tensors = ModelTensors(file: file)
    var blocks: [(weights: PackedWeights, firstRow: Int)] = []
    var firstRow = 0
    var next = 0
    while next < members.count {
      let type = try tensors.type(of: members[next].tensor)
      var parts: [(bytes: UnsafeRawBufferPointer, rows: Int)] = []
      var names: [String] = []
      var height = 0
      while next < members.count, members[next].tensor.type == type {
        let tensor = members[next].tensor
        parts.append((bytes: file.bytes(of: tensor), rows: tensor.rows))
        names.append(tensor.name)
        height += tensor.rows
        next += 1
      }
      let weights = try PackedWeights(
        type: type, parts: parts, columns: columns, name: names.joined(separator: " + "),
        instructionSet: instructionSet, pool: pool)
      blocks.append((weights, firstRow))
      firstRow += height
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

  /// `y[i] = W x[i]`, without the bias: `x` is `[count × columns]`, `y` `[count × rows]`.
  func multiply(
    _ x: UnsafePointer<Float>, count: Int, into y: UnsafeMutablePointer<Float>,
    arithmetic: Arithmetic, workspace: Workspace, pool: WorkerPool
  ) throws(QuantError) {
    // By index: an unoptimized build allocates iterators, and a decode step must not, in tests
    // either.
    for index in 0..<blocks.count {
      let block = blocks[index]
      try block.weights.multiply(
        x, count: count, into: y + block.firstRow, outputStride: rows, arithmetic: arithmetic,
        workspace: workspace, pool: pool)
    }
  }
}
