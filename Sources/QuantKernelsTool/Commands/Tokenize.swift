import ArgumentParser
import LanguageModel
import QuantKernels

/// `tokenize`: a text's token ids.
struct Tokenize: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Token ids of a text, from a file or standard input.",
    discussion: """
      No beginning-of-sequence token is added, and special tokens' spellings are plain text unless \
      --special is given. Bytes that are no UTF-8 are tokenized too.

      EXAMPLES
        quantkernels tokenize --model model.gguf --text-file text.txt
        printf 'Hello' | quantkernels tokenize --model model.gguf --json
      """)

  @OptionGroup var common: CommonOptions

  @Option(
    name: .long,
    help: ArgumentHelp("The model: a GGUF file or a Hugging Face directory.", valueName: "file"))
  var model: String

  @Option(
    name: .long, help: ArgumentHelp("The text (default: standard input).", valueName: "file"))
  var textFile: String?

  @Flag(name: .long, help: "Read special tokens' spellings as those tokens.")
  var special = false

  func run() throws {
    let tokenizer = try Tokenizer(metadata: try GGUFFile(path: model).metadata)
    let bytes = try readText(textFile)
    try Interruption.check()
    let tokens = tokenizer.encode(bytes, parseSpecial: special)
    common.finish(
      ["tokens": .array(tokens.map { JSON(Int($0)) })],
      text: tokens.map(String.init).joined(separator: " "))
  }
}
