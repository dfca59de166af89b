/// A speed-up taken apart: the product of its causes.
public struct SpeedupCauses: Sendable {
  /// Why one kernel is faster than another.
  public enum Cause: String, Sendable, Hashable, CaseIterable {
    /// Weights no longer pass through shared memory.
    case noWriteBack
    /// More rows a block: fewer re-reads and conversions.
    case largerTile
    /// Copies in flight while the block computes.
    case pipeline
    /// Everything else.
    case other
  }

  /// A kernel as timing sees it.
  public struct Case: Sendable {
    /// What it did.
    public var counters: Counters
    /// How it was launched.
    public var launch: Launch

    /// A kernel.
    public init(_ counters: Counters, _ launch: Launch) {
      self.counters = counters
      self.launch = launch
    }
  }

  /// Time of the baseline, µs.
  public let baseline: Double
  /// Time of the improved kernel, µs.
  public let improved: Double
  /// What each change is worth: the time before it over the time after it.
  public let factors: [(cause: Cause, factor: Double)]

  /// The speed-up: `baseline / improved`, and the product of the factors.
  public var speedup: Double { baseline / improved }

  /// Takes a speed-up apart along kernels that change one thing at a time, baseline to improved.
  ///
  /// - Parameters:
  ///   - baseline: the slower kernel.
  ///   - changes: for each cause the kernel with that change and all before it.
  ///   - improved: the faster kernel; what the changes leave unexplained is `other`.
  ///   - model: what times a kernel.
  ///   - spec: the device.
  /// - Throws: ``DeviceError`` when the device cannot hold one of them.
  public init(
    from baseline: Case, through changes: [(cause: Cause, kernel: Case)], to improved: Case,
    model: some TimingModel, on spec: DeviceSpec
  ) throws(DeviceError) {
    func time(_ kernel: Case) throws(DeviceError) -> Double {
      try model.estimate(kernel.counters, kernel.launch, spec).microseconds
    }
    self.baseline = try time(baseline)
    self.improved = try time(improved)
    var before = self.baseline
    var factors: [(cause: Cause, factor: Double)] = []
    for change in changes {
      let after = try time(change.kernel)
      factors.append((change.cause, before / after))
      before = after
    }
    factors.append((.other, before / self.improved))
    self.factors = factors
  }
}

extension Counters {
  /// The counters without the shared-memory traffic of the named sites: what is left when their
  /// data no longer passes through shared memory.
  public func removingSharedTraffic(of names: Set<String>) -> Counters {
    var copy = self
    for index in copy.sites.indices where names.contains(copy.sites[index].name) {
      copy.sites[index].shared = SharedMemory()
    }
    return copy
  }
}
