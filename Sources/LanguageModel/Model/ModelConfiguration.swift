import QuantKernels

/// The shape and the constants of a decoder, as its GGUF file states them.
///
/// Every value was checked when it was read: sizes are positive and bounded, heads divide, floats
/// are finite. What one architecture fixes in code elsewhere (the activation, which rotary style,
/// where norms stand) is spelled out here as data, so that one decoder runs all of them.
public struct ModelConfiguration: Sendable, Equatable {
  /// The architectures that the decoder runs, by their name in `general.architecture`.
  public enum Architecture: String, Sendable, CaseIterable {
    /// Llama 1 to 3 and all that share their graph, SmolLM2 and Mistral among them.
    case llama
    /// Qwen 2: Llama's graph with biases on queries, keys and values.
    case qwen2
    /// Qwen 3: Llama's graph with normalized queries and keys.
    case qwen3
    /// Gemma 3: local and global layers, norms before and after each block.
    case gemma3
    /// BitNet b1.58 as ggml-org/llama.cpp names it: SiLU gates, norms before both output matrices.
    case bitnet
    /// microsoft/BitNet's name of bitnet-b1.58-2B-4T: the same with squared ReLU.
    case bitnetB158 = "bitnet-b1.58"
    /// The same under an older name.
    case bitnet25 = "bitnet-25"

    /// Whether attention's and the gate's outputs are normalized before their output matrices.
    public var hasSubNorms: Bool {
      switch self {
      case .bitnet, .bitnetB158, .bitnet25: true
      case .llama, .qwen2, .qwen3, .gemma3: false
      }
    }
  }

  /// The nonlinearity of the gated feed-forward block.
  public enum Activation: Sendable, Equatable {
    /// `x · sigmoid(x)`.
    case silu
    /// The tanh form of GELU.
    case geluTanh
    /// `max(x, 0)²`.
    case squaredReLU
  }

  /// `general.architecture`.
  public let architecture: Architecture
  /// `general.name`, or the architecture's name.
  public let name: String
  /// Rows of the token embedding, so also the number of logits.
  public let vocabularySize: Int
  /// Decoder layers.
  public let layerCount: Int
  /// Width of the residual stream.
  public let embeddingLength: Int
  /// Hidden channels of a feed-forward block; of this rank's part where the model is shared.
  public internal(set) var feedForwardLength: Int
  /// Query heads.
  public internal(set) var headCount: Int
  /// Key and value heads; each serves `headCount / keyValueHeadCount` query heads.
  public internal(set) var keyValueHeadCount: Int
  /// Elements of a head.
  public let headDimension: Int
  /// Positions that the model was trained for.
  public let contextLength: Int
  /// Epsilon of every RMS norm.
  public let normEpsilon: Float
  /// Which two elements of a head the rotary embedding turns together.
  public let rotaryStyle: RotaryEmbedding.Style
  /// The rotary embedding of layers that see the whole context.
  public let rotary: RotaryEmbedding
  /// The rotary embedding of layers that see a window, if there are such.
  public let localRotary: RotaryEmbedding
  /// Positions that a local layer sees, its own included; nil when every layer sees all.
  public let slidingWindow: Int?
  /// For each layer whether it sees only the window; empty when there is none.
  public let localLayers: [Bool]
  /// Factor of query·key.
  public let attentionScale: Float
  /// Attention scores become `c · tanh(score / c)`; nil: they stay.
  public let attentionSoftCap: Float?
  /// Logits become `c · tanh(logit / c)`; nil: they stay.
  public let logitSoftCap: Float?
  /// Factor of the token embeddings.
  public let embeddingScale: Float
  /// The nonlinearity of the feed-forward blocks.
  public let activation: Activation

  /// Whether a layer sees only ``slidingWindow`` positions.
  public func isLocal(layer: Int) -> Bool {
    layer < localLayers.count && localLayers[layer]
  }

  /// Width of all query heads together.
  public var queryLength: Int { headCount * headDimension }
  /// Width of all key heads together, and of all value heads.
  public var keyValueLength: Int { keyValueHeadCount * headDimension }

  /// Our own key of llama models whose Q and K are in Hugging Face's order, which rotates halves.
  static let rotaryStyleKey = "quantkernels.rotary_style"

  /// - Throws: ``QuantError`` `.unsupported` for a style that is none.
  static func llamaRotaryStyle(_ metadata: GGUFMetadata) throws(QuantError) -> RotaryEmbedding.Style
  {
    guard metadata.type(of: rotaryStyleKey) != nil else { return .interleaved }
    guard metadata.string(rotaryStyleKey) == "halves" else {
      throw QuantError(
        .unsupported, rotaryStyleKey, "is not 'halves'", remedy: "convert the model again")
    }
    return .halves
  }

  /// Reads and checks the configuration of a file.
  ///
  /// - Throws: `QuantError` `.unsupported` for an architecture or variant (experts, longrope,
  ///   unequal key and value widths) that the decoder does not run, `.invalidData` for a missing,
  ///   absurd or inconsistent value.
  public init(file: GGUFFile) throws(QuantError) {
    let metadata = file.metadata
    let found = metadata.string("general.architecture")
    guard let found, let architecture = Architecture(rawValue: found) else {
      let supported = Architecture.allCases.map(\.rawValue).joined(separator: ", ")
      throw QuantError(
        .unsupported, "general.architecture",
        found.map { "architecture '\($0.prefix(64))' is not one the decoder runs" }
          ?? "the file names no architecture",
        remedy: "use a model of one of these: \(supported)")
    }
    let values = CheckedMetadata(metadata: metadata, prefix: found)
    self.architecture = architecture
    name = metadata.string("general.name") ?? found

    try values.refuse("expert_count", unless: 0, "mixtures of experts")
    layerCount = try values.integer("block_count", in: 1...1024)
    embeddingLength = try values.integer("embedding_length", in: 1...(1 << 18))
    feedForwardLength = try values.integer("feed_forward_length", in: 1...(1 << 20))
    contextLength = try values.integer("context_length", in: 1...(1 << 28))
    headCount = try values.integer("attention.head_count", in: 1...4096)
    keyValueHeadCount = try values.integer(
      "attention.head_count_kv", in: 1...4096, default: headCount)
    guard headCount % keyValueHeadCount == 0 else {
      throw values.invalid(
        "attention.head_count_kv",
        "\(keyValueHeadCount) key and value heads do not divide \(headCount) query heads")
    }
    let head = try values.integer(
      "attention.key_length", in: 1...4096, default: embeddingLength / headCount)
    guard head % 2 == 0, head > 0 else {
      throw values.invalid(
        "attention.key_length", "head dimension \(head) is not even and positive")
    }
    headDimension = head
    let valueLength = try values.integer("attention.value_length", in: 1...4096, default: head)
    guard valueLength == head else {
      throw QuantError(
        .unsupported, "\(found).attention.value_length",
        "values of width \(valueLength) beside keys of width \(head)",
        remedy: "use a model whose key and value widths are equal")
    }
    normEpsilon = Float(
      try values.float("attention.layer_norm_rms_epsilon", in: 0...1, default: nil))
    guard let embedding = file.tensor(named: "token_embd.weight") else {
      throw QuantError(
        .invalidData, "token_embd.weight", "the file holds no such tensor",
        remedy: "export the model again")
    }
    guard embedding.dimensions.count == 2, embedding.columns == embeddingLength,
      (1...(1 << 24)).contains(embedding.rows)
    else {
      throw QuantError(
        .invalidData, "token_embd.weight",
        "shape \(embedding.dimensions) where [\(embeddingLength), vocabulary] belongs",
        remedy: "export the model again")
    }
    vocabularySize = embedding.rows

    rotary = try RotaryEmbedding(
      values: values, file: file, headDimension: head, contextLength: contextLength)
    let scale = 1 / Float(head).squareRoot()
    switch architecture {
    case .llama, .qwen2, .qwen3, .bitnet, .bitnetB158, .bitnet25:
      // llama files store permuted Q and K, so that pairs are neighbors; the others rotate halves.
      rotaryStyle =
        architecture == .llama ? try Self.llamaRotaryStyle(metadata) : .halves
      let window = try values.integer("attention.sliding_window", in: 0...(1 << 28), default: 0)
      guard window == 0 || window >= contextLength else {
        throw QuantError(
          .unsupported, "\(found).attention.sliding_window",
          "the decoder runs windows shorter than the context (\(window)) in gemma3 only",
          remedy: "use a model without them")
      }
      slidingWindow = nil
      localLayers = []
      localRotary = rotary
      attentionScale = scale
      attentionSoftCap = nil
      logitSoftCap = nil
      embeddingScale = 1
      activation = architecture == .bitnetB158 || architecture == .bitnet25 ? .squaredReLU : .silu
    case .gemma3:
      rotaryStyle = .halves
      let window = try values.integer("attention.sliding_window", in: 0...(1 << 28), default: 0)
      slidingWindow = window > 0 ? window : nil
      localLayers = window > 0 ? try values.localLayers(count: layerCount) : []
      // Local layers keep the base and the positions they were pretrained with.
      localRotary = try RotaryEmbedding(
        dimension: rotary.dimension,
        base: try values.float("rope.freq_base_swa", in: 1e-3...1e12, default: 10_000),
        scaling: .none)
      // The 27B model scales by the width it would have without its own key_length.
      attentionScale =
        layerCount == 62 ? 1 / Float(embeddingLength / headCount).squareRoot() : scale
      attentionSoftCap = try values.softCap("attn_logit_softcapping")
      logitSoftCap = try values.softCap("final_logit_softcapping")
      embeddingScale = Float(embeddingLength).squareRoot()
      activation = .geluTanh
    }
  }
}
