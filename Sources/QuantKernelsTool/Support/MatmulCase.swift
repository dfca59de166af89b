import QuantKernels

/// A product that is timed again and again, with the machine's limits sampled between its runs.
struct MatmulCase {
  struct Result {
    var microseconds = Timing()
    var limits = LimitSamples()
  }

  /// Copies of the same weights, each used in turn.
  let weights: [any MeasuredWeights]
  let tokens: Int
  let arithmetic: Arithmetic
  let pool: WorkerPool

  /// Runs of at least so many seconds make up a round.
  private static let roundSeconds = 0.12

  /// Each sample is the mean over all copies, so that every sample reads the same bytes.
  ///
  /// - Throws: ``QuantError`` when memory is short or Ctrl-C comes.
  func measure(options: LimitOptions, limits: MachineLimits) throws(QuantError) -> Result {
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

    _ = try pass()
    var result = Result()
    let began = MonotonicClock.nanoseconds()
    var round = 0
    while options.repeats(done: round, since: began) {
      round += 1
      Console.progress("round \(round) of \(options.repetitions)")
      result.limits.add(from: limits, all: true)
      // Wakes the threads and the vector units.
      if weights.count == 1, tokens == 1 { _ = try pass() }
      var seconds = 0.0
      repeat {
        try Interruption.check()
        let time = try pass()
        seconds += time
        result.microseconds.add(time / Double(weights.count) * 1e6)
      } while seconds < MatmulCase.roundSeconds
    }
    return result
  }
}
