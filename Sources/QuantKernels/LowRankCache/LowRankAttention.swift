import CQuantKernels

/// Attention of float32 queries over a ``LowRankCache``, causal, with windows, chunks and soft-cap.
///
/// Scores and sums of values are computed on the packed codes (see `qk_latent.h`), every group's
/// bytes once for all query heads that share it; sums of values are projected up after they are
/// complete. Row i of a call has the same bits as its own call of one row, for every number of rows
/// and threads: positions are taken in partitions of 256, these are merged in runs of four, and runs
/// in ascending order, whoever computes them.
///
/// Source: Palu, arXiv 2407.21118; its sums over values fused into the output projection are here
/// projected late, which is the same product in another order, and keeps that projection as it is.
public enum LowRankAttention {
  /// How latents of at most 4 bits are multiplied.
  public enum Arithmetic: Sendable, Equatable {
    /// What multiplies codes is rounded to two signed digits, 128·high + low: within 1/32512 of the
    /// largest magnitude of its row (of a query) or of its row in a partition (of weights p·s), and
    /// the dots are integers.
    case digits
    /// Floats: chains of fused multiply-adds.
    case exact
  }

  /// Attends causally from positions `firstPosition ..< firstPosition + count`, which the cache
  /// already holds.
  ///
  /// - Parameters:
  ///   - queries: at least `count × (queryHeads · headDimension)` floats, after the rotary embedding.
  ///   - options: no slopes and no sinks.
  ///   - output: at least as many floats; must not overlap the queries.
  ///   - count: queries.
  ///   - firstPosition: the position of the first query.
  ///   - cache: latents of keys and values.
  ///   - arithmetic: of scores and of sums over values.
  ///   - workspace: scratch memory; it grows to the largest call and is kept.
  ///   - pool: the threads that take part.
  /// - Throws: ``QuantError`` `.invalidArgument` for positions that the cache does not hold, buffers
  ///   too small and bad options, `.unsupported` for slopes and sinks, `.outOfMemory`.
  /// - Complexity: see ``LowRankCost``.
  public static func run(
    queries: UnsafeBufferPointer<Float>, count: Int, firstPosition: Int, cache: LowRankCache,
    options: AttentionOptions, arithmetic: Arithmetic = .digits,
    output: UnsafeMutableBufferPointer<Float>, workspace: LowRankWorkspace, pool: WorkerPool
  ) throws(QuantError) {
    let layer = cache.layer
    let width = layer.shape.queryHeads * layer.shape.headDimension
    guard
      count >= 0, firstPosition >= 0, firstPosition <= cache.count,
      count <= cache.count - firstPosition
    else {
      throw QuantError(
        .invalidArgument, "attention positions",
        "\(count) from \(firstPosition) on where the cache holds \(cache.count)",
        remedy: "append their keys and values first")
    }
    // As many positions as a cache holds, of a checked width: no overflow.
    guard queries.count >= count * width, output.count >= count * width else {
      throw QuantError(
        .invalidArgument, "attention buffers",
        "\(queries.count) queries and \(output.count) outputs for \(count) × \(width)",
        remedy: "give a float for every element of every head and position")
    }
    try options.check(heads: layer.shape.queryHeads)
    guard options.slopes == nil, options.sinks == nil else {
      throw QuantError(
        .unsupported, "low-rank attention", "slopes and sinks", remedy: "use a dense cache")
    }
    workspace.counters = LowRankCounters()
    guard count > 0, let source = queries.baseAddress, let target = output.baseAddress else {
      return
    }
    let rule = try AttentionMask(firstPosition: firstPosition).rule(options)
    let ranges = try workspace.reserve(.seen, bytes: 16 * count)
      .assumingMemoryBound(to: LowRankWork.Seen.self)
    for query in 0..<count {
      let range = rule.visibleKeys(firstRow: firstPosition + query, rows: 1, of: cache.count)
      ranges[query] = LowRankWork.Seen(low: range.lowerBound, high: range.upperBound)
    }
    // Scores in base 2: 2^(s·log2 e) spares the exponential a multiplication.
    let log2E = 1.4426950408889634
    let cap = options.softCap.map(Double.init)
    let work = LowRankWork(
      layer: layer, view: cache.view, queries: source, output: target, count: count,
      ranges: UnsafePointer(ranges),
      factor: Float(Double(options.scale) * (cap.map { 1 / $0 } ?? log2E)),
      softCapLog2E: Float((cap ?? 0) * log2E), isExact: arithmetic == .exact,
      kernels: workspace.kernels, states: workspace.states)
    try work.run(workspace, pool)
  }

  /// One sequence of a batch: its queries are the last `count` positions that the cache holds.
  public struct Sequence {
    /// What the sequence's queries look at.
    public let cache: LowRankCache
    /// Queries of the sequence.
    public let count: Int

    /// The last `count` positions of `cache`.
    public init(cache: LowRankCache, count: Int) {
      self.cache = cache
      self.count = count
    }
  }

  /// Attends causally for sequences of different lengths, whose queries and outputs lie one after
  /// another without padding.
  ///
  /// - Throws: as the other; before anything is computed when a sequence does not hold its queries.
  public static func run(
    queries: UnsafeBufferPointer<Float>, batch: [Sequence], options: AttentionOptions,
    arithmetic: Arithmetic = .digits, output: UnsafeMutableBufferPointer<Float>,
    workspace: LowRankWorkspace, pool: WorkerPool
  ) throws(QuantError) {
    var ranges: [Range<Int>] = []
    for (index, sequence) in batch.enumerated() {
      guard 0...sequence.cache.count ~= sequence.count else {
        throw QuantError(
          .invalidArgument, "sequence \(index) of a batch",
          "\(sequence.count) queries where the cache holds \(sequence.cache.count) positions",
          remedy: "append their keys and values first")
      }
      let shape = sequence.cache.layer.shape
      let first = ranges.last?.upperBound ?? 0
      let end = first + sequence.count * shape.queryHeads * shape.headDimension
      guard end <= queries.count, end <= output.count else {
        throw QuantError(
          .invalidArgument, "attention buffers",
          "\(queries.count) queries and \(output.count) outputs end in sequence \(index)",
          remedy: "give a float for every element of every head and position")
      }
      ranges.append(first..<end)
    }
    var counters = LowRankCounters()
    for (sequence, range) in zip(batch, ranges) {
      try run(
        queries: UnsafeBufferPointer(rebasing: queries[range]), count: sequence.count,
        firstPosition: sequence.cache.count - sequence.count, cache: sequence.cache,
        options: options, arithmetic: arithmetic,
        output: UnsafeMutableBufferPointer(rebasing: output[range]), workspace: workspace,
        pool: pool)
      counters = counters + workspace.counters
    }
    workspace.counters = counters
  }
}
