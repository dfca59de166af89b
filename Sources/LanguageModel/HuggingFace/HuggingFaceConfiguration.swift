import QuantKernels

/// `config.json` of a Hugging Face directory, translated to the keys that GGUF files state.
///
/// What changes a model's results and is not known here is refused by name; what a decoder of these
/// architectures does not depend on is ignored. Defaults are those of huggingface/transformers'
/// configuration classes. Values are not checked against each other: ``ModelConfiguration`` does that
/// for every file.
struct HuggingFaceConfiguration {
  /// How the linear layers inside the model are held.
  enum Quantization: Equatable {
    case none
    /// AWQ, GPTQ, QUICK or Marlin tensors.
    case int4
    /// Packed ternary codes and `weight_scale`.
    case packedTernary(HuggingFaceTernary.ScaleConvention)
    /// Floats that are rounded to ternary at every forward pass.
    case roundedTernary
  }

  let architecture: ModelConfiguration.Architecture
  let quantization: Quantization
  /// Whether the head is the embedding, whatever else the files hold.
  let tiesHead: Bool
  /// Llama 3's divisors of rotary frequencies, one a pair, or none.
  let frequencyDivisors: [Float]
  let layerCount: Int
  let embeddingLength: Int
  let feedForwardLength: Int
  let headCount: Int
  let keyValueHeadCount: Int
  let headDimension: Int
  /// Tokens that end generation, as the model's own configuration lists them.
  let endOfSequence: [Int]
  let beginningOfSequence: Int?
  let paddingToken: Int?
  /// GGUF's keys of the model, all but the tokenizer's.
  let metadata: [(key: String, value: GGUFValue)]

  /// - Throws: ``QuantError`` `.unsupported` for an architecture, quantization or feature that is not
  ///   run, naming the key; `.invalidData` for a value that is missing or of another type.
  init(path: String) throws(QuantError) {
    let file = ConfigurationFile(path: path, tree: try JSONTree(path: path))
    guard case .object = file.tree else {
      throw QuantError(
        .invalidData, path, "is no JSON object", remedy: "fetch the directory again")
    }
    let (architecture, model) = try Self.architecture(file)
    self.architecture = architecture
    try Self.refuseFeatures(file, model)
    quantization = try Self.quantization(file)
    let isGemma = architecture == .gemma3
    func required(_ key: String, _ fallback: Int? = nil) throws(QuantError) -> Int {
      guard let value = try file.integer(key) ?? fallback else {
        throw file.invalid(key, "is missing")
      }
      guard value >= 1, value <= 1 << 28 else {
        throw file.invalid(key, "is \(value), where 1…2²⁸ is wanted")
      }
      return value
    }
    layerCount = try required("num_hidden_layers")
    guard layerCount <= 1024 else {
      throw file.invalid("num_hidden_layers", "is \(layerCount), above 1024")
    }
    embeddingLength = try required("hidden_size")
    feedForwardLength = try required("intermediate_size")
    headCount = try required("num_attention_heads")
    keyValueHeadCount = try required("num_key_value_heads", headCount)
    headDimension = try required(
      "head_dim", isGemma ? 256 : model == "qwen3" ? 128 : max(1, embeddingLength / headCount))
    guard headDimension <= 1 << 16 else {
      throw file.invalid("head_dim", "is \(headDimension), above 2¹⁶")
    }
    let context = try required("max_position_embeddings", isGemma ? 131_072 : nil)
    tiesHead = try file.bool("tie_word_embeddings") ?? isGemma
    endOfSequence = try file.integers("eos_token_id")
    beginningOfSequence = try file.integers("bos_token_id").first
    paddingToken = try file.integer("pad_token_id")

    let prefix = architecture.rawValue
    var metadata: [(key: String, value: GGUFValue)] = []
    func add(_ key: String, _ value: GGUFValue) { metadata.append(("\(prefix).\(key)", value)) }
    metadata.append(("general.architecture", .text(prefix)))
    if let name = try file.text("_name_or_path")?.split(separator: "/").last {
      metadata.append(("general.name", .text(String(name))))
    }
    for (key, value) in [
      ("block_count", layerCount), ("context_length", context),
      ("embedding_length", embeddingLength), ("feed_forward_length", feedForwardLength),
      ("attention.head_count", headCount), ("attention.head_count_kv", keyValueHeadCount),
      ("attention.key_length", headDimension), ("attention.value_length", headDimension),
    ] { add(key, .uint32(UInt32(value))) }
    add(
      "attention.layer_norm_rms_epsilon",
      .float32(Float(try file.double("rms_norm_eps") ?? (architecture.hasSubNorms ? 1e-5 : 1e-6))))
    if architecture == .llama {
      metadata.append((ModelConfiguration.rotaryStyleKey, .text("halves")))
    }
    let rotary = try HuggingFaceRotary(
      file, headDimension: headDimension, contextLength: context,
      defaultBase: isGemma ? 1e6 : architecture.hasSubNorms ? 500_000 : 10_000)
    frequencyDivisors = rotary.divisors
    for (key, value) in rotary.metadata { add(key, value) }
    for (key, value) in try Self.windows(
      file, architecture, model, layers: layerCount, context: context)
    { add(key, value) }
    if isGemma {
      for (key, gguf) in [
        ("attn_logit_softcapping", "attn_logit_softcapping"),
        ("final_logit_softcapping", "final_logit_softcapping"),
      ] {
        if let cap = try file.double(key) { add(gguf, .float32(Float(cap))) }
      }
      let wanted = layerCount == 62 ? embeddingLength / headCount : headDimension
      let scalar = try file.double("query_pre_attn_scalar") ?? 256
      guard scalar == Double(wanted) else {
        throw file.unsupported(
          "query_pre_attn_scalar", "is \(scalar), the decoder divides by √\(wanted)",
          "use a published Gemma 3 model")
      }
    }
    self.metadata = metadata
  }

  // MARK: Architecture

  private static func architecture(
    _ file: ConfigurationFile
  ) throws(QuantError) -> (ModelConfiguration.Architecture, model: String) {
    let name = file.tree["architectures"]?.elements?.first?.text
    let model = try file.text("model_type") ?? ""
    let known: [(name: String, model: String, ModelConfiguration.Architecture)] = [
      ("LlamaForCausalLM", "llama", .llama), ("MistralForCausalLM", "mistral", .llama),
      ("Qwen2ForCausalLM", "qwen2", .qwen2), ("Qwen3ForCausalLM", "qwen3", .qwen3),
      ("Gemma3ForCausalLM", "gemma3_text", .gemma3), ("BitNetForCausalLM", "bitnet", .bitnetB158),
    ]
    guard let found = known.first(where: { name == nil ? $0.model == model : $0.name == name })
    else {
      throw file.unsupported(
        name == nil ? "model_type" : "architectures",
        "\(quoted(name ?? model)) is not one the decoder runs",
        "use a model of one of these: " + known.map(\.name).joined(separator: ", "))
    }
    let keys = found.2 == .gemma3 ? ["hidden_activation", "hidden_act"] : ["hidden_act"]
    let key = keys.first(where: { file.has($0) }) ?? keys[0]
    let activation = try file.text(key)
    func refused(_ wanted: String) -> QuantError {
      file.unsupported(
        key, "is \(quoted(activation ?? "")), the decoder runs \(wanted)",
        "use a model with that activation")
    }
    switch (found.2, activation) {
    case (.gemma3, nil), (.gemma3, "gelu_pytorch_tanh"): return (.gemma3, found.model)
    case (.gemma3, _): throw refused("gelu_pytorch_tanh")
    case (.bitnetB158, nil), (.bitnetB158, "relu2"): return (.bitnetB158, found.model)
    case (.bitnetB158, "silu"): return (.bitnet, found.model)
    case (.bitnetB158, _): throw refused("relu2 and silu")
    case (_, nil), (_, "silu"), (_, "swish"): return (found.2, found.model)
    default: throw refused("silu")
    }
  }

  /// Keys that change results unless they have one of these values.
  private static let harmless: [(key: String, values: [JSONTree])] = [
    ("num_experts", [.number("0")]), ("num_local_experts", [.number("0")]),
    ("n_routed_experts", [.number("0")]), ("embedding_multiplier", [.number("1")]),
    ("attention_multiplier", []), ("residual_multiplier", [.number("1")]),
    ("logits_scaling", [.number("1")]), ("logit_scale", [.number("1")]), ("clip_qkv", []),
    ("use_qk_norm", [.bool(false)]), ("qk_layernorm", [.bool(false)]),
    ("no_rope_layers", []), ("attention_chunk_size", []),
    ("use_bidirectional_attention", [.bool(false)]), ("position_embedding_type", []),
    ("use_mrope", [.bool(false)]),
  ]

  private static func refuseFeatures(
    _ file: ConfigurationFile, _ model: String
  ) throws(QuantError) {
    for (key, values) in harmless {
      guard let found = file.tree[key], !values.contains(found) else { continue }
      throw file.unsupported(
        key, "the decoder does not run this feature", "use a model without it")
    }
    guard model != "gemma3_text" else { return }
    for key in ["attn_logit_softcapping", "final_logit_softcapping"] where file.has(key) {
      throw file.unsupported(key, "the decoder caps Gemma's logits only", "use a model without it")
    }
  }

  // MARK: Quantization

  private static func quantization(
    _ whole: ConfigurationFile
  ) throws(QuantError) -> Quantization {
    guard let file = try whole.object("quantization_config") else { return .none }
    func refused(_ key: String, _ found: String, _ known: String) -> QuantError {
      file.unsupported(key, "\(found) layers are not read", "use a checkpoint with \(known)")
    }
    let method = try file.text("quant_method") ?? ""
    switch method {
    case "awq", "gptq", "quick", "marlin":
      for key in ["bits", "w_bit"] {
        if let bits = try file.integer(key), bits != 4 {
          throw refused(key, "\(bits)-bit", "4 bits")
        }
      }
      if method == "awq", let version = try file.text("version")?.lowercased(), version != "gemm" {
        throw refused("version", quoted(version), "'gemm'")
      }
      return .int4
    case "bitnet":
      if try file.bool("use_rms_norm") == true {
        throw refused("use_rms_norm", "normalizing", "use_rms_norm false")
      }
      let kept = file.tree["modules_to_not_convert"]?.elements?.compactMap(\.text) ?? []
      if let other = kept.first(where: { $0 != "lm_head" }) {
        throw refused("modules_to_not_convert", quoted(other), "all layers ternary but lm_head")
      }
      switch try file.text("linear_class") ?? "bitlinear" {
      case "bitlinear": return .packedTernary(.divisor)
      case "autobitlinear":
        switch try file.text("quantization_mode") ?? "offline" {
        case "offline": return .packedTernary(.multiplier)
        case "online": return .roundedTernary
        case let other: throw refused("quantization_mode", quoted(other), "online or offline")
        }
      case let other: throw refused("linear_class", quoted(other), "bitlinear or autobitlinear")
      }
    default: throw refused("quant_method", quoted(method), "awq, gptq, quick, marlin or bitnet")
    }
  }

  // MARK: Windows

  /// Keys of layers that see a window only.
  private static func windows(
    _ file: ConfigurationFile, _ architecture: ModelConfiguration.Architecture, _ model: String,
    layers: Int, context: Int
  ) throws(QuantError) -> [(String, GGUFValue)] {
    var window = try file.integer("sliding_window")
    if model == "mistral", !file.states("sliding_window") { window = 4096 }
    // Qwen's files state a window that they do not use.
    if model.hasPrefix("qwen"), try file.bool("use_sliding_window") != true { window = nil }
    let types = file.tree["layer_types"]?.elements?.map(\.text)
    if let types, types.count != layers {
      throw file.invalid("layer_types", "\(types.count) types for \(layers) layers")
    }
    if let other = types?.first(where: { $0 != "full_attention" && $0 != "sliding_attention" }) {
      throw file.unsupported(
        "layer_types", "\(quoted(other ?? "")) is no attention that the decoder runs",
        "use a model of full and sliding attention")
    }
    if architecture == .gemma3 {
      let window = window ?? 4096
      guard window > 0, window <= 1 << 28 else {
        throw file.invalid("sliding_window", "is \(window)")
      }
      var keys: [(String, GGUFValue)] = [
        ("attention.sliding_window", .uint32(UInt32(window)))
      ]
      if let types {
        keys.append(
          (
            "attention.sliding_window_pattern",
            .array(.bool, types.map { .bool($0 == "sliding_attention") })
          ))
      } else {
        let key =
          file.has("sliding_window_pattern") ? "sliding_window_pattern" : "_sliding_window_pattern"
        let period = try file.integer(key)
        keys.append(
          ("attention.sliding_window_pattern", .uint32(UInt32(clamping: period ?? 6))))
      }
      return keys
    }
    let hasLocal = types.map { $0.contains("sliding_attention") } ?? (window != nil)
    guard hasLocal, let window, window < context else { return [] }
    // Qwen2 lets the first layers see all; where that is all of them, there is no window.
    if types == nil, model.hasPrefix("qwen"),
      try file.integer("max_window_layers") ?? 28 >= layers
    {
      return []
    }
    throw file.unsupported(
      "sliding_window", "the decoder runs windows (\(window)) in Gemma 3 only",
      "use a model without them")
  }
}
