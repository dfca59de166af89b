import LanguageModel
import QuantKernels

/// A decoder on dense weights that also runs backward: logits and losses of whole sequences, and the
/// gradient of the loss at every layer's key and value projection.
///
/// All architectures of ``ModelConfiguration`` run, with their norms, biases, caps and windows.
/// (BitNet's activations are not rounded to int8 here; its gradients are those of the weights' own
/// function.) Only the streams between layers are kept on the way forward; a layer's inside is
/// computed again on the way back, so that memory is O(layers · tokens · width).
///
/// Sequences have one length and begin at position 0 each.
final class DenseDecoder<Scalar: DenseScalar> {
  typealias Pointer = UnsafeMutablePointer<Scalar>

  let weights: DenseWeights
  let configuration: ModelConfiguration
  let operations: DecoderOperations<Scalar>
  /// Sequences read at a time; at most ``capacity``.
  var sequences: Int
  let capacity: Int
  let length: Int
  /// Matrices that stand in for the model's own, by layer.
  var replacements: [Int: [DenseWeights.Matrix: [Scalar]]] = [:]
  /// Gets each layer's number and the normalized inputs `[rows × width]` of its projections.
  var observer: ((_ layer: Int, _ inputs: Pointer) -> Void)?
  /// Gets these and may change the layer's keys and values `[rows × keyValueLength]`, before norms
  /// and rotary embedding. A change has no gradient.
  var editor: ((_ layer: Int, _ inputs: Pointer, _ keys: Pointer, _ values: Pointer) -> Void)?
  /// May change a layer's keys after norms and rotary embedding.
  var rotatedKeyEditor: ((_ layer: Int, _ keys: Pointer) -> Void)?

  let pool: WorkerPool
  let matrices: LayerMatrices<Scalar>
  let state: LayerState<Scalar>
  let norms: [LayerNorms<Scalar>]
  let biases: [[DenseWeights.Matrix: ScalarBuffer<Scalar>]]
  let angles: [Angles<Scalar>]
  let attention: [CausalAttention<Scalar>]
  /// Streams before each layer, and after the last, `[rows × width]`.
  let streams: [ScalarBuffer<Scalar>]
  let head: Head<Scalar>

  var rows: Int { sequences * length }
  var width: Int { configuration.embeddingLength }

  /// - Parameters:
  ///   - keepsStreams: false where nobody goes backward: two streams do then.
  /// - Throws: `QuantError` `.outOfMemory` before anything is allocated; `.invalidArgument` for a
  ///   length that the model has no positions for.
  init(
    _ weights: DenseWeights, sequences: Int, length: Int, keepsStreams: Bool, pool: WorkerPool
  ) throws(QuantError) {
    let configuration = weights.configuration
    guard length >= 2, length <= configuration.contextLength, sequences >= 1 else {
      throw QuantError(
        .invalidArgument, "context",
        "\(length) tokens where 2…\(configuration.contextLength) are possible",
        remedy: "choose a context that the model was trained for")
    }
    let rows = sequences * length
    let streamCount = keepsStreams ? configuration.layerCount + 1 : 2
    let size = MemoryLayout<Scalar>.stride
    let widest =
      6 * configuration.embeddingLength + 6 * configuration.queryLength
      + 6 * configuration.keyValueLength + 4 * configuration.feedForwardLength
    try MemoryRequirement.check(
      MemoryRequirement.sum([
        [size, rows, widest], [size, streamCount, rows, configuration.embeddingLength],
        [6, size, length, length],
        [size, configuration.vocabularySize, configuration.embeddingLength],
        [size, Head<Scalar>.group, configuration.vocabularySize],
        [3, size, configuration.embeddingLength, configuration.feedForwardLength],
      ]), subject: "decoder with gradients", remedy: "use a shorter context or fewer samples")
    self.weights = weights
    self.configuration = configuration
    self.sequences = sequences
    capacity = sequences
    self.length = length
    self.pool = pool
    let operations = DecoderOperations<Scalar>(pool: pool)
    self.operations = operations
    matrices = LayerMatrices(weights, pool: pool)
    state = LayerState(configuration, rows: rows)
    norms = weights.norms.map { LayerNorms($0) }
    biases = (0..<configuration.layerCount).map { layer in
      var found: [DenseWeights.Matrix: ScalarBuffer<Scalar>] = [:]
      for matrix in DenseWeights.Matrix.allCases {
        found[matrix] = weights.bias(of: matrix, layer: layer).map { bias in
          ScalarBuffer(bias.map { Scalar($0) })
        }
      }
      return found
    }
    angles = [configuration.rotary, configuration.localRotary].map {
      Angles($0, positions: length)
    }
    attention = [nil, configuration.slidingWindow].map { window in
      CausalAttention(
        heads: configuration.headCount, keyValueHeads: configuration.keyValueHeadCount,
        headDimension: configuration.headDimension, scale: Scalar(configuration.attentionScale),
        softCap: configuration.attentionSoftCap.map { Scalar($0) }, window: window,
        length: length, operations: operations)
    }
    streams = (0..<streamCount).map { _ in
      ScalarBuffer(count: rows * configuration.embeddingLength)
    }
    head = try Head(weights, pool: pool)
  }

  /// The stream before a layer; with two in all they alternate.
  func stream(_ layer: Int) -> Pointer { streams[layer % streams.count].pointer }

  // MARK: Forward

  /// Reads tokens, ``sequences`` of ``length`` each, up to the last layer's output.
  ///
  /// - Throws: `QuantError` `.invalidArgument` for another number of tokens or an unknown one;
  ///   `.invalidData` for weights that cannot be read; `.cancelled`.
  func forward(_ tokens: [Int32], cancellation: CancellationFlag? = nil) throws(QuantError) {
    try embed(tokens)
    for layer in 0..<configuration.layerCount {
      try checkCancelled(cancellation)
      try matrices.load(layer: layer, replacing: replacements[layer] ?? [:])
      run(layer, isRerun: false)
      finish(layer, into: stream(layer + 1))
    }
  }

  func checkCancelled(_ flag: CancellationFlag?) throws(QuantError) {
    guard flag?.isCancelled == true else { return }
    throw QuantError(
      .cancelled, "calibration", "the work was cancelled", remedy: "start it again when wanted")
  }

  private func embed(_ tokens: [Int32]) throws(QuantError) {
    guard tokens.count == rows else {
      throw QuantError(
        .invalidArgument, "tokens", "\(tokens.count) where \(rows) belong",
        remedy: "pass whole sequences")
    }
    let scale = Scalar(configuration.embeddingScale)
    let stream = stream(0)
    let row = ScalarBuffer<Float>(count: width)
    for (index, token) in tokens.enumerated() {
      try weights.readEmbedding(of: token, into: row.pointer)
      for column in 0..<width {
        stream[index * width + column] = Scalar(row.pointer[column]) * scale
      }
    }
  }

  /// A layer up to its feed-forward's hidden activations, all of it in `state`.
  func run(_ layer: Int, isRerun: Bool) {
    let norms = norms[layer]
    let biases = biases[layer]
    let isLocal = configuration.isLocal(layer: layer)
    let epsilon = Scalar(configuration.normEpsilon)
    let heads = configuration.headCount
    let keyHeads = configuration.keyValueHeadCount
    let headDimension = configuration.headDimension
    let input = stream(layer)
    operations.normalize(
      input, weight: norms.attention.pointer, epsilon: epsilon, into: state.inputs.pointer,
      inverse: state.inputScales.pointer, rows: rows, width: width)
    for (matrix, output) in [
      (DenseWeights.Matrix.query, state.queries), (.key, state.keys), (.value, state.values),
    ] {
      matrices.multiply(matrix, state.inputs.pointer, into: output.pointer, rows: rows)
      operations.add(biases[matrix], to: output.pointer, rows: rows)
    }
    if !isRerun { observer?(layer, state.inputs.pointer) }
    editor?(layer, state.inputs.pointer, state.keys.pointer, state.values.pointer)
    for (norm, values, raw, scales, count) in [
      (norms.query, state.queries, state.rawQueries, state.queryScales, heads),
      (norms.key, state.keys, state.rawKeys, state.keyScales, keyHeads),
    ] {
      if let norm, let raw, let scales {
        raw.pointer.update(from: values.pointer, count: rows * count * headDimension)
        operations.normalize(
          raw.pointer, weight: norm.pointer, epsilon: epsilon, into: values.pointer,
          inverse: scales.pointer, rows: rows * count, width: headDimension)
      }
      operations.rotate(
        values.pointer, rows: rows, heads: count, headDimension: headDimension,
        angles: angles[isLocal ? 1 : 0], style: configuration.rotaryStyle, backward: false)
    }
    rotatedKeyEditor?(layer, state.keys.pointer)
    attention[isLocal ? 1 : 0].forward(
      state.queries.pointer, state.keys.pointer, state.values.pointer,
      into: state.mixed.pointer, sequences: sequences)
    if let norm = norms.attentionSub, let raw = state.rawMixed {
      raw.pointer.update(
        from: state.mixed.pointer, count: rows * configuration.queryLength)
      operations.normalize(
        raw.pointer, weight: norm.pointer, epsilon: epsilon, into: state.mixed.pointer,
        inverse: state.mixedScales.pointer, rows: rows, width: configuration.queryLength)
    }
    project(
      .attentionOutput, state.mixed, biases, norms.postAttention, raw: state.rawAttention,
      scales: state.attentionScales)
    state.middle.pointer.update(from: input, count: rows * width)
    operations.add(state.update.pointer, to: state.middle.pointer, count: rows * width)

    operations.normalize(
      state.middle.pointer, weight: norms.feedForward.pointer, epsilon: epsilon,
      into: state.middleNormed.pointer, inverse: state.middleScales.pointer, rows: rows,
      width: width)
    for (matrix, output) in [(DenseWeights.Matrix.gate, state.gate), (.up, state.up)] {
      matrices.multiply(matrix, state.middleNormed.pointer, into: output.pointer, rows: rows)
      operations.add(biases[matrix], to: output.pointer, rows: rows)
    }
    operations.gate(
      state.gate.pointer, state.up.pointer, into: state.hidden.pointer,
      count: rows * configuration.feedForwardLength, activation: configuration.activation)
    if let norm = norms.feedForwardSub, let raw = state.rawHidden {
      raw.pointer.update(
        from: state.hidden.pointer, count: rows * configuration.feedForwardLength)
      operations.normalize(
        raw.pointer, weight: norm.pointer, epsilon: epsilon, into: state.hidden.pointer,
        inverse: state.hiddenScales.pointer, rows: rows, width: configuration.feedForwardLength)
    }
  }

  /// The rest of a layer: `output = middle + feed-forward`.
  private func finish(_ layer: Int, into output: Pointer) {
    project(
      .down, state.hidden, biases[layer], norms[layer].postFeedForward, raw: state.rawDown,
      scales: state.downScales)
    output.update(from: state.middle.pointer, count: rows * width)
    operations.add(state.update.pointer, to: output, count: rows * width)
  }

  /// `update = postNorm(W x + bias)`, keeping what the norm's gradient wants.
  func project(
    _ matrix: DenseWeights.Matrix, _ x: ScalarBuffer<Scalar>,
    _ biases: [DenseWeights.Matrix: ScalarBuffer<Scalar>], _ norm: ScalarBuffer<Scalar>?,
    raw: ScalarBuffer<Scalar>?, scales: ScalarBuffer<Scalar>
  ) {
    matrices.multiply(matrix, x.pointer, into: state.update.pointer, rows: rows)
    operations.add(biases[matrix], to: state.update.pointer, rows: rows)
    guard let norm, let raw else { return }
    raw.pointer.update(from: state.update.pointer, count: rows * width)
    operations.normalize(
      raw.pointer, weight: norm.pointer, epsilon: Scalar(configuration.normEpsilon),
      into: state.update.pointer, inverse: scales.pointer, rows: rows, width: width)
  }
}
