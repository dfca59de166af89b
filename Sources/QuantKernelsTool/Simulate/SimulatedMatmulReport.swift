import DeviceModel
import QuantKernels

/// What `simulate matmul` prints.
struct SimulatedMatmulReport {
  let product: SimulatedMatmul
  let estimate: Estimate

  var json: JSON {
    let counters = product.counters
    return [
      "kernel": .string(product.kernel.rawValue), "device": .string(product.device.identifier),
      "m": JSON(product.shape.rows), "n": JSON(product.shape.outputs),
      "k": JSON(product.shape.inputs),
      "counters": [
        "sharedMemory": Self.shared(counters.sharedMemory) { JSON($0) },
        "globalMemory": Self.global(counters.globalMemory) { JSON($0) },
        "matrixInstructions": JSON(counters.matrixInstructionCount),
        "barriers": JSON(counters.barriers), "blocks": JSON(counters.blocks),
        "instructions": .object(
          InstructionClass.allCases.compactMap { kind in
            counters.instructions[kind].map { (kind.rawValue, JSON($0)) }
          }),
        "perWarpStep": perWarpStep,
        "sites": .array(counters.sites.map(Self.site)),
      ],
      "launch": [
        "name": .string(product.launch.name), "blocks": JSON(product.launch.blocks),
        "warpsPerBlock": JSON(product.launch.warpsPerBlock),
        "registersPerThread": JSON(product.launch.registersPerThread.value),
        "registersSource": .string(product.launch.registersPerThread.provenance.source),
        "sharedBytesPerBlock": JSON(product.launch.sharedBytesPerBlock),
        "stepsPerBlock": JSON(product.launch.stepsPerBlock),
        "pipelineStages": JSON(product.launch.pipelineStages),
        "splits": JSON(product.launch.splitSum?.parts ?? 1),
      ],
      "estimate": [
        "microseconds": JSON(estimate.microseconds),
        "teraflopPerSecond": JSON(estimate.teraflopPerSecond(flop: product.flop)),
        "bound": .string(estimate.bound.rawValue), "kind": "modelled",
        "microsecondsWithoutLatency": JSON(estimate.microsecondsWithoutLatency),
        "splitSumMicroseconds": JSON(estimate.splitSumMicroseconds),
        "launchMicroseconds": JSON(estimate.launchMicroseconds),
        "waves": JSON(estimate.waves),
        "pipeCycles": .object(estimate.pipeCycles.map { ($0.pipe.rawValue, JSON($0.cycles)) }),
        "fittedConstant": estimate.fitted.map { JSON($0.value) } ?? .null,
        "uncertainNumbers": .array(estimate.uncertainNumbers.map { .string($0) }),
      ],
      "occupancy": [
        "residentBlocks": JSON(estimate.occupancy.residentBlocks),
        "residentWarps": JSON(estimate.occupancy.residentWarps),
        "limit": .string(estimate.occupancy.limit.rawValue),
      ],
      "laneAccessesPerSecond": JSON(product.laneAccessesPerSecond),
      "threads": JSON(product.threads),
    ]
  }

  /// The main loop's traffic, a warp and a step.
  private var perWarpStep: JSON {
    let steps = Double(max(1, product.warpSteps))
    let loop = product.loopCounters
    func each(_ value: Int) -> JSON { JSON(Double(value) / steps) }
    return [
      "sharedMemory": Self.shared(loop.sharedMemory, each),
      "globalMemory": Self.global(loop.globalMemory, each),
      "matrixInstructions": each(product.counters.matrixInstructionCount),
    ]
  }

  static func shared(
    _ traffic: Counters.SharedMemory, _ number: (Int) -> JSON
  ) -> JSON {
    [
      "wavefronts": number(traffic.wavefronts), "conflicts": number(traffic.conflicts),
      "bytes": number(traffic.bytes), "instructions": number(traffic.instructions),
    ]
  }

  static func global(
    _ traffic: Counters.GlobalMemory, _ number: (Int) -> JSON
  ) -> JSON {
    [
      "requests": number(traffic.requests), "sectors": number(traffic.sectors),
      "lines": number(traffic.lines), "bytes": number(traffic.bytes),
    ]
  }

  static func site(_ site: Counters.Site) -> JSON {
    [
      "name": .string(site.name),
      "operation": site.operation.map { .string($0.rawValue) } ?? .null,
      "sharedMemory": shared(site.shared) { JSON($0) },
      "globalMemory": global(site.global) { JSON($0) },
    ]
  }

  var text: String {
    let (m, n, k) = product.shape
    let steps = Double(max(1, product.warpSteps))
    var lines = [
      "\(product.launch.name), \(m) × \(n) × \(k), on \(product.device.name)",
      "  counted, whole grid              wavefronts   conflicts    requests     sectors   a warp step",
    ]
    for site in product.counters.sites
    where site.shared.instructions > 0 || site.global.requests > 0 {
      let inLoop = product.loopCounters.sites.contains {
        $0.name == site.name && ($0.shared.instructions > 0 || $0.global.requests > 0)
      }
      let perStep =
        !inLoop
        ? "once a block"
        : site.shared.instructions > 0
          ? "\(fixed(Double(site.shared.wavefronts) / steps, 2)) wavefronts"
          : "\(fixed(Double(site.global.sectors) / steps, 2)) sectors"
      lines.append(
        "  " + padded(site.name, 30, left: true) + padded("\(site.shared.wavefronts)", 13)
          + padded("\(site.shared.conflicts)", 12) + padded("\(site.global.requests)", 12)
          + padded("\(site.global.sectors)", 12) + "   \(perStep)")
    }
    let shared = product.counters.sharedMemory
    let loop = product.loopCounters.sharedMemory
    let global = product.counters.globalMemory
    lines.append(
      "  " + padded("all", 30, left: true) + padded("\(shared.wavefronts)", 13)
        + padded("\(shared.conflicts)", 12) + padded("\(global.requests)", 12)
        + padded("\(global.sectors)", 12)
        + "   \(fixed(Double(loop.wavefronts) / steps, 2)) wavefronts, "
        + "\(fixed(Double(loop.conflicts) / steps, 2)) conflicts, "
        + "\(fixed(Double(product.counters.matrixInstructionCount) / steps, 2)) matrix instructions"
    )
    let occupancy = estimate.occupancy
    lines.append(
      "  launch     \(product.launch.blocks) blocks of \(product.launch.warpsPerBlock) warps, "
        + "\(product.launch.sharedBytesPerBlock) shared bytes, "
        + "\(product.launch.registersPerThread) registers a thread; "
        + "\(occupancy.residentBlocks) blocks resident (\(occupancy.limit.rawValue)), "
        + "\(fixed(estimate.waves, 2)) waves")
    lines.append(
      "  modelled   \(fixed(estimate.microseconds, 1)) µs, "
        + "\(fixed(estimate.teraflopPerSecond(flop: product.flop), 1)) TFLOP/s, bound by "
        + "\(estimate.bound.rawValue); without exposed latency "
        + "\(fixed(estimate.microsecondsWithoutLatency, 1)) µs"
        + (estimate.fitted.map { "; fitted constant \($0.value)" } ?? "; no fitted constant"))
    lines.append(
      "  pipes      "
        + estimate.pipeCycles.map { "\($0.pipe.rawValue) \(fixed($0.cycles, 0))" }
        .joined(separator: ", ") + " cycles of the busiest multiprocessor")
    lines.append(
      "  rests on   \(estimate.uncertainNumbers.count) recalled or assumed numbers (--json names them)"
    )
    lines.append(
      "  simulated  \(fixed(product.laneAccessesPerSecond / 1e6, 1)) million lane accesses a second "
        + "a core")
    return lines.joined(separator: "\n")
  }
}
