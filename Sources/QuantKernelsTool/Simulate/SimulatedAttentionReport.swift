import DeviceModel
import QuantKernels

/// What `simulate attention` prints for a GPU.
struct SimulatedAttentionReport {
  let attention: SimulatedAttention
  let estimate: Estimate

  /// Steps of all warps: passes over a tile of keys, as many as the block with the most makes.
  private var warpSteps: Double {
    let steps = attention.parts.reduce(0) { sum, part in
      sum + part.launch.blocks * part.launch.warpsPerBlock * part.launch.stepsPerBlock
    }
    return Double(max(1, steps))
  }
  private var lanesPerSecond: Double {
    Double(attention.simulatedLaneAccesses) / max(attention.seconds, 1e-9)
  }

  var json: JSON {
    let counters = attention.counters
    let occupancy = estimate.occupancy
    return [
      "kernel": .string(attention.kernel.rawValue), "device": .string(attention.device.identifier),
      "queryLength": JSON(attention.shape.queryLength), "kvLength": JSON(attention.shape.keyLength),
      "heads": JSON(attention.shape.heads), "kvHeads": JSON(attention.shape.keyValueHeads),
      "headDim": JSON(attention.shape.headDimension), "causal": .bool(attention.shape.isCausal),
      "counters": [
        "sharedMemory": SimulatedMatmulReport.shared(counters.sharedMemory) { JSON($0) },
        "globalMemory": SimulatedMatmulReport.global(counters.globalMemory) { JSON($0) },
        "matrixInstructions": JSON(counters.matrixInstructionCount),
        "barriers": JSON(counters.barriers), "blocks": JSON(counters.blocks),
        "perWarpStep": perWarpStep,
        "sites": .array(counters.sites.map(SimulatedMatmulReport.site)),
      ],
      "workspaceBytes": JSON(attention.workspaceBytes),
      "estimate": [
        "microseconds": JSON(estimate.microseconds),
        "teraflopPerSecond": JSON(estimate.teraflopPerSecond(flop: attention.flop)),
        "bound": .string(estimate.bound.rawValue), "kind": "modelled",
        "uncertainNumbers": .array(estimate.uncertainNumbers.map { .string($0) }),
      ],
      "occupancy": [
        "residentBlocks": JSON(occupancy.residentBlocks),
        "residentWarps": JSON(occupancy.residentWarps),
        "limit": .string(occupancy.limit.rawValue),
      ],
      "laneAccessesPerSecond": JSON(lanesPerSecond),
    ]
  }

  private var perWarpStep: JSON {
    let counters = attention.counters
    func each(_ value: Int) -> JSON { JSON(Double(value) / warpSteps) }
    return [
      "sharedMemory": SimulatedMatmulReport.shared(counters.sharedMemory, each),
      "globalMemory": SimulatedMatmulReport.global(counters.globalMemory, each),
      "matrixInstructions": each(counters.matrixInstructionCount),
    ]
  }

  var text: String {
    let shape = attention.shape
    var lines = [
      "\(attention.kernel.rawValue), \(shape.queryLength) × \(shape.keyLength), \(shape.heads) heads "
        + "of \(shape.headDimension)\(shape.isCausal ? ", causal" : ""), on \(attention.device.name)",
      "  counted, whole grid              wavefronts   conflicts    requests     sectors",
    ]
    let counters = attention.counters
    for site in counters.sites where site.shared.instructions > 0 || site.global.requests > 0 {
      lines.append(Self.row(site.name, site.shared, site.global))
    }
    lines.append(Self.row("all", counters.sharedMemory, counters.globalMemory))
    for part in attention.parts {
      lines.append(
        "  launch     \(part.name): \(part.launch.blocks) blocks of \(part.launch.warpsPerBlock) "
          + "warps, \(part.launch.sharedBytesPerBlock) shared bytes, "
          + "\(part.launch.registersPerThread) registers a thread")
    }
    lines.append(
      "  modelled   \(fixed(estimate.microseconds, 1)) µs, "
        + "\(fixed(estimate.teraflopPerSecond(flop: attention.flop), 1)) TFLOP/s, bound by "
        + "\(estimate.bound.rawValue); \(attention.workspaceBytes) bytes beside inputs and output")
    lines.append(
      "  rests on   \(estimate.uncertainNumbers.count) recalled or assumed numbers (--json names them)"
    )
    return lines.joined(separator: "\n")
  }

  /// A line of counters.
  static func row(
    _ name: String, _ shared: Counters.SharedMemory, _ global: Counters.GlobalMemory
  ) -> String {
    "  " + padded(name, 30, left: true) + padded("\(shared.wavefronts)", 13)
      + padded("\(shared.conflicts)", 12) + padded("\(global.requests)", 12)
      + padded("\(global.sectors)", 12)
  }
}
