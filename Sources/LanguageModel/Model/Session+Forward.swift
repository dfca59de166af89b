import QuantKernels

/// The decoder itself: embedding, layers, head.
///
/// Between the four products and the attention of a layer stands little work a row
/// (``RowOperations``). A decode step does it on the caller, since a fork and join costs as much as
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
  /// The flag is looked at between layers: a batch of a large model takes seconds.
  func run(_ batch: Batch, _ cancellation: CancellationFlag?) throws(QuantError) {
    let weights = model.weights
    let count = batch.tokens.count
    try embed(batch)
    let operations = operations
    let firstNorm = weights.layers[0].attentionNorm.pointer
    overRows(0..<count) { operations.normalize($0, by: firstNorm) }
    for index in 0..<weights.layers.count {
      try cancellation.check()
      let layer = weights.layers[index]
      let isLast = index == weights.layers.count - 1
      let rows = isLast ? batch.wanted : 0..<count
      try attend(layer, index: index, batch: batch, rows: rows)
      if rows.isEmpty { return }
      try feedForward(
        layer, index: index, rows: rows,
        nextNorm: isLast ? weights.outputNorm : weights.layers[index + 1].attentionNorm)
    }
  }

  /// Logits of rows of `normed`, `[rows × vocabulary]`.
  func project(rows: Range<Int>, into logits: UnsafeMutablePointer<Float>) throws(QuantError) {
    let head = model.weights.head
    let operations = operations
    if communicator != nil { return try projectParts(rows: rows, into: logits) }
    try multiply(
      head, operations.normed + rows.lowerBound * operations.width, rows.count, into: logits)
    let cap = model.configuration.logitSoftCap
    let bias = head.bias?.pointer
    guard bias != nil || cap != nil else { return }
    let vocabulary = head.rows
    overRows(0..<rows.count) { rows in
      for row in rows {
        let values = logits + row * vocabulary
        operations.add(bias, to: values, count: vocabulary)
        if let cap {
          VectorOperations.softCap(
            values, cap, count: vocabulary, instructionSet: operations.instructionSet)
        }
      }
    }
  }

  /// The same where every rank has the logits of a part of the vocabulary: they are gathered.
  private func projectParts(
    rows: Range<Int>, into logits: UnsafeMutablePointer<Float>
  ) throws(QuantError) {
    guard let communicator else { return }
    let head = model.weights.head
    let operations = operations
    let parts = model.parts
    let longest = rows.count * parts[0].longestVocabulary
    if ownLogits.count < longest {
      ownLogits = FloatBuffer(count: longest)
      allLogits = FloatBuffer(count: longest * parts.count)
    }
    let own = ownLogits.pointer
    try multiply(
      head, operations.normed + rows.lowerBound * operations.width, rows.count, into: own)
    for row in 0..<rows.count {
      operations.add(head.bias?.pointer, to: own + row * head.rows, count: head.rows)
    }
    try communicator.allGather(
      UnsafeBufferPointer(start: own, count: longest),
      into: UnsafeMutableBufferPointer(
        start: allLogits.pointer, count: longest * parts.count))
    let vocabulary = model.configuration.vocabularySize
    for row in 0..<rows.count {
      for index in 0..<parts.count {
        let part = parts[index].vocabulary
        (logits + row * vocabulary + part.lowerBound).update(
          from: allLogits.pointer + index * longest + row * part.count, count: part.count)
      }
      if let cap = model.configuration.logitSoftCap {
        VectorOperations.softCap(
          logits + row * vocabulary, cap, count: vocabulary,
          instructionSet: operations.instructionSet)
      }
    }
  }

  /// Adds up what the ranks' parts of an output projection give.
  private func reduceUpdate(_ rows: Range<Int>) throws(QuantError) {
    guard let communicator else { return }
    try communicator.allReduce(
      UnsafeMutableBufferPointer(
        start: operations.update + rows.lowerBound * operations.width,
        count: rows.count * operations.width))
  }

  // MARK: Parts of a layer

  private func embed(_ batch: Batch) throws(QuantError) {
    let embedding = model.weights.embedding
    let scale = model.configuration.embeddingScale
    let width = operations.width
    for row in 0..<batch.tokens.count {
      let start = Int(batch.tokens[row]) * embedding.rowBytes
      let values = operations.stream + row * width
      try GGMLBlocks.dequantize(
        embedding.type,
        UnsafeRawBufferPointer(rebasing: embedding.bytes[start..<start + embedding.rowBytes]),
        into: UnsafeMutableBufferPointer(start: values, count: width))
      if scale != 1 {
        VectorOperations.scale(
          values, scale, count: width, instructionSet: operations.instructionSet)
      }
    }
    fillAngles(batch, model.configuration.rotary, globalRotation)
    if model.configuration.slidingWindow != nil {
      fillAngles(batch, model.configuration.localRotary, localRotation)
    }
  }

  private func fillAngles(
    _ batch: Batch, _ rotary: RotaryEmbedding, _ rotation: RowOperations.Rotation
  ) {
    overRows(0..<batch.tokens.count) { rows in
      for row in rows {
        rotary.fill(
          position: batch.position + row, cosines: rotation.cosines + row * rotation.pairs,
          sines: rotation.sines + row * rotation.pairs)
      }
    }
  }

  /// Writes keys and values of the whole batch, and adds the attention's part to `rows` of the
  /// stream.
  private func attend(
    _ layer: DecoderWeights.Layer, index: Int, batch: Batch, rows: Range<Int>
  ) throws(QuantError) {
    let operations = operations
    let count = batch.tokens.count
    let isLocal = model.configuration.isLocal(layer: index)
    let rotation = isLocal ? localRotation : globalRotation
    try observe(index, 0, operations.normed, count, layer.queryKeyValue)
    let outputs = lowRank?.denseOutputs(layer: index) ?? layer.queryKeyValue.rows
    try multiply(
      layer.queryKeyValue, operations.normed, count, into: operations.stacked, outputs: outputs)
    let bias = layer.queryKeyValue.bias?.pointer
    let queryNorm = layer.queryNorm?.pointer
    let keyNorm = layer.keyNorm?.pointer
    overRows(0..<count) {
      operations.splitAndRotate(
        $0, outputs: outputs, bias: bias, queryNorm: queryNorm, keyNorm: keyNorm,
        rotation: rotation)
    }
    if let lowRank {
      try lowRank.append(
        layer: index, operations.normed, wholeKeys: operations.keys, count: count,
        workspace: workspace, pool: model.pool)
    } else {
      try caches[index].append(keys: operations.keys, values: operations.values, count: count)
    }
    if rows.isEmpty { return }
    let mixed = buffers.attention.pointer + rows.lowerBound * operations.queryLength
    let queries = operations.queries + rows.lowerBound * operations.queryLength
    let options = isLocal ? localAttention : globalAttention
    if let lowRank {
      try lowRank.attend(
        layer: index, queries: queries, queryWidth: operations.queryLength, count: rows.count,
        firstPosition: batch.position + rows.lowerBound, options: options, output: mixed,
        pool: model.pool)
    } else {
      try Attention.run(
        queries: queries, heads: model.configuration.headCount, count: rows.count,
        firstPosition: batch.position + rows.lowerBound, cache: caches[index], options: options,
        output: mixed, workspace: attentionWorkspace, pool: model.pool)
    }
    if let norm = layer.attentionSubNorm?.pointer {
      overRows(0..<rows.count) {
        operations.normalize(mixed, $0, width: operations.queryLength, by: norm)
      }
    }
    try observe(index, 1, mixed, rows.count, layer.attentionOutput)
    try multiply(
      layer.attentionOutput, mixed, rows.count,
      into: operations.update + rows.lowerBound * operations.width)
    try reduceUpdate(rows)
    addUpdate(
      rows, of: layer.attentionOutput, postNorm: layer.postAttentionNorm,
      nextNorm: layer.feedForwardNorm)
  }

  private func feedForward(
    _ layer: DecoderWeights.Layer, index: Int, rows: Range<Int>, nextNorm: FloatBuffer
  ) throws(QuantError) {
    let operations = operations
    let first = rows.lowerBound
    try observe(
      index, 2, operations.normed + first * operations.width, rows.count, layer.gateUp)
    try multiply(
      layer.gateUp, operations.normed + first * operations.width, rows.count,
      into: operations.gateUp + first * 2 * operations.hiddenLength)
    let bias = layer.gateUp.bias?.pointer
    let subNorm = layer.feedForwardSubNorm?.pointer
    overRows(rows) {
      operations.gate($0, bias: bias)
      operations.normalize(operations.hidden, $0, width: operations.hiddenLength, by: subNorm)
    }
    try observe(
      index, 3, operations.hidden + first * operations.hiddenLength, rows.count, layer.down)
    try multiply(
      layer.down, operations.hidden + first * operations.hiddenLength, rows.count,
      into: operations.update + first * operations.width)
    try reduceUpdate(rows)
    addUpdate(rows, of: layer.down, postNorm: layer.postFeedForwardNorm, nextNorm: nextNorm)
  }

  /// Adds a projection's output to the stream and normalizes that for the next one.
  private func addUpdate(
    _ rows: Range<Int>, of layer: StackedLinear, postNorm: FloatBuffer?, nextNorm: FloatBuffer
  ) {
    let operations = operations
    let bias = layer.bias?.pointer
    let postNorm = postNorm?.pointer
    let nextNorm = nextNorm.pointer
    overRows(rows) {
      operations.addUpdate($0, bias: bias, postNorm: postNorm)
      operations.normalize($0, by: nextNorm)
    }
  }

  // MARK: Running

  private func observe(
    _ layer: Int, _ linear: Int, _ x: UnsafePointer<Float>, _ rows: Int, _ weights: StackedLinear
  ) throws(QuantError) {
    guard let observer else { return }
    try observer(
      LinearInput(layer: layer, linear: linear, values: x, rows: rows, columns: weights.columns))
  }

  private func multiply(
    _ layer: StackedLinear, _ x: UnsafePointer<Float>, _ count: Int,
    into y: UnsafeMutablePointer<Float>, outputs: Int? = nil
  ) throws(QuantError) {
    try layer.multiply(
      x, count: count, into: y, outputs: outputs ?? layer.rows,
      arithmetic: model.options.arithmetic, workspace: workspace,
      pool: model.pool)
  }

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
