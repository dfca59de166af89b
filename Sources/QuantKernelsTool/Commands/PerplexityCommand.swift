import ArgumentParser
import LanguageModel
import QuantKernels

/// `perplexity`: how well a model predicts a text.
struct PerplexityCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "perplexity", abstract: "Perplexity of a text and its standard error.",
    discussion: """
      Consecutive windows of --context tokens, the second half of each scored, as llama.cpp's tool \
      counts; --stride slides the window instead and scores its last N tokens.

      EXAMPLES
        quantkernels perplexity --model model.gguf --text corpus.txt --chunks 20
        quantkernels perplexity --model model.gguf --text corpus.txt --stride 128 --json
      """)

  @OptionGroup var common: CommonOptions
  @OptionGroup var model: ModelOptions

  @Option(name: .long, help: ArgumentHelp("The text.", valueName: "file"))
  var text: String

  @Option(name: .long, help: "Tokens in a window.")
  var context = 512

  @Option(name: .long, help: "At most so many windows.")
  var chunks: Int?

  @Option(name: .long, help: "Tokens between the starts of sliding windows.")
  var stride: Int?

  func run() throws {
    // The text first: a wrong name is found before a model is packed.
    let bytes = try readText(text)
    let loaded = try model.load(common)
    let start = MonotonicClock.nanoseconds()
    let result = try Perplexity(
      of: bytes, model: loaded,
      options: Perplexity.Options(context: context, windows: chunks, stride: stride),
      cancellation: Interruption.flag
    ) { done, all, perplexity in
      Console.progress("window \(done) of \(all), perplexity \(fixed(perplexity, 4))")
    }
    let seconds = MonotonicClock.seconds(since: start)
    let session = try loaded.makeSession(contextLength: 1)
    common.finish(
      [
        "perplexity": JSON(result.perplexity), "standardError": JSON(result.standardError),
        "tokens": JSON(result.scoredTokens), "windows": JSON(result.windows),
        "textTokens": JSON(result.textTokens), "seconds": JSON(seconds),
        "keyValueBytesPerToken": JSON(session.keyValueBytesPerToken),
      ],
      text: "perplexity \(fixed(result.perplexity, 4)) ± \(fixed(result.standardError, 4)) over "
        + "\(result.scoredTokens) tokens of \(result.windows) windows, \(fixed(seconds, 1)) s")
  }
}
