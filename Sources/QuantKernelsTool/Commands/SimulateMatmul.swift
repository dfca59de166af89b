import ArgumentParser
import DeviceModel
import QuantKernels

/// `simulate matmul`: one product's kernel on a simulated device.
struct SimulateMatmul: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "matmul",
    abstract: "Counters, occupancy and modelled time of a matrix product's kernel.",
    discussion: """
      The kernel runs warp by warp; one block of each class runs and counts for its likes. Counters \
      do not depend on the device's speed, the time is modelled from them: exposed latency and the \
      busiest pipe, with no fitted constant unless --fitted.

      Kernels: \(GPUKernel.allCases.map(\.rawValue).joined(separator: ", ")).
      Devices: \(DeviceSpec.all.map(\.identifier).joined(separator: ", ")).

      EXAMPLES
        quantkernels simulate matmul --device a100-80 --kernel quick --m 64 --n 8192 --k 8192
        quantkernels simulate matmul --device rtx4090 --kernel awq --m 16 --n 4096 --k 4096 \
      --visualize awq.svg
      """)

  @OptionGroup var common: CommonOptions

  @Option(name: .long, help: "The device.")
  var device: String

  @Option(name: .long, help: "The kernel.")
  var kernel: GPUKernel

  @Option(name: .customLong("m"), help: "Rows of activations (tokens).")
  var tokens: Int

  @Option(name: .customLong("n"), help: "Outputs.")
  var outputs: Int

  @Option(name: .customLong("k"), help: "Inputs.")
  var inputs: Int

  @Option(
    name: .long, help: "Inputs that share a scale; int4 kernels only (default 128, at most K).")
  var group: Int?

  @Option(name: .long, help: "Blocks that share an output along K (default: the kernel's rule).")
  var splits: Int?

  @Option(name: .long, help: "Bank rule: m1, the documented one, or m2, with a penalty (assumed).")
  var policy = SimulateBanks.Policy.m1

  @Flag(name: .long, help: "Use the device's constant that was fitted on published times.")
  var fitted = false

  @Option(
    name: .long,
    help: ArgumentHelp("Write the shared accesses as a heat map.", valueName: "file.svg"))
  var visualize: String?

  func run() throws {
    let spec = try simulatedDevice(device)
    for (name, value) in [("--m", tokens), ("--n", outputs), ("--k", inputs)]
    where !(1...1 << 20).contains(value) {
      throw QuantError(
        .invalidArgument, name, "is \(value)", remedy: "choose an extent of 1 to \(1 << 20)")
    }
    if group != nil, kernel == .half || kernel == .w2a8 {
      throw QuantError(
        .invalidArgument, "--group", "\(kernel.rawValue) has no groups", remedy: "leave it out")
    }
    Console.progress("simulating \(kernel.rawValue)")
    let product = try SimulatedMatmul.count(
      kernel, rows: tokens, outputs: outputs, inputs: inputs,
      groupSize: group ?? min(128, inputs), on: spec, splits: splits, steadySeconds: 0.2,
      simulator: WarpSimulator(
        policy: policy.rule, threads: common.threadCount,
        isCancelled: { Interruption.isRequested }))
    let model = fitted ? LatencyBound.fitted : LatencyBound()
    let report = SimulatedMatmulReport(product: product, estimate: try product.estimate(model))
    if let visualize {
      let title = "\(product.launch.name) on \(spec.name), \(tokens)×\(outputs)×\(inputs)"
      let map = BankHeatMap(title: title, sites: product.counters.sites, policy: policy.rule)
      try AtomicFile.write(to: visualize) { (file) throws(QuantError) in
        try file.write(Array(map.svg.utf8))
      }
    }
    common.finish(report.json, text: report.text)
  }
}

extension GPUKernel: ExpressibleByArgument {}
