import DeviceModel

/// A result and how it came about: on this CPU what was measured, on a simulated target what was
/// counted.
public struct Run<Output: Sendable>: Sendable {
  /// One kernel of a simulated run.
  public struct Launch: Sendable {
    /// The kernel's name.
    public let kernel: String
    /// What it did.
    public let counters: Counters
    /// Warps of a block.
    public let warpsPerBlock: Int
    /// Shared memory of a block, in bytes.
    public let sharedBytesPerBlock: Int
  }

  /// The result.
  public var output: Output
  /// The modelled time on the target's device; nil on a real CPU and without a device.
  public var estimate: Estimate?
  /// The kernels that a simulated target ran, in order: the product, then what adds its splits.
  public var launches: [Launch]
  /// What a simulated NPU did; nil elsewhere.
  public var npu: NPURun?
  /// Seconds that this CPU took: for the result itself, or for simulating it.
  public var seconds: Double
  /// Whether `seconds` is the time of the result and not of its simulation.
  public var isMeasured: Bool

  /// What the product's kernel did; nil on a real CPU. Kernels that follow it are in ``launches``.
  public var counters: Counters? { launches.first?.counters }

  /// Seconds that the operation took on this CPU; nil for a simulated target.
  public var measured: Double? { isMeasured ? seconds : nil }

  /// Lanes that took part in memory accesses in a second of simulation; nil on a real CPU.
  public var laneAccessesPerSecond: Double? {
    guard !isMeasured, seconds > 0 else { return nil }
    return Double(launches.reduce(0) { $0 + $1.counters.laneAccesses }) / seconds
  }

  /// A run.
  public init(
    output: Output, launches: [Launch] = [], estimate: Estimate? = nil, seconds: Double,
    isMeasured: Bool
  ) {
    self.output = output
    self.estimate = estimate
    self.launches = launches
    self.seconds = seconds
    self.isMeasured = isMeasured
  }
}

/// What kernels did on a simulated NPU, and how long that takes by the model.
public struct NPURun: Sendable {
  /// Counters, and what timing needs.
  public let report: NPULaunchReport
  /// The modelled time on the device that ran them.
  public let estimate: NPUEstimate

  /// What all kernels counted.
  public var counters: NPUCounters { report.counters }
}
