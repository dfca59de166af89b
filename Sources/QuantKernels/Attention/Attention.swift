import CQuantKernels

/// Attention of float32 queries over cached keys and values of any ``KeyValueType``: grouped query
/// heads, structured and arbitrary masks, ALiBi, soft-cap, sinks; tiled for prompts, split over the
/// keys for decoding, contiguous or paged.
///
/// Row i of a call has the same bits as its own call of one row, for every number of rows and
/// threads: keys are taken in partitions of 256 that start at positions divisible by 256, and
/// partitions are merged in ascending order, whoever computes them. See `qk_attention.h` for the
/// arithmetic. Keys that nobody in a block of rows sees are not read (but for the rest of a block
/// of 16), and no memory grows with queries × keys.
///
/// Derived from: Dao, FlashAttention-2 (arXiv 2307.08691), and its split over keys, Flash-Decoding.
public enum Attention {
  /// Attends causally from positions `firstPosition ..< firstPosition + count`, which the cache
  /// already holds.
  ///
  /// - Parameters:
  ///   - queries: `count × (heads · headDimension)` floats; query head h uses key-value head
  ///     h / (heads / keyValueHeads).
  ///   - output: `count × (heads · valueDimension)` floats; may be the queries' own memory where
  ///     the widths are equal.
  ///   - heads: query heads.
  ///   - count: queries.
  ///   - firstPosition: the position of the first query.
  ///   - cache: keys and values.
  ///   - options: scale, window, soft-cap, slopes and sinks.
  ///   - workspace: scratch memory; it grows to the largest call and is kept.
  ///   - pool: the threads that take part.
  /// - Throws: ``QuantError`` `.invalidArgument` for heads that are no multiple of the cache's,
  ///   positions that the cache does not hold, and bad options; `.outOfMemory` when the workspace
  ///   cannot grow.
  /// - Complexity: O(visible keys · heads · headDimension); 4 operations each.
  public static func run(
    queries: UnsafePointer<Float>, heads: Int, count: Int, firstPosition: Int,
    cache: KeyValueCache, options: AttentionOptions, output: UnsafeMutablePointer<Float>,
    workspace: AttentionWorkspace, pool: WorkerPool
  ) throws(QuantError) {
    guard
      count >= 0, firstPosition >= 0, firstPosition <= cache.count,
      count <= cache.count - firstPosition
    else {
      throw QuantError(
        .invalidArgument, "attention positions",
        "\(count) from \(firstPosition) on where the cache holds \(cache.count)",
        remedy: "append their keys and values first")
    }
    try run(
      Call(
        queries: queries, heads: heads, count: count, output: output, logarithms: nil,
        mask: AttentionMask(firstPosition: firstPosition), options: options),
      cache.view, workspace, pool)
  }

  /// The same with buffers whose sizes are checked: at least `count × heads × headDimension` and
  /// `count × heads × valueDimension` floats.
  public static func run(
    queries: UnsafeBufferPointer<Float>, heads: Int, count: Int, firstPosition: Int,
    cache: KeyValueCache, options: AttentionOptions, output: UnsafeMutableBufferPointer<Float>,
    workspace: AttentionWorkspace, pool: WorkerPool
  ) throws(QuantError) {
    try checkBuffers(
      queries: queries.count, outputs: output.count, logarithms: nil, heads: heads, count: count,
      cache.shape)
    guard let source = queries.baseAddress, let target = output.baseAddress else { return }
    try run(
      queries: source, heads: heads, count: count, firstPosition: firstPosition, cache: cache,
      options: options, output: target, workspace: workspace, pool: pool)
  }

  /// Attends with any mask.
  ///
  /// - Parameters:
  ///   - count: queries, of any positions: a query that sees nothing gives 0.
  ///   - logarithms: nil, or at least `count × heads` floats for ln Σ exp(score) of every row, by
  ///     which results over parts of the keys are merged; −∞ where nothing is seen.
  ///   - queries: at least `count × (heads · headDimension)` floats.
  ///   - heads: query heads.
  ///   - mask: which keys a query sees.
  ///   - cache: keys and values.
  ///   - options: scale, window, soft-cap, slopes and sinks.
  ///   - output: room for `count × (heads · valueDimension)` floats.
  ///   - workspace: scratch memory; it grows to the largest call and is kept.
  ///   - pool: the threads that take part.
  /// - Throws: ``QuantError`` `.invalidArgument` for heads that are no multiple of the cache's,
  ///   buffers too small, a mask of another size and bad options; `.outOfMemory`.
  public static func run(
    queries: UnsafeBufferPointer<Float>, heads: Int, count: Int, mask: AttentionMask,
    cache: KeyValueCache, options: AttentionOptions, output: UnsafeMutableBufferPointer<Float>,
    logarithms: UnsafeMutableBufferPointer<Float>? = nil, workspace: AttentionWorkspace,
    pool: WorkerPool
  ) throws(QuantError) {
    try run(
      queries, heads, count, mask, cache.view, options, output, logarithms, workspace, pool)
  }

  /// The same over a paged cache.
  public static func run(
    queries: UnsafeBufferPointer<Float>, heads: Int, count: Int, mask: AttentionMask,
    cache: PagedKeyValueCache, options: AttentionOptions,
    output: UnsafeMutableBufferPointer<Float>,
    logarithms: UnsafeMutableBufferPointer<Float>? = nil, workspace: AttentionWorkspace,
    pool: WorkerPool
  ) throws(QuantError) {
    try run(
      queries, heads, count, mask, cache.view, options, output, logarithms, workspace, pool)
  }

  /// One sequence of a batch: its queries are the last `count` positions that the cache holds.
  public struct Sequence {
    /// What the sequence's queries look at.
    public let cache: PagedKeyValueCache
    /// Queries of the sequence.
    public let count: Int

    /// The last `count` positions of `cache`.
    public init(cache: PagedKeyValueCache, count: Int) {
      self.cache = cache
      self.count = count
    }
  }

  /// Attends causally for sequences of different lengths, whose queries and outputs lie one after
  /// another without padding.
  ///
  /// - Throws: as the others; before anything is computed when a sequence does not hold its
  ///   queries.
  public static func run(
    queries: UnsafeBufferPointer<Float>, heads: Int, batch: [Sequence],
    options: AttentionOptions, output: UnsafeMutableBufferPointer<Float>,
    workspace: AttentionWorkspace, pool: WorkerPool
  ) throws(QuantError) {
    var firstQuery = 0
    var firstOutput = 0
    var parts: [(queries: Range<Int>, outputs: Range<Int>)] = []
    for (index, sequence) in batch.enumerated() {
      let shape = sequence.cache.pool.shape
      guard 0...sequence.cache.count ~= sequence.count else {
        throw QuantError(
          .invalidArgument, "sequence \(index) of a batch",
          "\(sequence.count) queries where the cache holds \(sequence.cache.count) positions",
          remedy: "append their keys and values first")
      }
      let rows = sequence.count.multipliedReportingOverflow(by: heads)
      let query = rows.partialValue.multipliedReportingOverflow(by: shape.keyWidth)
      let value = rows.partialValue.multipliedReportingOverflow(by: shape.valueWidth)
      guard heads >= 1, !rows.overflow, !query.overflow, !value.overflow,
        query.partialValue <= queries.count - firstQuery,
        value.partialValue <= output.count - firstOutput
      else {
        throw QuantError(
          .invalidArgument, "attention buffers",
          "\(queries.count) queries and \(output.count) outputs end in sequence \(index)",
          remedy: "give a float for every element of every head and position")
      }
      parts.append(
        (
          firstQuery..<firstQuery + query.partialValue,
          firstOutput..<firstOutput + value.partialValue
        ))
      firstQuery += query.partialValue
      firstOutput += value.partialValue
    }
    for (sequence, part) in zip(batch, parts) {
      try run(
        queries: UnsafeBufferPointer(rebasing: queries[part.queries]), heads: heads,
        count: sequence.count,
        mask: .causal(queries: sequence.count, keys: sequence.cache.count),
        cache: sequence.cache, options: options,
        output: UnsafeMutableBufferPointer(rebasing: output[part.outputs]), workspace: workspace,
        pool: pool)
    }
  }

  // MARK: One way to run

  private struct Call {
    let queries: UnsafePointer<Float>
    let heads: Int
    let count: Int
    let output: UnsafeMutablePointer<Float>
    let logarithms: UnsafeMutablePointer<Float>?
    let mask: AttentionMask
    let options: AttentionOptions
  }

  private static func run(
    _ queries: UnsafeBufferPointer<Float>, _ heads: Int, _ count: Int, _ mask: AttentionMask,
    _ view: KeyValueView, _ options: AttentionOptions, _ output: UnsafeMutableBufferPointer<Float>,
    _ logarithms: UnsafeMutableBufferPointer<Float>?, _ workspace: AttentionWorkspace,
    _ pool: WorkerPool
  ) throws(QuantError) {
    try checkBuffers(
      queries: queries.count, outputs: output.count, logarithms: logarithms?.count, heads: heads,
      count: count, view.shape)
    guard let source = queries.baseAddress, let target = output.baseAddress else { return }
    try run(
      Call(
        queries: source, heads: heads, count: count, output: target,
        logarithms: logarithms?.baseAddress, mask: mask, options: options),
      view, workspace, pool)
  }

  private static func checkBuffers(
    queries: Int, outputs: Int, logarithms: Int?, heads: Int, count: Int, _ shape: KeyValueShape
  ) throws(QuantError) {
    let (rows, overflows) = heads.multipliedReportingOverflow(by: count)
    let (needed, overflowsKeys) = rows.multipliedReportingOverflow(by: shape.keyWidth)
    let (wanted, overflowsValues) = rows.multipliedReportingOverflow(by: shape.valueWidth)
    guard !overflows, !overflowsKeys, !overflowsValues, queries >= needed, outputs >= wanted,
      logarithms ?? Int.max >= rows
    else {
      throw QuantError(
        .invalidArgument, "attention buffers",
        "\(queries) queries and \(outputs) outputs for "
          + "\(count) × \(heads) × \(shape.keyWidth) (values \(shape.valueWidth))",
        remedy: "give a float for every element of every head and position")
    }
  }

  private static func run(
    _ call: Call, _ view: KeyValueView, _ workspace: AttentionWorkspace, _ pool: WorkerPool
  ) throws(QuantError) {
    let heads = call.heads
    let count = call.count
    let options = call.options
    guard heads >= 1, heads % view.shape.heads == 0, heads <= 65536, count >= 0 else {
      throw QuantError(
        .invalidArgument, "attention heads",
        "\(heads) query heads for \(view.shape.heads) of keys and values, \(count) queries",
        remedy: "use a multiple, at most 65536")
    }
    try options.check(heads: heads)
    try call.mask.check(queries: count, keys: view.count, options: options)
    if count == 0 { return }
    let ranges = try workspace.reserve(.ranges, count, of: qk_attention_range.self)
    let rule = try call.mask.rule(options)
    for query in 0..<count {
      let range = rule.visibleKeys(
        firstRow: call.mask.position(query), rows: 1, of: view.count)
      ranges[query] = qk_attention_range(
        low: Int64(range.lowerBound), high: Int64(range.upperBound))
    }
    var positions: UnsafeMutablePointer<Int64>?
    if options.slopes != nil {
      let room = try workspace.reserve(.positions, count, of: Int64.self)
      for query in 0..<count { room[query] = Int64(call.mask.position(query)) }
      positions = room
    }
    // Scores in base 2: 2^(s·log2 e) spares the exponential a multiplication.
    let log2E = 1.4426950408889634
    func scaled(
      _ part: AttentionWorkspace.Part, _ values: [Float]?
    ) throws(QuantError) -> UnsafeMutablePointer<Float>? {
      guard let values else { return nil }
      let room = try workspace.reserve(part, heads, of: Float.self)
      for head in 0..<heads { room[head] = Float(Double(values[head]) * log2E) }
      return room
    }
    let slopes = try scaled(.slopes, options.slopes)
    let sinks = try scaled(.sinks, options.sinks)
    let cap = options.softCap.map(Double.init)
    func attend(_ bits: UnsafePointer<UInt64>?) throws(QuantError) {
      let work = AttentionWork(
        queries: call.queries, output: call.output, logarithms: call.logarithms, heads: heads,
        count: count, view: view, ranges: ranges, bits: bits,
        bitWords: call.mask.bits?.wordsPerQuery ?? 0, positions: positions, slopes: slopes,
        sinks: sinks,
        factor: Float(Double(options.scale) * (cap.map { 1 / $0 } ?? log2E)),
        softCapLog2E: Float((cap ?? 0) * log2E), kernels: workspace.kernels,
        pairs: workspace.products(options.products, for: view.shape.type) == .bfloat16
          ? workspace.pairs : nil,
        vectors: VectorOperations.kernels(workspace.instructionSet))
      if work.isWorthSplitting(threads: pool.threads) {
        try work.runSplit(workspace, pool)
      } else {
        try work.runTiled(workspace, pool)
      }
    }
    guard let bits = call.mask.bits, !bits.words.isEmpty else { return try attend(nil) }
    var failure: QuantError?
    bits.words.withUnsafeBufferPointer { words in
      do throws(QuantError) { try attend(words.baseAddress) } catch { failure = error }
    }
    if let failure { throw failure }
  }
}
