import QuantKernels

/// One conversation: the key-value cache of what was read so far, and every buffer that reading
/// more needs.
///
/// After the first call nothing is allocated: a decode step works in the buffers made here. A
/// session is not safe to use from two threads at once.
public final class Session {
  /// The model that reads.
  public let model: LanguageModel
  /// Positions that the cache holds.
  public let contextLength: Int
  /// How this session stores keys and values.
  public let keyValueType: KeyValueType
  /// Tokens read so far; the next token stands at this position.
  public private(set) var position = 0

  /// Prompts are read in batches of at most so many tokens: enough rows for the matmul kernels to
  /// reach their speed, few enough for activations to stay in the last-level cache.
  static let batchTokens = 512

  /// One a layer, or none where latents are cached.
  let caches: [KeyValueCache]
  let lowRank: LowRankCaches?
  let workspace = Workspace()
  let attentionWorkspace: AttentionWorkspace
  let buffers: Buffers
  let operations: RowOperations
  let globalRotation: RowOperations.Rotation
  let localRotation: RowOperations.Rotation
  let globalAttention: AttentionOptions
  let localAttention: AttentionOptions
  private var logitRows: FloatBuffer
  /// The other ranks that share the model; nil where it is whole.
  let communicator: (any Communicator)?
  /// Own logits, and those of all ranks, `[ranks][rows × the longest part]`.
  var ownLogits = FloatBuffer(count: 0)
  var allLogits = FloatBuffer(count: 0)
  /// Sees what each linear layer of the blocks reads, for calibration; nil in all other use.
  var observer: ((LinearInput) throws(QuantError) -> Void)?

  /// What the linear layers of one kind read in one batch.
  struct LinearInput {
    /// The block.
    let layer: Int
    /// Which of ``WeightPlan/Layer/linears``: Q+K+V, attention output, gate+up, down.
    let linear: Int
    /// `[rows × columns]`.
    let values: UnsafePointer<Float>
    let rows: Int
    let columns: Int
  }

  /// Activations of one batch.
  struct Buffers {
    let rows: Int
    /// The residual stream, and its normalized copy, `[rows × embedding]`.
    let stream: FloatBuffer
    let normed: FloatBuffer
    /// What a projection adds to the stream, `[rows × embedding]`.
    let update: FloatBuffer
    /// `[rows × (queries + keys + values)]`, and its three parts apart.
    let stacked: FloatBuffer
    let queries: FloatBuffer
    let keys: FloatBuffer
    let values: FloatBuffer
    let attention: FloatBuffer
    /// `[rows × 2 · feed-forward]` and `[rows × feed-forward]`.
    let gateUp: FloatBuffer
    let hidden: FloatBuffer
    /// `[rows × pairs]`: cosines, then sines, of the global, then of the local rotary embedding.
    let angles: [FloatBuffer]

    init(_ configuration: ModelConfiguration, rows: Int) {
      self.rows = rows
      func buffer(_ width: Int) -> FloatBuffer { FloatBuffer(count: rows * width) }
      stream = buffer(configuration.embeddingLength)
      normed = buffer(configuration.embeddingLength)
      update = buffer(configuration.embeddingLength)
      stacked = buffer(configuration.queryLength + 2 * configuration.keyValueLength)
      queries = buffer(configuration.queryLength)
      keys = buffer(configuration.keyValueLength)
      values = buffer(configuration.keyValueLength)
      attention = buffer(configuration.queryLength)
      gateUp = buffer(2 * configuration.feedForwardLength)
      hidden = buffer(configuration.feedForwardLength)
      let pairs = [configuration.rotary, configuration.localRotary].map { $0.dimension / 2 }
      angles = [pairs[0], pairs[0], pairs[1], pairs[1]].map(buffer)
    }

    /// Angles of the global (0) or the local (1) rotary embedding.
    func rotation(_ index: Int, _ rotary: RotaryEmbedding) -> RowOperations.Rotation {
      RowOperations.Rotation(
        pairs: rotary.dimension / 2, cosines: angles[2 * index].pointer,
        sines: angles[2 * index + 1].pointer)
    }
  }

  init(
    model: LanguageModel, contextLength: Int, keyValueType: KeyValueType,
    lowRank: LowRankModel? = nil, communicator: (any Communicator)? = nil
  ) throws(QuantError) {
    let configuration = model.configuration
    self.communicator = try model.connected(communicator)
    try Self.check(contextLength: contextLength, of: configuration)
    let tensors = DecoderWeights.memory(of: model.file, arithmetic: model.options.arithmetic)
    let bytes = Self.byteCount(
      configuration: configuration, contextLength: contextLength, keyValueType: keyValueType,
      lowRankBytesPerToken: lowRank?.bytesPerToken)
    try MemoryRequirement.check(
      MemoryRequirement.sum(tensors + [[bytes]]),
      limit: model.options.memoryLimit ?? MemoryRequirement.availableBytes, subject: "session",
      remedy: "ask for a shorter context")
    self.model = model
    self.contextLength = contextLength
    self.keyValueType = keyValueType
    var caches: [KeyValueCache] = []
    for _ in 0..<(lowRank == nil ? configuration.layerCount : 0) {
      caches.append(
        try KeyValueCache(
          type: keyValueType, keyValueHeads: configuration.keyValueHeadCount,
          headDimension: configuration.headDimension, capacity: contextLength,
          instructionSet: model.options.instructionSet))
    }
    self.caches = caches
    self.lowRank =
      if let lowRank {
        try LowRankCaches(
          lowRank, contextLength: contextLength, rows: min(Self.batchTokens, contextLength),
          options: model.options)
      } else {
        nil
      }
    attentionWorkspace = AttentionWorkspace(instructionSet: model.options.instructionSet)
    buffers = Buffers(configuration, rows: min(Self.batchTokens, contextLength))
    operations = RowOperations(
      configuration, buffers: buffers, instructionSet: model.options.instructionSet)
    globalRotation = buffers.rotation(0, configuration.rotary)
    localRotation = buffers.rotation(1, configuration.localRotary)
    globalAttention = AttentionOptions(
      scale: configuration.attentionScale, softCap: configuration.attentionSoftCap)
    localAttention = AttentionOptions(
      scale: configuration.attentionScale, window: configuration.slidingWindow,
      softCap: configuration.attentionSoftCap)
    logitRows = FloatBuffer(count: configuration.vocabularySize)
  }

  /// - Throws: `QuantError` `.invalidArgument` unless 1 ≤ context ≤ what the model was trained
  ///   for.
  static func check(contextLength: Int, of configuration: ModelConfiguration) throws(QuantError) {
    guard contextLength >= 1, contextLength <= configuration.contextLength else {
      throw QuantError(
        .invalidArgument, "context length",
        "\(contextLength) where 1…\(configuration.contextLength) are possible",
        remedy: "choose a context that the model was trained for")
    }
  }

  /// Bytes of a session's cache and buffers, an upper bound; `Int.max` where no number holds them.
  static func byteCount(
    configuration: ModelConfiguration, contextLength: Int, keyValueType: KeyValueType,
    lowRankBytesPerToken: Int? = nil
  ) -> Int {
    let rows = min(batchTokens, contextLength)
    let widths = [
      configuration.embeddingLength, configuration.queryLength, configuration.keyValueLength,
      configuration.feedForwardLength, configuration.rotary.dimension,
    ]
    let positions = (contextLength + 15) / 16 * 16
    let cache =
      lowRankBytesPerToken.map { [$0, positions] } ?? [
        2, configuration.layerCount, positions, configuration.keyValueHeadCount,
        keyValueType.bytes(width: (configuration.headDimension + 15) / 16 * 16),
      ]
    return MemoryRequirement.sum(
      [cache, [4, configuration.vocabularySize]] + widths.map { [4 * 4, rows, $0] })
  }

  /// Bytes that a token adds to the cache, all layers together.
  public var keyValueBytesPerToken: Int {
    caches.reduce(0) { $0 + $1.bytesPerPosition }
      + (lowRank?.caches.reduce(0) { $0 + $1.bytesPerPosition } ?? 0)
  }

  /// Bytes of weights that a decoded token reads: the model's; with a low-rank cache, its factors in
  /// place of the projections of values, and of keys that are not cached whole.
  public var weightBytesPerToken: Int {
    guard let lowRank else { return model.weightBytesPerToken }
    return lowRank.caches.indices.reduce(model.weightBytesPerToken) { bytes, index in
      let dense = model.weights.layers[index].queryKeyValue
      let read = dense.byteCount(outputs: lowRank.denseOutputs(layer: index))
      return bytes + lowRank.caches[index].layer.byteCount + read - dense.byteCount
    }
  }

  /// Forgets everything that was read.
  public func reset() { truncate(to: 0) }

  /// Forgets all tokens from `position` on; a larger position than the present one changes nothing.
  public func truncate(to position: Int) {
    guard position < self.position else { return }
    self.position = max(0, position)
    truncateCaches(to: self.position)
  }

  private func truncateCaches(to position: Int) {
    for cache in caches { cache.truncate(to: position) }
    lowRank?.truncate(to: position)
  }

  /// Logits of the last token of the last call that asked for them; valid until the next call.
  public var logits: UnsafeBufferPointer<Float> {
    UnsafeBufferPointer(start: logitRows.pointer, count: model.configuration.vocabularySize)
  }

  /// Reads tokens and leaves the logits after the last one in ``logits``.
  ///
  /// - Throws: `QuantError` `.invalidArgument` when there is no token, an unknown one, or no
  ///   position left for them; `.cancelled`. The session is then as it was before the call.
  public func forward(_ tokens: [Int32], cancellation: CancellationFlag? = nil)
    throws(QuantError)
  {
    try read(tokens, wanted: tokens.count - 1..<tokens.count, cancellation: cancellation)
  }

  /// Reads one token; a decode step. Allocates nothing.
  ///
  /// - Throws: as ``forward(_:cancellation:)``.
  public func forward(token: Int32) throws(QuantError) {
    var token = token
    try withUnsafePointer(to: &token) { pointer throws(QuantError) in
      try read(
        UnsafeBufferPointer(start: pointer, count: 1), wanted: 0..<1, cancellation: nil,
        visit: { _, _ in })
    }
  }

  /// Reads tokens of which no logits are wanted, which spares the head and most of the last layer.
  ///
  /// - Throws: as ``forward(_:cancellation:)``.
  public func prefill(_ tokens: [Int32], cancellation: CancellationFlag? = nil)
    throws(QuantError)
  {
    try read(tokens, wanted: 0..<0, cancellation: cancellation)
  }

  /// Reads tokens and hands over the logits of some of them, a group of rows at a time, in order.
  ///
  /// - Parameters:
  ///   - rows: the tokens, by index, whose logits are wanted.
  ///   - visit: gets indices of tokens and their logits, `[rows × vocabulary]`, which it may
  ///     overwrite and must not keep.
  ///   - tokens: what is read.
  ///   - cancellation: looked at between batches.
  /// - Throws: as ``forward(_:cancellation:)``, and what `visit` throws.
  public func forward(
    _ tokens: [Int32], logits rows: Range<Int>, cancellation: CancellationFlag? = nil,
    visit: (_ rows: Range<Int>, _ logits: UnsafeMutablePointer<Float>) throws(QuantError) -> Void
  ) throws(QuantError) {
    guard rows.lowerBound >= 0, rows.upperBound <= tokens.count else {
      throw QuantError(
        .invalidArgument, "rows", "\(rows) of \(tokens.count) tokens",
        remedy: "ask for rows of the tokens that are passed")
    }
    let vocabulary = model.configuration.vocabularySize
    // As many rows as fit 32 MiB, at most 128: the head's matmul gains nothing from more.
    let group = min(max(1, (8 << 20) / vocabulary), 128, max(1, rows.count))
    if logitRows.count < group * vocabulary {
      logitRows = FloatBuffer(count: group * vocabulary)
    }
    try tokens.withUnsafeBufferPointer { buffer throws(QuantError) in
      try read(buffer, wanted: rows, cancellation: cancellation, visit: visit)
    }
  }

  private func read(_ tokens: [Int32], wanted: Range<Int>, cancellation: CancellationFlag?)
    throws(QuantError)
  {
    try tokens.withUnsafeBufferPointer { buffer throws(QuantError) in
      try read(buffer, wanted: wanted, cancellation: cancellation, visit: { _, _ in })
    }
  }

  private func read(
    _ tokens: UnsafeBufferPointer<Int32>, wanted: Range<Int>, cancellation: CancellationFlag?,
    visit: (Range<Int>, UnsafeMutablePointer<Float>) throws(QuantError) -> Void
  ) throws(QuantError) {
    try check(tokens)
    let start = position
    do throws(QuantError) {
      try model.pool.withHotRegion { () throws(QuantError) in
        var first = 0
        while first < tokens.count {
          try cancellation.check()
          let end = min(first + buffers.rows, tokens.count)
          let rows = wanted.clamped(to: first..<end)
          let batch = Batch(
            tokens: UnsafeBufferPointer(rebasing: tokens[first..<end]), position: position,
            wanted: rows.lowerBound - first..<rows.upperBound - first)
          try run(batch, cancellation)
          position += batch.tokens.count
          try head(rows, firstOfBatch: first, visit: visit)
          first = end
        }
      }
    } catch {
      communicator?.abort(error)
      position = start
      truncateCaches(to: start)
      throw error
    }
  }

  private func check(_ tokens: UnsafeBufferPointer<Int32>) throws(QuantError) {
    guard !tokens.isEmpty else {
      throw QuantError(
        .invalidArgument, "tokens", "there are none", remedy: "pass at least one token")
    }
    guard tokens.count <= contextLength - position else {
      throw QuantError(
        .invalidArgument, "tokens",
        "\(tokens.count) tokens where \(contextLength - position) of \(contextLength) are left",
        remedy: "shorten the text or ask for a longer context")
    }
    let vocabulary = model.configuration.vocabularySize
    for index in tokens.indices where tokens[index] < 0 || Int(tokens[index]) >= vocabulary {
      throw QuantError(
        .invalidArgument, "token \(index)", "\(tokens[index]) is outside 0…\(vocabulary - 1)",
        remedy: "use tokens of the model's own tokenizer")
    }
  }

  /// Logits of the rows of a batch that are wanted, in groups; with no visitor of the last one
  /// alone.
  private func head(
    _ rows: Range<Int>, firstOfBatch: Int,
    visit: (Range<Int>, UnsafeMutablePointer<Float>) throws(QuantError) -> Void
  ) throws(QuantError) {
    let configuration = model.configuration
    let group = max(1, logitRows.count / configuration.vocabularySize)
    var first = rows.lowerBound
    while first < rows.upperBound {
      let end = min(first + group, rows.upperBound)
      try project(
        rows: first - firstOfBatch..<end - firstOfBatch, into: logitRows.pointer)
      try visit(first..<end, logitRows.pointer)
      first = end
    }
  }
}
