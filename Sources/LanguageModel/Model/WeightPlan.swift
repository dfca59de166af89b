import QuantKernels

/// Which tensors of a file make up a decoder, found and checked before anything large is allocated.
struct WeightPlan {
  /// Matrices that read the same input, in the order of their outputs.
  struct Linear {
    var members: [StackedLinear.Member]
    let columns: Int
    var byteCount: Int { members.reduce(0) { $0 + $1.tensor.byteCount } }
    /// Elements of members of types that may be ternary.
    var ternaryCount: Int {
      members.reduce(0) {
        $0 + (TernaryWeights.mayBeTernary($1.tensor) ? $1.tensor.elementCount : 0)
      }
    }
  }

  struct Layer {
    let attentionNorm: [Float]
    let queryNorm: [Float]?
    let keyNorm: [Float]?
    let attentionSubNorm: [Float]?
    let postAttentionNorm: [Float]?
    let feedForwardNorm: [Float]
    let feedForwardSubNorm: [Float]?
    let postFeedForwardNorm: [Float]?
    /// Q+K+V, attention output, gate+up, down.
    let linears: [Linear]
    static let linearCount = 4
  }

  let embedding: GGUFTensor
  let head: Linear
  let outputNorm: [Float]
  let layers: [Layer]
  private let used: Set<String>

  init(file: GGUFFile, configuration: ModelConfiguration) throws(QuantError) {
    var reader = Reader(tensors: ModelTensors(file: file))
    let width = configuration.embeddingLength
    embedding = try reader.matrix(
      "token_embd.weight", rows: configuration.vocabularySize, columns: width)
    if let type = embedding.type, type.tailBytes > 0 {
      throw QuantError(
        .unsupported, embedding.name,
        "\(type.name) has one scale for the tensor, and embeddings are read row by row",
        remedy: "convert the model with another type for its embedding")
    }
    // A file without an output matrix ties the head to the embedding.
    let tied = file.tensor(named: "output.weight") == nil
    head = Linear(
      members: [
        .init(
          tensor: tied
            ? embedding
            : try reader.matrix(
              "output.weight", rows: configuration.vocabularySize, columns: width),
          bias: try reader.optionalVector("output.bias", configuration.vocabularySize))
      ], columns: width)
    outputNorm = try reader.vector("output_norm.weight", width)
    var layers: [Layer] = []
    for index in 0..<configuration.layerCount {
      layers.append(try reader.layer(index, configuration))
    }
    self.layers = layers
    used = reader.used
  }

  /// A tensor that nobody reads would silently change what the model computes, so it is refused,
  /// but for those that carry no weights of the function.
  func refuseUnusedTensors(of file: GGUFFile) throws(QuantError) {
    for tensor in file.tensors where !used.contains(tensor.name) {
      let harmless =
        tensor.name == "rope_freqs.weight" || tensor.name.hasSuffix(".attn_rot_embd")
        || tensor.name.hasSuffix(".rope_freqs.weight")
      if !harmless {
        throw QuantError(
          .unsupported, String(tensor.name.prefix(64)),
          "the decoder of this architecture has no use for this tensor",
          remedy: "use a plain export of the model, without adapters or added parts")
      }
    }
  }

  /// Looks tensors up and remembers which.
  private struct Reader {
    let tensors: ModelTensors
    var used: Set<String> = []

    mutating func matrix(_ name: String, rows: Int, columns: Int) throws(QuantError) -> GGUFTensor {
      used.insert(name)
      return try tensors.matrix(name, rows: rows, columns: columns)
    }

    mutating func vector(_ name: String, _ length: Int) throws(QuantError) -> [Float] {
      used.insert(name)
      return try tensors.vector(name, length: length)
    }

    mutating func optionalVector(_ name: String, _ length: Int) throws(QuantError) -> [Float]? {
      used.insert(name)
      return try tensors.optionalVector(name, length: length)
    }

    mutating func member(_ name: String, rows: Int, columns: Int) throws(QuantError)
      -> StackedLinear.Member
    {
      .init(
        tensor: try matrix("\(name).weight", rows: rows, columns: columns),
        scale: try optionalVector("\(name).scale", 1)?.first,
        bias: try optionalVector("\(name).bias", rows))
    }

    mutating func layer(_ index: Int, _ configuration: ModelConfiguration) throws(QuantError)
      -> Layer
    {
      let block = "blk.\(index)"
      let width = configuration.embeddingLength
      let query = configuration.queryLength
      let keyValue = configuration.keyValueLength
      let hidden = configuration.feedForwardLength
      let head = configuration.headDimension
      let gemma = configuration.architecture == .gemma3
      let subNormed = configuration.architecture.hasSubNorms
      let normed = gemma || configuration.architecture == .qwen3
      return Layer(
        attentionNorm: try vector("\(block).attn_norm.weight", width),
        queryNorm: normed ? try vector("\(block).attn_q_norm.weight", head) : nil,
        keyNorm: normed ? try vector("\(block).attn_k_norm.weight", head) : nil,
        attentionSubNorm: subNormed ? try vector("\(block).attn_sub_norm.weight", query) : nil,
        postAttentionNorm: gemma ? try vector("\(block).post_attention_norm.weight", width) : nil,
        feedForwardNorm: try vector("\(block).ffn_norm.weight", width),
        feedForwardSubNorm: subNormed
          ? try vector("\(block).ffn_sub_norm.weight", hidden) : nil,
        postFeedForwardNorm: gemma ? try vector("\(block).post_ffw_norm.weight", width) : nil,
        linears: [
          Linear(
            members: [
              try member("\(block).attn_q", rows: query, columns: width),
              try member("\(block).attn_k", rows: keyValue, columns: width),
              try member("\(block).attn_v", rows: keyValue, columns: width),
            ], columns: width),
          Linear(
            members: [try member("\(block).attn_output", rows: width, columns: query)],
            columns: query),
          Linear(
            members: [
              try member("\(block).ffn_gate", rows: hidden, columns: width),
              try member("\(block).ffn_up", rows: hidden, columns: width),
            ], columns: width),
          Linear(
            members: [try member("\(block).ffn_down", rows: width, columns: hidden)],
            columns: hidden),
        ])
    }
  }
}
