import QuantKernels

/// Everything of a Hugging Face directory but the weights: `config.json`, `generation_config.json`
/// and the tokenizer's files.
struct HuggingFaceExport {
  private let file: GGUFFile
  private let configuration: ModelConfiguration
  private let tokenizer: HuggingFaceTokenizerExport
  private let rotaryScaling: JSONTree

  /// Names that a directory of ours may hold, and that a new one replaces.
  static let names = [
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "tokenizer.model", "model.safetensors",
  ]

  static func isOwn(_ name: String) -> Bool { names.contains(name) }

  /// - Throws: ``QuantError`` `.unsupported` for a model or tokenizer that such a directory cannot
  ///   state; as ``ModelConfiguration``.
  init(_ file: GGUFFile) throws(QuantError) {
    self.file = file
    configuration = try ModelConfiguration(file: file)
    tokenizer = try HuggingFaceTokenizerExport(file)
    rotaryScaling = try Self.scaling(file, configuration)
  }

  /// - Parameter quantization: `quantization_config`, or nil for floats.
  func write(to folder: String, quantization: JSONTree?) throws(QuantError) {
    func write(_ name: String, _ bytes: [UInt8]) throws(QuantError) {
      try AtomicFile.write(to: "\(folder)/\(name)") { sink throws(QuantError) in
        try sink.write(bytes)
      }
    }
    try write("config.json", config(quantization).serialized())
    try write("generation_config.json", JSONTree.object(tokenizer.ids).serialized())
    try write("tokenizer.json", try tokenizer.tokenizerJSON().serialized())
    try write("tokenizer_config.json", try tokenizer.settings().serialized())
    if let pieces = tokenizer.pieces { try write("tokenizer.model", pieces.serialized()) }
  }

  private func config(_ quantization: JSONTree?) -> JSONTree {
    let c = configuration
    let (name, model, activation) =
      switch c.architecture {
      case .llama: ("LlamaForCausalLM", "llama", "silu")
      case .qwen2: ("Qwen2ForCausalLM", "qwen2", "silu")
      case .qwen3: ("Qwen3ForCausalLM", "qwen3", "silu")
      case .gemma3: ("Gemma3ForCausalLM", "gemma3_text", "gelu_pytorch_tanh")
      case .bitnet: ("BitNetForCausalLM", "bitnet", "silu")
      case .bitnetB158, .bitnet25: ("BitNetForCausalLM", "bitnet", "relu2")
      }
    let isGemma = c.architecture == .gemma3
    func hasBias(_ tensor: String) -> JSONTree {
      .bool(file.tensor(named: "blk.0.\(tensor).bias") != nil)
    }
    var keys: [(key: String, value: JSONTree)] = [
      ("architectures", .array([.string(name)])), ("model_type", .string(model)),
    ]
    if file.metadata.string("general.name") != nil {
      keys.append(("_name_or_path", .string(c.name)))
    }
    keys += [
      ("vocab_size", .integer(c.vocabularySize)), ("hidden_size", .integer(c.embeddingLength)),
      ("intermediate_size", .integer(c.feedForwardLength)),
      ("num_hidden_layers", .integer(c.layerCount)),
      ("num_attention_heads", .integer(c.headCount)),
      ("num_key_value_heads", .integer(c.keyValueHeadCount)),
      ("head_dim", .integer(c.headDimension)),
      ("max_position_embeddings", .integer(c.contextLength)),
      (isGemma ? "hidden_activation" : "hidden_act", .string(activation)),
      ("rms_norm_eps", .float(c.normEpsilon)), ("rope_theta", .float(Float(c.rotary.base))),
      ("rope_scaling", rotaryScaling),
      ("tie_word_embeddings", .bool(file.tensor(named: "output.weight") == nil)),
      ("attention_bias", hasBias("attn_q")), ("mlp_bias", hasBias("ffn_up")),
    ]
    if c.rotary.dimension != c.headDimension {
      let share = Double(c.rotary.dimension) / Double(c.headDimension)
      keys.append(("partial_rotary_factor", .number("\(share)")))
    }
    if isGemma {
      let divisor =
        c.layerCount == 62 ? c.embeddingLength / c.headCount : c.headDimension
      keys += [
        ("query_pre_attn_scalar", .integer(divisor)),
        ("rope_local_base_freq", .float(Float(c.localRotary.base))),
        ("sliding_window", .integer(c.slidingWindow ?? c.contextLength)),
        (
          "layer_types",
          .array(
            (0..<c.layerCount).map {
              .string(c.isLocal(layer: $0) ? "sliding_attention" : "full_attention")
            })
        ),
        ("attn_logit_softcapping", c.attentionSoftCap.map { .float($0) } ?? .null),
        ("final_logit_softcapping", c.logitSoftCap.map { .float($0) } ?? .null),
      ]
    }
    keys += tokenizer.ids
    if let quantization { keys.append(("quantization_config", quantization)) }
    return .object(keys)
  }

  private static func scaling(
    _ file: GGUFFile, _ configuration: ModelConfiguration
  ) throws(QuantError) -> JSONTree {
    let rotary = configuration.rotary
    func refused(_ problem: String) -> QuantError {
      QuantError(
        .unsupported, "\(file.path): rotary embedding", problem,
        remedy: "convert to a GGUF type, which keeps it")
    }
    if let tensor = file.tensor(named: "rope_freqs.weight") {
      let divisors = try ModelTensors(file: file).vector(tensor, length: rotary.dimension / 2)
      if divisors.allSatisfy({ $0 == 1 }) { return .null }
      guard case .none = rotary.scaling, let found = llama3(divisors, rotary) else {
        throw refused("its frequency divisors are not those of Llama 3's rule")
      }
      return .object([
        ("rope_type", .string("llama3")), ("factor", .number("\(found.factor)")),
        ("low_freq_factor", .number("\(found.lowFrequencyFactor)")),
        ("high_freq_factor", .number("\(found.highFrequencyFactor)")),
        ("original_max_position_embeddings", .integer(found.originalContext)),
      ])
    }
    switch rotary.scaling {
    case .none: return .null
    case .linear(let factor):
      return .object([("rope_type", .string("linear")), ("factor", .float(Float(factor)))])
    case .yarn(let yarn):
      guard yarn.extrapolation == 1 else {
        throw refused("YaRN's extrapolation \(yarn.extrapolation) cannot be stated")
      }
      var keys: [(key: String, value: JSONTree)] = [
        ("rope_type", .string("yarn")), ("factor", .float(Float(yarn.factor))),
        ("original_max_position_embeddings", .integer(yarn.originalContext)),
        ("beta_fast", .float(Float(yarn.betaFast))), ("beta_slow", .float(Float(yarn.betaSlow))),
      ]
      if yarn.attentionFactor != 1 {
        keys.append(("attention_factor", .number("\(rotary.magnitude)")))
      }
      return .object(keys)
    }
  }

  /// The parameters of Llama 3's rule that give these divisors, to float32's last places; files keep
  /// only what follows from them. Published models have the factors 1 and 4, and contexts that are
  /// powers of two.
  private static func llama3(
    _ divisors: [Float], _ rotary: RotaryEmbedding
  ) -> HuggingFaceRotary.Llama3? {
    guard let factor = divisors.max(), factor > 1 else { return nil }
    for exponent in 5...20 {
      let rule = HuggingFaceRotary.Llama3(
        factor: Double(factor), lowFrequencyFactor: 1, highFrequencyFactor: 4,
        originalContext: 1 << exponent)
      let made = rule.divisors(dimension: rotary.dimension, base: rotary.base)
      if zip(made, divisors).allSatisfy({ abs($0 - $1) <= 1e-5 * abs($1) }) { return rule }
    }
    return nil
  }
}
