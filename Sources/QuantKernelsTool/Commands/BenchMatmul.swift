import ArgumentParser
import QuantKernels

/// `bench matmul`: one matrix product, as a share of what the machine can do.
struct BenchMatmul: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "matmul", abstract: "Speed of one product of activations and packed weights.",
    discussion: """
      The time includes quantizing the activations and storing the outputs. Up to 32 rows the \
      weights are cold: the product rotates through copies that fill four times the last-level \
      cache (--warm uses one copy). The machine's limits are sampled between the runs.

      Formats: \(WeightFormat.names).

      EXAMPLES
        quantkernels bench matmul --format int4 --m 512 --n 4096 --k 4096 --group 128
        quantkernels bench matmul --format q4_1 --m 1 --n 4096 --k 4096 --threads 1 --json
      """)

  @OptionGroup var common: CommonOptions

  @Option(name: .long, help: "The weights' format.")
  var format: String

  @Option(name: .customLong("m"), help: "Rows of activations (tokens).")
  var tokens: Int

  @Option(name: .customLong("n"), help: "Outputs.")
  var outputs: Int

  @Option(name: .customLong("k"), help: "Inputs.")
  var inputs: Int

  @Option(name: .long, help: "Inputs that share a scale; int4 only (default 128).")
  var group: Int?

  @Flag(name: .long, help: "No zero points; int4 only.")
  var symmetric = false

  @Option(
    name: .customLong("isa"),
    help: ArgumentHelp(
      "Kernels of this level: \(InstructionSet.allCases.map(\.rawValue).joined(separator: ", ")).",
      valueName: "level"))
  var instructionSet: String?

  @Flag(name: .long, help: "Keep one copy of the weights, in the caches if it fits.")
  var warm = false

  @Flag(name: .long, help: "Float32 activations, dequantized weights.")
  var exact = false

  @Option(name: .long, help: "Rounds of limits and runs.")
  var repetitions = 7

  func validate() throws {
    for (name, value) in [("m", tokens), ("n", outputs), ("k", inputs)] where value < 1 {
      throw ValidationError("--\(name) \(value) must be at least 1")
    }
    if repetitions < 1 { throw ValidationError("--repetitions \(repetitions) must be at least 1") }
  }

  func run() throws {
    let level = try instructionSet.map(chosenInstructionSet) ?? .best
    let format = try WeightFormat(named: format)
    if format != .int4, group != nil || symmetric {
      throw QuantError(
        .invalidArgument, "--format \(self.format)", "its groups and zero points are fixed",
        remedy: "leave --group and --symmetric out")
    }
    let pool = WorkerPool(threads: common.threadCount)
    Console.progress("packing weights")
    let weights = try format.randomWeights(
      rows: outputs, columns: inputs, group: group, symmetric: symmetric, instructionSet: level,
      pool: pool)
    let copies = try copies(of: weights)
    Console.progress("mapping memory and choosing a read loop")
    let limits = try MachineLimits(pool: pool, instructionSet: level)
    let product = MatmulCase(
      weights: copies, tokens: tokens, arithmetic: exact ? .exact : .fast, pool: pool)
    let result = try product.measure(rounds: repetitions, limits: limits)
    report(result, weights: weights, copies: copies.count, limits: limits)
  }

  /// Enough copies that together they exceed four times the last-level cache, or one.
  private func copies(of weights: PackedWeights) throws(QuantError) -> [PackedWeights] {
    guard !warm, tokens <= 32 else { return [weights] }
    var copies = [weights]
    while copies.count * weights.byteCount < 4 * CacheSizes.lastLevel {
      try Interruption.check()
      copies.append(try weights.copied())
    }
    return copies
  }

  private func report(
    _ result: MatmulCase.Result, weights: PackedWeights, copies: Int, limits: MachineLimits
  ) {
    let seconds = result.microseconds.median * 1e-6
    let macs = Double(tokens) * Double(outputs) * Double(inputs) / seconds * 1e-9
    let bytes = Double(weights.byteCount) / seconds * 1e-9
    let kernel = weights.kernelName(count: tokens, arithmetic: exact ? .exact : .fast)
    let ofInt8 = macs / result.limits.int8.median
    let ofFloat = 2 * macs / result.limits.float32.median
    let ofRead = bytes / result.limits.read.median
    common.finish(
      [
        "microseconds": result.microseconds.json,
        "gigaMACPerSecond": JSON(macs), "weightGigabytesPerSecond": JSON(bytes),
        "kernel": JSON(kernel), "shareOfInt8Peak": JSON(ofInt8),
        "shareOfReadBandwidth": JSON(ofRead), "shareOfFloat32Peak": JSON(ofFloat),
        "threads": JSON(limits.threads), "instructionSet": JSON(limits.instructionSet.rawValue),
        "format": JSON(weights.typeName), "weightBytes": JSON(weights.byteCount),
        "cold": .bool(copies > 1), "copies": JSON(copies),
        "readGigabytesPerSecond": result.limits.read.json,
        "int8GigaMACPerSecond": result.limits.int8.json,
        "float32GigaflopPerSecond": result.limits.float32.json,
      ],
      text: """
        \(weights.typeName) M=\(tokens) N=\(outputs) K=\(inputs), \(limits.threads) thread(s), \
        \(kernel), \(copies > 1 ? "cold" : "warm")
          time      \(result.microseconds.text()) µs, \(result.microseconds.samples.count) runs
          products  \(fixed(macs, 1)) GMAC/s, \(fixed(ofInt8 * 100, 1)) % of int8 peak, \
        \(fixed(ofFloat * 100, 1)) % of float32 peak
          weights   \(fixed(bytes, 1)) GB/s, \(fixed(ofRead * 100, 1)) % of read bandwidth \
        (\(fixed(result.limits.read.median, 1)) GB/s)
        """)
  }
}
