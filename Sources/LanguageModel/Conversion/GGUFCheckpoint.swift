import QuantKernels

/// A GGUF file as a Hugging Face checkpoint.
///
/// Converters to GGUF do two things that are undone here: they reorder the rows of Q and K of the
/// `llama` architecture so that rotary pairs stand side by side, and they add 1 to Gemma's norms.
struct GGUFCheckpoint: Checkpoint {
  let file: GGUFFile
  let entries: [CheckpointEntry]
  private let architecture: String
  private let heads: Int?
  private let keyValueHeads: Int?

  /// - Throws: `QuantError` `.unsupported` for an architecture or a tensor without a Hugging Face
  ///   name.
  init(_ file: GGUFFile) throws(QuantError) {
    self.file = file
    let architecture = file.metadata.string("general.architecture") ?? ""
    guard ["llama", "qwen2", "qwen3", "gemma3"].contains(architecture) else {
      throw QuantError(
        .unsupported, file.path, "architecture \(architecture) has no known layer names",
        remedy: "use a model of llama, qwen2, qwen3 or gemma3")
    }
    self.architecture = architecture
    heads = file.metadata.integer("\(architecture).attention.head_count")
    keyValueHeads = file.metadata.integer("\(architecture).attention.head_count_kv") ?? heads
    var entries: [CheckpointEntry] = []
    for (index, tensor) in file.tensors.enumerated() {
      // Frequency divisors follow from the configuration there.
      if tensor.name.hasPrefix("rope_f") { continue }
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
    let width = values.count / order.count
    var ordered: [Float] = []
    ordered.reserveCapacity(values.count)
    for row in order { ordered += values[Int(row) * width..<(Int(row) + 1) * width] }
    return ordered
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
    guard architecture == "llama" else { return nil }
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
    return (0..<rows).map { row in
      let (head, within) = row.quotientAndRemainder(dividingBy: dimension)
      let (half, pair) = within.quotientAndRemainder(dividingBy: dimension / 2)
      return Int32(truncatingIfNeeded: head * dimension + 2 * pair + half)
    }
  }
}
