/// Counters as work of one warp in one step of its block: how long it holds each pipe.
///
/// The totals are spread evenly over warps and steps; prologue and epilogue traffic with them.
struct StepWork {
  /// Cycles of the sub-core's tensor pipe.
  var tensor = 0.0
  /// Issue slots.
  var issue = 0.0
  /// Passes of the multiprocessor's load-store data stage.
  var dataStage = 0.0
  /// Shared wavefronts alone, which are inside `dataStage`.
  var sharedWavefronts = 0.0
  /// Cycles of the multiprocessor's share of the second-level cache, per block.
  var l2 = 0.0
  /// Cycles of the multiprocessor's share of memory, per block.
  var dram = 0.0

  /// - Throws: ``DeviceError`` when the device lacks a tensor instruction that was counted.
  init(_ counters: Counters, _ launch: Launch, _ spec: DeviceSpec) throws(DeviceError) {
    let blockSteps = Double(launch.blocks) * Double(launch.stepsPerBlock)
    let warpSteps = blockSteps * Double(launch.warpsPerBlock)
    for (shape, count) in counters.matrixInstructions where count > 0 {
      let rate = spec.tensorRate(shape).value / spec.subCores.value
      guard rate > 0 else {
        throw DeviceError(
          .launch, "\(launch.name) on \(spec.identifier)", "the device has no \(shape.rawValue)",
          remedy: "choose a kernel for this device")
      }
      tensor += Double(count) * Double(shape.multiplyAdds) / rate / warpSteps
    }
    var instructions = Double(counters.matrixInstructionCount)
    for count in counters.instructions.values { instructions += Double(count) }
    let least = spec.loadStoreCycles.value
    var passes = 0.0
    var wavefronts = 0.0
    var sectors = 0.0
    for site in counters.sites {
      let shared = site.shared
      let global = site.global
      wavefronts += Double(shared.wavefronts)
      passes += max(Double(shared.wavefronts), Double(shared.instructions) * least)
      if site.operation == .store {
        passes += Double(shared.instructions) * spec.sharedStoreExtraCycles.value
      }
      let isCopy = site.operation == .asyncCopy
      instructions += Double(shared.instructions) + (isCopy ? 0 : Double(global.requests))
      // Lanes that ask for the same bytes share a sector; halves of a sector that two instructions
      // ask for arrive once.
      let moved = min(Double(global.sectors), (Double(global.bytes) / 32).rounded(.up))
      sectors += site.isGlobalStore ? Double(global.sectors) : moved
      guard !isCopy else { continue }
      let data = max(Double(global.bytes) / 128, Double(global.requests))
      let tags = 0.75 * Double(global.requests) + Double(global.lines) / 4
      passes += max(data, tags, Double(global.requests) * least)
      if !site.isGlobalStore { passes += moved * spec.fillPassesPerSector.value }
    }
    issue = max(instructions / warpSteps, launch.instructionsPerWarpStep?.value ?? 0)
    dataStage = passes / warpSteps
    sharedWavefronts = wavefronts / warpSteps
    l2 = sectors * 32 / blockSteps / spec.l2BytesPerCycle.value
    var bytes = Double(launch.distinctBytes)
    if let sum = launch.splitSum, !sum.staysInL2(of: spec) { bytes += sum.partialBytes }
    dram =
      bytes / blockSteps / (spec.dramBandwidth / spec.sustainedClock.value)
      * spec.multiprocessors.value
  }

  /// Cycles that `blocks` resident blocks keep each pipe busy for in one step.
  func pipeCycles(blocks: Double, warpsPerBlock: Int, subCores: Double) -> [(Pipe, Double)] {
    let warps = blocks * Double(warpsPerBlock)
    return [
      (.issue, issue * warps / subCores), (.dataStage, dataStage * warps),
      (.tensor, tensor * warps / subCores), (.l2, l2 * blocks), (.dram, dram * blocks),
    ]
  }
}

extension SplitSum {
  /// Whether the parts are still in the second-level cache when they are added: assumed up to half
  /// of it, the other half holding the weights that stream by.
  func staysInL2(of spec: DeviceSpec) -> Bool { partialBytes < 0.5 * spec.l2Bytes.value }

  /// Time of the sum without its launch, µs: its traffic at the speed of where the parts are.
  func microseconds(on spec: DeviceSpec) -> Double {
    let l2 = spec.l2BytesPerCycle.value * spec.multiprocessors.value * spec.sustainedClock.value
    return trafficBytes / ((staysInL2(of: spec) ? l2 : spec.dramBandwidth) * 1e3)
  }
}

/// The parts of a time that both layers share.
struct Assembly {
  let occupancy: Occupancy
  let work: StepWork
  let launch: Launch
  let spec: DeviceSpec

  init(_ counters: Counters, _ launch: Launch, _ spec: DeviceSpec) throws(DeviceError) {
    occupancy = try Occupancy.of(launch, on: spec)
    work = try StepWork(counters, launch, spec)
    self.launch = launch
    self.spec = spec
  }

  /// Grid over all residents of the device.
  var waves: Double {
    Double(launch.blocks) / (spec.multiprocessors.value * Double(occupancy.residentBlocks))
  }

  /// Blocks that the busiest multiprocessor runs.
  var busiestBlocks: Double {
    (Double(launch.blocks) / spec.multiprocessors.value).rounded(.up)
  }

  /// Pipe cycles of the busiest multiprocessor over the whole kernel.
  var pipeCycles: [(pipe: Pipe, cycles: Double)] {
    work.pipeCycles(
      blocks: busiestBlocks, warpsPerBlock: launch.warpsPerBlock, subCores: spec.subCores.value
    ).map { (pipe: $0.0, cycles: $0.1 * Double(launch.stepsPerBlock)) }
  }

  func estimate(cycles: Double, fitted: FittedConstant?) -> Estimate {
    let toMicroseconds = 1 / (spec.sustainedClock.value * 1e3)
    let pipes = pipeCycles
    let busiest = pipes.max { $0.cycles < $1.cycles } ?? (pipe: .latency, cycles: 0)
    let launches = spec.launchMicroseconds.value * (launch.splitSum == nil ? 1 : 2)
    let sum = launch.splitSum?.microseconds(on: spec) ?? 0
    let uncertain = spec.numbers.filter { $0.number.provenance.isUncertain }.map {
      "\(spec.identifier): \($0.label) \($0.number)"
    }
    return Estimate(
      microseconds: cycles * toMicroseconds + launches + sum,
      kernelMicroseconds: cycles * toMicroseconds, launchMicroseconds: launches,
      splitSumMicroseconds: sum,
      microsecondsWithoutLatency: busiest.cycles * toMicroseconds + launches + sum,
      pipeCycles: pipes, bound: busiest.cycles >= 0.75 * cycles ? busiest.pipe : .latency,
      occupancy: occupancy, waves: waves,
      uncertainNumbers: uncertain + launch.uncertainNumbers, fitted: fitted)
  }
}

/// Layer 1: the busiest pipe of the busiest multiprocessor, nothing waits.
public struct PipeBound: TimingModel {
  /// Layer 1.
  public init() {}

  /// The largest of the pipes' times.
  ///
  /// - Throws: ``DeviceError`` for a launch that the device cannot hold.
  public func estimate(_ counters: Counters, _ launch: Launch, _ spec: DeviceSpec)
    throws(DeviceError) -> Estimate
  {
    let parts = try Assembly(counters, launch, spec)
    return parts.estimate(cycles: parts.pipeCycles.map(\.cycles).max() ?? 0, fitted: nil)
  }
}
