import ArgumentParser
import Calibration
import LanguageModel
import QuantKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// `calibrate-kv`: low-rank factors of a model's keys and values.
struct CalibrateKeysAndValues: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "calibrate-kv",
    abstract: "Make low-rank factors of a model's keys and values (Palu).",
    discussion: """
      The factors are for --kv-cache palu:FILE. The text is read in float32: for the inputs of every \
      layer, and some of it backward, for the loss's gradients at keys and values. Work that was \
      killed goes on from FILE.checkpoint, which lies beside the output until that is written.

      METHODS
        loss        errors weighted by the loss's gradients, in factors and ranks (default)
        water-fill  ranks by what saves most of the keys' and values' squared error
        fisher      ranks by mean gradients, as the paper has it
        uniform     equal ranks

      KEYS
        rebuilt     latents before the rotary embedding, rebuilt whenever they are read
        commuting   latents that the rotary embedding passes through: nothing is rebuilt
        rotated     whole, after the rotary embedding, for 4 bits; only values are factored

      EXAMPLES
        quantkernels calibrate-kv --model model.gguf --text corpus.txt --ratio 0.5 --group 3 \\
          --bits 3 -o model.palu
        quantkernels calibrate-kv --model model.gguf --text corpus.txt --method fisher -o model.palu
      """)

  @OptionGroup var common: CommonOptions

  @Option(
    name: .long,
    help: ArgumentHelp("The model: a GGUF file or a Hugging Face directory.", valueName: "file"))
  var model: String

  @Option(name: .long, help: ArgumentHelp("The calibration text.", valueName: "file"))
  var text: String

  @Option(name: .long, help: "The share of key and value elements to keep, above 0 and at most 1.")
  var ratio = 0.5

  @Option(
    name: .long, help: "Key-value heads that share latents; a divisor of their number.")
  var group = 1

  @Option(name: .long, help: "Bits of a latent that a cache is to take: 2, 3, 4 or 8.")
  var bits = 3

  @Option(name: .customShort("o"), help: ArgumentHelp("The file to write.", valueName: "file"))
  var output: String

  @Option(name: .long, help: "How ranks are shared out: loss, water-fill, fisher or uniform.")
  var method = Calibrator.Method.loss

  @Option(name: .long, help: "How keys are cached: rebuilt, commuting or rotated.")
  var keys = LowRankFactors.KeyMode.rebuilt

  @Flag(name: .long, help: "Leave latents as the decomposition gives them, without a rotation.")
  var noRotation = false

  @Option(name: .long, help: "Tokens of a sample.")
  var context = 512

  @Option(name: .long, help: "Samples of the text, spread evenly.")
  var samples = 64

  @Option(name: .long, help: "Of these, samples that are read backward too.")
  var gradientSamples = 16

  @Option(name: .long, help: "Ranks are multiples of this, or full.")
  var step = 8

  @Option(
    name: .long,
    help: ArgumentHelp("Seconds between two checkpoints.", visibility: .hidden))
  var checkpointSeconds = 20.0

  func run() throws {
    var options = Calibrator.Options()
    options.ratio = ratio
    options.headsPerGroup = group
    options.bits = bits
    options.method = method
    options.keyMode = keys
    options.rotates = !noRotation
    options.step = step
    var reading = Calibrator.Reading()
    reading.context = context
    reading.samples = samples
    reading.gradientSamples = method.needsGradients ? gradientSamples : 0
    reading.headsPerBlock = group
    if output == model || output == text {
      throw QuantError(
        .invalidArgument, "-o \(output)", "is a file to be read", remedy: "choose another name")
    }
    try checkFolder(of: output)
    // Whatever is wrong is found before minutes of work.
    let bytes = try readText(text)
    let file = try GGUFFile(path: model)
    let calibrator = try Calibrator(model: file, pool: WorkerPool(threads: common.threadCount))
    try calibrator.check(options, gradientSamples: reading.gradientSamples)

    let checkpoint = output + ".checkpoint"
    let start = MonotonicClock.nanoseconds()
    Console.progress("tokenizing the text")
    let resumed = try calibrator.read(
      text: bytes, reading, checkpoint: checkpoint, checkpointSeconds: checkpointSeconds,
      cancellation: Interruption.flag
    ) { done, all in
      Console.progress(
        "read \(done) of \(all) samples, \(fixed(MonotonicClock.seconds(since: start), 0)) s")
    }
    let readSeconds = MonotonicClock.seconds(since: start)
    let result = try calibrator.factors(options, cancellation: Interruption.flag) { done, all in
      Console.progress("decomposed \(done) of \(all) layers")
    }
    try calibrator.file(
      of: result,
      notes: [
        "method": method.rawValue, "ratio": "\(ratio)", "context": "\(context)",
        "samples": "\(samples)", "gradient_samples": "\(reading.gradientSamples)",
        "step": "\(step)", "achieved_ratio": "\(result.achievedRatio)",
      ]
    ).write(to: output, isCancelled: { Interruption.isRequested })
    // It has served; if it cannot be removed it is of no harm.
    unlink(checkpoint)
    let seconds = MonotonicClock.seconds(since: start)
    let cache = SimulatedCache(factors: result.factors, bits: bits)
    let bytesPerToken = cache.bytesPerToken(calibrator.shape)
    let halfBytes = SimulatedCache(factors: nil, bits: 16).bytesPerToken(calibrator.shape)
    let means = LowRankFactors.Kind.allCases.map { kind -> Double in
      let ranks = result.factors.layers.flatMap { $0[kind].map(\.rank) }
      return ranks.isEmpty
        ? 0 : Double(ranks.reduce(0, +)) / Double(ranks.count * result.factors.groupWidth)
    }
    common.finish(
      [
        "output": JSON(output), "method": JSON(method.rawValue), "keys": JSON(keys.rawValue),
        "targetRatio": JSON(ratio), "achievedRatio": JSON(result.achievedRatio),
        "keyRatio": keys == .rotated ? .null : JSON(means[0]), "valueRatio": JSON(means[1]),
        "keptEnergy": JSON(result.keptEnergy), "bits": JSON(bits),
        "keyValueBytesPerToken": JSON(bytesPerToken), "float16BytesPerToken": JSON(halfBytes),
        "ranks": .array(
          result.ranks.map { .array($0.map { .array($0.map { JSON($0) }) }) }),
        "meanLoss": calibrator.meanLoss.map { JSON($0) } ?? .null,
        "resumedSamples": JSON(resumed), "readSeconds": JSON(readSeconds),
        "seconds": JSON(seconds),
      ],
      text: """
        \(output): \(fixed(result.achievedRatio * 100, 2)) % of elements kept \
        (\(keys == .rotated ? "keys whole" : "keys \(fixed(means[0] * 100, 1)) %"), values \
        \(fixed(means[1] * 100, 1)) %), \(bytesPerToken) bytes a token at \(bits) bits of \
        \(halfBytes) in f16, scales counted; \(fixed(seconds, 1)) s\
        \(resumed > 0 ? ", \(resumed) samples from the checkpoint" : "")
        """)
  }

  /// - Throws: ``QuantError`` (66) when no file can be made in the folder.
  private func checkFolder(of path: String) throws(QuantError) {
    let folder = path.lastIndex(of: "/").map { String(path[...$0]) } ?? "."
    if access(folder, W_OK) != 0 {
      throw QuantError(
        .missingFile, path, "no file can be made in its folder",
        remedy: "choose a folder that exists and may be written to")
    }
  }
}

extension Calibrator.Method: ExpressibleByArgument {}
extension LowRankFactors.KeyMode: ExpressibleByArgument {}
