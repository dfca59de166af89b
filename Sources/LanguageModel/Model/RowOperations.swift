import QuantKernels

/// What stands between the products of a layer, one row at a time: norms, rotation, the gate, the
/// residual sums.
///
/// It holds numbers and pointers only, no references: rows of a prompt are spread over threads, and
/// threads that retain the same objects for every row would wait for each other's counters.
struct RowOperations {
  let instructionSet: InstructionSet
  let width: Int
  let hiddenLength: Int
  let queryLength: Int
  let keyValueLength: Int
  let headDimension: Int
  let epsilon: Float
  let activation: ModelConfiguration.Activation
  let rotaryStyle: RotaryEmbedding.Style

  // Buffers of a session, `[rows × …]`.
  let stream: UnsafeMutablePointer<Float>
  let normed: UnsafeMutablePointer<Float>
  let update: UnsafeMutablePointer<Float>
  let stacked: UnsafeMutablePointer<Float>
  let queries: UnsafeMutablePointer<Float>
  let keys: UnsafeMutablePointer<Float>
  let values: UnsafeMutablePointer<Float>
  let gateUp: UnsafeMutablePointer<Float>
  let hidden: UnsafeMutablePointer<Float>

  /// Angles of one rotary embedding, `[rows × pairs]`.
  struct Rotation {
    let pairs: Int
    let cosines: UnsafeMutablePointer<Float>
    let sines: UnsafeMutablePointer<Float>
  }

  init(
    _ configuration: ModelConfiguration, buffers: Session.Buffers, instructionSet: InstructionSet
  ) {
    self.instructionSet = instructionSet
    width = configuration.embeddingLength
    hiddenLength = configuration.feedForwardLength
    queryLength = configuration.queryLength
    keyValueLength = configuration.keyValueLength
    headDimension = configuration.headDimension
    epsilon = configuration.normEpsilon
    activation = configuration.activation
    rotaryStyle = configuration.rotaryStyle
    stream = buffers.stream.pointer
    normed = buffers.normed.pointer
    update = buffers.update.pointer
    stacked = buffers.stacked.pointer
    queries = buffers.queries.pointer
    keys = buffers.keys.pointer
    values = buffers.values.pointer
    gateUp = buffers.gateUp.pointer
    hidden = buffers.hidden.pointer
  }

  /// `normed = norm(stream)`.
  func normalize(_ rows: Range<Int>, by weight: UnsafePointer<Float>) {
    for row in rows {
      VectorOperations.rmsNorm(
        stream + row * width, weight: weight, epsilon: epsilon, into: normed + row * width,
        count: width, instructionSet: instructionSet)
    }
  }

  /// `stream += update + bias`, the update normalized before where the architecture says so.
  func addUpdate(
    _ rows: Range<Int>, bias: UnsafePointer<Float>?, postNorm: UnsafePointer<Float>?
  ) {
    for row in rows {
      let update = update + row * width
      add(bias, to: update, count: width)
      if let postNorm {
        VectorOperations.rmsNorm(
          update, weight: postNorm, epsilon: epsilon, into: update, count: width,
          instructionSet: instructionSet)
      }
      VectorOperations.add(
        update, into: stream + row * width, count: width, instructionSet: instructionSet)
    }
  }

  /// Takes rows of the stacked projection apart, normalizes and rotates their queries and keys.
  ///
  /// - Parameter outputs: of a row; keys and values past them are left alone.
  func splitAndRotate(
    _ rows: Range<Int>, outputs: Int, bias: UnsafePointer<Float>?, queryNorm: UnsafePointer<Float>?,
    keyNorm: UnsafePointer<Float>?, rotation: Rotation
  ) {
    let length = queryLength + 2 * keyValueLength
    for row in rows {
      let source = stacked + row * length
      add(bias, to: source, count: outputs)
      let query = queries + row * queryLength
      let key = keys + row * keyValueLength
      query.update(from: source, count: queryLength)
      rotate(query, queryLength / headDimension, norm: queryNorm, row, rotation)
      if outputs == queryLength { continue }
      key.update(from: source + queryLength, count: keyValueLength)
      rotate(key, keyValueLength / headDimension, norm: keyNorm, row, rotation)
      if outputs < length { continue }
      (values + row * keyValueLength).update(
        from: source + queryLength + keyValueLength, count: keyValueLength)
    }
  }

  private func rotate(
    _ x: UnsafeMutablePointer<Float>, _ heads: Int, norm: UnsafePointer<Float>?, _ row: Int,
    _ rotation: Rotation
  ) {
    if let norm {
      for head in 0..<heads {
        let values = x + head * headDimension
        VectorOperations.rmsNorm(
          values, weight: norm, epsilon: epsilon, into: values, count: headDimension,
          instructionSet: instructionSet)
      }
    }
    VectorOperations.rotate(
      x, heads: heads, headDimension: headDimension, rotaryDimension: 2 * rotation.pairs,
      cos: rotation.cosines + row * rotation.pairs, sin: rotation.sines + row * rotation.pairs,
      style: rotaryStyle, instructionSet: instructionSet)
  }

  /// `hidden = activation(gate) · up`.
  func gate(_ rows: Range<Int>, bias: UnsafePointer<Float>?) {
    for row in rows {
      let gate = gateUp + row * 2 * hiddenLength
      let output = hidden + row * hiddenLength
      add(bias, to: gate, count: 2 * hiddenLength)
      switch activation {
      case .silu:
        VectorOperations.siluMultiply(
          gate, gate + hiddenLength, into: output, count: hiddenLength,
          instructionSet: instructionSet)
      case .geluTanh:
        VectorOperations.geluMultiply(
          gate, gate + hiddenLength, into: output, count: hiddenLength,
          instructionSet: instructionSet)
      case .squaredReLU:
        VectorOperations.squaredReLUMultiply(
          gate, gate + hiddenLength, into: output, count: hiddenLength,
          instructionSet: instructionSet)
      }
    }
  }

  /// Norms rows of `width` elements in place, where the architecture has such a norm.
  func normalize(
    _ values: UnsafeMutablePointer<Float>, _ rows: Range<Int>, width: Int,
    by weight: UnsafePointer<Float>?
  ) {
    guard let weight else { return }
    for row in rows {
      let row = values + row * width
      VectorOperations.rmsNorm(
        row, weight: weight, epsilon: epsilon, into: row, count: width,
        instructionSet: instructionSet)
    }
  }

  /// Adds a bias where there is one.
  func add(
    _ bias: UnsafePointer<Float>?, to row: UnsafeMutablePointer<Float>, count: Int
  ) {
    guard let bias else { return }
    VectorOperations.add(bias, into: row, count: count, instructionSet: instructionSet)
  }
}
