import QuantKernels

/// The decoder itself: embedding, layers, head.
///
/// Between the four products and the attention of a layer stands little work a row (norms,
/// rotation, the gate). A decode step does it on the caller, since a fork and join costs as much as
/// the work; a batch spreads its rows over the pool. Every row is computed by the same operations
/// in the same order whatever the batch, so batches do not change bits.
extension Session {
  /// Tokens that are read together.
  struct Batch {
    let tokens: UnsafeBufferPointer<Int32>
    /// Position of the first.
    let position: Int
    /// Rows whose logits are wanted; the last layer computes only these past its keys and values.
    let wanted: Range<Int>
  }

  /// Reads a batch: fills the caches, and `normed` with the rows that the head needs.
  func run(_ batch: Batch) throws(QuantError) {
    let configuration = model.configuration
    let weights = model.weights
    try embed(batch)
    let count = batch.tokens.count
    overRows(count) { rows in
      normalize(rows, by: weights.layers[0].attentionNorm)
    }
    for index in 0..<configuration.layerCount {
      let layer = weights.layers[index]
      let isLast = index == configuration.layerCount - 1
      let rows = isLast ? batch.wanted : 0..<count
      try attend(layer, index: index, batch: batch, rows: rows)
      if rows.isEmpty { return }
      try feedForward(
        layer, rows: rows,
        nextNorm: isLast ? weights.outputNorm : weights.layers[index + 1].attentionNorm)
    }
  }

  /// Logits of rows of `normed`, `[rows × vocabulary]`.
  func project(rows: Range<Int>, into logits: UnsafeMutablePointer<Float>) throws(QuantError) {
    let configuration = model.configuration
    let head = model.weights.head
    try multiply(
      head, buffers.normed.pointer + rows.lowerBound * configuration.embeddingLength, rows.count,
      into: logits)
    let vocabulary = configuration.vocabularySize
    guard head.bias != nil || configuration.logitSoftCap != nil else { return }
    overRows(rows.count) { rows in
      for row in rows {
        let values = logits + row * vocabulary
        addBias(of: head, to: values)
        if let cap = configuration.logitSoftCap {
          VectorOperations.softCap(
            values, cap, count: vocabulary, instructionSet: instructionSet)
        }
      }
    }
  }

  // MARK: Parts of a layer

  private func embed(_ batch: Batch) throws(QuantError) {
    let configuration = model.configuration
    let width = configuration.embeddingLength
    let embedding = model.weights.embedding
    for row in 0..<batch.tokens.count {
      let start = Int(batch.tokens[row]) * embedding.rowBytes
      let values = buffers.stream.pointer + row * width
      try GGMLBlocks.dequantize(
        embedding.type,
        UnsafeRawBufferPointer(rebasing: embedding.bytes[start..<start + embedding.rowBytes]),
        into: UnsafeMutableBufferPointer(start: values, count: width))
      if configuration.embeddingScale != 1 {
        VectorOperations.scale(
          values, configuration.embeddingScale, count: width, instructionSet: instructionSet)
      }
    }
    let rotaries = configuration.slidingWindow == nil ? 1 : 2
    overRows(batch.tokens.count) { rows in
      for kind in 0..<rotaries {
        let rotary = kind == 0 ? configuration.rotary : configuration.localRotary
        let pairs = rotary.dimension / 2
        for row in rows {
          rotary.fill(
            position: batch.position + row, cosines: buffers.cosines[kind].pointer + row * pairs,
            sines: buffers.sines[kind].pointer + row * pairs)
        }
      }
    }
  }

  private func attend(
    _ layer: DecoderWeights.Layer, index: Int, batch: Batch, rows: Range<Int>
  ) throws(QuantError) {
    let configuration = model.configuration
    let count = batch.tokens.count
    let isLocal = configuration.isLocal(layer: index)
    let queryLength = configuration.queryLength
    try multiply(
      layer.queryKeyValue, buffers.normed.pointer, count, into: buffers.stacked.pointer)
    overRows(count) { rows in
      for row in rows { splitAndRotate(row, layer: layer, isLocal: isLocal) }
    }
    let cache = caches[index]
    try cache.append(keys: buffers.keys.pointer, values: buffers.values.pointer, count: count)
    if rows.isEmpty { return }
    try Attention.run(
      queries: buffers.queries.pointer + rows.lowerBound * queryLength,
      heads: configuration.headCount, count: rows.count,
      firstPosition: batch.position + rows.lowerBound, cache: cache,
      options: AttentionOptions(
        scale: configuration.attentionScale, window: isLocal ? configuration.slidingWindow : nil,
        softCap: configuration.attentionSoftCap),
      output: buffers.attention.pointer + rows.lowerBound * queryLength,
      workspace: attentionWorkspace,
      pool: model.pool)
    let width = configuration.embeddingLength
    try multiply(
      layer.attentionOutput, buffers.attention.pointer + rows.lowerBound * queryLength, rows.count,
      into: buffers.update.pointer + rows.lowerBound * width)
    overRows(rows) { rows in
      addUpdate(rows, of: layer.attentionOutput, postNorm: layer.postAttentionNorm)
      normalize(rows, by: layer.feedForwardNorm)
    }
  }

  private func feedForward(
    _ layer: DecoderWeights.Layer, rows: Range<Int>, nextNorm: FloatBuffer
  ) throws(QuantError) {
    let configuration = model.configuration
    let width = configuration.embeddingLength
    let hidden = configuration.feedForwardLength
    try multiply(
      layer.gateUp, buffers.normed.pointer + rows.lowerBound * width, rows.count,
      into: buffers.gateUp.pointer + rows.lowerBound * 2 * hidden)
    overRows(rows) { rows in
      for row in rows {
        let gate = buffers.gateUp.pointer + row * 2 * hidden
        let output = buffers.hidden.pointer + row * hidden
        addBias(of: layer.gateUp, to: gate)
        switch configuration.activation {
        case .silu:
          VectorOperations.siluMultiply(
            gate, gate + hidden, into: output, count: hidden, instructionSet: instructionSet)
        case .geluTanh:
          VectorOperations.geluMultiply(
            gate, gate + hidden, into: output, count: hidden, instructionSet: instructionSet)
        }
      }
    }
    try multiply(
      layer.down, buffers.hidden.pointer + rows.lowerBound * hidden, rows.count,
      into: buffers.update.pointer + rows.lowerBound * width)
    overRows(rows) { rows in
      addUpdate(rows, of: layer.down, postNorm: layer.postFeedForwardNorm)
      normalize(rows, by: nextNorm)
    }
  }

  // MARK: Work on rows

  private var instructionSet: InstructionSet { model.options.instructionSet }

  /// Takes a row of the stacked projection apart, normalizes and rotates its queries and keys.
  private func splitAndRotate(_ row: Int, layer: DecoderWeights.Layer, isLocal: Bool) {
    let configuration = model.configuration
    let queryLength = configuration.queryLength
    let keyValueLength = configuration.keyValueLength
    let head = configuration.headDimension
    let stacked = buffers.stacked.pointer + row * (queryLength + 2 * keyValueLength)
    addBias(of: layer.queryKeyValue, to: stacked)
    let queries = buffers.queries.pointer + row * queryLength
    let keys = buffers.keys.pointer + row * keyValueLength
    queries.update(from: stacked, count: queryLength)
    keys.update(from: stacked + queryLength, count: keyValueLength)
    (buffers.values.pointer + row * keyValueLength).update(
      from: stacked + queryLength + keyValueLength, count: keyValueLength)
    if let norm = layer.queryNorm {
      for index in 0..<configuration.headCount { normalize(queries + index * head, head, norm) }
    }
    if let norm = layer.keyNorm {
      for index in 0..<configuration.keyValueHeadCount {
        normalize(keys + index * head, head, norm)
      }
    }
    let kind = isLocal ? 1 : 0
    let rotary = isLocal ? configuration.localRotary : configuration.rotary
    let cosines = buffers.cosines[kind].pointer + row * (rotary.dimension / 2)
    let sines = buffers.sines[kind].pointer + row * (rotary.dimension / 2)
    VectorOperations.rotate(
      queries, heads: configuration.headCount, headDimension: head,
      rotaryDimension: rotary.dimension, cos: cosines, sin: sines,
      style: configuration.rotaryStyle, instructionSet: instructionSet)
    VectorOperations.rotate(
      keys, heads: configuration.keyValueHeadCount, headDimension: head,
      rotaryDimension: rotary.dimension, cos: cosines, sin: sines,
      style: configuration.rotaryStyle, instructionSet: instructionSet)
  }

  /// `normed = norm(stream)`.
  private func normalize(_ rows: Range<Int>, by weight: FloatBuffer) {
    let width = model.configuration.embeddingLength
    for row in rows {
      VectorOperations.rmsNorm(
        buffers.stream.pointer + row * width, weight: weight.pointer,
        epsilon: model.configuration.normEpsilon, into: buffers.normed.pointer + row * width,
        count: width, instructionSet: instructionSet)
    }
  }

  private func normalize(_ values: UnsafeMutablePointer<Float>, _ count: Int, _ weight: FloatBuffer)
  {
    VectorOperations.rmsNorm(
      values, weight: weight.pointer, epsilon: model.configuration.normEpsilon, into: values,
      count: count, instructionSet: instructionSet)
  }

  /// `stream += update`, the update normalized before where the architecture says so.
  private func addUpdate(_ rows: Range<Int>, of layer: StackedLinear, postNorm: FloatBuffer?) {
    let width = model.configuration.embeddingLength
    for row in rows {
      let update = buffers.update.pointer + row * width
      addBias(of: layer, to: update)
      if let postNorm { normalize(update, width, postNorm) }
      VectorOperations.add(
        update, into: buffers.stream.pointer + row * width, count: width,
        instructionSet: instructionSet)
    }
  }

  private func addBias(of layer: StackedLinear, to row: UnsafeMutablePointer<Float>) {
    guard let bias = layer.bias else { return }
    VectorOperations.add(bias.pointer, into: row, count: bias.count, instructionSet: instructionSet)
  }

  private func multiply(
    _ layer: StackedLinear, _ x: UnsafePointer<Float>, _ count: Int,
    into y: UnsafeMutablePointer<Float>
  ) throws(QuantError) {
    try layer.multiply(
      x, count: count, into: y, arithmetic: model.options.arithmetic, workspace: workspace,
      pool: model.pool)
  }

  private func overRows(_ count: Int, _ body: (Range<Int>) -> Void) { overRows(0..<count, body) }

  /// Runs `body` on ranges that make up `rows`: on the caller when they are few, else on the pool.
  private func overRows(_ rows: Range<Int>, _ body: (Range<Int>) -> Void) {
    let pool = model.pool
    guard rows.count >= 8, pool.threads > 1 else { return body(rows) }
    let parts = min(rows.count, 4 * pool.threads)
    pool.run(parts: parts) { part, _ in
      let first = rows.lowerBound + part * rows.count / parts
      let end = rows.lowerBound + (part + 1) * rows.count / parts
      body(first..<end)
    }
  }
}
