import LanguageModel

/// The norms of a layer.
struct LayerNorms<Scalar: DenseScalar>: Sendable {
  let attention: ScalarBuffer<Scalar>
  let query: ScalarBuffer<Scalar>?
  let key: ScalarBuffer<Scalar>?
  let attentionSub: ScalarBuffer<Scalar>?
  let postAttention: ScalarBuffer<Scalar>?
  let feedForward: ScalarBuffer<Scalar>
  let feedForwardSub: ScalarBuffer<Scalar>?
  let postFeedForward: ScalarBuffer<Scalar>?

  init(_ norms: DenseWeights.Norms) {
    func buffer(_ values: [Float]) -> ScalarBuffer<Scalar> {
      ScalarBuffer(values.map { Scalar($0) })
    }
    attention = buffer(norms.attention)
    query = norms.query.map(buffer)
    key = norms.key.map(buffer)
    attentionSub = norms.attentionSub.map(buffer)
    postAttention = norms.postAttention.map(buffer)
    feedForward = buffer(norms.feedForward)
    feedForwardSub = norms.feedForwardSub.map(buffer)
    postFeedForward = norms.postFeedForward.map(buffer)
  }
}

/// The activations inside one layer, `[rows × …]`; `raw…` are what norms read, where there are such,
/// and `…Scales` the reciprocals of their roots.
struct LayerState<Scalar: DenseScalar> {
  typealias Buffer = ScalarBuffer<Scalar>

  let inputs, inputScales: Buffer
  let queries, keys, values: Buffer
  let rawQueries, rawKeys, queryScales, keyScales: Buffer?
  let mixed, mixedScales: Buffer
  let rawMixed: Buffer?
  /// What a block adds to the stream.
  let update: Buffer
  let rawAttention: Buffer?
  let attentionScales: Buffer
  /// The stream between attention and feed-forward.
  let middle, middleNormed, middleScales: Buffer
  let gate, up, hidden, hiddenScales: Buffer
  let rawHidden: Buffer?
  let rawDown: Buffer?
  let downScales: Buffer

  init(_ configuration: ModelConfiguration, rows: Int) {
    func buffer(_ width: Int) -> Buffer { Buffer(count: rows * width) }
    let width = configuration.embeddingLength
    let hasHeadNorms =
      configuration.architecture == .qwen3 || configuration.architecture == .gemma3
    let hasSubNorms = configuration.architecture.hasSubNorms
    let hasPostNorms = configuration.architecture == .gemma3
    inputs = buffer(width)
    inputScales = buffer(1)
    queries = buffer(configuration.queryLength)
    keys = buffer(configuration.keyValueLength)
    values = buffer(configuration.keyValueLength)
    rawQueries = hasHeadNorms ? buffer(configuration.queryLength) : nil
    rawKeys = hasHeadNorms ? buffer(configuration.keyValueLength) : nil
    queryScales = hasHeadNorms ? buffer(configuration.headCount) : nil
    keyScales = hasHeadNorms ? buffer(configuration.keyValueHeadCount) : nil
    mixed = buffer(configuration.queryLength)
    mixedScales = buffer(1)
    rawMixed = hasSubNorms ? buffer(configuration.queryLength) : nil
    update = buffer(width)
    rawAttention = hasPostNorms ? buffer(width) : nil
    attentionScales = buffer(1)
    middle = buffer(width)
    middleNormed = buffer(width)
    middleScales = buffer(1)
    gate = buffer(configuration.feedForwardLength)
    up = buffer(configuration.feedForwardLength)
    hidden = buffer(configuration.feedForwardLength)
    hiddenScales = buffer(1)
    rawHidden = hasSubNorms ? buffer(configuration.feedForwardLength) : nil
    rawDown = hasPostNorms ? buffer(width) : nil
    downScales = buffer(1)
  }
}
