import ArgumentParser
import LanguageModel
import QuantKernels

/// `synthesize`: a model of random weights with the structure of a real one, for benchmarks and
/// tests where no real model can be had. Not part of the stable command line.
struct Synthesize: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Write a GGUF model of random weights.",
    discussion: """
      The shape is that of SmolLM2-135M, or a tiny one with --tiny. The same options give the \
      same bytes.

      EXAMPLES
        quantkernels synthesize -o synthetic.gguf
        quantkernels synthesize --tiny --architecture qwen3 -o tiny.gguf
      """,
    shouldDisplay: false)

  @OptionGroup var common: CommonOptions

  @Option(name: .customShort("o"), help: ArgumentHelp("The file to write.", valueName: "file"))
  var output: String

  @Flag(name: .long, help: "Two layers of width 64.")
  var tiny = false

  @Option(name: .long, help: "llama, qwen2, qwen3 or gemma3; tiny models only.")
  var architecture = "llama"

  @Option(name: .long, help: "The seed of the weights.")
  var seed: UInt64 = 1

  func run() throws {
    guard let kind = ModelConfiguration.Architecture(rawValue: architecture) else {
      throw QuantError(
        .invalidArgument, "--architecture \(architecture)", "is not known",
        remedy: "choose llama, qwen2, qwen3 or gemma3")
    }
    guard tiny || kind == .llama else {
      throw QuantError(
        .invalidArgument, "--architecture \(architecture)", "comes in a tiny size only",
        remedy: "add --tiny")
    }
    var model = tiny ? SyntheticModel(kind) : .smolLM2
    model.seed = seed
    try model.write(to: output)
    common.finish(["output": JSON(output)], text: "\(output): written")
  }
}
