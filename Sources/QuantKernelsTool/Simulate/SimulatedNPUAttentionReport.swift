import DeviceModel
import QuantKernels

/// What `simulate attention` prints for an NPU.
struct SimulatedNPUAttentionReport {
  let kernel: NPUAttentionKernel
  let device: NPUSpec
  let shape: NPUAttentionShape
  let flop: Double
  let blocks: NPUAttentionBlocks
  let run: NPURun

  private var rescales: Int { run.counters.marks["rescales"] ?? 0 }
  private var paths: [(String, Int)] {
    NPUPath.allCases.map { ($0.name, run.counters.bytes($0)) }.filter { $0.1 > 0 }
  }
  private var buffers: [(String, Int)] {
    NPUMemory.allCases.compactMap { memory in
      run.report.peakBytes[memory].map { (memory.rawValue, $0) }
    }
  }
  private var teraflops: Double { flop / run.estimate.microseconds * 1e-6 }

  var json: JSON {
    let counters = run.counters
    return [
      "kernel": .string(kernel.rawValue), "device": .string(device.identifier),
      "queryLength": JSON(shape.queryLength), "kvLength": JSON(shape.keyLength),
      "heads": JSON(shape.heads), "kvHeads": JSON(shape.keyValueHeads),
      "headDim": JSON(shape.headDimension),
      "blocks": [
        "firstLevelKeys": JSON(blocks.firstLevelKeys),
        "secondLevelKeys": JSON(blocks.secondLevelKeys), "rows": JSON(blocks.rows),
        "slots": JSON(blocks.slots),
      ],
      "counters": [
        "npu": [
          "handOvers": JSON(counters.handOvers), "rescales": JSON(rescales),
          "flags": JSON(counters.flags), "products": JSON(counters.products),
          "cubeCycles": JSON(counters.cubeCycles), "vectorCycles": JSON(counters.vectorCycles),
          "bankConflictCycles": JSON(counters.bankConflictCycles),
          "bytes": .object(paths.map { ($0.0, JSON($0.1)) }),
          "bufferBytes": .object(buffers.map { ($0.0, JSON($0.1)) }),
          "workspaceBytes": JSON(run.report.workspaceBytes),
        ]
      ],
      "estimate": [
        "microseconds": JSON(run.estimate.microseconds), "teraflopPerSecond": JSON(teraflops),
        "bound": .string(run.estimate.bound.description), "kind": "modelled",
        "uncertainNumbers": .array(run.estimate.uncertainNumbers.map { .string($0) }),
      ],
    ]
  }

  var text: String {
    let counters = run.counters
    func list(_ entries: [(String, Int)]) -> String {
      entries.map { "\($0.0) \($0.1)" }.joined(separator: ", ")
    }
    return """
      \(kernel.rawValue), \(shape.queryLength) × \(shape.keyLength), \(shape.heads) heads of \
      \(shape.headDimension), on \(device.name)
        blocks     \(blocks.rows) rows, \(blocks.firstLevelKeys) keys cut into \
      \(blocks.secondLevelKeys), \(blocks.slots) in flight
        counted    \(counters.handOvers) hand-overs, \(rescales) rescales, \(counters.flags) flags, \
      \(counters.cubeCycles) cube and \(counters.vectorCycles) vector cycles, \
      \(counters.bankConflictCycles) of them bank conflicts
        bytes      \(list(paths))
        occupied   \(list(buffers)); workspace \(run.report.workspaceBytes)
        modelled   \(fixed(run.estimate.microseconds, 1)) µs, \(fixed(teraflops, 1)) TFLOP/s, bound \
      by \(run.estimate.bound.description)
        rests on   \(run.estimate.uncertainNumbers.count) recalled or assumed numbers (--json names \
      them)
      """
  }
}
