import QuantKernels

/// Times of something run again and again, with the machine's limits sampled between its rounds.
struct TimedRounds {
  private(set) var microseconds = Timing()
  private(set) var limits = LimitSamples()

  /// Runs of at least so many seconds make up a round.
  private static let roundSeconds = 0.12

  /// Each sample is the mean over all copies, so that every sample reads the same bytes.
  ///
  /// - Parameters:
  ///   - copies: runs of a pass, each on a copy of its own.
  ///   - wakesUp: whether a round begins with a pass that does not count.
  ///   - pass: runs once through the copies and returns the seconds that took.
  /// - Throws: what `pass` throws, and ``QuantError`` when Ctrl-C comes.
  init(
    of copies: Int, options: LimitOptions, limits machine: MachineLimits, wakesUp: Bool = false,
    _ pass: () throws(QuantError) -> Double
  ) throws(QuantError) {
    _ = try pass()
    let began = MonotonicClock.nanoseconds()
    var round = 0
    while options.repeats(done: round, since: began) {
      round += 1
      Console.progress("round \(round) of \(options.repetitions)")
      limits.add(from: machine, all: true)
      if wakesUp { _ = try pass() }
      var seconds = 0.0
      repeat {
        try Interruption.check()
        let time = try pass()
        seconds += time
        microseconds.add(time / Double(copies) * 1e6)
      } while seconds < Self.roundSeconds
    }
  }
}
