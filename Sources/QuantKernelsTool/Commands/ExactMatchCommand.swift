import ArgumentParser
import LanguageModel
import QuantKernels

/// A fault of the kernels' own.
private struct LogitsDiffer: Error, CustomStringConvertible {
  let format: String
  var description: String { "\(format): its logits differ from the first format's" }
}

/// `exact-match`: whether ternary formats compute the same network. Not part of the stable command
/// line; `make exact-match` runs it at the paper's size.
struct ExactMatchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "exact-match",
    abstract: "Continue the same prompts in every ternary format and compare tokens and logits.",
    discussion: """
      The paper's test (arXiv 2410.16144, table 7): a prompt is matched when every token equals the \
      first format's. Fails when a lossless format differs anywhere (70), and when the network's \
      mean entropy is not above 3 bits or it says fewer than 50 different tokens (65).

      EXAMPLES
        quantkernels synthesize --bitnet 125M --head q4_0 -o bitnet.gguf
        quantkernels exact-match --model bitnet.gguf --prompts 1000 --tokens 100
      """,
    shouldDisplay: false)

  @OptionGroup var common: CommonOptions

  @Option(name: .long, help: ArgumentHelp("Files of one ternary network.", valueName: "file"))
  var model: [String]

  @Option(name: .long, help: "Prompts, of 4 to 40 tokens.")
  var prompts = 20

  @Option(name: .long, help: "Tokens that continue each.")
  var tokens = 100

  @Option(name: .long, help: "Seed of the prompts.")
  var seed: UInt64 = 1

  func validate() throws {
    if prompts < 1 || tokens < 1 { throw ValidationError("--prompts and --tokens start at 1") }
    if model.isEmpty { throw ValidationError("--model is missing") }
  }

  func run() throws {
    var names: [String] = []
    var lossless: [Bool] = []
    var models: [LanguageModel] = []
    for (index, path) in model.enumerated() {
      let file = try GGUFFile(path: path)
      // Every format of the first file, the general one of the others: these differ on disk only.
      let formats = index == 0 ? PackedTernary.Format.allCases : [.twoBit]
      for format in formats {
        var options = LanguageModel.Options()
        options.threads = common.threadCount
        options.ternaryFormat = format
        options.contextLength = 40 + tokens
        Console.progress("packing \(path) as \(format.rawValue)")
        models.append(try LanguageModel(file: file, options: options))
        names.append("\(path) as \(format.rawValue)")
        lossless.append(format.isLossless)
      }
    }
    var match = try ExactMatch(models)
    var random = SeededRandom(seed: seed)
    let vocabulary = Int32(clamping: models[0].configuration.vocabularySize)
    for index in 0..<prompts {
      Console.progress("prompt \(index + 1) of \(prompts)")
      let length = Int.random(in: 4...40, using: &random)
      try match.add(
        prompt: (0..<length).map { _ in .random(in: 3..<vocabulary, using: &random) },
        tokens: tokens, cancellation: Interruption.flag)
    }
    Console.clearProgress()
    report(match, Array(zip(names, lossless).dropFirst()))
    try check(match, Array(zip(names, lossless).dropFirst()))
  }

  private func report(_ match: ExactMatch, _ others: [(String, Bool)]) {
    let rows = zip(others, match.comparisons)
    let formats = rows.map { other, comparison -> JSON in
      [
        "name": JSON(other.0), "lossless": .bool(other.1),
        "matchedPrompts": JSON(comparison.matchedPrompts), "steps": JSON(comparison.steps),
        "equalSteps": JSON(comparison.equalSteps),
      ]
    }
    let lines = rows.map { other, comparison in
      let share = fixed(100 * Double(comparison.matchedPrompts) / Double(match.prompts), 1)
      return """
          \(other.0)\(other.1 ? "" : " (lossy)"): \(share) % of prompts matched, \
        \(comparison.equalSteps) of \(comparison.steps) logit vectors bit-equal
        """
    }
    common.finish(
      [
        "prompts": JSON(match.prompts), "tokens": JSON(match.tokens),
        "distinctTokens": JSON(match.distinctTokens), "meanEntropyBits": JSON(match.meanEntropy),
        "comparisons": .array(formats),
      ],
      text: """
        \(match.prompts) prompts, \(match.tokens) tokens, \(match.distinctTokens) different ones; \
        mean entropy \(fixed(match.meanEntropy, 2)) bits; beside the first format:
        \(lines.joined(separator: "\n"))
        """)
  }

  private func check(_ match: ExactMatch, _ others: [(String, Bool)]) throws {
    for ((name, lossless), comparison) in zip(others, match.comparisons)
    where lossless
      && (comparison.matchedPrompts < match.prompts || comparison.equalSteps < comparison.steps)
    {
      throw LogitsDiffer(format: name)
    }
    guard match.meanEntropy > 3, match.distinctTokens >= min(50, match.tokens / 2) else {
      throw QuantError(
        .invalidData, model[0], "the network is too certain for the test to mean anything",
        remedy: "use a network of higher entropy")
    }
  }
}
