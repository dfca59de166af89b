import QuantKernels

extension ModelConverter {
  /// Int4 safetensors to int4 safetensors, by integer moves.
  func repack(
    _ model: SafetensorsModel, to format: Int4Tensors.Format, path: String, _ work: Work
  ) throws(QuantError) -> Summary {
    if options.groupSize != nil || options.symmetric || options.embeddingType != nil {
      throw QuantError(
        .invalidArgument, source, "is int4 already, and a repack keeps its groups and codes",
        remedy: "leave --group, --symmetric and --embeddings out")
    }
    let declared = model.files.lazy.compactMap { $0.metadata["checkpoint_format"] }.first
    let weights = model.tensors.filter { Int4Layers.isWeight($0.name) }
    let layers = Set(weights.map { Int4Layers.layer(ofWeight: $0.name) })
    var packed: [(layer: String, matrix: Int4Matrix)] = []
    var summary = Summary()
    for (index, weight) in weights.enumerated() {
      try work.check()
      let layer = Int4Layers.layer(ofWeight: weight.name)
      let tensors = try Int4Layers.read(
        layer, from: model, storesZeroPointsWhole: declared == "gptq_v2")
      packed.append((layer, try Int4Matrix(tensors)))
      summary.groupSize = tensors.groupSize
      work.report(index, of: 2 * weights.count)
    }
    let final = Self.finalFormat(format, packed.map(\.matrix))
    var writer = SafetensorsWriter(metadata: Self.metadata(final, groupSize: summary.groupSize))
    for (index, entry) in packed.enumerated() {
      try work.check()
      try Int4Layers.add(try Self.tensors(entry, final), layer: entry.layer, to: &writer)
      work.report(packed.count + index, of: 2 * packed.count)
    }
    for tensor in model.tensors
    where !Int4Layers.isWeight(tensor.name) && !Int4Layers.isCompanion(tensor.name, of: layers) {
      try writer.addTensor(tensor.name, type: tensor.type, shape: tensor.shape) {
        sink throws(QuantError) in try sink.write(model.bytes(of: tensor))
      }
      summary.tensors += 1
    }
    summary.converted = packed.count
    summary.exact = packed.count
    summary.tensors += packed.count
    try writer.write(to: path, isCancelled: work.isCancelled)
    return summary
  }

  /// Old GPTQ holds zero points 1…16. If any is 0, all layers are written in its second version, which holds 0…15.
  static func finalFormat(
    _ format: Int4Tensors.Format, _ matrices: [Int4Matrix]
  ) -> Int4Tensors.Format {
    guard format == .gptq else { return format }
    let hasZero = matrices.contains {
      if case .zeroPoints(let zeros) = $0.offsets { return zeros.contains(0) }
      return false
    }
    return hasZero ? .gptqV2 : .gptq
  }

  static func tensors(
    _ entry: (layer: String, matrix: Int4Matrix), _ format: Int4Tensors.Format
  ) throws(QuantError) -> Int4Tensors {
    do throws(QuantError) {
      return try entry.matrix.tensors(format)
    } catch {
      throw QuantError(
        error.code, "layer \(entry.layer), \(error.subject)", error.problem, remedy: error.remedy)
    }
  }

  /// What a loader has to know and the tensors do not say.
  static func metadata(_ format: Int4Tensors.Format, groupSize: Int?) -> [String: String] {
    var metadata = [
      "format": "pt", "bits": "4", "quant_method": format == .gptqV2 ? "gptq" : format.rawValue,
    ]
    if format == .gptq { metadata["checkpoint_format"] = "gptq" }
    if format == .gptqV2 { metadata["checkpoint_format"] = "gptq_v2" }
    if let groupSize { metadata["group_size"] = String(groupSize) }
    return metadata
  }
}
