import DeviceModel
import QuantKernels

/// What `simulate low-rank` prints.
struct SimulatedLowRankReport {
  let step: SimulatedLowRankAttention
  let estimate: Estimate

  private var kernelTimes: [Double] {
    step.parts.map { part in
      (try? step.only([part.name]).estimate().microseconds) ?? 0
    }
  }

  var json: JSON {
    let shape = step.shape
    let counters = step.counters
    let occupancy = estimate.occupancy
    return [
      "kernel": .string(step.kernel.rawValue), "device": .string(step.device.identifier),
      "kvLength": JSON(shape.positions), "heads": JSON(shape.queryHeads),
      "kvHeads": JSON(shape.keyValueHeads), "headDim": JSON(shape.headDimension),
      "group": JSON(shape.headsPerGroup), "keyRank": JSON(shape.keyRank),
      "valueRank": JSON(shape.valueRank), "bits": JSON(shape.keyType.bits),
      "bytesPerToken": JSON(bytesPerToken),
      "rebuildBalance": shape.cost.rebuildBalance.map { JSON($0) } ?? .null,
      "flopPerByteOfDevice": JSON(step.device.flopPerByte),
      "counters": [
        "sharedMemory": SimulatedMatmulReport.shared(counters.sharedMemory) { JSON($0) },
        "globalMemory": SimulatedMatmulReport.global(counters.globalMemory) { JSON($0) },
        "matrixInstructions": JSON(counters.matrixInstructionCount),
        "barriers": JSON(counters.barriers), "blocks": JSON(counters.blocks),
        "sites": .array(counters.sites.map(SimulatedMatmulReport.site)),
      ],
      "kernels": .array(
        zip(step.parts, kernelTimes).map { part, time in
          [
            "name": .string(part.name), "microseconds": JSON(time),
            "globalBytes": JSON(part.counters.globalMemory.bytes),
            "matrixInstructions": JSON(part.counters.matrixInstructionCount),
          ]
        }),
      "estimate": [
        "microseconds": JSON(estimate.microseconds), "bound": .string(estimate.bound.rawValue),
        "kind": "modelled",
        "uncertainNumbers": .array(estimate.uncertainNumbers.map { .string($0) }),
      ],
      "occupancy": [
        "residentBlocks": JSON(occupancy.residentBlocks),
        "residentWarps": JSON(occupancy.residentWarps),
        "limit": .string(occupancy.limit.rawValue),
      ],
      "laneAccessesPerSecond": JSON(
        Double(step.simulatedLaneAccesses) / max(step.seconds, 1e-9)),
    ]
  }

  private var bytesPerToken: Int {
    step.kernel == .dense ? step.shape.cost.denseBytesPerToken : step.shape.cost.bytesPerToken
  }

  var text: String {
    let shape = step.shape
    var lines = [
      "\(step.kernel.rawValue), \(shape.positions) positions, \(shape.queryHeads) heads of "
        + "\(shape.headDimension) over \(shape.keyValueHeads)"
        + (step.kernel == .dense
          ? ""
          : ", groups of \(shape.headsPerGroup), ranks \(shape.keyRank) and \(shape.valueRank), "
            + "\(shape.keyType.bits) bits")
        + ", on \(step.device.name); \(bytesPerToken) bytes a token",
      "  counted, whole grid              wavefronts   conflicts    requests     sectors",
    ]
    for part in step.parts {
      for site in part.counters.sites
      where site.shared.instructions > 0 || site.global.requests > 0 {
        lines.append(
          SimulatedAttentionReport.row("\(part.name): \(site.name)", site.shared, site.global))
      }
    }
    let counters = step.counters
    lines.append(
      SimulatedAttentionReport.row("all", counters.sharedMemory, counters.globalMemory))
    for (part, time) in zip(step.parts, kernelTimes) {
      lines.append(
        "  launch     \(part.name): \(fixed(time, 1)) µs, \(part.launch.blocks) blocks of "
          + "\(part.launch.warpsPerBlock) warps, \(part.launch.sharedBytesPerBlock) shared bytes, "
          + "\(part.launch.registersPerThread) registers a thread")
    }
    lines.append(
      "  modelled   \(fixed(estimate.microseconds, 1)) µs, the longest bound by "
        + "\(estimate.bound.rawValue)")
    if step.kernel != .dense, let balance = shape.cost.rebuildBalance {
      lines.append(
        "  balance    rebuilding costs \(fixed(balance, 0)) FLOP a saved byte; the device offers "
          + "\(fixed(step.device.flopPerByte, 0))")
    }
    lines.append(
      "  rests on   \(estimate.uncertainNumbers.count) recalled or assumed numbers (--json names them)"
    )
    return lines.joined(separator: "\n")
  }
}
