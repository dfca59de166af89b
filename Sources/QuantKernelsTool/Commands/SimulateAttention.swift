import ArgumentParser
import DeviceModel
import QuantKernels

/// `simulate attention`: an attention's kernel on a simulated GPU or NPU.
struct SimulateAttention: ParsableCommand {
  /// Every kernel, of either kind of device.
  enum Kernel: String, CaseIterable, ExpressibleByArgument {
    case unfused, flash, unified
    case twoLevel = "two-level"
    case volta, xformers

    var onGPU: GPUAttentionKernel? { GPUAttentionKernel(rawValue: rawValue) }
    var onNPU: NPUAttentionKernel? { NPUAttentionKernel(rawValue: rawValue) }
  }

  static let configuration = CommandConfiguration(
    commandName: "attention",
    abstract: "Counters, occupancy and modelled time of an attention's kernel.",
    discussion: """
      On a GPU the kernel runs warp by warp, a few steps of one block of each class counting for \
      their likes; on an NPU cube and vector units run their programs, one tile of each kind for \
      its likes. Times are modelled from what is counted.

      GPU kernels: \(GPUAttentionKernel.allCases.map(\.rawValue).joined(separator: ", ")); devices: \
      \(DeviceSpec.all.map(\.identifier).joined(separator: ", ")).
      NPU kernels: \(NPUAttentionKernel.allCases.map(\.rawValue).joined(separator: ", ")); devices: \
      \(NPUSpec.all.map(\.identifier).joined(separator: ", ")).

      EXAMPLES
        quantkernels simulate attention --device v100 --kernel volta --query-length 2048 \
      --kv-length 2048 --heads 16 --head-dim 128 --causal
        quantkernels simulate attention --device ascend910b2 --kernel two-level \
      --query-length 8192 --kv-length 8192 --heads 32 --head-dim 128 --causal --mask tiling
      """)

  @OptionGroup var common: CommonOptions

  @Option(name: .long, help: "The device.")
  var device: String

  @Option(name: .long, help: "The kernel.")
  var kernel: Kernel

  @Option(name: .long, help: "Queries.")
  var queryLength: Int

  @Option(name: .long, help: "Keys and values.")
  var kvLength: Int

  @Option(name: .long, help: "Query heads, those of a batch together.")
  var heads: Int

  @Option(name: .long, help: "Heads of keys and values (default: as many as of queries).")
  var kvHeads: Int?

  @Option(name: .long, help: "Elements of a head.")
  var headDim: Int

  @Flag(name: .long, help: "A query sees no later key; the last query sees all.")
  var causal = false

  @Option(
    name: .long,
    help:
      "Where an NPU's kernel gets its mask: full (a byte a pair), tiling (a view), computed (none)."
  )
  var mask: NPUMaskMode?

  @Option(name: .long, help: "Keys between two hand-overs of an NPU (default: the cost model's).")
  var firstLevel: Int?

  func run() throws {
    Console.progress("simulating \(kernel.rawValue)")
    if let npu = NPUSpec.all.first(where: { $0.identifier == device }) {
      return try run(on: npu)
    }
    let gpu = try simulatedDevice(device)
    guard let chosen = kernel.onGPU else {
      throw QuantError(
        .invalidArgument, "--kernel \(kernel.rawValue)", "\(gpu.name) is no NPU",
        remedy: "use one of " + GPUAttentionKernel.allCases.map(\.rawValue).joined(separator: ", "))
    }
    for (name, isGiven) in [("--mask", mask != nil), ("--first-level", firstLevel != nil)]
    where isGiven {
      throw QuantError(
        .invalidArgument, name, "\(gpu.name) is no NPU", remedy: "leave it out")
    }
    let shape = try DeviceAttentionShape(
      queryLength: queryLength, keyLength: kvLength, heads: heads, keyValueHeads: kvHeads,
      headDimension: headDim, isCausal: causal)
    let attention = try SimulatedAttention.count(
      chosen, shape: shape, on: gpu,
      simulator: WarpSimulator(
        threads: common.threadCount, isCancelled: { Interruption.isRequested }))
    let report = SimulatedAttentionReport(
      attention: attention, estimate: try attention.estimate())
    common.finish(report.json, text: report.text)
  }

  private func run(on npu: NPUSpec) throws {
    guard let chosen = kernel.onNPU else {
      throw QuantError(
        .invalidArgument, "--kernel \(kernel.rawValue)", "\(npu.name) is no GPU",
        remedy: "use one of " + NPUAttentionKernel.allCases.map(\.rawValue).joined(separator: ", "))
    }
    let shape = NPUAttentionShape(
      queryLength: queryLength, keyLength: kvLength, heads: heads, keyValueHeads: kvHeads,
      headDimension: headDim)
    try shape.check()
    let tiles = causal ? try TileMask(isCausal: true, offset: kvLength - queryLength) : .none
    let options = NPUAttentionOptions(
      kernel: chosen, mask: tiles, maskMode: mask ?? .computed, firstLevelKeys: firstLevel)
    let done = try NPUAttention.count(shape, options: options, on: npu)
    guard let run = done.npu else { return }
    let report = SimulatedNPUAttentionReport(
      kernel: chosen, device: npu, shape: shape, flop: shape.flop(tiles),
      blocks: done.output.blocks, run: run)
    common.finish(report.json, text: report.text)
  }
}

extension NPUMaskMode: ExpressibleByArgument {}
