import DeviceModel

/// What a matrix product does on a simulated device: counted without its values, and timed by the
/// model.
public struct SimulatedMatmul: Sendable {
  /// The product's kernel.
  public let kernel: GPUKernel
  /// The device.
  public private(set) var device: DeviceSpec
  /// Rows of activations, outputs, inputs.
  public let shape: (rows: Int, outputs: Int, inputs: Int)
  /// What the kernel did in the whole grid.
  public let counters: Counters
  /// The part of `counters` that `launch` times.
  public let timedCounters: Counters
  /// How it is launched.
  public private(set) var launch: Launch
  /// Steps of the main loop, one a warp.
  public let warpSteps: Int
  /// Traffic of the main loop's sites.
  public let loopCounters: Counters
  /// Seconds that the simulation took on this machine.
  public let seconds: Double
  /// Seconds of processor time that the simulation took, over all threads.
  public let processorSeconds: Double
  /// Threads that simulated.
  public let threads: Int
  /// Lane accesses that were simulated (not multiplied by the classes' counts).
  public let simulatedLaneAccesses: Int
  private let launchOn: @Sendable (DeviceSpec) -> Launch

  /// The modelled time: layer 2, without a fitted constant unless `model` brings one.
  ///
  /// - Throws: ``QuantError`` when the device cannot hold the launch or lacks an instruction.
  public func estimate(
    _ model: some TimingModel = LatencyBound()
  ) throws(QuantError) -> Estimate {
    do throws(DeviceError) {
      return try model.estimate(timedCounters, launch, device)
    } catch {
      throw QuantError(error)
    }
  }

  /// The same kernel and grid on another device: counters stay, time changes.
  public func moved(to device: DeviceSpec) -> SimulatedMatmul {
    var copy = self
    copy.device = device
    copy.launch = launchOn(device)
    return copy
  }

  /// Useful work, multiplications and additions.
  public var flop: Double {
    2 * Double(shape.rows) * Double(shape.outputs) * Double(shape.inputs)
  }

  /// Lane accesses that one core simulates in a second of its time.
  public var laneAccessesPerSecond: Double {
    processorSeconds > 0 ? Double(simulatedLaneAccesses) / processorSeconds : 0
  }
}

extension HalfGemm {
  /// Tiles among which a library would choose for M rows: the largest that M fills, and the next.
  static func candidateTiles(rows: Int) -> [Tile] {
    switch rows {
    case ...64: [.m64n64, .m64n128]
    case ...128: [.m64n128, .m128n128]
    default: [.m128n128, .m256n128]
    }
  }

  /// Splits of K that it would try.
  static let candidateSplits = [1, 2, 4]
}

extension SimulatedMatmul {
  /// Every tile and split among which ``count(_:rows:outputs:inputs:groupSize:on:splits:steadySeconds:simulator:)``
  /// chooses for the kernel `half`, counted once, to be timed on several devices by
  /// ``moved(to:)``.
  ///
  /// - Throws: ``QuantError`` for sizes that are none, and as the launch.
  public static func halfCandidates(
    rows: Int, outputs: Int, inputs: Int, on device: DeviceSpec,
    simulator: WarpSimulator = WarpSimulator()
  ) throws(QuantError) -> [SimulatedMatmul] {
    try GPUKernel.half.requireSupport(on: device)
    let work = Work(
      kernel: .half, device: device, shape: (rows, outputs, inputs), simulator: simulator)
    var list: [SimulatedMatmul] = []
    for tile in HalfGemm.candidateTiles(rows: rows) {
      for splits in HalfGemm.candidateSplits {
        list.append(
          try work.count(
            HalfGemm(
              countingRows: rows, outputs: outputs, inputs: inputs, tile: tile, splits: splits)))
      }
    }
    return list
  }

  /// Counts a product of M rows by `outputs × inputs` weights, one block of each class on zeros.
  ///
  /// - Parameters:
  ///   - groupSize: inputs that share a scale, for the int4 kernels.
  ///   - splits: blocks that share an output along K; nil for the kernel's own rule on the device.
  ///   - steadySeconds: processor time for which the count is repeated, so that
  ///     ``laneAccessesPerSecond`` is that of memory which was touched before; 0 counts once.
  ///   - kernel: which kernel.
  ///   - rows: M.
  ///   - outputs: N.
  ///   - inputs: K.
  ///   - device: the simulated device.
  ///   - simulator: bank policy, checks and threads.
  /// - Throws: ``QuantError`` for a shape that the kernel does not take, or an instruction that the
  ///   device lacks.
  public static func count(
    _ kernel: GPUKernel, rows: Int, outputs: Int, inputs: Int, groupSize: Int = 128,
    on device: DeviceSpec, splits: Int? = nil, steadySeconds: Double = 0,
    simulator: WarpSimulator = WarpSimulator()
  ) throws(QuantError) -> SimulatedMatmul {
    try kernel.requireSupport(on: device)
    let work = Work(
      kernel: kernel, device: device, shape: (rows, outputs, inputs),
      steadySeconds: steadySeconds, simulator: simulator)
    switch kernel {
    case .awq, .quick, .quickImproved:
      let weights = try Int4DeviceWeights(
        zeros: try kernel.requireWeightOrder(), rows: outputs, columns: inputs, groupSize: groupSize
      )
      let activations = try HalfActivations(zeros: rows, columns: inputs)
      let splits = splits ?? kernel.splits(rows: outputs, columns: inputs, on: device)
      switch kernel {
      case .awq: return try work.count(AWQGemm(activations, weights, splits: splits))
      case .quick: return try work.count(QuickGemm(activations, weights, splits: splits))
      default: return try work.count(ImprovedQuickGemm(activations, weights, splits: splits))
      }
    case .marlin:
      try kernel.refuse(splits)
      return try work.count(
        MarlinGemm(
          countingRows: rows, outputs: outputs, inputs: inputs, groupSize: groupSize,
          multiprocessors: Int(device.multiprocessors.value)))
    case .half:
      return try work.fastestHalf(splits: splits)
    case .w2a8:
      try kernel.refuse(splits)
      guard rows == 1 else {
        throw QuantError(
          .unsupported, "W2A8", "\(rows) rows", remedy: "the kernel multiplies one row; use M = 1")
      }
      return try work.count(W2A8Gemv(countingOutputs: outputs, inputs: inputs))
    }
  }

  private struct Work {
    let kernel: GPUKernel
    let device: DeviceSpec
    let shape: (rows: Int, outputs: Int, inputs: Int)
    var steadySeconds = 0.0
    let simulator: WarpSimulator

    func count(_ text: some MatmulKernel) throws(QuantError) -> SimulatedMatmul {
      let launch = text.launch(on: device)
      let start = MonotonicClock.nanoseconds()
      var processor = MonotonicClock.processorNanoseconds()
      let run = try QuantError.translating {
        // What the device cannot hold is refused before anything is simulated.
        _ = try Occupancy.of(launch, on: device)
        return try simulator.count(text)
      }
      let seconds = MonotonicClock.seconds(since: start)
      processor = MonotonicClock.processorNanoseconds() - processor
      var spent = 0.0
      while spent < steadySeconds {
        let again = MonotonicClock.processorNanoseconds()
        _ = try QuantError.translating { try simulator.count(text) }
        let used = MonotonicClock.processorNanoseconds() - again
        processor = min(processor, used)
        spent += Double(max(used, 1000)) * 1e-9
      }
      var loop = run.counters
      for index in loop.sites.indices where text.sitesOutsideLoop.contains(loop.sites[index].name) {
        loop.sites[index] = Counters.Site(loop.sites[index].name)
      }
      return SimulatedMatmul(
        kernel: kernel, device: device, shape: shape, counters: run.counters,
        timedCounters: text.timedCounters(run.counters), launch: launch,
        warpSteps: text.warpSteps, loopCounters: loop, seconds: seconds,
        processorSeconds: Double(processor) * 1e-9,
        threads: simulator.threads, simulatedLaneAccesses: run.simulatedLaneAccesses,
        launchOn: { text.launch(on: $0) })
    }

    /// A library chooses among tiles and splits; so does this, by the modelled time.
    func fastestHalf(splits wanted: Int?) throws(QuantError) -> SimulatedMatmul {
      var best: (product: SimulatedMatmul, time: Double)?
      var failure: QuantError?
      for tile in HalfGemm.candidateTiles(rows: shape.rows) {
        for splits in wanted.map({ [$0] }) ?? HalfGemm.candidateSplits {
          do throws(QuantError) {
            let product = try count(
              HalfGemm(
                countingRows: shape.rows, outputs: shape.outputs, inputs: shape.inputs,
                tile: tile, splits: splits))
            let time = try product.estimate().microseconds
            if best.map({ time < $0.time }) ?? true { best = (product, time) }
          } catch {
            if error.code == .cancelled { throw error }
            failure = failure ?? error
          }
        }
      }
      if let best { return best.product }
      throw failure
        ?? QuantError(.unsupported, "fp16", "no tile fits", remedy: "use another shape")
    }
  }
}

extension GPUKernel {
  /// Splits of an N × K layer where none are asked for: AutoAWQ's 8; QUICK's rule, 8 when N ≤ K and
  /// 2 otherwise, 16 on an A100. Source: SqueezeBits/QUICK `quick/awq/models/base.py`.
  func splits(rows: Int, columns: Int, on device: DeviceSpec?) -> Int {
    switch self {
    case .awq: 8
    case .quick where device?.identifier.hasPrefix("a100") ?? false: 16
    case .quick, .quickImproved: rows <= columns ? 8 : 2
    case .half, .marlin, .w2a8: 1
    }
  }

  /// - Throws: ``QuantError`` when the device lacks the kernel's matrix instruction.
  func requireSupport(on device: DeviceSpec) throws(QuantError) {
    guard self == .w2a8 || device.capability.value >= 8 else {
      throw QuantError(
        .unsupported, "\(rawValue) on \(device.identifier)",
        "compute capability \(device.capability) has no mma.m16n8k16 and no asynchronous copies",
        remedy: "choose a device of 8.0 or later, or the kernel w2a8")
    }
  }

  fileprivate func refuse(_ splits: Int?) throws(QuantError) {
    guard let splits, splits != 1 else { return }
    throw QuantError(
      .invalidArgument, "splits", "\(rawValue) has no splits of K but \(splits) were asked for",
      remedy: "leave them out")
  }
}
