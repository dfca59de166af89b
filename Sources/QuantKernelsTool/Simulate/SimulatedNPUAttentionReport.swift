import DeviceModel
import QuantKernels

/// What `simulate attention` prints of an NPU.
struct SimulatedNPUAttentionReport {
  let spec: NPUSpec
  let shape: NPUAttentionShape
  let options: NPUAttentionOptions
  let blocks: NPUAttentionBlocks
  let npu: NPURun
  let seconds: Double

  private var estimate: NPUEstimate { npu.estimate }
  private var flop: Double { shape.flop(options.mask) }

  var json: JSON {
    let counters = npu.counters
    return [
      "kernel": .string(options.kernel.rawValue), "device": .string(spec.identifier),
      "queryLength": JSON(shape.queryLength), "kvLength": JSON(shape.keyLength),
      "heads": JSON(shape.heads), "kvHeads": JSON(shape.keyValueHeads),
      "headDim": JSON(shape.headDimension), "causal": .bool(options.mask.isCausal),
      "mask": .string(options.maskMode.rawValue),
      "blocks": [
        "firstLevelKeys": JSON(blocks.firstLevelKeys),
        "secondLevelKeys": JSON(blocks.secondLevelKeys), "rows": JSON(blocks.rows),
        "slots": JSON(blocks.slots),
      ],
      "counters": [
        "npu": [
          "handOvers": JSON(counters.handOvers), "flags": JSON(counters.flags),
          "rescales": JSON(counters.marks["rescales"] ?? 0),
          "bytes": .object(NPUPath.allCases.map { ($0.name, JSON(counters.bytes($0))) }),
          "bufferBytes": .object(
            NPUMemory.allCases.compactMap { memory in
              npu.report.peakBytes[memory].map { (memory.rawValue, JSON($0)) }
            }),
          "workspaceBytes": JSON(npu.report.workspaceBytes),
          "readBytes": regions(counters.regionReads),
          "writtenBytes": regions(counters.regionWrites),
          "cubeCycles": JSON(counters.cubeCycles),
          "vectorRepeats": JSON(counters.vectorRepeats),
          "vectorInstructions": JSON(counters.vectorInstructions),
          "bankConflictCycles": spec.bankRule == nil ? .null : JSON(counters.bankConflictCycles),
        ],
        "matrixInstructions": JSON(counters.products),
        "globalMemory": ["bytes": JSON(counters.globalReadBytes + counters.globalWriteBytes)],
      ],
      "estimate": [
        "microseconds": JSON(estimate.microseconds),
        "teraflopPerSecond": JSON(estimate.teraflopPerSecond(flop: flop)),
        "bound": .string(estimate.bound.description), "kind": "modelled",
        "launchMicroseconds": JSON(estimate.launchMicroseconds),
        "kernels": .array(estimate.kernels.map(kernel)),
        "uncertainNumbers": .array(estimate.uncertainNumbers.map { .string($0) }),
      ],
      "occupancy": .object(
        [
          ("coresUsed", JSON(npu.report.launches.map(\.coresUsed).max() ?? 0)),
          ("cores", JSON(spec.cores.value)),
        ]
          + NPUMemory.allCases.compactMap { memory in
            npu.report.peakBytes[memory].map {
              (memory.rawValue, JSON(Double($0) / Double(spec.capacity(memory))))
            }
          }),
      "seconds": JSON(seconds),
    ]
  }

  private func regions(_ bytes: [String: Int]) -> JSON {
    .object(bytes.sorted { $0.key < $1.key }.map { ($0.key, JSON($0.value)) })
  }

  private func kernel(_ kernel: NPUEstimate.Kernel) -> JSON {
    [
      "name": .string(kernel.name), "microseconds": JSON(kernel.microseconds),
      "coreMicroseconds": JSON(kernel.coreMicroseconds),
      "memoryMicroseconds": JSON(kernel.memoryMicroseconds),
      "cacheMicroseconds": JSON(kernel.cacheMicroseconds),
      "memoryBytes": JSON(kernel.memoryBytes), "bound": .string(kernel.bound.description),
      "cached": .array(kernel.residentRegions.map { .string($0) }),
      "busyCycles": .object(
        busy(kernel).map { ("\($0.key.unit).\($0.key.pipe.name)", JSON($0.value)) }),
    ]
  }

  private func busy(
    _ kernel: NPUEstimate.Kernel
  ) -> [(key: NPUSchedule.PipeOfUnit, value: Double)] {
    kernel.busyCycles.sorted {
      ($0.key.unit, $0.key.pipe.rawValue) < ($1.key.unit, $1.key.pipe.rawValue)
    }
  }

  var text: String {
    let counters = npu.counters
    func mebibytes(_ bytes: Int) -> String { fixed(Double(bytes) / 1_048_576, 2) + " MiB" }
    var lines = [
      "\(options.kernel.rawValue) attention on \(spec.name): \(shape.queryLength) queries, "
        + "\(shape.keyLength) keys, \(shape.heads) heads of \(shape.keyValueHeads), width "
        + "\(shape.headDimension)" + (options.mask.isCausal ? ", causal" : ""),
      "  blocks     \(blocks.firstLevelKeys) keys in parts of \(blocks.secondLevelKeys), "
        + "\(blocks.rows) rows, \(blocks.slots) in flight",
      "  hand-overs \(counters.handOvers), flags \(counters.flags), rescales "
        + "\(counters.marks["rescales"] ?? 0)",
    ]
    for path in NPUPath.allCases where counters.bytes(path) > 0 {
      lines.append("  " + padded(path.name, 11, left: true) + mebibytes(counters.bytes(path)))
    }
    let buffers = NPUMemory.allCases.compactMap { memory in
      npu.report.peakBytes[memory].map {
        "\(memory.rawValue) \($0 / 1024) of \(spec.capacity(memory) / 1024) KiB"
      }
    }
    lines.append("  buffers    " + buffers.joined(separator: ", "))
    lines.append("  workspace  " + mebibytes(npu.report.workspaceBytes))
    lines.append(
      "  cube       \(counters.cubeCycles) cycles; vector \(counters.vectorRepeats) repeats, "
        + (spec.bankRule == nil
          ? "no bank rule known" : "\(counters.bankConflictCycles) cycles of bank conflicts"))
    for kernel in estimate.kernels {
      lines.append(
        "  kernel     " + padded(kernel.name, 10, left: true)
          + "\(fixed(kernel.microseconds, 1)) µs (cores \(fixed(kernel.coreMicroseconds, 1)), memory "
          + "\(fixed(kernel.memoryMicroseconds, 1)), L2 \(fixed(kernel.cacheMicroseconds, 1))), bound "
          + "by \(kernel.bound)")
    }
    lines.append(
      "  modelled   \(fixed(estimate.microseconds, 1)) µs, "
        + "\(fixed(estimate.teraflopPerSecond(flop: flop), 1)) TFLOP/s, of it launches "
        + "\(fixed(estimate.launchMicroseconds, 1)) µs")
    lines.append(
      "  rests on   \(estimate.uncertainNumbers.count) recalled or assumed numbers (--json names them)"
    )
    return lines.joined(separator: "\n")
  }
}
