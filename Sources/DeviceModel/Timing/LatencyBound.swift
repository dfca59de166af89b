/// A constant that was fitted, and on what.
public struct FittedConstant: Sendable, Hashable {
  /// The value.
  public let value: Double
  /// The cells that it was fitted on; none of them is scored.
  public let cells: String

  /// A constant.
  public init(_ value: Double, fittedOn cells: String) {
    self.value = value
    self.cells = cells
  }
}

/// Layer 2: pipes and exposed latency, as a closed network of queues.
///
/// Warps of the resident blocks go round: in each step a warp visits its sub-core's issue port and
/// tensor pipe and the multiprocessor's load-store data stage, and waits in between for the rest of
/// its chain. With r_i = D_i (1 + Q_i (N_i - 1)/N_i) for station i, demand D_i, N_i warps that share
/// it, T = Z + Σ r_i and Q_i = N_i r_i / T (approximate mean value analysis after Schweitzer;
/// exponential service) one finds T, a step's time; T is at least every pipe's own time for the
/// resident blocks, the shares of L2 and memory included. With one block T is the chain, with many
/// the busiest pipe. A multiprocessor's share of memory is its even part of the bandwidth.
///
/// The grid runs in waves of resident blocks; the last one has what is left, at least one block.
public struct LatencyBound: TimingModel {
  /// Multiplies the idle latency of global loads (memory answers later under load); by device
  /// identifier. Without an entry the factor is 1 and nothing is fitted.
  public var latencyFactors: [String: FittedConstant]

  /// Layer 2; without factors no constant is fitted.
  public init(latencyFactors: [String: FittedConstant] = [:]) {
    self.latencyFactors = latencyFactors
  }

  /// The chain of one step, cycles.
  static func chain(_ launch: Launch, _ spec: DeviceSpec, latencyFactor: Double) -> Double {
    let l2 = spec.l2Latency.value
    let load = (l2 + (spec.dramLatency.value - l2) * launch.missShare) * latencyFactor
    return launch.chain.reduce(0) { total, link in
      switch link {
      case .globalLoad(let rounds): total + load * Double(rounds) / Double(launch.pipelineStages)
      case .issue(let cycles): total + cycles.value
      case .barrier(let count): total + spec.barrierLatency.value * Double(count)
      case .sharedLoad(let count): total + spec.sharedLatency.value * Double(count)
      case .matrix(let shape, let count):
        total + Double(count) * Double(shape.multiplyAdds) * spec.subCores.value
          / max(1, spec.tensorRate(shape).value)
      }
    }
  }

  /// Cycles of one step with `blocks` resident blocks.
  static func stepCycles(
    _ work: StepWork, chain: Double, blocks: Double, warpsPerBlock: Int, subCores: Double
  ) -> Double {
    let warps = blocks * Double(warpsPerBlock)
    let perSubCore = max(1, warps / subCores)
    let stations = [
      (demand: work.tensor, warps: perSubCore), (demand: work.issue, warps: perSubCore),
      (demand: work.dataStage, warps: max(1, warps)),
    ]
    let wait = max(0, chain - work.tensor - work.issue - work.sharedWavefronts)
    var queues = [0.1, 0.1, 0.1]
    var cycles = wait + stations.reduce(0) { $0 + $1.demand }
    guard cycles > 0 else { return 0 }
    let pipes = work.pipeCycles(
      blocks: blocks, warpsPerBlock: warpsPerBlock, subCores: subCores)
    let least = stations.reduce(0) { max($0, $1.demand * $1.warps) }
    for _ in 0..<100 {
      let residence = zip(stations, queues).map { station, queue in
        station.demand * (1 + queue * (station.warps - 1) / station.warps)
      }
      let next = max(wait + residence.reduce(0, +), least)
      cycles = 0.5 * (cycles + next)
      queues = zip(stations, residence).map { $0.warps * $1 / cycles }
    }
    return pipes.reduce(cycles) { max($0, $1.1) }
  }

  /// The time of a kernel.
  ///
  /// - Throws: ``DeviceError`` for a launch that the device cannot hold.
  public func estimate(_ counters: Counters, _ launch: Launch, _ spec: DeviceSpec)
    throws(DeviceError) -> Estimate
  {
    let parts = try Assembly(counters, launch, spec)
    let fitted = latencyFactors[spec.identifier]
    let chain = Self.chain(launch, spec, latencyFactor: fitted?.value ?? 1)
    func wave(_ blocks: Double) -> Double {
      let step = Self.stepCycles(
        parts.work, chain: chain, blocks: blocks, warpsPerBlock: launch.warpsPerBlock,
        subCores: spec.subCores.value)
      let overhead = launch.blockOverheadCycles.value
      return step * Double(launch.stepsPerBlock)
        + (overhead > 0 ? overhead + spec.l2Latency.value : 0)
    }
    let resident = parts.occupancy.residentBlocks
    let slots = spec.multiprocessors.count * resident
    let full = launch.blocks / slots
    let left = Double(launch.blocks - full * slots) / spec.multiprocessors.value
    var cycles = full > 0 ? Double(full) * wave(Double(resident)) : 0
    if left > 0 { cycles += wave(full > 0 ? max(1, left) : left.rounded(.up)) }
    return parts.estimate(cycles: cycles, fitted: fitted)
  }
}
