import LanguageModel
import QuantKernels

extension DenseDecoder {
  /// Where gradients lie on their way back.
  struct Gradients {
    let stream, block, normed, mixed, queries, keys, values, hidden: ScalarBuffer<Scalar>

    init(_ configuration: ModelConfiguration, rows: Int) {
      func buffer(_ width: Int) -> ScalarBuffer<Scalar> { ScalarBuffer(count: rows * width) }
      stream = buffer(configuration.embeddingLength)
      block = buffer(configuration.embeddingLength)
      normed = buffer(configuration.embeddingLength)
      mixed = buffer(configuration.queryLength)
      queries = buffer(configuration.queryLength)
      keys = buffer(configuration.keyValueLength)
      values = buffer(configuration.keyValueLength)
      hidden = buffer(configuration.feedForwardLength)
    }
  }

  /// Rows of every sequence with the token that stands after them: one shift, and no label for a
  /// sequence's last row.
  func labels(of tokens: [Int32], from first: Int = 0) -> [(row: Int, label: Int32)] {
    (0..<sequences).flatMap { sequence in
      (first..<length - 1).map { position in
        let row = sequence * length + position
        return (row, tokens[row + 1])
      }
    }
  }

  /// Reads tokens and gives −ln p of those past position `first` of each sequence.
  ///
  /// - Throws: as ``forward(_:cancellation:)``.
  func losses(
    of tokens: [Int32], from first: Int = 0, cancellation: CancellationFlag? = nil
  ) throws(QuantError) -> [Double] {
    try forward(tokens, cancellation: cancellation)
    return head.losses(
      stream(configuration.layerCount), rows: labels(of: tokens, from: first))
  }

  /// Reads tokens forward and backward: gives the losses, and hands over, last layer first, the
  /// gradient of the sum over sequences of each one's mean loss.
  ///
  /// - Parameter visit: gets a layer's number, its projections' inputs `[rows × width]` and the
  ///   gradients at their keys and values `[rows × keyValueLength]`, before norms and rotary
  ///   embedding.
  /// - Throws: as ``forward(_:cancellation:)``.
  /// - Complexity: three times the products of a forward pass.
  func gradients(
    of tokens: [Int32], in buffers: Gradients, cancellation: CancellationFlag? = nil,
    visit: (_ layer: Int, _ inputs: Pointer, _ keys: Pointer, _ values: Pointer) -> Void
  ) throws(QuantError) -> [Double] {
    precondition(streams.count == configuration.layerCount + 1, "streams were not kept")
    try forward(tokens, cancellation: cancellation)
    buffers.stream.clear()
    let losses = head.losses(
      stream(configuration.layerCount), rows: labels(of: tokens), scale: 1 / Scalar(length - 1),
      gradient: buffers.stream.pointer)
    for layer in (0..<configuration.layerCount).reversed() {
      try checkCancelled(cancellation)
      if matrices.layer != layer {
        try matrices.load(layer: layer, replacing: replacements[layer] ?? [:])
      }
      run(layer, isRerun: true)
      feedForwardBackward(layer, buffers)
      attentionBackward(layer, buffers)
      visit(layer, state.inputs.pointer, buffers.keys.pointer, buffers.values.pointer)
      // Nothing before the first layer is asked for.
      if layer > 0 { projectionsBackward(layer, buffers) }
    }
    return losses
  }

  /// `stream`: the gradient after the layer, then that between its blocks.
  private func feedForwardBackward(_ layer: Int, _ buffers: Gradients) {
    let norms = norms[layer]
    var incoming = buffers.stream.pointer
    if let norm = norms.postFeedForward, let raw = state.rawDown {
      project(
        .down, state.hidden, biases[layer], norm, raw: raw, scales: state.downScales)
      operations.normalizeBackward(
        incoming, raw.pointer, weight: norm.pointer, inverse: state.downScales.pointer,
        into: buffers.block.pointer, adds: false, rows: rows, width: width)
      incoming = buffers.block.pointer
    }
    let hidden = buffers.hidden.pointer
    matrices.multiplyBackward(.down, incoming, into: hidden, adds: false, rows: rows)
    if let norm = norms.feedForwardSub, let raw = state.rawHidden {
      operations.normalizeBackward(
        hidden, raw.pointer, weight: norm.pointer, inverse: state.hiddenScales.pointer,
        into: hidden, adds: false, rows: rows, width: configuration.feedForwardLength)
    }
    operations.gateBackward(
      hidden, state.gate.pointer, state.up.pointer,
      count: rows * configuration.feedForwardLength, activation: configuration.activation)
    let normed = buffers.normed.pointer
    matrices.multiplyBackward(.gate, state.gate.pointer, into: normed, adds: false, rows: rows)
    matrices.multiplyBackward(.up, state.up.pointer, into: normed, adds: true, rows: rows)
    operations.normalizeBackward(
      normed, state.middle.pointer, weight: norms.feedForward.pointer,
      inverse: state.middleScales.pointer, into: buffers.stream.pointer, adds: true, rows: rows,
      width: width)
  }

  /// From the gradient between the blocks to those at the projections' outputs.
  private func attentionBackward(_ layer: Int, _ buffers: Gradients) {
    let norms = norms[layer]
    let isLocal = configuration.isLocal(layer: layer)
    let headDimension = configuration.headDimension
    var incoming = buffers.stream.pointer
    if let norm = norms.postAttention, let raw = state.rawAttention {
      operations.normalizeBackward(
        incoming, raw.pointer, weight: norm.pointer, inverse: state.attentionScales.pointer,
        into: buffers.block.pointer, adds: false, rows: rows, width: width)
      incoming = buffers.block.pointer
    }
    let mixed = buffers.mixed.pointer
    matrices.multiplyBackward(.attentionOutput, incoming, into: mixed, adds: false, rows: rows)
    if let norm = norms.attentionSub, let raw = state.rawMixed {
      operations.normalizeBackward(
        mixed, raw.pointer, weight: norm.pointer, inverse: state.mixedScales.pointer, into: mixed,
        adds: false, rows: rows, width: configuration.queryLength)
    }
    attention[isLocal ? 1 : 0].backward(
      mixed, state.queries.pointer, state.keys.pointer, state.values.pointer,
      into: buffers.queries.pointer, buffers.keys.pointer, buffers.values.pointer,
      sequences: sequences)
    for (gradient, norm, raw, scales, heads) in [
      (
        buffers.queries, norms.query, state.rawQueries, state.queryScales,
        configuration.headCount
      ),
      (
        buffers.keys, norms.key, state.rawKeys, state.keyScales,
        configuration.keyValueHeadCount
      ),
    ] {
      operations.rotate(
        gradient.pointer, rows: rows, heads: heads, headDimension: headDimension,
        angles: angles[isLocal ? 1 : 0], style: configuration.rotaryStyle, backward: true)
      if let norm, let raw, let scales {
        operations.normalizeBackward(
          gradient.pointer, raw.pointer, weight: norm.pointer, inverse: scales.pointer,
          into: gradient.pointer, adds: false, rows: rows * heads, width: headDimension)
      }
    }
  }

  /// From the projections' outputs to the stream before the layer.
  private func projectionsBackward(_ layer: Int, _ buffers: Gradients) {
    let normed = buffers.normed.pointer
    matrices.multiplyBackward(
      .query, buffers.queries.pointer, into: normed, adds: false, rows: rows)
    matrices.multiplyBackward(.key, buffers.keys.pointer, into: normed, adds: true, rows: rows)
    matrices.multiplyBackward(
      .value, buffers.values.pointer, into: normed, adds: true, rows: rows)
    operations.normalizeBackward(
      normed, stream(layer), weight: norms[layer].attention.pointer,
      inverse: state.inputScales.pointer, into: buffers.stream.pointer, adds: true, rows: rows,
      width: width)
  }
}

/// The loss of tokens and its gradient at the key and value weights, in float64: what float32 work and
/// finite differences are held against.
///
/// - Parameter replacing: weights that stand in for the model's own.
/// - Returns: the mean loss of the one sequence, and for each layer `∂loss/∂W` of keys and values,
///   `[keyValueLength × width]`.
/// - Throws: `QuantError` as ``DenseDecoder``.
func exactGradients(
  _ weights: DenseWeights, tokens: [Int32],
  replacing: [Int: [DenseWeights.Matrix: [Double]]] = [:], pool: WorkerPool
) throws(QuantError) -> (loss: Double, keys: [Matrix], values: [Matrix]) {
  let decoder = try DenseDecoder<Double>(
    weights, sequences: 1, length: tokens.count, keepsStreams: true, pool: pool)
  decoder.replacements = replacing
  let configuration = weights.configuration
  var keys = (0..<configuration.layerCount).map { _ in
    Matrix(zeros: configuration.keyValueLength, configuration.embeddingLength)
  }
  var values = keys
  let buffers = DenseDecoder<Double>.Gradients(configuration, rows: tokens.count)
  let losses = try decoder.gradients(of: tokens, in: buffers) { layer, inputs, dKeys, dValues in
    keys[layer] = weightGradient(dKeys, inputs, rows: tokens.count, configuration)
    values[layer] = weightGradient(dValues, inputs, rows: tokens.count, configuration)
  }
  return (losses.reduce(0, +) / Double(losses.count), keys, values)
}

/// `∂loss/∂W = Σ gᵀ x` over rows.
private func weightGradient(
  _ gradient: UnsafeMutablePointer<Double>, _ inputs: UnsafeMutablePointer<Double>, rows: Int,
  _ configuration: ModelConfiguration
) -> Matrix {
  let (outputs, width) = (configuration.keyValueLength, configuration.embeddingLength)
  var result = Matrix(zeros: outputs, width)
  result.values.withUnsafeMutableBufferPointer { buffer in
    guard let target = buffer.baseAddress else { return }
    Double.multiply(
      gradient, transposed: true, lda: outputs, inputs, transposed: false, ldb: width,
      into: target, ldc: width, m: outputs, n: width, k: rows, alpha: 1, beta: 0)
  }
  return result
}
