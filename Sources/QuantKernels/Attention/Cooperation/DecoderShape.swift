import DeviceModel

/// A decoder as its memory sees it: weights, and what a token leaves in the cache.
public struct DecoderShape: Sendable, Hashable {
  /// The model's name.
  public var name: String
  /// Layers.
  public var layers: Int
  /// Query heads.
  public var queryHeads: Int
  /// Heads of keys and values.
  public var keyValueHeads: Int
  /// Elements of a head.
  public var headDimension: Int
  /// Elements of the hidden state.
  public var width: Int
  /// Weights.
  public var parameters: Sourced
  /// Bytes of a weight and of an element of the cache.
  public var elementBytes: Int
  /// Where the sizes come from.
  public var provenance: Provenance

  /// A decoder.
  ///
  /// - Throws: ``QuantError`` `.invalidArgument` for sizes that are not positive, too large, or do
  ///   not fit together.
  public init(
    name: String, layers: Int, queryHeads: Int, keyValueHeads: Int, headDimension: Int, width: Int,
    parameters: Sourced, elementBytes: Int = 2, provenance: Provenance
  ) throws(QuantError) {
    self.init(
      unchecked: name, layers: layers, queryHeads: queryHeads, keyValueHeads: keyValueHeads,
      headDimension: headDimension, width: width, parameters: parameters,
      elementBytes: elementBytes, provenance: provenance)
    try check()
  }

  init(
    unchecked name: String, layers: Int, queryHeads: Int, keyValueHeads: Int, headDimension: Int,
    width: Int, parameters: Sourced, elementBytes: Int, provenance: Provenance
  ) {
    self.name = name
    self.layers = layers
    self.queryHeads = queryHeads
    self.keyValueHeads = keyValueHeads
    self.headDimension = headDimension
    self.width = width
    self.parameters = parameters
    self.elementBytes = elementBytes
    self.provenance = provenance
  }

  /// - Throws: as the initializer: fields may have been changed.
  func check() throws(QuantError) {
    let most = 1 << 20
    guard (1...most).contains(layers), (1...most).contains(queryHeads),
      (1...most).contains(keyValueHeads), queryHeads % keyValueHeads == 0,
      (1...most).contains(headDimension), (1...most).contains(width),
      (1...8).contains(elementBytes), parameters.value >= 0, parameters.value <= 1e15
    else {
      throw QuantError(
        .invalidArgument, "model \(name)",
        "\(layers) layers, \(queryHeads) and \(keyValueHeads) heads of \(headDimension), width "
          + "\(width), \(parameters.value) parameters of \(elementBytes) bytes",
        remedy: "use positive sizes up to 2^20, query heads a multiple of the others")
    }
  }

  /// Bytes that a token leaves in the cache: 2 · layers · keyValueHeads · headDimension elements.
  public var keyValueBytesPerToken: Int {
    MemoryRequirement.sum([[2, layers, keyValueHeads, headDimension, elementBytes]])
  }

  /// Llama-2-7B.
  public static let llama2At7B = DecoderShape(
    unchecked: "Llama-2-7B", layers: 32, queryHeads: 32, keyValueHeads: 32, headDimension: 128,
    width: 4096,
    parameters: Sourced(6.738e9, .published("meta-llama/Llama-2-7b: sum of its tensors")),
    elementBytes: 2, provenance: .published("meta-llama/Llama-2-7b config.json"))

  /// Llama-2-70B, with grouped heads.
  public static let llama2At70B = DecoderShape(
    unchecked: "Llama-2-70B", layers: 80, queryHeads: 64, keyValueHeads: 8, headDimension: 128,
    width: 8192,
    parameters: Sourced(68.98e9, .published("meta-llama/Llama-2-70b: sum of its tensors")),
    elementBytes: 2, provenance: .published("meta-llama/Llama-2-70b config.json"))

  /// Pangu-38B. Its sizes are not published: those of a GPT block (12 · layers · width² weights) that
  /// give 38.7·10⁹ at heads of 128.
  public static let pangu38B = DecoderShape(
    unchecked: "Pangu-38B", layers: 48, queryHeads: 64, keyValueHeads: 64, headDimension: 128,
    width: 8192,
    parameters: Sourced(38e9, .published("the model's name; arXiv 2410.16663, abstract")),
    elementBytes: 2,
    provenance: .assumed("unpublished; 12 · 48 · 8192² = 38.7e9 as in a GPT with heads of 128"))
}
