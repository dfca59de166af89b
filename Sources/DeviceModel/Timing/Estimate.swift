/// What limits a kernel, and what its cycles are listed by.
public enum Pipe: String, Sendable, Hashable, CaseIterable {
  /// Instruction issue, one a cycle a sub-core.
  case issue
  /// The load-store unit's data stage: shared wavefronts, global passes, fills.
  case dataStage
  /// Tensor cores.
  case tensor
  /// Second-level cache.
  case l2
  /// Memory.
  case dram
  /// No pipe: waiting for results and barriers.
  case latency
}

/// A modelled time, with what it was made of.
public struct Estimate: Sendable {
  /// The whole: kernel, launch, sum over split-K parts.
  public let microseconds: Double
  /// The kernel alone.
  public let kernelMicroseconds: Double
  /// Launch of the kernel and of the sum.
  public let launchMicroseconds: Double
  /// The sum over split-K parts without its launch.
  public let splitSumMicroseconds: Double
  /// What the time would be without exposed latency: the busiest pipe alone.
  public let microsecondsWithoutLatency: Double
  /// Cycles for which the busiest multiprocessor keeps each pipe busy.
  public let pipeCycles: [(pipe: Pipe, cycles: Double)]
  /// The busiest pipe, or latency when that pipe idles more than a quarter of the kernel.
  public let bound: Pipe
  /// Residency.
  public let occupancy: Occupancy
  /// Grid over all residents of the device.
  public let waves: Double
  /// Assumed and recalled numbers that entered, each with its value.
  public let uncertainNumbers: [String]
  /// The constant that was fitted, if one was used.
  public let fitted: FittedConstant?

  /// Useful work over time, TFLOP/s.
  public func teraflopPerSecond(flop: Double) -> Double { flop / microseconds / 1e6 }
}

/// A pure function of counters, launch and device.
public protocol TimingModel: Sendable {
  /// The time of a kernel.
  ///
  /// - Throws: ``DeviceError`` with `.launch` when the device cannot hold the launch.
  func estimate(_ counters: Counters, _ launch: Launch, _ spec: DeviceSpec)
    throws(DeviceError) -> Estimate
}
