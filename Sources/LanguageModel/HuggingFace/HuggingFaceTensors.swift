import QuantKernels

/// The tensors of a checkpoint under GGUF's names, each located in its file, or made.
struct HuggingFaceTensors {
  private(set) var tensors: [GGUFTensor] = []
  /// Bytes of tensors that were made, the ones of ``GGUFTensor/source`` 1.
  private(set) var made: [UInt8] = []
  private(set) var weightScales: [String: Float] = [:]
  private(set) var vocabularySize = 0

  private let model: SafetensorsModel
  private let configuration: HuggingFaceConfiguration
  private let path: String
  /// Names that have been taken.
  private var used: Set<String> = []

  init(_ model: SafetensorsModel, _ configuration: HuggingFaceConfiguration, path: String) {
    self.model = model
    self.configuration = configuration
    self.path = path
  }

  private func failure(
    _ code: QuantError.Code, _ tensor: String, _ problem: String
  ) -> QuantError {
    QuantError(
      code, "\(path): \(String(tensor.prefix(128)))", problem,
      remedy: code == .unsupported
        ? "use a plain checkpoint of this architecture" : "fetch the directory again")
  }

  /// Locates all tensors of the architecture.
  ///
  /// - Throws: ``QuantError`` `.invalidData` for a tensor that is missing or of another shape;
  ///   `.unsupported` for a type that is not read, and for a tensor that the decoder would ignore.
  mutating func readAll() throws(QuantError) {
    let architecture = configuration.architecture.rawValue
    let isGemma = configuration.architecture == .gemma3
    guard let embedding = model.tensor(named: "model.embed_tokens.weight") else {
      throw failure(.invalidData, "model.embed_tokens.weight", "there is no such tensor")
    }
    guard embedding.shape.count == 2, (1...(1 << 24)).contains(embedding.shape[0]) else {
      throw failure(.invalidData, embedding.name, "has the shape \(embedding.shape)")
    }
    vocabularySize = embedding.shape[0]
    let width = configuration.embeddingLength
    var stems: [(stem: String, size: (rows: Int, columns: Int)?)] = [
      ("token_embd", (vocabularySize, width)), ("output_norm", nil),
    ]
    if configuration.tiesHead {
      // Some files repeat it.
      used.insert("lm_head.weight")
    } else {
      stems.append(("output", (vocabularySize, width)))
    }
    let query = configuration.headCount.multipliedReportingOverflow(
      by: configuration.headDimension)
    let keyValue = configuration.keyValueHeadCount.multipliedReportingOverflow(
      by: configuration.headDimension)
    guard !query.overflow, !keyValue.overflow else {
      throw failure(.invalidData, "config.json", "the heads' width overflows")
    }
    let hidden = configuration.feedForwardLength
    let linear: [(String, (rows: Int, columns: Int))] = [
      ("attn_q", (query.partialValue, width)), ("attn_k", (keyValue.partialValue, width)),
      ("attn_v", (keyValue.partialValue, width)), ("attn_output", (width, query.partialValue)),
      ("ffn_gate", (hidden, width)), ("ffn_up", (hidden, width)), ("ffn_down", (width, hidden)),
    ]
    let norms = [
      "attn_norm", "attn_q_norm", "attn_k_norm", "attn_sub_norm", "post_attention_norm",
      "ffn_norm", "ffn_sub_norm", "post_ffw_norm",
    ]
    for layer in 0..<configuration.layerCount {
      stems += linear.map { ("blk.\(layer).\($0.0)", $0.1) }
      stems += norms.map { ("blk.\(layer).\($0)", nil) }
    }
    for (stem, size) in stems {
      let weight = "\(stem).weight"
      guard let name = HuggingFaceNames.name(of: weight, architecture: architecture) else {
        continue
      }
      let base = String(name.dropLast(".weight".count))
      if let size {
        try readMatrix(weight, base: base, size: size, isLinear: stem.hasPrefix("blk."))
      } else if let found = model.place(of: name) {
        if isGemma { try addIncremented(weight, found) } else { try add(weight, found) }
      }
      if let bias = model.place(of: base + ".bias") { try add("\(stem).bias", bias) }
    }
    if !configuration.frequencyDivisors.isEmpty {
      addMade("rope_freqs.weight", configuration.frequencyDivisors)
    }
    try refuseRest()
  }

  // MARK: Kinds

  private mutating func readMatrix(
    _ name: String, base: String, size: (rows: Int, columns: Int), isLinear: Bool
  ) throws(QuantError) {
    if isLinear, configuration.quantization == .int4,
      let words = model.place(of: base + ".qweight") ?? model.place(of: base + ".B")
    {
      // Two codes a byte, and more where outputs are padded: what is compared in full when the layer
      // is read, and what keeps sizes from overflowing before.
      let count = size.rows.multipliedReportingOverflow(by: size.columns)
      guard !count.overflow, count.partialValue / 2 <= words.tensor.byteCount else {
        throw failure(
          .invalidData, words.tensor.name,
          "\(words.tensor.byteCount) bytes do not hold \(size.rows)×\(size.columns) codes")
      }
      append(name, words, size, storage: .int4, type: GGUFStorage.bytesNumber)
      for suffix in [".qzeros", ".scales", ".g_idx", ".s", ".workspace"] {
        used.insert(base + suffix)
      }
      return
    }
    guard let found = model.place(of: base + ".weight") else {
      let isInt4 = model.tensor(named: base + ".qweight") != nil
      throw failure(
        isInt4 ? .unsupported : .invalidData, base + ".weight",
        isInt4
          ? "is an int4 layer, which config.json's quantization_config does not say, or the head"
          : "there is no such tensor")
    }
    let shape = found.tensor.shape
    if isLinear, found.tensor.type == .u8, case .packedTernary = configuration.quantization {
      guard shape == [(size.rows + 3) / 4, size.columns] else {
        throw failure(
          .invalidData, found.tensor.name,
          "has the shape \(shape), where \(size.rows)×\(size.columns) goes by fours of rows")
      }
      weightScales[name] = try scale(base + ".weight_scale")
      append(name, found, size, storage: .packedTernary, type: GGUFStorage.bytesNumber)
      return
    }
    guard shape == [size.rows, size.columns] else {
      throw failure(
        .invalidData, found.tensor.name,
        "has the shape \(shape), where [\(size.rows), \(size.columns)] belongs")
    }
    let type = try floatType(found.tensor)
    if isLinear {
      switch configuration.quantization {
      case .none, .int4: break
      case .roundedTernary:
        return append(name, found, size, storage: .roundedTernary, type: type.rawValue)
      case .packedTernary:
        throw failure(
          .invalidData, found.tensor.name,
          "holds floats, where config.json promises packed ternary codes")
      }
    }
    append(name, found, size, storage: .blocks, type: type.rawValue)
  }

  /// A vector in place.
  private mutating func add(
    _ name: String, _ found: (tensor: SafetensorsTensor, file: Int)
  ) throws(QuantError) {
    guard found.tensor.shape.count == 1, found.tensor.shape[0] > 0 else {
      throw failure(.invalidData, found.tensor.name, "has the shape \(found.tensor.shape)")
    }
    let type = try floatType(found.tensor)
    append(name, found, (1, found.tensor.shape[0]), storage: .blocks, type: type.rawValue)
  }

  /// A norm of Gemma: 1 is added, as GGUF stores it.
  private mutating func addIncremented(
    _ name: String, _ found: (tensor: SafetensorsTensor, file: Int)
  ) throws(QuantError) {
    guard found.tensor.shape.count == 1, found.tensor.shape[0] > 0 else {
      throw failure(.invalidData, found.tensor.name, "has the shape \(found.tensor.shape)")
    }
    addMade(name, try values(found.tensor).map { $0 + 1 })
    used.insert(found.tensor.name)
  }

  private mutating func append(
    _ name: String, _ found: (tensor: SafetensorsTensor, file: Int),
    _ size: (rows: Int, columns: Int), storage: GGUFTensor.Storage, type: UInt32
  ) {
    used.insert(found.tensor.name)
    let isVector = found.tensor.shape.count == 1
    tensors.append(
      GGUFTensor(
        name: name, typeNumber: type, sizes: (size.columns, size.rows, 1, 1),
        rank: isVector ? 1 : 2, offset: found.tensor.offset, byteCount: found.tensor.byteCount,
        storage: storage, source: UInt16(2 + found.file)))
  }

  private mutating func addMade(_ name: String, _ values: [Float]) {
    tensors.append(
      GGUFTensor(
        name: name, typeNumber: GGMLType.f32.rawValue, sizes: (values.count, 1, 1, 1), rank: 1,
        offset: made.count, byteCount: 4 * values.count, source: 1))
    for value in values { made.append(littleEndian: value.bitPattern) }
  }

  // MARK: Values

  private func floatType(_ tensor: SafetensorsTensor) throws(QuantError) -> GGMLType {
    switch tensor.type {
    case .f32: return .f32
    case .f16: return .f16
    case .bf16: return .bf16
    default:
      throw failure(.unsupported, tensor.name, "is of type \(tensor.type.rawValue), not a float")
    }
  }

  private func values(_ tensor: SafetensorsTensor) throws(QuantError) -> [Float] {
    let type = try floatType(tensor)
    var values = [Float](repeating: 0, count: tensor.byteCount / type.blockBytes)
    try values.withUnsafeMutableBufferPointer { values throws(QuantError) in
      try GGMLBlocks.dequantize(type, model.bytes(of: tensor), into: values)
    }
    return values
  }

  private mutating func scale(_ name: String) throws(QuantError) -> Float {
    guard let tensor = model.tensor(named: name) else {
      throw failure(.invalidData, name, "there is no such tensor")
    }
    used.insert(name)
    let found = try values(tensor)
    guard found.count == 1, found[0].isFinite else {
      throw failure(.invalidData, name, "is no single finite number")
    }
    return found[0]
  }

  /// What nobody reads would silently change what the model computes.
  private func refuseRest() throws(QuantError) {
    for tensor in model.tensors where !used.contains(tensor.name) {
      // Frequencies follow from the configuration.
      if tensor.name.hasSuffix(".rotary_emb.inv_freq") { continue }
      throw failure(
        .unsupported, tensor.name, "the decoder of this architecture has no use for this tensor")
    }
  }
}
