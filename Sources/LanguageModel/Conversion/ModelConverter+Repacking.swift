import QuantKernels

extension ModelConverter {
  /// Int4 safetensors to int4 safetensors, by integer moves.
  func repack(
    _ model: SafetensorsModel, to format: Int4Tensors.Format, path: String, _ work: Work
  ) throws(QuantError) -> Summary {
    if options.calibrationText != nil {
      throw QuantError(
        .unsupported, source, "is int4 already, and is not calibrated again",
        remedy: "leave the calibration out")
    }
    if options.groupSize != nil || options.symmetric || options.embeddingType != nil {
      throw QuantError(
        .invalidArgument, source, "is int4 already, and a repack keeps its groups and codes",
        remedy: "leave --group, --symmetric and --embeddings out")
    }
    let declared = try QuantizationConfiguration(of: model).checkpointFormat
    let weights = model.tensors.filter { Int4Layers.isWeight($0.name) }
    let layers = Set(weights.map { Int4Layers.layer(ofWeight: $0.name) })
    // Eight codes a word: one a byte, and packed; of one layer at a time a few copies.
    let words = weights.map { $0.byteCount / 4 }
    try checkMemory(words.map { [16, $0] } + [[32, words.max() ?? 0]])
    var packed: [(layer: String, matrix: Int4Matrix)] = []
    var summary = Summary()
    for (index, weight) in weights.enumerated() {
      try work.check()
      let layer = Int4Layers.layer(ofWeight: weight.name)
      let tensors = try Int4Layers.read(
        layer, from: model, storesZeroPointsWhole: declared == "gptq_v2")
      var matrix = try Int4Matrix(tensors)
      let outputs = model.files.lazy.compactMap { $0.metadata[Int4Layers.outputsKey(layer)] }.first
      if let outputs = outputs.flatMap({ Int($0) }), (1..<matrix.rows).contains(outputs) {
        matrix = try matrix.rows(0..<outputs)
      }
      packed.append((layer, matrix))
      summary.groupSize = tensors.groupSize
      work.report(index, of: 2 * weights.count)
    }
    var moved = MovedOrders(of: model)
    if options.movesInputOrder {
      summary.movedBlocks = try moved.move(&packed, path: source)
    }
    let final = Self.finalFormat(format, packed.map(\.matrix))
    summary.format = final
    var writer = SafetensorsWriter(metadata: Self.metadata(final, groupSize: summary.groupSize))
    writer.metadata.merge(moved.metadata) { _, new in new }
    for (index, entry) in packed.enumerated() {
      try work.check()
      try Self.add(entry, final, to: &writer)
      work.report(packed.count + index, of: 2 * packed.count)
    }
    for tensor in model.tensors
    where !Int4Layers.isWeight(tensor.name) && !Int4Layers.isCompanion(tensor.name, of: layers) {
      try writer.addTensor(tensor.name, type: tensor.type, shape: tensor.shape) {
        sink throws(QuantError) in
        if let order = moved.biasOrders[tensor.name] {
          try sink.write(try MovedOrders.gather(model.bytes(of: tensor), order, tensor.name))
        } else {
          try sink.write(model.bytes(of: tensor))
        }
      }
      summary.tensors += 1
    }
    summary.converted = packed.count
    // A moved layer's codes are the source's, in another order.
    summary.exact = packed.count
    summary.tensors += packed.count
    try writer.write(to: path, isCancelled: work.isCancelled)
    return summary
  }

  /// Old GPTQ holds zero points 1…16. If any is 0, all layers are written in its second version,
  /// which holds 0…15.
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

  /// Adds a layer. QUICK's order comes in blocks of 128 outputs, Marlin's in 64, the others' words
  /// hold 8: a layer of another number is padded with outputs of zeros, and the file's metadata
  /// says how many are real.
  static func add(
    _ entry: (layer: String, matrix: Int4Matrix), _ format: Int4Tensors.Format,
    to writer: inout SafetensorsWriter
  ) throws(QuantError) {
    do throws(QuantError) {
      var matrix = entry.matrix
      let block =
        switch format {
        case .quick: 128
        case .marlin: 64
        case .awq, .gptq, .gptqV2: 8
        }
      if matrix.rows % block != 0 {
        writer.metadata[Int4Layers.outputsKey(entry.layer)] = String(matrix.rows)
        matrix = try padded(matrix, toMultipleOf: block)
      }
      try Int4Layers.add(try matrix.tensors(format), layer: entry.layer, to: &writer)
    } catch {
      throw QuantError(
        error.code, "layer \(entry.layer), \(error.subject)", error.problem, remedy: error.remedy)
    }
  }

  private static func padded(
    _ matrix: Int4Matrix, toMultipleOf multiple: Int
  ) throws(QuantError) -> Int4Matrix {
    let missing = multiple - matrix.rows % multiple
    let groups = missing * matrix.groups
    let offsets: Int4Matrix.Offsets =
      switch matrix.offsets {
      case .symmetric: .symmetric
      case .zeroPoints: .zeroPoints([UInt8](repeating: 8, count: groups))
      case .minimums: .minimums([Float](repeating: 0, count: groups))
      }
    let zeros = try Int4Matrix(
      rows: missing, columns: matrix.columns, groupSize: matrix.groupSize,
      codes: [UInt8](repeating: 8, count: missing * matrix.columns),
      scales: [Float](repeating: 0, count: groups), offsets: offsets,
      inputPermutation: matrix.inputPermutation)
    return try Int4Matrix.joined([matrix, zeros])
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
