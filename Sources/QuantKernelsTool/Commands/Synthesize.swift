import ArgumentParser
import LanguageModel
import QuantKernels

/// `synthesize`: a model of random weights with the structure of a real one, for benchmarks and
/// tests where no real model can be had. Not part of the stable command line.
struct Synthesize: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Write a GGUF model of random weights.",
    discussion: """
      The shape is that of SmolLM2-135M, or a tiny one with --tiny, or with --bitnet a BitNet \
      b1.58 model of one of the sizes \
      \(SyntheticModel.BitNetSize.allCases.map(\.rawValue).joined(separator: ", ")). The same \
      options give the same bytes.

      EXAMPLES
        quantkernels synthesize -o synthetic.gguf
        quantkernels synthesize --tiny --architecture qwen3 -o tiny.gguf
        quantkernels synthesize --bitnet 700M --type tq2_0 --head q6_k -o bitnet.gguf
      """,
    shouldDisplay: false)

  @OptionGroup var common: CommonOptions

  @Option(name: .customShort("o"), help: ArgumentHelp("The file to write.", valueName: "file"))
  var output: String

  @Flag(name: .long, help: "Two layers of width 64.")
  var tiny = false

  @Option(
    name: .long,
    help: """
      \(ModelConfiguration.Architecture.allCases.map(\.rawValue).joined(separator: ", ")); of \
      tiny models, or with --bitnet one of those of BitNet.
      """)
  var architecture: String?

  @Option(name: .long, help: ArgumentHelp("A BitNet b1.58 model of this size.", valueName: "size"))
  var bitnet: String?

  @Option(name: .long, help: "Type of the layers with --bitnet: i2_s, tq1_0, tq2_0, f16.")
  var type = "i2_s"

  @Option(name: .long, help: "Type of the embedding and head with --bitnet: f16, q6_k, q4_0, …")
  var head = "f16"

  @Option(name: .long, help: "The seed of the weights.")
  var seed: UInt64 = 1

  func run() throws {
    var model = try description()
    model.seed = seed
    try model.write(to: output)
    common.finish(["output": JSON(output)], text: "\(output): written")
  }

  private func description() throws(QuantError) -> SyntheticModel {
    let kind = try architecture.map { name throws(QuantError) in
      try choice(name, of: ModelConfiguration.Architecture.allCases, "--architecture")
    }
    if let bitnet {
      let architecture = kind ?? .bitnetB158
      guard architecture.hasSubNorms, !tiny else {
        throw QuantError(
          .invalidArgument, "--bitnet \(bitnet)", "is no \(tiny ? "tiny" : architecture.rawValue)",
          remedy: "leave --tiny out, and name an architecture of BitNet or none")
      }
      return .bitNet(
        try choice(bitnet, of: SyntheticModel.BitNetSize.allCases, "--bitnet"),
        architecture: architecture, type: try ggmlType(type, "--type"),
        headType: try ggmlType(head, "--head"))
    }
    guard tiny || kind == nil || kind == .llama else {
      throw QuantError(
        .invalidArgument, "--architecture \(kind?.rawValue ?? "")", "comes in a tiny size only",
        remedy: "add --tiny")
    }
    return tiny ? SyntheticModel(kind ?? .llama) : .smolLM2
  }

  private func choice<Value: RawRepresentable<String>>(
    _ name: String, of values: [Value], _ option: String
  ) throws(QuantError) -> Value {
    if let value = Value(rawValue: name) { return value }
    throw QuantError(
      .invalidArgument, "\(option) \(name)", "is not known",
      remedy: "choose one of \(values.map(\.rawValue).joined(separator: ", "))")
  }

  private func ggmlType(_ name: String, _ option: String) throws(QuantError) -> GGMLType {
    if let type = GGMLType.allCases.first(where: { $0.name.lowercased() == name.lowercased() }) {
      return type
    }
    throw QuantError(
      .invalidArgument, "\(option) \(name)", "is no type",
      remedy:
        "choose one of \(GGMLType.allCases.map { $0.name.lowercased() }.joined(separator: ", "))")
  }
}
