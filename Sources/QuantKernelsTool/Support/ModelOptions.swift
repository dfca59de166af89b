import ArgumentParser
import LanguageModel
import QuantKernels

/// What every command that runs a model takes.
struct ModelOptions: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp("The model: a GGUF file or a Hugging Face directory.", valueName: "file"))
  var model: String

  @Option(
    name: .long,
    help: ArgumentHelp(
      """
      How keys and values are stored: f32, f16, bf16, q8_0 or q4_0, or palu:FILE with factors of \
      calibrate-kv.
      """, valueName: "type"))
  var kvCache = "f16"

  @Flag(name: .long, help: "Compute in float32 throughout instead of int8 activations.")
  var exact = false

  @Option(
    name: .customLong("isa"),
    help: ArgumentHelp(
      "Kernels of this level: \(InstructionSet.allCases.map(\.rawValue).joined(separator: ", ")).",
      valueName: "level"))
  var instructionSet: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      """
      How ternary weights are held: \
      \(PackedTernary.Format.allCases.map(\.rawValue).joined(separator: ", ")); the default is \
      ternary or ternary-dense, whichever this machine reads faster. All but those named lossy \
      give the same bits.
      """, valueName: "format"))
  var ternary: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "The order of I2_S codes, which no file states: x86, arm or 4-row.", valueName: "order"))
  var i2sOrder = "x86"

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Int4 safetensors layers to use in place of the model's (what convert --to gptq wrote of it).",
      valueName: "file"))
  var int4Layers: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      """
      How a palu cache keeps keys: rotated, commuting or rebuilt (default: as the factors say, or \
      rotated where this machine reads them faster).
      """, valueName: "mode"))
  var kvKeys: String?

  /// - Throws: ``QuantError`` for a cache type that is unknown.
  private func keyValueType() throws(QuantError) -> KeyValueType {
    if let type = KeyValueType(rawValue: kvCache) { return type }
    let types = KeyValueType.allCases.map(\.rawValue).joined(separator: ", ")
    throw QuantError(
      .invalidArgument, "--kv-cache \(kvCache)", "no such type",
      remedy: "use one of \(types), or palu:FILE")
  }

  /// The factors that the cache names, or nil for a dense one.
  ///
  /// - Throws: ``QuantError`` for a file that is missing or holds no factors, and an unknown mode.
  private func lowRank() throws(QuantError) -> LowRankOptions? {
    let prefix = "palu:"
    guard kvCache.hasPrefix(prefix) else {
      guard kvKeys == nil else {
        throw QuantError(
          .invalidArgument, "--kv-keys", "the cache has no latents",
          remedy: "use it with --kv-cache palu:FILE")
      }
      return nil
    }
    let path = String(kvCache.dropFirst(prefix.count))
    var options = LowRankOptions(file: try LowRankFactorsFile(path: path), name: path)
    if let kvKeys {
      guard let mode = LowRankFactors.KeyMode(rawValue: kvKeys) else {
        throw QuantError(
          .invalidArgument, "--kv-keys \(kvKeys)", "no such mode",
          remedy: "use rotated, commuting or rebuilt")
      }
      options.keyMode = mode
    }
    return options
  }

  private func ternaryFormat() throws(QuantError) -> PackedTernary.Format? {
    guard let ternary else { return nil }
    if let format = PackedTernary.Format(rawValue: ternary) { return format }
    throw QuantError(
      .invalidArgument, "--ternary \(ternary)", "no such format",
      remedy:
        "choose one of \(PackedTernary.Format.allCases.map(\.rawValue).joined(separator: ", "))")
  }

  private func order() throws(QuantError) -> I2SOrder {
    switch i2sOrder {
    case "x86": return .x86
    case "arm": return .arm
    case "4-row": return .fourRows
    default:
      throw QuantError(
        .invalidArgument, "--i2s-order \(i2sOrder)", "no such order",
        remedy: "choose x86, arm or 4-row")
    }
  }

  /// The model's options.
  func options(
    _ common: CommonOptions, contextLength: Int? = nil
  ) throws(QuantError) -> LanguageModel.Options {
    var options = LanguageModel.Options()
    options.threads = common.threadCount
    options.arithmetic = exact ? .exact : .fast
    options.lowRank = try lowRank()
    if options.lowRank == nil { options.keyValueType = try keyValueType() }
    options.contextLength = contextLength
    if let instructionSet { options.instructionSet = try chosenInstructionSet(instructionSet) }
    options.ternaryFormat = try ternaryFormat()
    options.i2sOrder = try order()
    options.int4Layers = int4Layers
    return options
  }

  /// Opens the model, showing progress.
  func load(_ common: CommonOptions, contextLength: Int? = nil) throws(QuantError) -> LanguageModel
  {
    let loaded = try LanguageModel(
      path: model, options: try options(common, contextLength: contextLength),
      cancellation: Interruption.flag
    ) { share in
      Console.progress("packing weights \(fixed(share * 100, 0)) %")
    }
    Console.clearProgress()
    try Interruption.check()
    return loaded
  }
}

/// The level that `--isa` names.
///
/// - Throws: ``QuantError`` for a name that is unknown (64) or that this processor does not run
///   (69).
func chosenInstructionSet(_ name: String) throws(QuantError) -> InstructionSet {
  let names = InstructionSet.supported.map(\.rawValue).joined(separator: ", ")
  guard let level = InstructionSet(rawValue: name) else {
    throw QuantError(
      .invalidArgument, "--isa \(name)", "no such level", remedy: "choose one of \(names)")
  }
  guard level.isSupported else {
    throw QuantError(
      .unsupported, "--isa \(name)", "this processor does not run it",
      remedy: "choose one of \(names)")
  }
  return level
}

/// The bytes of a file, or of standard input for `-` or nil.
func readText(_ path: String?) throws(QuantError) -> [UInt8] {
  guard let path, path != "-" else { return try Console.readStandardInput() }
  // The bytes live as long as the file, which nothing else holds.
  let file = try MappedFile(path: path)
  return withExtendedLifetime(file) { Array(file.bytes) }
}
