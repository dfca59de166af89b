import QuantKernels

/// A GGUF file as a Hugging Face checkpoint.
///
/// Converters to GGUF do two things that are undone here: they reorder the rows of Q and K of the
/// `llama` architecture so that rotary pairs stand side by side, and they add 1 to Gemma's norms. A
/// directory that was opened as a GGUF file has its rows in their own order.
struct GGUFCheckpoint: Checkpoint {
  let file: GGUFFile
  let entries: [CheckpointEntry]
  private let architecture: String
  private let heads: Int?
  private let keyValueHeads: Int?
  /// Elements of a head that are rotated, so permuted; nil: all.
  private let rotaryDimension: Int?
  /// Whether rows of Q and K are permuted.
  private let isPermuted: Bool

  /// - Throws: `QuantError` `.unsupported` for an architecture or a tensor without a Hugging Face
  ///   name.
  ///
  /// - Parameters:
  ///   - takesTernary: whether BitNet's architectures are taken too, whose layers int4 formats do not
  ///     hold.
  ///   - isPermuted: whether rows of Q and K are, where that is not what the file says.
  init(
    _ file: GGUFFile, takesTernary: Bool = false, isPermuted: Bool? = nil
  ) throws(QuantError) {
    self.file = file
    let architecture = file.metadata.string("general.architecture") ?? ""
    let isTernary =
      ModelConfiguration.Architecture(rawValue: architecture)?.hasSubNorms ?? false
    guard
      ["llama", "qwen2", "qwen3", "gemma3"].contains(architecture) || takesTernary && isTernary
    else {
      throw QuantError(
        .unsupported, file.path, "architecture \(architecture) has no known layer names",
        remedy: "use a model of llama, qwen2, qwen3 or gemma3")
    }
    self.architecture = architecture
    heads = file.metadata.integer("\(architecture).attention.head_count")
    keyValueHeads = file.metadata.integer("\(architecture).attention.head_count_kv") ?? heads
    rotaryDimension = file.metadata.integer("\(architecture).rope.dimension_count")
    if let isPermuted {
      self.isPermuted = isPermuted
    } else {
      self.isPermuted =
        architecture == "llama"
        ? try ModelConfiguration.llamaRotaryStyle(file.metadata) == .interleaved : false
    }
    var entries: [CheckpointEntry] = []
    for (index, tensor) in file.tensors.enumerated() {
      // Frequency divisors follow from the configuration there.
      if tensor.name.hasPrefix("rope_f") { continue }
      // Scales beside ternary matrices go into them.
      if takesTernary, tensor.name.hasSuffix(".scale") { continue }
      guard let name = HuggingFaceNames.name(of: tensor.name, architecture: architecture) else {
        throw QuantError(
          .unsupported, "\(file.path): tensor \(tensor.name)", "has no Hugging Face name",
          remedy: "use a plain model of this architecture")
      }
      entries.append(
        CheckpointEntry(
          name: name, shape: tensor.dimensions.reversed(),
          isLinear: tensor.name.hasPrefix("blk.") && ModelConverter.isMatrix(tensor)
            && tensor.name.hasSuffix(".weight"),
          isInt4: tensor.type == .q4_0, index: index))
    }
    self.entries = entries
  }

  func floats(_ entry: CheckpointEntry) throws(QuantError) -> [Float] {
    let tensor = file.tensors[entry.index]
    if let values = try file.foreignFloats(of: tensor) {
      return try rowOrder(tensor).map { MovedOrders.gather(values, $0) } ?? values
    }
    guard let type = tensor.type else {
      throw QuantError(
        .unsupported, "\(file.path): tensor \(tensor.name)", "\(tensor.typeName) cannot be read",
        remedy: "start from a file of a common type, such as F16 or Q8_0")
    }
    var values = [Float](repeating: 0, count: tensor.elementCount)
    var failure: QuantError?
    values.withUnsafeMutableBufferPointer { output in
      do throws(QuantError) {
        try GGMLBlocks.dequantize(type, file.bytes(of: tensor), into: output)
      } catch { failure = error }
    }
    if let failure { throw failure }
    if architecture == "gemma3", tensor.name.hasSuffix("norm.weight") {
      for index in values.indices { values[index] -= 1 }
    }
    guard let order = try rowOrder(tensor) else { return values }
    return MovedOrders.gather(values, order)
  }

  func int4(_ entry: CheckpointEntry) throws(QuantError) -> Int4Matrix? {
    let tensor = file.tensors[entry.index]
    guard entry.isInt4, let type = tensor.type else { return nil }
    let matrix = try Int4Matrix(
      type: type, bytes: file.bytes(of: tensor), rows: tensor.rows, columns: tensor.columns)
    return try rowOrder(tensor).map { order throws(QuantError) in try matrix.permutingRows(order) }
      ?? matrix
  }

  /// Which row of the file stands where: row `[head, half, pair]` of the checkpoint is row
  /// `[head, pair, half]` of a llama file; nil when they agree.
  func rowOrder(_ tensor: GGUFTensor) throws(QuantError) -> [Int32]? {
    guard isPermuted else { return nil }
    let isQuery = tensor.name.contains(".attn_q.")
    guard isQuery || tensor.name.contains(".attn_k.") else { return nil }
    let rows = tensor.dimensions.count == 1 ? tensor.columns : tensor.rows
    // Compared first: what a file states may be too large to double.
    guard let heads = isQuery ? heads : keyValueHeads, heads > 0, heads <= rows,
      rows % (2 * heads) == 0
    else {
      throw QuantError(
        .invalidData, "\(file.path): tensor \(tensor.name)",
        "\(rows) rows do not divide into heads of pairs",
        remedy: "check the file's llama.attention.head_count")
    }
    let dimension = rows / heads
    var rotated = dimension
    if let stated = rotaryDimension, stated > 0, stated < dimension, stated % 2 == 0 {
      rotated = stated
    }
    return (0..<rows).map { row in
      let (head, within) = row.quotientAndRemainder(dividingBy: dimension)
      guard within < rotated else { return Int32(truncatingIfNeeded: row) }
      let (half, pair) = within.quotientAndRemainder(dividingBy: rotated / 2)
      return Int32(truncatingIfNeeded: head * dimension + 2 * pair + half)
    }
  }
}
