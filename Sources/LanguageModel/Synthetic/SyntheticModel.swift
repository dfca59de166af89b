import QuantKernels

/// A model of random weights with the structure of a real one, as a GGUF file: for tests of every
/// architecture, and for benchmarks where no real model can be had. The same description gives the
/// same bytes everywhere.
///
/// Weights are of an approximate normal distribution, scaled so that activations keep their size
/// from layer to layer. The vocabulary is byte-level BPE: the 256 bytes, a few English merges, and
/// pronounceable filler up to the wanted size.
public struct SyntheticModel: Sendable, Equatable {
  /// Which graph the file asks for.
  public var architecture: ModelConfiguration.Architecture
  /// Decoder layers.
  public var layerCount = 2
  /// Width of the residual stream.
  public var embeddingLength = 64
  /// Hidden channels of a feed-forward block.
  public var feedForwardLength = 96
  /// Query heads.
  public var headCount = 4
  /// Key and value heads; a divisor of the query heads.
  public var keyValueHeadCount = 2
  /// Elements of a head.
  public var headDimension = 32
  /// Positions that the file claims a training for.
  public var contextLength = 256
  /// Tokens.
  public var vocabularySize = 320
  /// Type of every matrix but the embedding and the head.
  public var weightType = GGMLType.q4_1
  /// Type of the values' projections when it differs, as in mixed files.
  public var valueType: GGMLType?
  /// Type of the embedding, and of the head.
  public var embeddingType = GGMLType.q8_0
  /// Without a head of its own the model uses its embedding.
  public var tiesHead = true
  /// Biases on Q, K, V and, for llama, on all matrices.
  public var hasBiases = false
  /// Epsilon of every RMS norm.
  public var normEpsilon: Float = 1e-5
  /// θ of the rotary embedding.
  public var rotaryBase: Float = 10_000
  /// Elements of a head that are rotated; nil rotates all.
  public var rotaryDimension: Int?
  /// How the file scales positions.
  public var rotaryScaling = RotaryEmbedding.Scaling.none
  /// Llama 3's divisors of frequencies, one a rotated pair, or none.
  public var frequencyDivisors: [Float] = []
  /// gemma3 only: positions that a local layer sees.
  public var slidingWindow = 16
  /// Soft cap of attention scores, or none.
  public var attentionSoftCap: Float?
  /// Soft cap of logits, or none.
  public var logitSoftCap: Float?
  /// Whether the file wants prompts to begin with that token.
  public var addsBeginningOfSequence = false
  /// Without one, an empty prompt has nothing to start from.
  public var hasBeginningOfSequence = true
  /// What the weights are drawn from; the same seed gives the same file.
  public var seed: UInt64 = 1

  /// A small model of an architecture, with what that architecture calls for.
  public init(_ architecture: ModelConfiguration.Architecture) {
    self.architecture = architecture
    switch architecture {
    case .llama: break
    case .qwen2:
      hasBiases = true
      // Other readers derive this architecture's head from the embedding.
      headDimension = 16
    case .qwen3: headDimension = 48
    case .gemma3:
      layerCount = 7
      addsBeginningOfSequence = true
    case .bitnet, .bitnetB158, .bitnet25:
      weightType = .tq2_0
      embeddingType = .f16
      embeddingLength = 256
      feedForwardLength = 512
      headDimension = 64
    }
  }

  /// The shape of SmolLM2-135M as it ships in Q4_1: 30 layers of width 576, 49,152 tokens, tied
  /// Q8_0 embedding.
  public static var smolLM2: SyntheticModel {
    var model = SyntheticModel(.llama)
    model.layerCount = 30
    model.embeddingLength = 576
    model.feedForwardLength = 1536
    model.headCount = 9
    model.keyValueHeadCount = 3
    model.headDimension = 64
    model.contextLength = 8192
    model.vocabularySize = 49152
    model.rotaryBase = 100_000
    return model
  }

  /// Writes the file, which appears whole or not at all.
  ///
  /// - Throws: `QuantError` `.invalidArgument` for a description that makes no model, and what
  ///   the writer throws.
  /// - Complexity: O(weights); about 10 ns each.
  public func write(to path: String) throws(QuantError) { try writer().write(to: path) }

  /// The file's bytes, in memory.
  ///
  /// - Throws: as ``write(to:)``.
  public func serialized() throws(QuantError) -> [UInt8] { try writer().serialized() }

  private func writer() throws(QuantError) -> GGUFWriter {
    let sizes = [
      layerCount, embeddingLength, feedForwardLength, headCount, keyValueHeadCount, headDimension,
      contextLength, slidingWindow,
    ]
    guard sizes.allSatisfy({ $0 > 0 && $0 <= 1 << 20 }),
      (SyntheticVocabulary.minimumSize...(1 << 24)).contains(vocabularySize)
    else {
      throw QuantError(
        .invalidArgument, "SyntheticModel", "a size is not positive or too large",
        remedy:
          "use sizes in 1…\(1 << 20) and at least \(SyntheticVocabulary.minimumSize) tokens")
    }
    var writer = GGUFWriter()
    try addMetadata(to: &writer)
    try SyntheticVocabulary(size: vocabularySize).addMetadata(
      to: &writer, pre: architecture == .qwen2 || architecture == .qwen3 ? "qwen2" : "smollm",
      addsBeginningOfSequence: addsBeginningOfSequence,
      hasBeginningOfSequence: hasBeginningOfSequence)
    try addTensors(to: &writer)
    return writer
  }

  private func addMetadata(to writer: inout GGUFWriter) throws(QuantError) {
    let prefix = architecture.rawValue
    try writer.set("general.architecture", .text(prefix))
    try writer.set("general.name", .text("Synthetic \(prefix)"))
    let integers = [
      ("block_count", layerCount), ("context_length", contextLength),
      ("embedding_length", embeddingLength), ("feed_forward_length", feedForwardLength),
      ("attention.head_count", headCount), ("attention.head_count_kv", keyValueHeadCount),
      ("attention.key_length", headDimension), ("attention.value_length", headDimension),
      ("vocab_size", vocabularySize), ("rope.dimension_count", rotaryDimension ?? headDimension),
    ]
    for (key, value) in integers {
      try writer.set("\(prefix).\(key)", .uint32(UInt32(clamping: value)))
    }
    try writer.set("\(prefix).attention.layer_norm_rms_epsilon", .float32(normEpsilon))
    try writer.set("\(prefix).rope.freq_base", .float32(rotaryBase))
    switch rotaryScaling {
    case .none: break
    case .linear(let factor):
      try writer.set("\(prefix).rope.scaling.type", .text("linear"))
      try writer.set("\(prefix).rope.scaling.factor", .float32(Float(factor)))
    case .yarn(let yarn):
      try writer.set("\(prefix).rope.scaling.type", .text("yarn"))
      try writer.set("\(prefix).rope.scaling.factor", .float32(Float(yarn.factor)))
      try writer.set(
        "\(prefix).rope.scaling.original_context_length",
        .uint32(UInt32(clamping: yarn.originalContext)))
    }
    if architecture == .gemma3 {
      try writer.set(
        "\(prefix).attention.sliding_window", .uint32(UInt32(clamping: slidingWindow)))
    }
    if let attentionSoftCap {
      try writer.set("\(prefix).attn_logit_softcapping", .float32(attentionSoftCap))
    }
    if let logitSoftCap {
      try writer.set("\(prefix).final_logit_softcapping", .float32(logitSoftCap))
    }
  }

  private func addTensors(to writer: inout GGUFWriter) throws(QuantError) {
    var maker = TensorMaker(seed: seed)
    let width = embeddingLength
    let query = headCount * headDimension
    let keyValue = keyValueHeadCount * headDimension
    // Twice the scale of a product's weights, so that a tied head gives logits of deviation 2:
    // neither flat nor certain.
    try maker.matrix(
      "token_embd.weight", embeddingType, rows: vocabularySize, columns: width, gain: 2, &writer)
    if !tiesHead {
      try maker.matrix(
        "output.weight", embeddingType, rows: vocabularySize, columns: width, gain: 2, &writer)
    }
    try maker.vector("output_norm.weight", width, mean: 1, &writer)
    if !frequencyDivisors.isEmpty {
      try maker.vector("rope_freqs.weight", values: frequencyDivisors, &writer)
    }
    for layer in 0..<layerCount {
      let block = "blk.\(layer)"
      var matrices = [
        ("attn_q", weightType, query, width), ("attn_k", weightType, keyValue, width),
        ("attn_v", valueType ?? weightType, keyValue, width),
      ]
      let biased = matrices.count
      matrices += [
        ("attn_output", weightType, width, query),
        ("ffn_gate", weightType, feedForwardLength, width),
        ("ffn_up", weightType, feedForwardLength, width),
        ("ffn_down", weightType, width, feedForwardLength),
      ]
      for (index, matrix) in matrices.enumerated() {
        let name = "\(block).\(matrix.0).weight"
        if architecture.hasSubNorms {
          try maker.ternary(name, matrix.1, rows: matrix.2, columns: matrix.3, &writer)
        } else {
          try maker.matrix(
            name, matrix.1, rows: matrix.2, columns: matrix.3, gain: 1, &writer)
        }
        if hasBiases, index < biased || architecture == .llama {
          try maker.vector("\(block).\(matrix.0).bias", matrix.2, mean: 0, &writer)
        }
      }
      try maker.vector("\(block).attn_norm.weight", width, mean: 1, &writer)
      try maker.vector("\(block).ffn_norm.weight", width, mean: 1, &writer)
      if architecture == .qwen3 || architecture == .gemma3 {
        try maker.vector("\(block).attn_q_norm.weight", headDimension, mean: 1, &writer)
        try maker.vector("\(block).attn_k_norm.weight", headDimension, mean: 1, &writer)
      }
      if architecture.hasSubNorms {
        try maker.vector("\(block).attn_sub_norm.weight", query, mean: 1, &writer)
        try maker.vector("\(block).ffn_sub_norm.weight", feedForwardLength, mean: 1, &writer)
      }
      if architecture == .gemma3 {
        try maker.vector("\(block).post_attention_norm.weight", width, mean: 1, &writer)
        try maker.vector("\(block).post_ffw_norm.weight", width, mean: 1, &writer)
      }
    }
  }
}

/// Adds tensors of random values, each from a seed of its own, so that data is made when it is
/// written.
private struct TensorMaker {
  var seed: UInt64

  init(seed: UInt64) { self.seed = seed &* 0x9E37_79B9_7F4A_7C15 }

  mutating func matrix(
    _ name: String, _ type: GGMLType, rows: Int, columns: Int, gain: Float,
    _ writer: inout GGUFWriter
  ) throws(QuantError) {
    seed &+= 1
    let seed = seed
    // The gain over √columns keeps the variance of a product's outputs at that of its inputs, times
    // gain².
    let scale = gain / Float(columns).squareRoot()
    try writer.addTensor(name, type: type, dimensions: [columns, rows]) {
      sink throws(QuantError) in
      var random = SeededRandom(seed: seed)
      var values = [Float](repeating: 0, count: columns)
      for _ in 0..<rows {
        for index in values.indices { values[index] = scale * random.approximateNormal() }
        try sink.write(try GGMLBlocks.quantize(type, values))
      }
    }
  }

  /// A ternary matrix with one scale, which binary16 holds: the same values in every type.
  mutating func ternary(
    _ name: String, _ type: GGMLType, rows: Int, columns: Int, _ writer: inout GGUFWriter
  ) throws(QuantError) {
    seed &+= 1
    let seed = seed
    // As in `matrix`: outputs have the variance of inputs.
    let scale = Float(
      Float16(1 / (Float(columns) * SeededRandom.ternaryVariance).squareRoot()))
    try writer.addTensor(name, type: type, dimensions: [columns, rows]) {
      sink throws(QuantError) in
      var random = SeededRandom(seed: seed)
      let matrix = try TernaryMatrix(
        rows: rows, columns: columns, codes: random.ternaryCodes(rows * columns),
        scales: .tensor(scale))
      switch type {
      case .i2_s: try sink.write(try matrix.packed(as: .i2s(.x86)))
      case .tq1_0: try sink.write(try matrix.packed(as: .tq1_0))
      case .tq2_0: try sink.write(try matrix.packed(as: .tq2_0))
      default: try sink.write(try GGMLBlocks.quantize(type, matrix.dequantized()))
      }
    }
  }

  mutating func vector(_ name: String, _ count: Int, mean: Float, _ writer: inout GGUFWriter)
    throws(QuantError)
  {
    seed &+= 1
    var random = SeededRandom(seed: seed)
    try vector(
      name, values: (0..<count).map { _ in mean + 0.1 * random.approximateNormal() }, &writer)
  }

  func vector(_ name: String, values: [Float], _ writer: inout GGUFWriter) throws(QuantError) {
    var bytes: [UInt8] = []
    for value in values {
      withUnsafeBytes(of: value.bitPattern.littleEndian) { bytes.append(contentsOf: $0) }
    }
    try writer.addTensor(name, type: .f32, dimensions: [values.count], bytes: bytes)
  }
}

extension SeededRandom {
  /// Mean 0, variance 1: the sum of four uniforms of 16 bits, each of variance (2³² − 1) / 12.
  fileprivate mutating func approximateNormal() -> Float {
    let bits = next()
    let sum = (bits & 0xFFFF) + (bits >> 16 & 0xFFFF) + (bits >> 32 & 0xFFFF) + (bits >> 48)
    return (Float(sum) - 131_070) * (1 / 37_837.23)
  }
}
