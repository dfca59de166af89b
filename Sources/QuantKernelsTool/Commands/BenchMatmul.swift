import ArgumentParser
import QuantKernels

/// `bench matmul`: one matrix product, or a list of them, as a share of what the machine can do.
struct BenchMatmul: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "matmul", abstract: "Speed of one product of activations and packed weights.",
    discussion: """
      The time includes quantizing the activations and storing the outputs. Up to 32 rows the \
      weights are cold: the product rotates through copies that fill four times the last-level \
      cache (--warm uses one copy). The machine's limits are sampled between the runs.

      --shapes measures a list, a line each: format M N K, then a group size and "symmetric" where \
      they apply; # begins a comment.

      Formats: \(WeightFormat.names).

      EXAMPLES
        quantkernels bench matmul --format int4 --m 512 --n 4096 --k 4096 --group 128
        quantkernels bench matmul --format q4_1 --m 1 --n 4096 --k 4096 --threads 1 --json
        quantkernels bench matmul --shapes Benchmarks/Shapes/int4.txt
      """)

  @OptionGroup var common: CommonOptions
  @OptionGroup var limitOptions: LimitOptions

  @Option(name: .long, help: "The weights' format.")
  var format: String?

  @Option(name: .customLong("m"), help: "Rows of activations (tokens).")
  var tokens: Int?

  @Option(name: .customLong("n"), help: "Outputs.")
  var outputs: Int?

  @Option(name: .customLong("k"), help: "Inputs.")
  var inputs: Int?

  @Option(name: .long, help: "Inputs that share a scale; int4 only (default 128).")
  var group: Int?

  @Flag(name: .long, help: "No zero points; int4 only.")
  var symmetric = false

  @Option(name: .long, help: ArgumentHelp("A list of shapes instead of one.", valueName: "file"))
  var shapes: String?

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

  func validate() throws {
    let alone: [(String, Bool)] = [
      ("--format", format != nil), ("--m", tokens != nil), ("--n", outputs != nil),
      ("--k", inputs != nil),
    ]
    if shapes == nil, let missing = alone.first(where: { !$0.1 }) {
      throw ValidationError("\(missing.0) is missing")
    }
    let never = [("--group", group != nil), ("--symmetric", symmetric)]
    if shapes != nil, let extra = (alone + never).first(where: { $0.1 }) {
      throw ValidationError("\(extra.0) does not go with --shapes")
    }
  }

  func run() throws {
    let level = try instructionSet.map(chosenInstructionSet) ?? .best
    let shapes = try wantedShapes()
    if exact, shapes.contains(where: \.isTernary) {
      throw QuantError(
        .invalidArgument, "--exact", "ternary weights have no float arithmetic",
        remedy: "leave it out")
    }
    for shape in shapes {
      try shape.checkMemory(
        copies: warm || shape.tokens > MatmulCase.mostColdTokens ? 0 : 4 * CacheSizes.lastLevel)
    }
    let pool = WorkerPool(threads: common.threadCount)
    let limits = try limitOptions.open(pool: pool, instructionSet: level)
    var reports: [MatmulReport] = []
    for shape in shapes {
      Console.progress("packing weights")
      let weights = try shape.randomWeights(instructionSet: level, pool: pool)
      let product = MatmulCase(
        weights: try MatmulCase.copies(of: weights, tokens: shape.tokens, isWarm: warm),
        tokens: shape.tokens, arithmetic: exact ? .exact : .fast, pool: pool)
      let report = MatmulReport(
        shape: shape, weights: weights, copies: product.weights.count, isExact: exact,
        result: try product.measure(options: limitOptions, limits: limits),
        limits: limits)
      if self.shapes != nil, !common.json {
        Console.clearProgress()
        if reports.isEmpty { Console.writeLine(MatmulReport.tableHead(limits)) }
        Console.writeLine(report.row)
        Console.flush()
      }
      reports.append(report)
    }
    guard self.shapes != nil else {
      if let report = reports.first { common.finish(report.json, text: report.text) }
      return
    }
    if common.json { common.finish(["cases": .array(reports.map(\.json))], text: "") }
  }

  private func wantedShapes() throws(QuantError) -> [MatmulShape] {
    if let shapes { return try MatmulShape.list(path: shapes) }
    return [
      try MatmulShape(
        format: format ?? "", tokens: tokens ?? 0, outputs: outputs ?? 0, inputs: inputs ?? 0,
        group: group, symmetric: symmetric)
    ]
  }
}
