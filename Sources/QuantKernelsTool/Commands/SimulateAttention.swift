import ArgumentParser
import DeviceModel
import QuantKernels

/// `simulate attention`: one attention's kernels on a simulated GPU or NPU.
struct SimulateAttention: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "attention",
    abstract: "Counters, buffer occupancy and modelled time of an attention's kernels.",
    discussion: """
      On a GPU the kernel runs warp by warp, a few steps of one block of each class counting for \
      their likes. On an NPU the operations of one tile of each kind are issued and count for \
      theirs; the time is the schedule of the busiest core, or the chip's memory or cache traffic \
      where that takes longer. Times are modelled.

      GPU kernels: \(GPUAttentionKernel.allCases.map(\.rawValue).joined(separator: ", ")); GPUs: \
      \(DeviceSpec.all.map(\.identifier).joined(separator: ", ")).
      NPU kernels: \(NPUAttentionKernel.allCases.map(\.rawValue).joined(separator: ", ")); NPUs: \
      \(NPUSpec.all.map(\.identifier).joined(separator: ", ")). --window, --mask and the levels are \
      an NPU's.

      EXAMPLES
        quantkernels simulate attention --device v100 --kernel volta --query-length 2048 \
      --kv-length 2048 --heads 16 --head-dim 128 --causal
        quantkernels simulate attention --device ascend910b2 --kernel two-level --query-length 8192 \
      --kv-length 8192 --heads 32 --head-dim 128 --causal
        quantkernels simulate attention --device ascend910b2 --kernel unfused --query-length 8192 \
      --kv-length 8192 --heads 32 --head-dim 128 --causal --mask full
      """)

  /// Kernels of all devices.
  enum Kernel: String, ExpressibleByArgument, CaseIterable {
    case unfused, flash, unified
    case twoLevel = "two-level"
    case volta, xformers
  }

  @OptionGroup var common: CommonOptions
  @OptionGroup var extents: SimulatedShapeOptions

  @Option(name: .long, help: "The kernel.")
  var kernel: Kernel

  @Option(name: .long, help: "Query positions.")
  var queryLength: Int

  @Flag(name: .long, help: "Mask later keys; the last query is aligned with the last key.")
  var causal = false

  @Option(name: .long, help: "Keys before its own position that a query sees (default: all).")
  var window: Int?

  @Option(
    name: .long,
    help: "Where a mask comes from (default: computed, and full for the unfused kernel).")
  var mask: NPUMaskMode?

  @Option(name: .long, help: "Keys of a first-level block (default: by the cost model).")
  var firstLevel: Int?

  @Option(name: .long, help: "Keys of a second-level block (default 128).")
  var secondLevel: Int?

  func run() throws {
    Console.progress("simulating \(kernel.rawValue)")
    if let spec = NPUSpec.all.first(where: { $0.identifier == extents.device }) {
      try runNPU(spec)
    } else {
      try runGPU(try simulatedDevice(extents.device))
    }
  }

  private func runGPU(_ spec: DeviceSpec) throws {
    guard let gpuKernel = GPUAttentionKernel(rawValue: kernel.rawValue) else {
      throw QuantError(
        .invalidArgument, "--kernel \(kernel.rawValue)", "is no kernel of a GPU",
        remedy: "use \(GPUAttentionKernel.allCases.map(\.rawValue).joined(separator: ", "))")
    }
    for (name, isGiven) in [
      ("--window", window != nil), ("--mask", mask != nil), ("--first-level", firstLevel != nil),
      ("--second-level", secondLevel != nil),
    ] where isGiven {
      throw QuantError(
        .invalidArgument, name, "\(spec.name) is no NPU", remedy: "leave it out")
    }
    let shape = try DeviceAttentionShape(
      queryLength: queryLength, keyLength: extents.kvLength, heads: extents.heads,
      keyValueHeads: extents.kvHeads,
      headDimension: extents.headDim, isCausal: causal)
    let attention = try SimulatedAttention.count(
      gpuKernel, shape: shape, on: spec,
      simulator: WarpSimulator(
        threads: common.threadCount, isCancelled: { Interruption.isRequested }))
    let report = SimulatedAttentionReport(
      attention: attention, estimate: try attention.estimate())
    common.finish(report.json, text: report.text)
  }

  private func runNPU(_ spec: NPUSpec) throws {
    guard let npuKernel = NPUAttentionKernel(rawValue: kernel.rawValue) else {
      throw QuantError(
        .invalidArgument, "--kernel \(kernel.rawValue)", "is no kernel of an NPU",
        remedy: "use \(NPUAttentionKernel.allCases.map(\.rawValue).joined(separator: ", "))")
    }
    let shape = NPUAttentionShape(
      queryLength: queryLength, keyLength: extents.kvLength, heads: extents.heads,
      keyValueHeads: extents.kvHeads,
      headDimension: extents.headDim)
    try shape.check()
    let rule = try TileMask(
      isCausal: causal,
      offset: TileMask.Alignment.bottomRight.offset(queries: queryLength, keys: extents.kvLength),
      leftWindow: window)
    let options = NPUAttentionOptions(
      kernel: npuKernel, mask: causal || window != nil ? rule : .none,
      maskMode: mask ?? (npuKernel == .unfused ? .full : .computed), firstLevelKeys: firstLevel,
      secondLevelKeys: secondLevel ?? 128)
    let run = try NPUAttention.count(shape, options: options, on: spec)
    guard let npu = run.npu else { return }
    let report = SimulatedNPUAttentionReport(
      spec: spec, shape: shape, options: options, blocks: run.output.blocks, npu: npu,
      seconds: run.seconds)
    common.finish(report.json, text: report.text)
  }
}

extension NPUMaskMode: ExpressibleByArgument {}
