import ArgumentParser
import LanguageModel
import QuantKernels

/// `convert`: a model in another type or format.
struct Convert: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Requantize or repack a model.",
    discussion: """
      A GGUF type writes GGUF: matrices in that type, norms in float32. native writes this \
      package's own file of ternary weights, with a version and a checksum. awq, gptq, quick and \
      marlin write safetensors with int4 layers under the public tools' names. Among those four \
      nothing is requantized, and Q4_0 layers are repacked as they stand. With --calibrate, gptq is \
      GPTQ: errors over the text's activations are made up for, and shown beside those of rounding \
      to nearest. An output that ends in a slash, or is a folder, becomes a Hugging Face directory \
      (config.json, tokenizer.json, model.safetensors) in f32, f16, bf16, native (packed ternary), \
      awq, gptq, quick or marlin; such directories are read as GGUF files are. The file or folder \
      appears whole or not at all.

      Types: \(ConversionTarget.names.joined(separator: ", ")).

      EXAMPLES
        quantkernels convert model.gguf --to q4_0 --embeddings q8_0 -o model.q4_0.gguf
        quantkernels convert model.gguf --to native -o model.qkn
        quantkernels convert model.gguf --to awq --group 64 -o model.awq.safetensors
        quantkernels convert model.awq.safetensors --to quick -o model.quick.safetensors
        quantkernels convert model.gguf --to gptq --act-order --calibrate text.txt -o model.safetensors
        quantkernels convert model.gguf --to f16 -o directory/
        quantkernels convert directory --to q8_0 -o model.gguf
      """)

  @OptionGroup var common: CommonOptions

  @Argument(
    help: """
      A GGUF file, a Hugging Face directory, a safetensors file, its index, or the folder that holds \
      it.
      """)
  var file: String

  @Option(name: .long, help: ArgumentHelp("The type or format.", valueName: "type"))
  var to: String

  @Option(
    name: .customShort("o"), help: ArgumentHelp("The file or folder to write.", valueName: "file"))
  var output: String

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Type of the embedding and the head, for GGUF and directories (default: that of --to).",
      valueName: "type"))
  var embeddings: String?

  @Option(
    name: .long,
    help:
      "Inputs that share a scale, for safetensors (default: the largest of 128, 64, 32 that fits).")
  var group: Int?

  @Flag(name: .long, help: "No zero points, for safetensors.")
  var symmetric = false

  @Flag(
    name: .long,
    help: "Quantize inputs in order of their size over the calibration text (desc_act), for gptq.")
  var actOrder = false

  @Option(
    name: .long,
    help: ArgumentHelp("Calibration text, for gptq from a whole model.", valueName: "file"))
  var calibrate: String?

  @Flag(
    name: .long,
    help: """
      Move the act-order of down projections into gate and up, once; of int4 safetensors, or with \
      --calibrate, where that of attention's outputs moves into the values too.
      """)
  var tpAware = false

  @Option(name: .long, help: "At most so many tokens of the calibration text.")
  var calibrationTokens = 32768

  func run() throws {
    if actOrder, calibrate == nil {
      throw QuantError(
        .invalidArgument, "--act-order", "needs a text to order inputs by",
        remedy: "add --calibrate with a text file")
    }
    let target = try ConversionTarget(named: to)
    var options = ModelConverter.Options()
    options.groupSize = group
    options.symmetric = symmetric
    options.actOrder = actOrder
    options.movesInputOrder = tpAware
    options.calibrationTokens = calibrationTokens
    options.calibrationText = try calibrate.map { path throws(QuantError) in try readText(path) }
    if let embeddings {
      guard case .gguf(let type) = try ConversionTarget(named: embeddings) else {
        throw QuantError(
          .invalidArgument, "--embeddings \(embeddings)", "is no GGUF type",
          remedy: "choose one of f32, f16, bf16, q8_0, q4_0, q4_1")
      }
      options.embeddingType = type
    }
    let hasGroups = if case .safetensors = target { true } else { false }
    if !hasGroups, group != nil || symmetric {
      throw QuantError(
        .invalidArgument, "--to \(to)", "its groups and zero points are fixed",
        remedy: "leave --group and --symmetric out")
    }
    let converter = ModelConverter(
      source: file, target: target, options: options, pool: WorkerPool(threads: common.threadCount))
    let start = MonotonicClock.nanoseconds()
    let summary = try converter.write(
      to: output, isCancelled: { Interruption.isRequested },
      progress: { Console.progress("converting \(fixed($0 * 100, 0)) %") })
    let seconds = MonotonicClock.seconds(since: start)
    common.finish(
      [
        "output": JSON(output), "type": JSON(to), "tensors": JSON(summary.tensors),
        "converted": JSON(summary.converted), "exact": JSON(summary.exact),
        "fallbacks": .array(summary.fallbacks.map { JSON($0) }),
        "groupSize": summary.groupSize.map { JSON($0) } ?? .null, "seconds": JSON(seconds),
        "movedBlocks": JSON(summary.movedBlocks),
        "movedAttentions": JSON(summary.movedAttentions),
        "calibration": summary.calibration.map(Self.json) ?? .null,
      ],
      text: """
        \(output): \(summary.tensors) tensors, \(summary.converted) matrices in \(to)\
        \(summary.groupSize.map { ", groups of \($0)" } ?? ""), \
        \(summary.exact) of them bit for bit\
        \(summary.fallbacks.isEmpty ? "" : "; \(summary.fallbacks.count) did not fit and are F16")\
        \(summary.calibration.map(Self.text) ?? "")
        """)
  }

  private static func json(_ summary: ModelConverter.CalibrationSummary) -> JSON {
    [
      "tokens": JSON(summary.tokens), "error": JSON(summary.error),
      "roundingError": JSON(summary.roundingError),
      "layers": .array(
        summary.layers.map {
          [
            "name": JSON($0.name), "error": JSON($0.error),
            "roundingError": JSON($0.roundingError),
          ]
        }),
    ]
  }

  private static func text(_ summary: ModelConverter.CalibrationSummary) -> String {
    let better = summary.layers.count { $0.error < $0.roundingError }
    return """
      ; outputs off by \(fixed(summary.error * 100, 3)) % (squared, mean of the layers) over \
      \(summary.tokens) tokens, rounding to nearest by \(fixed(summary.roundingError * 100, 3)) %; \
      \(better) of \(summary.layers.count) layers better
      """
  }
}
