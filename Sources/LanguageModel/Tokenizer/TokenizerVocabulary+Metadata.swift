import QuantKernels

/// What a tokenizer reads from a model file's metadata.
///
/// Each accessor gives nil for a key that is absent or of another type.
public protocol TokenizerMetadata {
  /// A text.
  func string(_ key: String) -> String?
  /// An integer of any width.
  func integer(_ key: String) -> Int?
  /// A truth value.
  func bool(_ key: String) -> Bool?
  /// An array of strings, as bytes that need not be UTF-8.
  func stringBytes(_ key: String) -> [[UInt8]]?
  /// An array of numbers.
  func floats(_ key: String) -> [Float]?
  /// An array of integers.
  func integers(_ key: String) -> [Int]?
}

extension GGUFMetadata: TokenizerMetadata {}

extension TokenizerVocabulary {
  /// Reads the `tokenizer.ggml.*` keys of a GGUF file.
  ///
  /// - Throws: `invalidData` when the model or the tokens are missing, `unsupported` for a model
  ///   other than ``Model``'s.
  public init(metadata: some TokenizerMetadata) throws(QuantError) {
    guard let name = metadata.string("tokenizer.ggml.model") else {
      throw QuantError(
        .invalidData, "tokenizer.ggml.model", "the file names no tokenizer",
        remedy: "use a file that was converted with its tokenizer")
    }
    guard let model = Model(rawValue: name) else {
      let known = Model.allCases.map(\.rawValue).joined(separator: ", ")
      throw QuantError(
        .unsupported, "tokenizer.ggml.model", "unknown tokenizer \(quoted(name))",
        remedy: "use a model with one of: \(known)")
    }
    guard let tokens = metadata.stringBytes("tokenizer.ggml.tokens") else {
      throw QuantError(
        .invalidData, "tokenizer.ggml.tokens", "the file has no list of tokens",
        remedy: "use a file that was converted with its tokenizer")
    }
    self.init(model: model, tokens: tokens)
    preTokenizer = metadata.string("tokenizer.ggml.pre") ?? ""
    if let scores = metadata.floats("tokenizer.ggml.scores") {
      self.scores = scores
    } else if let scores = metadata.integers("tokenizer.ggml.scores") {
      self.scores = scores.map(Float.init)
    }
    if let types = metadata.integers("tokenizer.ggml.token_type") {
      tokenTypes = types.map { TokenType(rawValue: $0) ?? .undefined }
    }
    merges = metadata.stringBytes("tokenizer.ggml.merges")
    func id(_ key: String) -> Int? { metadata.integer("tokenizer.ggml.\(key)_token_id") }
    specialTokens.beginningOfSequence = id("bos")
    specialTokens.endOfSequence = id("eos")
    specialTokens.endOfTurn = id("eot")
    specialTokens.endOfMessage = id("eom")
    specialTokens.unknown = id("unknown")
    specialTokens.padding = id("padding")
    specialTokens.fillInMiddlePrefix = id("prefix") ?? id("fim_pre")
    specialTokens.fillInMiddleSuffix = id("suffix") ?? id("fim_suf")
    specialTokens.fillInMiddleMiddle = id("middle") ?? id("fim_mid")
    specialTokens.fillInMiddlePadding = id("fim_pad")
    specialTokens.fillInMiddleRepository = id("fim_rep")
    specialTokens.fillInMiddleSeparator = id("fim_sep")
    endOfGeneration = metadata.integers(HuggingFaceTokenizer.endsKey) ?? []
    addsBeginningOfSequence = metadata.bool("tokenizer.ggml.add_bos_token")
    addsEndOfSequence = metadata.bool("tokenizer.ggml.add_eos_token")
    addsSpacePrefix = metadata.bool("tokenizer.ggml.add_space_prefix")
    modelName = metadata.string("general.name") ?? ""
  }
}
