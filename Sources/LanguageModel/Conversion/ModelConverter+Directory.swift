import QuantKernels

extension ModelConverter {
  /// Whether an output is to be a Hugging Face directory.
  static func isDirectory(_ output: String) -> Bool {
    output.hasSuffix("/") || FileNames.isFolder(output)
  }

  /// A GGUF file or a directory to a Hugging Face directory, which appears whole or not at all.
  func writeDirectory(to path: String, _ work: Work) throws(QuantError) -> Summary {
    guard try ModelFileKind(path: source) != .safetensors else {
      throw QuantError(
        .unsupported, source, "has no tokenizer and configuration, which a directory needs",
        remedy: "start from a GGUF file or a whole Hugging Face directory")
    }
    let file = try GGUFFile(path: source)
    // What cannot be written is found before the weights are.
    let export = try HuggingFaceExport(file)
    var summary = Summary()
    try AtomicFolder.write(
      to: path, replaceable: HuggingFaceExport.isOwn, isCancelled: work.isCancelled
    ) { folder throws(QuantError) in
      let weights = folder + "/model.safetensors"
      switch target {
      case .gguf(let type): summary = try exportFloats(of: file, as: type, path: weights, work)
      case .native: summary = try exportTernary(of: file, path: weights, work)
      case .safetensors(let format):
        if let directory = file.directory,
          directory.model.tensors.contains(where: { Int4Layers.isWeight($0.name) })
        {
          summary = try repack(directory.model, to: format, path: weights, work)
        } else {
          summary = try exportLayers(
            of: try GGUFCheckpoint(file), as: format, path: weights, vectorType: .f32, work)
        }
      }
      try export.write(to: folder, quantization: quantizationConfiguration(summary))
    }
    return summary
  }

  /// `quantization_config` of what was written.
  private func quantizationConfiguration(_ summary: Summary) -> JSONTree? {
    switch target {
    case .gguf: return nil
    case .native:
      let isMultiplier = options.ternaryConvention == .multiplier
      return .object([
        ("quant_method", .string("bitnet")),
        ("linear_class", .string(isMultiplier ? "autobitlinear" : "bitlinear")),
        ("quantization_mode", .string("offline")),
      ])
    case .safetensors(let wanted):
      let format = summary.format ?? wanted
      var keys: [(key: String, value: JSONTree)] = [
        ("quant_method", .string(format == .gptqV2 ? "gptq" : format.rawValue)),
        ("bits", .integer(4)), ("group_size", .integer(summary.groupSize ?? 128)),
      ]
      switch format {
      case .awq: keys += [("zero_point", .bool(true)), ("version", .string("gemm"))]
      case .gptq, .gptqV2:
        keys += [
          ("desc_act", .bool(options.actOrder)), ("sym", .bool(options.symmetric)),
          ("checkpoint_format", .string(format == .gptq ? "gptq" : "gptq_v2")),
        ]
      case .quick, .marlin: break
      }
      return .object(keys)
    }
  }

  // MARK: Floats

  /// Matrices in a float type, everything of one dimension in float32.
  private func exportFloats(
    of file: GGUFFile, as type: GGMLType, path: String, _ work: Work
  ) throws(QuantError) -> Summary {
    guard let stored = SafetensorsType(float: type) else {
      throw QuantError(
        .unsupported, path, "\(type.name) is no type of a Hugging Face directory",
        remedy: "choose one of f32, f16, bf16, native, awq, gptq, quick, marlin")
    }
    let checkpoint = try GGUFCheckpoint(file, takesTernary: true)
    let embedding = options.embeddingType ?? type
    guard let storedEmbedding = SafetensorsType(float: embedding) else {
      throw QuantError(
        .invalidArgument, "--embeddings \(embedding.name)", "is no float type",
        remedy: "choose one of f32, f16, bf16")
    }
    try checkMemory([
      [8, checkpoint.entries.map { file.tensors[$0.index].elementCount }.max() ?? 0]
    ])
    var writer = SafetensorsWriter(metadata: ["format": "pt"])
    var summary = Summary()
    for entry in checkpoint.entries {
      let tensor = file.tensors[entry.index]
      let isMatrix = Self.isMatrix(tensor)
      let (own, ownStored) =
        !isMatrix ? (.f32, .f32) : entry.isLinear ? (type, stored) : (embedding, storedEmbedding)
      try writer.addTensor(entry.name, type: ownStored, shape: entry.shape) {
        sink throws(QuantError) in
        try work.check()
        try write(tensor, entry, of: checkpoint, as: own, to: sink, work)
      }
      summary.tensors += 1
      if isMatrix {
        summary.converted += 1
        if tensor.type == own { summary.exact += 1 }
      }
    }
    try writer.write(to: path, isCancelled: work.isCancelled) { work.report($0, of: $1) }
    return summary
  }

  /// Writes a tensor in the checkpoint's order of rows.
  private func write(
    _ tensor: GGUFTensor, _ entry: CheckpointEntry, of checkpoint: GGUFCheckpoint,
    as type: GGMLType, to sink: any ByteSink, _ work: Work
  ) throws(QuantError) {
    let file = checkpoint.file
    guard Self.isMatrix(tensor), let source = tensor.type, source.tailBytes == 0 else {
      var values = try checkpoint.floats(entry)
      if let scale = try Self.scale(beside: tensor, in: file) {
        for index in values.indices { values[index] *= scale }
      }
      return try sink.write(try GGMLBlocks.quantize(type, values))
    }
    let rows = RowConversion(
      name: tensor.name, source: source, target: type, columns: tensor.columns, rows: tensor.rows,
      pool: pool)
    guard let order = try checkpoint.rowOrder(tensor) else {
      return try file.withBytes(of: tensor) { bytes throws(QuantError) in
        try rows.write(bytes, to: sink, work)
      }
    }
    let ordered = MovedOrders.gather(Array(file.bytes(of: tensor)), order)
    try ordered.withUnsafeBufferPointer { bytes throws(QuantError) in
      try rows.write(UnsafeRawBufferPointer(bytes), to: sink, work)
    }
  }

  /// The scale that a GGUF file has beside a ternary matrix, if it has one.
  private static func scale(
    beside tensor: GGUFTensor, in file: GGUFFile
  ) throws(QuantError) -> Float? {
    guard tensor.name.hasSuffix(".weight") else { return nil }
    let name = tensor.name.dropLast("weight".count) + "scale"
    return try ModelTensors(file: file).optionalVector(String(name), length: 1)?.first
  }

  // MARK: Ternary

  /// Linear layers packed as BitNet's checkpoints hold them, the rest as floats.
  private func exportTernary(
    of file: GGUFFile, path: String, _ work: Work
  ) throws(QuantError) -> Summary {
    let checkpoint = try GGUFCheckpoint(file, takesTernary: true)
    let embedding = options.embeddingType ?? .f16
    guard let stored = SafetensorsType(float: embedding) else {
      throw QuantError(
        .invalidArgument, "--embeddings \(embedding.name)", "is no float type",
        remedy: "choose one of f32, f16, bf16")
    }
    let largest = checkpoint.entries.map { file.tensors[$0.index].elementCount }.max() ?? 0
    // All codes, four a byte; of one matrix at a time floats, codes and bytes.
    try checkMemory(
      checkpoint.entries.filter(\.isLinear).map { [1, ($0.shape[0] + 3) / 4, $0.shape[1]] }
        + [[10, largest]])
    var writer = SafetensorsWriter(metadata: ["format": "pt"])
    var summary = Summary()
    for (index, entry) in checkpoint.entries.enumerated() {
      try work.check()
      let tensor = file.tensors[entry.index]
      summary.tensors += 1
      guard entry.isLinear else {
        let isMatrix = Self.isMatrix(tensor)
        try writer.addTensor(entry.name, type: isMatrix ? stored : .f32, shape: entry.shape) {
          sink throws(QuantError) in
          try work.check()
          try write(
            tensor, entry, of: checkpoint, as: isMatrix ? embedding : .f32, to: sink, work)
        }
        continue
      }
      var matrix = try ternary(tensor, of: file)
      if let scale = try Self.scale(beside: tensor, in: file) {
        matrix = try matrix.scaled(by: scale)
      }
      if let order = try checkpoint.rowOrder(tensor), let scale = matrix.commonScale {
        matrix = try TernaryMatrix(
          rows: matrix.rows, columns: matrix.columns,
          codes: MovedOrders.gather(matrix.codes, order), scales: .tensor(scale))
      }
      let packed = try matrix.huggingFace(options.ternaryConvention)
      try writer.addTensor(
        entry.name, type: .u8, shape: packed.weightShape, bytes: packed.weights)
      var scale: [UInt8] = []
      scale.append(littleEndian: packed.weightScale.bitPattern)
      try writer.addTensor(entry.name + "_scale", type: .f32, shape: [1], bytes: scale)
      summary.converted += 1
      if tensor.isTernary || tensor.type == .i2_s { summary.exact += 1 }
      work.report(index, of: checkpoint.entries.count)
    }
    try writer.write(to: path, isCancelled: work.isCancelled)
    return summary
  }
}

extension SafetensorsType {
  /// The type of a GGUF float type's elements, or nil for blocks.
  init?(float type: GGMLType) {
    switch type {
    case .f32: self = .f32
    case .f16: self = .f16
    case .bf16: self = .bf16
    default: return nil
    }
  }
}
