import QuantKernels

/// A product that is timed again and again, with the machine's limits sampled between its runs.
struct MatmulCase {
  /// Copies of the same weights, each used in turn.
  let weights: [any MeasuredWeights]
  let tokens: Int
  let arithmetic: Arithmetic
  let pool: WorkerPool

  /// Tokens up to which a product's weights are cold: with more, its time does not depend on it.
  static let mostColdTokens = 32

  /// Enough copies that together they exceed four times the last-level cache, or one.
  ///
  /// - Throws: ``QuantError`` when memory is short or Ctrl-C comes.
  static func copies(
    of weights: any MeasuredWeights, tokens: Int, isWarm: Bool
  ) throws(QuantError) -> [any MeasuredWeights] {
    guard !isWarm, tokens <= mostColdTokens else { return [weights] }
    var copies = [weights]
    while copies.count * weights.byteCount < 4 * CacheSizes.lastLevel {
      try Interruption.check()
      copies.append(try weights.copied())
    }
    return copies
  }

  /// Each sample is the mean over all copies, so that every sample reads the same bytes.
  ///
  /// - Throws: ``QuantError`` when memory is short or Ctrl-C comes.
  func measure(options: LimitOptions, limits: MachineLimits) throws(QuantError) -> TimedRounds {
    let rows = weights[0].rows
    let columns = weights[0].columns
    let workspace = Workspace()
    var random = SplitRandom(seed: 1)
    let inputs = try AlignedBuffer(count: tokens * columns * 4, for: "activations")
    let x = inputs.base.bindMemory(to: Float.self, capacity: tokens * columns)
    for index in 0..<tokens * columns { x[index] = random.normal() }
    let outputs = try AlignedBuffer(count: tokens * rows * 4, for: "outputs")
    let y = outputs.base.bindMemory(to: Float.self, capacity: tokens * rows)

    /// Seconds of one pass through the copies.
    func pass() throws(QuantError) -> Double {
      try pool.withHotRegion { () throws(QuantError) in
        let start = MonotonicClock.nanoseconds()
        for copy in weights {
          try copy.multiply(
            x, count: tokens, into: y, outputStride: rows, arithmetic: arithmetic,
            workspace: workspace, pool: pool)
        }
        return MonotonicClock.seconds(since: start)
      }
    }

    // One token on one copy is so short that threads and vector units must be awake.
    return try TimedRounds(
      of: weights.count, options: options, limits: limits,
      wakesUp: weights.count == 1 && tokens == 1, pass)
  }
}
