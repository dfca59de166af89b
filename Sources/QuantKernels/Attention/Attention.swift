import CQuantKernels

/// Causal attention of float32 queries over a ``KeyValueCache``: grouped query heads, a sliding
/// window, a soft-cap; tiled for prompts, split over the keys for decoding.
///
/// Row i of a call has the same bits as its own call of one row, for every number of rows and
/// threads:
/// keys are taken in partitions of 256 that start at absolute positions divisible by 256, and
/// partitions are merged in ascending order, whoever computes them. See `qk_attention.h` for the
/// arithmetic. Masks are computed from positions and take no memory; keys that nobody in a block of
/// rows sees are not read (but for the rest of a block of 16).
///
/// Derived from: Dao, FlashAttention-2 (arXiv 2307.08691), and its split over keys, Flash-Decoding.
public enum Attention {
  /// Attends from positions `firstPosition ..< firstPosition + count`, which the cache already
  /// holds.
  ///
  /// - Parameters:
  ///   - queries: `count × (heads · headDimension)` floats; query head h uses key-value head
  ///     h / (heads / keyValueHeads).
  ///   - output: as many floats; may be the queries' own memory.
  /// - Throws: ``QuantError`` `.invalidArgument` for heads that are no multiple of the cache's,
  ///   positions that the cache does not hold, and bad options; `.outOfMemory` when the workspace
  ///   cannot grow.
  /// - Complexity: O(visible keys · heads · headDimension); 4 operations each.
  public static func run(
    queries: UnsafePointer<Float>, heads: Int, count: Int, firstPosition: Int,
    cache: KeyValueCache, options: AttentionOptions, output: UnsafeMutablePointer<Float>,
    workspace: AttentionWorkspace, pool: WorkerPool
  ) throws(QuantError) {
    try options.check()
    guard heads >= 1, heads % cache.keyValueHeads == 0, heads <= 65536 else {
      throw QuantError(
        .invalidArgument, "attention heads",
        "\(heads) query heads for \(cache.keyValueHeads) of keys and values",
        remedy: "use a multiple, at most 65536")
    }
    guard
      count >= 0, firstPosition >= 0, firstPosition <= cache.count,
      count <= cache.count - firstPosition
    else {
      throw QuantError(
        .invalidArgument, "attention positions",
        "\(count) from \(firstPosition) on where the cache holds \(cache.count)",
        remedy: "append their keys and values first")
    }
    if count == 0 { return }
    let work = AttentionWork(
      queries: queries, output: output, heads: heads, count: count, firstPosition: firstPosition,
      cache: cache, options: options, kernels: workspace.kernels,
      vectors: VectorOperations.kernels(workspace.instructionSet))
    if work.isWorthSplitting(threads: pool.threads) {
      try work.runSplit(workspace, pool)
    } else {
      try work.runTiled(workspace, pool)
    }
  }

  /// The same with buffers whose sizes are checked: both hold at least
  /// `count × heads × headDimension` floats.
  public static func run(
    queries: UnsafeBufferPointer<Float>, heads: Int, count: Int, firstPosition: Int,
    cache: KeyValueCache, options: AttentionOptions, output: UnsafeMutableBufferPointer<Float>,
    workspace: AttentionWorkspace, pool: WorkerPool
  ) throws(QuantError) {
    let (width, overflows) = heads.multipliedReportingOverflow(by: cache.headDimension)
    let (needed, overflowsAll) = width.multipliedReportingOverflow(by: count)
    guard !overflows, !overflowsAll, queries.count >= needed, output.count >= needed else {
      throw QuantError(
        .invalidArgument, "attention buffers",
        "\(queries.count) queries and \(output.count) outputs for "
          + "\(count) × \(heads) × \(cache.headDimension)",
        remedy: "give a float for every element of every head and position")
    }
    guard let source = queries.baseAddress, let target = output.baseAddress else { return }
    try run(
      queries: source, heads: heads, count: count, firstPosition: firstPosition, cache: cache,
      options: options, output: target, workspace: workspace, pool: pool)
  }
}
