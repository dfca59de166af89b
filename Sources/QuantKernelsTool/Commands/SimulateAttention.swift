import ArgumentParser
import DeviceModel
import QuantKernels

/// `simulate attention`: an attention's kernel on a simulated GPU.
struct SimulateAttention: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "attention",
    abstract: "Counters, occupancy and modelled time of an attention's kernel.",
    discussion: """
      The kernel runs warp by warp, a few steps of one block of each class counting for their \
      likes. The time is modelled from what is counted.

      Kernels: \(GPUAttentionKernel.allCases.map(\.rawValue).joined(separator: ", ")).
      Devices: \(DeviceSpec.all.map(\.identifier).joined(separator: ", ")).

      EXAMPLES
        quantkernels simulate attention --device v100 --kernel volta --query-length 2048 \
      --kv-length 2048 --heads 16 --head-dim 128 --causal
        quantkernels simulate attention --device a100-80 --kernel flash --query-length 4096 \
      --kv-length 4096 --heads 32 --head-dim 128 --causal --json
      """)

  @OptionGroup var common: CommonOptions

  @Option(name: .long, help: "The device.")
  var device: String

  @Option(name: .long, help: "The kernel.")
  var kernel: GPUAttentionKernel

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

  func run() throws {
    Console.progress("simulating \(kernel.rawValue)")
    let gpu = try simulatedDevice(device)
    let shape = try DeviceAttentionShape(
      queryLength: queryLength, keyLength: kvLength, heads: heads, keyValueHeads: kvHeads,
      headDimension: headDim, isCausal: causal)
    let attention = try SimulatedAttention.count(
      kernel, shape: shape, on: gpu,
      simulator: WarpSimulator(
        threads: common.threadCount, isCancelled: { Interruption.isRequested }))
    let report = SimulatedAttentionReport(
      attention: attention, estimate: try attention.estimate())
    common.finish(report.json, text: report.text)
  }
}

extension GPUAttentionKernel: ExpressibleByArgument {}
