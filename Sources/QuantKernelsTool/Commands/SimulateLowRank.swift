import ArgumentParser
import DeviceModel
import QuantKernels

/// `simulate low-rank`: one decode step of attention over low-rank keys and values on a simulated GPU.
struct SimulateLowRank: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "low-rank",
    abstract: "Counters and modelled time of a decode step over low-rank keys and values (Palu).",
    discussion: """
      dense reads whole binary16 keys and values; palu rebuilds keys head by head as the paper's kernel \
      does, every head reading its group's latents anew; palu-group, ours, reads them once a group. \
      Without a rotary embedding (--no-rotary) nothing is rebuilt: queries meet latents as they are. \
      One block of each class runs warp by warp and counts for its likes. Times are modelled.

      GPUs: \(DeviceSpec.all.filter { $0.capability.value >= 8 }.map(\.identifier).joined(separator: ", ")).

      EXAMPLES
        quantkernels simulate low-rank --device rtx4090 --kernel palu --kv-length 65536 --heads 32 \
      --head-dim 128 --group 4 --key-rank 128 --value-rank 384
        quantkernels simulate low-rank --device rtx4090 --kernel palu-group --kv-length 65536 \
      --heads 32 --head-dim 128 --group 4 --key-rank 256 --value-rank 256 --bits 4
      """)

  @OptionGroup var common: CommonOptions
  @OptionGroup var extents: SimulatedShapeOptions

  @Option(name: .long, help: "The kernel: dense, palu or palu-group.")
  var kernel: LowRankGPUKernel

  @Option(name: .long, help: "Key-value heads that share latents.")
  var group = 4

  @Option(name: .long, help: "Latents of a group of keys (default: half its width).")
  var keyRank: Int?

  @Option(name: .long, help: "Latents of a group of values (default: half its width).")
  var valueRank: Int?

  @Option(name: .long, help: "Bits of a latent: 16, 4, 3 or 2.")
  var bits = 16

  @Option(name: .long, help: "Number of the first position.")
  var firstPosition = 0

  @Flag(name: .long, help: "No rotary embedding.")
  var noRotary = false

  @Option(
    name: .long, help: "Count the token's projections too, of this width (default: leave them out)."
  )
  var modelWidth: Int?

  @Flag(
    name: .long, help: "Copy the caches to append the token, as a concatenation of tensors does.")
  var concatenate = false

  func run() throws {
    Console.progress("simulating \(kernel.rawValue)")
    let spec = try simulatedDevice(extents.device)
    if let modelWidth, !(1...24_576 ~= modelWidth) {
      throw QuantError(
        .invalidArgument, "--model-width", "\(modelWidth)", remedy: "use 1 to 24,576")
    }
    let (width, overflows) = group.multipliedReportingOverflow(by: extents.headDim)
    let half = overflows ? 0 : max(1, width / 2)
    let shape = try LowRankDecodeShape(
      positions: extents.kvLength, firstPosition: firstPosition, queryHeads: extents.heads,
      keyValueHeads: extents.kvHeads, headDimension: extents.headDim, headsPerGroup: group,
      keyRank: keyRank ?? half,
      valueRank: valueRank ?? half, keyType: try LatentType(bits: bits),
      rotaryDimension: noRotary ? 0 : nil)
    let step = try SimulatedLowRankAttention.count(
      kernel, shape: shape,
      scope: SimulatedLowRankAttention.Scope(modelWidth: modelWidth, concatenates: concatenate),
      on: spec,
      simulator: WarpSimulator(
        threads: common.threadCount, isCancelled: { Interruption.isRequested }))
    let report = SimulatedLowRankReport(step: step, estimate: try step.estimate())
    common.finish(report.json, text: report.text)
  }
}

extension LowRankGPUKernel: ExpressibleByArgument {}
