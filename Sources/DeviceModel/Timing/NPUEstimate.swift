/// What limits an NPU's kernel.
public enum NPUBound: Sendable, Hashable, CustomStringConvertible {
  /// A pipe of a core that is busy for more than three quarters of the kernel.
  case pipe(NPUPipe)
  /// Waiting: for flags, for each other.
  case latency
  /// The chip's memory.
  case memory
  /// The chip's second-level cache.
  case cache
  /// Launches.
  case launch

  public var description: String {
    switch self {
    case .pipe(let pipe): pipe.name
    case .latency: "latency"
    case .memory: "memory"
    case .cache: "L2"
    case .launch: "launch"
    }
  }
}

/// The modelled time of kernels on an NPU: for each the longest of the busiest core's schedule, the
/// chip's memory traffic and its cache traffic; kernels one after another, each with its launch.
///
/// A pure function of ``NPULaunchReport`` and ``NPUSpec``.
public struct NPUEstimate: Sendable {
  /// One kernel.
  public struct Kernel: Sendable {
    /// Its name.
    public let name: String
    /// Schedule of the busiest core, µs.
    public let coreMicroseconds: Double
    /// Memory traffic at the chip's rate, µs.
    public let memoryMicroseconds: Double
    /// Cache traffic at the chip's rate, µs.
    public let cacheMicroseconds: Double
    /// Bytes that go to or come from memory.
    public let memoryBytes: Double
    /// Regions that the cache holds.
    public let residentRegions: [String]
    /// Cycles for which pipes of the busiest core are busy.
    public let busyCycles: [NPUSchedule.PipeOfUnit: Double]
    /// What limits it.
    public let bound: NPUBound

    /// The kernel without its launch.
    public var microseconds: Double {
      max(coreMicroseconds, memoryMicroseconds, cacheMicroseconds)
    }
  }

  /// The kernels.
  public let kernels: [Kernel]
  /// Launches of all of them, µs.
  public let launchMicroseconds: Double
  /// Assumed and recalled numbers that entered, each with its value.
  public let uncertainNumbers: [String]

  /// The whole.
  public var microseconds: Double {
    kernels.reduce(launchMicroseconds) { $0 + $1.microseconds }
  }

  /// What limits the longest kernel; launches when they take most.
  public var bound: NPUBound {
    guard let longest = kernels.max(by: { $0.microseconds < $1.microseconds }),
      2 * launchMicroseconds < microseconds
    else { return .launch }
    return longest.bound
  }

  /// Useful work over time, TFLOP/s.
  public func teraflopPerSecond(flop: Double) -> Double { flop / microseconds / 1e6 }

  /// The time of what `report` did on `spec`, which has the buffers of the device that ran it; rates,
  /// costs and the cache may differ.
  ///
  /// - Parameters:
  ///   - skipsRepetitions: off only to prove that skipping changes nothing.
  ///   - report: what a run did.
  ///   - spec: the device whose time is wanted.
  /// - Throws: ``DeviceError`` for a device that cannot be, or a program with a race.
  public init(
    _ report: NPULaunchReport, on spec: NPUSpec, skipsRepetitions: Bool = true
  ) throws(DeviceError) {
    try spec.check()
    var kernels: [Kernel] = []
    for launch in report.launches {
      kernels.append(try Self.kernel(launch, spec, skipsRepetitions))
    }
    self.kernels = kernels
    launchMicroseconds = Double(kernels.count) * spec.launchMicroseconds.value
    uncertainNumbers = spec.numbers.filter { $0.number.provenance.isUncertain }
      .map { "\($0.label) \($0.number)" }
  }

  /// Names of the regions that the cache holds. Workspaces come first, since they are touched again
  /// at once: all of them together or none, since cores go through them in circles. Then what is read
  /// again, each whole or not at all, in the order given.
  static func resident(_ regions: [NPURegion], on spec: NPUSpec) -> Set<String> {
    var room = spec.l2Bytes.count
    var names: Set<String> = []
    let workspaces = regions.filter { $0.use == .workspace }
    let bytes = workspaces.reduce(0) { $0 + $1.liveBytes }
    if bytes <= room {
      room -= bytes
      names.formUnion(workspaces.map(\.name))
    }
    for region in regions where region.use == .reused && region.liveBytes <= room {
      room -= region.liveBytes
      names.insert(region.name)
    }
    return names
  }

  private static func kernel(
    _ launch: NPULaunch, _ spec: NPUSpec, _ skips: Bool
  ) throws(DeviceError) -> Kernel {
    // What another kernel uses is no matter here.
    let used = launch.regions.filter {
      launch.counters.regionReads[$0.name] ?? 0 > 0
        || launch.counters.regionWrites[$0.name] ?? 0 > 0
    }
    let resident = resident(used, on: spec)
    let clock = spec.clock.value * 1e3
    var longest: NPUSchedule?
    for program in launch.programs {
      let schedule = try NPUSchedule(
        program, on: spec, isResident: program.regions.map { resident.contains($0.name) },
        skipsRepetitions: skips)
      if schedule.cycles > longest?.cycles ?? -1 { longest = schedule }
    }
    let cycles = longest?.cycles ?? 0
    var memory = 0.0
    for region in launch.regions {
      let moved = Double(
        (launch.counters.regionReads[region.name] ?? 0)
          + (launch.counters.regionWrites[region.name] ?? 0))
      switch region.use {
      case .workspace: memory += resident.contains(region.name) ? 0 : moved
      case .reused:
        memory +=
          resident.contains(region.name) ? min(moved, Double(region.distinctBytes)) : moved
      case .streamed: memory += moved
      }
    }
    let cores = spec.cores.value
    let cache = max(
      Double(launch.counters.globalReadBytes) / (cores * spec.l2Read.value),
      Double(launch.counters.globalWriteBytes) / (cores * spec.l2Write.value))
    let coreMicroseconds = cycles / clock
    // GB/s are 10³ bytes a µs.
    let memoryMicroseconds = memory / (spec.memoryRate.value * 1e3)
    let cacheMicroseconds = cache / clock
    let busiest = longest?.busyCycles.max {
      ($0.value, $1.key.pipe.rawValue) < ($1.value, $0.key.pipe.rawValue)
    }
    let bound: NPUBound
    if memoryMicroseconds >= max(coreMicroseconds, cacheMicroseconds) {
      bound = .memory
    } else if cacheMicroseconds >= coreMicroseconds {
      bound = .cache
    } else if let busiest, busiest.value > 0.75 * cycles {
      bound = .pipe(busiest.key.pipe)
    } else {
      bound = .latency
    }
    return Kernel(
      name: launch.name, coreMicroseconds: coreMicroseconds,
      memoryMicroseconds: memoryMicroseconds, cacheMicroseconds: cacheMicroseconds,
      memoryBytes: memory, residentRegions: launch.regions.map(\.name).filter(resident.contains),
      busyCycles: longest?.busyCycles ?? [:], bound: bound)
  }
}
