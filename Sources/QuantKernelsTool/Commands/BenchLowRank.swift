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
      and rebuilt. Windows are those of 'perplexity'. Bytes count scales and minima. Caches of whole \
      keys and values are measured beside them, and the best at each size is named.

      EXAMPLES
        quantkernels bench low-rank --model model.gguf --calibrate a.txt --text b.txt --chunks 20
        quantkernels bench low-rank --model model.gguf --calibrate a.txt --text b.txt \\
          --methods loss,fisher --keys rebuilt,commuting,rotated --bits 4,3
      """)

  @OptionGroup var common: CommonOptions

  @Option(
    name: .long,
    help: ArgumentHelp("The model: a GGUF file or a Hugging Face directory.", valueName: "file"))
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
  var ratios = "0.95,0.7,0.5"

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

  @Option(name: .long, help: "Caches of whole keys and values beside them, or none.")
  var beside = "f16,q8_0,q4_0"

  @Option(name: .long, help: "Ranks are multiples of this, or full.")
  var step = 8

  @Option(
    name: .long,
    help: ArgumentHelp(
      "A file that calibration is kept in, for the next run on the same model and text.",
      valueName: "file"))
  var checkpoint: String?

  func run() throws {
    let combinations = try combinations()
    let corpus = try readText(calibrate)
    let measured = try readText(text)
    let file = try GGUFFile(path: model)
    let pool = WorkerPool(threads: common.threadCount)
    let calibrator = try Calibrator(model: file, pool: pool)
    let shape = calibrator.shape
    let sizes =
      try groups.map { text throws(QuantError) in try numbers(text, "--groups") }
      ?? (shape.keyValueHeads > 1 ? [1, shape.keyValueHeads] : [1])
    let methods = Set(combinations.map(\.method))
    var reading = Calibrator.Reading()
    reading.context = context
    reading.samples = samples
    // A checkpoint serves every method, so that the next run may ask for others.
    let needsGradients = checkpoint != nil || methods.contains(where: \.needsGradients)
    reading.gradientSamples = needsGradients ? gradientSamples : 0
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
    let types = try wholeTypes()
    let start = MonotonicClock.nanoseconds()
    try calibrator.read(
      text: corpus, reading, checkpoint: checkpoint, cancellation: Interruption.flag
    ) { Console.progress("read \($0) of \($1) calibration samples") }
    let simulation = try SimulatedPerplexity(
      model: file, text: measured, context: context, windows: chunks, pool: pool)
    var table = LowRankTable()
    func add(_ row: LowRankTable.Row) {
      table.append(row)
      guard !common.json else { return }
      Console.clearProgress()
      Console.writeLine(table.line(row))
      Console.flush()
    }
    func measure(_ cache: LowRankTable.Row.Cache, _ factors: LowRankFactors?, bits: Int) throws {
      let simulated = SimulatedCache(factors: factors, bits: bits)
      let result = try simulation.measure(simulated, cancellation: Interruption.flag) {
        Console.progress("case \(table.rows.count + 1), window \($0) of \($1)")
      }
      add(
        LowRankTable.Row(
          cache: cache, bytes: simulated.bytesPerToken(shape), perplexity: result.perplexity,
          standardError: result.standardError))
    }
    if !common.json { Console.writeLine(LowRankTable.heading) }
    try measure(.whole(name: "unrounded"), nil, bits: 16)
    for row in try wholeCaches(types, measured, pool) { add(row) }
    for plan in plans {
      for rotates in rotations {
        var options = plan
        options.rotates = rotates
        // A rotation changes nothing that halves would show.
        let list = bitList.filter { $0 != 16 || rotates == rotations[0] }
        if list.isEmpty { continue }
        let made = try calibrator.factors(options, cancellation: Interruption.flag)
        for bits in list {
          try measure(
            .lowRank(options, achievedRatio: made.achievedRatio, bits: bits), made.factors,
            bits: bits)
        }
      }
    }
    let seconds = MonotonicClock.seconds(since: start)
    common.finish(
      [
        "cases": .array(table.rows.map { table.json($0) }), "best": table.bestJSON,
        "scoredTokens": JSON(simulation.scoredTokens),
        "calibrationLoss": calibrator.meanLoss.map { JSON($0) } ?? .null,
        "seconds": JSON(seconds),
      ], text: table.bestText + "\n\(table.rows.count) cases, \(fixed(seconds, 1)) s")
  }

  /// The perplexity of the same windows with caches of whole keys and values, by the engine itself
  /// in float32 arithmetic.
  private func wholeCaches(
    _ types: [KeyValueType], _ text: [UInt8], _ pool: WorkerPool
  ) throws -> [LowRankTable.Row] {
    guard !types.isEmpty else { return [] }
    var options = LanguageModel.Options()
    options.threads = common.threadCount
    options.arithmetic = .exact
    let loaded = try LanguageModel(
      path: model, options: options, cancellation: Interruption.flag
    ) { Console.progress("packing weights \(fixed($0 * 100, 0)) %") }
    return try types.map { type in
      let result = try Perplexity(
        of: text, model: loaded, options: Perplexity.Options(context: context, windows: chunks),
        keyValueType: type, cancellation: Interruption.flag
      ) { done, all, _ in Console.progress("\(type.rawValue) cache, window \(done) of \(all)") }
      let session = try loaded.makeSession(contextLength: 1, keyValueType: type)
      return LowRankTable.Row(
        cache: .whole(name: type.rawValue), bytes: session.keyValueBytesPerToken,
        perplexity: result.perplexity, standardError: result.standardError)
    }
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

  private func wholeTypes() throws(QuantError) -> [KeyValueType] {
    var types: [KeyValueType] = []
    for name in beside.split(separator: ",") where beside != "none" {
      guard let type = KeyValueType(rawValue: String(name)) else {
        throw bad("--beside \(beside)", "'\(name)' is no type of a cache")
      }
      types.append(type)
    }
    return types
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
}
