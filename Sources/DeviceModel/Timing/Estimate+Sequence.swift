extension Estimate {
  /// Kernels that run one after another, as one estimate: times and pipe cycles are added; the bound,
  /// the occupancy and the waves are those of the longest.
  ///
  /// - Returns: nil for no kernels.
  public static func sequence(_ parts: [Estimate]) -> Estimate? {
    guard let longest = parts.max(by: { $0.microseconds < $1.microseconds }) else { return nil }
    func sum(_ value: (Estimate) -> Double) -> Double { parts.reduce(0) { $0 + value($1) } }
    var pipes: [(pipe: Pipe, cycles: Double)] = longest.pipeCycles
    for index in pipes.indices {
      let pipe = pipes[index].pipe
      pipes[index].cycles = sum { part in
        part.pipeCycles.reduce(0) { $0 + ($1.pipe == pipe ? $1.cycles : 0) }
      }
    }
    var uncertain: [String] = []
    for part in parts {
      for number in part.uncertainNumbers where !uncertain.contains(number) {
        uncertain.append(number)
      }
    }
    return Estimate(
      microseconds: sum(\.microseconds), kernelMicroseconds: sum(\.kernelMicroseconds),
      launchMicroseconds: sum(\.launchMicroseconds),
      splitSumMicroseconds: sum(\.splitSumMicroseconds),
      microsecondsWithoutLatency: sum(\.microsecondsWithoutLatency), pipeCycles: pipes,
      bound: longest.bound, occupancy: longest.occupancy, waves: longest.waves,
      uncertainNumbers: uncertain, fitted: longest.fitted)
  }
}
