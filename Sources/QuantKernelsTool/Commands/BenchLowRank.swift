import ArgumentParser
import Calibration
import LanguageModel
import QuantKernels

/// `bench low-rank`: what low-rank factors cost in perplexity, over groups, ranks, bits and methods.
struct BenchLowRank: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "low-rank",
    abstract: "Perplexity with low-rank keys and values, simulated in float32.",
    discussion: """
      One calibration text is read, factors are made of every combination, and each is applied to \
      another text: keys and values are projected to latents, rounded as the cache's codes would be, \
      and rebuilt. Windows are those of 'perplexity'. Bytes count scales and minima.

      EXAMPLES
        quantkernels bench low-rank --model model.gguf --calibrate a.txt --text b.txt --chunks 20
        quantkernels bench low-rank --model model.gguf --calibrate a.txt --text b.txt \\
          --methods loss,fisher --keys rebuilt,commuting,rotated --bits 4,3
      """)

  @OptionGroup var common: CommonOptions

  @Option(name: .long, help: ArgumentHelp("The model, a GGUF file.", valueName: "file"))
  var model: String

  @Option(name: .long, help: ArgumentHelp("The text to calibrate on.", valueName: "file"))
  var calibrate: String

  @Option(name: .long, help: ArgumentHelp("The text to measure.", valueName: "file"))
  var text: String

  @Option(name: .long, help: "Tokens of a window, and of a calibration sample.")
  var context = 512

  @Option(name: .long, help: "At most so many windows of the text.")
  var chunks: Int?

  @Option(name: .long, help: "Calibration samples.")
  var samples = 64

  @Option(name: .long, help: "Of these, samples that are read backward too.")
  var gradientSamples = 16

  @Option(name: .long, help: "Shares of elements to keep.")
  var ratios = "0.7,0.5"

  @Option(name: .long, help: "Heads that share latents (default: 1 and all).")
  var groups: String?

  @Option(name: .long, help: "Bits of a latent; 16 is half precision.")
  var bits = "16,4,3,2"

  @Option(name: .long, help: "How ranks are shared out.")
  var methods = "uniform,fisher,water-fill,loss"

  @Option(name: .long, help: "How keys are cached.")
  var keys = "rebuilt"

  @Option(name: .long, help: "Whether latents are rotated: on, off or both; 16 bits are rotated.")
  var rotation = "both"

  @Option(name: .long, help: "Ranks are multiples of this, or full.")
  var step = 8

  @Option(
    name: .long,
    help: ArgumentHelp(
      "A file that calibration is kept in, for the next run on the same model and text.",
      valueName: "file"))
  var checkpoint: String?

  /// One line of the table.
  private struct Row {
    let options: Calibrator.Options?
    let bits: Int
    let bytes: Int
    let achievedRatio: Double
    let result: SimulatedPerplexity.Result
  }

  func run() throws {
    let combinations = try combinations()
    let corpus = try readText(calibrate)
    let measured = try readText(text)
    let file = try GGUFFile(path: model)
    let pool = WorkerPool(threads: common.threadCount)
    let calibrator = try Calibrator(model: file, pool: pool)
    let shape = calibrator.shape
    let sizes = try groups.map { text throws(QuantError) in try numbers(text, "--groups") }
      ?? (shape.keyValueHeads > 1 ? [1, shape.keyValueHeads] : [1])
    let methods = Set(combinations.map(\.method))
    var reading = Calibrator.Reading()
    reading.context = context
    reading.samples = samples
    reading.gradientSamples = methods.contains(where: \.needsGradients) ? gradientSamples : 0
    // The products of all heads' gradients hold those of every group.
    reading.headsPerBlock = shape.keyValueHeads
    var plans: [Calibrator.Options] = []
    for size in sizes {
      for var options in combinations {
        options.headsPerGroup = size
        try calibrator.check(options, gradientSamples: reading.gradientSamples)
        plans.append(options)
      }
    }
    let bitList = try numbers(bits, "--bits")
    for bits in bitList where ![2, 3, 4, 8, 16].contains(bits) {
      throw QuantError(
        .invalidArgument, "--bits \(bits)", "is none of 2, 3, 4, 8, 16",
        remedy: "choose one of these")
    }
    let rotations = try rotationList()
    let start = MonotonicClock.nanoseconds()
    try calibrator.read(
      text: corpus, reading, checkpoint: checkpoint, cancellation: Interruption.flag
    ) { Console.progress("read \($0) of \($1) calibration samples") }
    let simulation = try SimulatedPerplexity(
      model: file, text: measured, context: context, windows: chunks, pool: pool)
    var rows: [Row] = []
    func measure(_ options: Calibrator.Options?, bits: Int, _ factors: Calibrator.Result?) throws {
      let cache = SimulatedCache(factors: factors?.factors, bits: bits)
      let result = try simulation.measure(cache, cancellation: Interruption.flag) {
        Console.progress("case \(rows.count + 1), window \($0) of \($1)")
      }
      rows.append(
        Row(
          options: options, bits: bits, bytes: cache.bytesPerToken(shape),
          achievedRatio: factors?.achievedRatio ?? 1, result: result))
      if !common.json { print(rows[rows.count - 1], baseline: rows[0], shape) }
    }
    if !common.json { Console.writeLine(Self.heading) }
    try measure(nil, bits: 16, nil)
    for plan in plans {
      for rotates in rotations {
        var options = plan
        options.rotates = rotates
        // A rotation changes nothing that halves would show.
        let list = bitList.filter { $0 != 16 || rotates == rotations[0] }
        if list.isEmpty { continue }
        let factors = try calibrator.factors(options, cancellation: Interruption.flag)
        for bits in list { try measure(options, bits: bits, factors) }
      }
    }
    let seconds = MonotonicClock.seconds(since: start)
    common.finish(
      [
        "cases": .array(rows.map { json($0, baseline: rows[0]) }),
        "scoredTokens": JSON(rows[0].result.scoredTokens),
        "calibrationLoss": calibrator.meanLoss.map { JSON($0) } ?? .null,
        "seconds": JSON(seconds),
      ], text: "\(rows.count) cases, \(fixed(seconds, 1)) s")
  }

  /// Methods, key modes and ratios; groups come later.
  private func combinations() throws(QuantError) -> [Calibrator.Options] {
    var result: [Calibrator.Options] = []
    for ratio in ratios.split(separator: ",") {
      guard let value = Double(ratio) else { throw bad("--ratios \(ratios)", "no number") }
      for mode in keys.split(separator: ",") {
        guard let keyMode = LowRankFactors.KeyMode(rawValue: String(mode)) else {
          throw bad("--keys \(keys)", "'\(mode)' is none of rebuilt, commuting, rotated")
        }
        for method in methods.split(separator: ",") {
          guard let method = Calibrator.Method(rawValue: String(method)) else {
            throw bad("--methods \(methods)", "'\(method)' is no method")
          }
          var options = Calibrator.Options()
          options.ratio = value
          options.keyMode = keyMode
          options.method = method
          options.step = step
          result.append(options)
        }
      }
    }
    return result
  }

  private func rotationList() throws(QuantError) -> [Bool] {
    switch rotation {
    case "on": return [true]
    case "off": return [false]
    case "both": return [true, false]
    default: throw bad("--rotation \(rotation)", "is none of on, off, both")
    }
  }

  private func numbers(_ text: String, _ option: String) throws(QuantError) -> [Int] {
    var result: [Int] = []
    for part in text.split(separator: ",") {
      guard let value = Int(part) else { throw bad("\(option) \(text)", "no list of numbers") }
      result.append(value)
    }
    return result
  }

  private func bad(_ subject: String, _ problem: String) -> QuantError {
    QuantError(.invalidArgument, subject, problem, remedy: "see 'bench low-rank --help'")
  }

  // MARK: Printing

  private static let heading =
    padded("keys", 10, left: true) + padded("method", 11, left: true) + padded("group", 6)
    + padded("kept %", 8) + padded("bits", 5) + padded("rotated", 8) + padded("bytes", 8)
    + padded("of f16 %", 9) + padded("perplexity", 12) + padded("±", 8) + padded("over f16 %", 11)

  private func print(_ row: Row, baseline: Row, _ shape: LowRankFactors.Shape) {
    let options = row.options
    Console.clearProgress()
    Console.writeLine(
      padded(options?.keyMode.rawValue ?? "whole", 10, left: true)
        + padded(options?.method.rawValue ?? "–", 11, left: true)
        + padded(options.map { "\($0.headsPerGroup)" } ?? "–", 6)
        + padded(fixed(row.achievedRatio * 100, 2), 8) + padded("\(row.bits)", 5)
        + padded(options.map { $0.rotates ? "yes" : "no" } ?? "–", 8) + padded("\(row.bytes)", 8)
        + padded(fixed(100 * Double(row.bytes) / Double(baseline.bytes), 2), 9)
        + padded(fixed(row.result.perplexity, 4), 12)
        + padded(fixed(row.result.standardError, 4), 8)
        + padded(
          fixed(100 * (row.result.perplexity / baseline.result.perplexity - 1), 2), 11))
    Console.flush()
  }

  private func json(_ row: Row, baseline: Row) -> JSON {
    [
      "keys": JSON(row.options?.keyMode.rawValue ?? "whole"),
      "method": row.options.map { JSON($0.method.rawValue) } ?? .null,
      "group": row.options.map { JSON($0.headsPerGroup) } ?? .null,
      "targetRatio": row.options.map { JSON($0.ratio) } ?? .null,
      "achievedRatio": JSON(row.achievedRatio), "bits": JSON(row.bits),
      "rotated": row.options.map { .bool($0.rotates) } ?? .null,
      "keyValueBytesPerToken": JSON(row.bytes),
      "shareOfFloat16": JSON(Double(row.bytes) / Double(baseline.bytes)),
      "perplexity": JSON(row.result.perplexity),
      "standardError": JSON(row.result.standardError),
    ]
  }
}
