import QuantKernels

/// The tokenizer of a Hugging Face directory as GGUF's `tokenizer.*` keys.
///
/// - `tokenizer.json`, byte-level: vocabulary, merges, and the name of the pre-tokenizer that its
///   stages are (``PreTokenizerForm``). An NFC normalizer is passed over, as llama.cpp does: text that
///   is not composed gives other ids than with it.
/// - `tokenizer.json` in SentencePiece's style (spaces as U+2581, bytes as `<0x0A>`): scores are the
///   ranks of the merges that make tokens. Where `tokenizer.model` lies beside it, that file's pieces
///   and scores are taken.
/// - `tokenizer.model` alone, with the added tokens of `tokenizer_config.json`.
///
/// Special tokens, their ids and the chat template come from `tokenizer_config.json`,
/// `chat_template.jinja`, `config.json` and `generation_config.json`.
struct HuggingFaceTokenizer {
  /// Our own key: every token that ends generation.
  static let endsKey = "quantkernels.end_of_generation_token_ids"

  private(set) var metadata: [(key: String, value: GGUFValue)] = []

  private let folder: String
  private var texts: [[UInt8]?]
  private var types: [Int32]
  private var scores: [Float] = []

  /// - Parameters:
  ///   - size: rows of the embedding: tokens beyond them are left out, gaps are filled by unused
  ///     ones.
  /// - Throws: ``QuantError`` `.missingFile` where there is no tokenizer; `.invalidData` for damaged
  ///   files; `.unsupported` for a tokenizer that would give other ids here.
  init(
    folder: String, size: Int, configuration: HuggingFaceConfiguration
  ) throws(QuantError) {
    self.folder = folder
    texts = [[UInt8]?](repeating: nil, count: size)
    types = [Int32](repeating: Int32(TokenizerVocabulary.TokenType.unused.rawValue), count: size)
    let settings = try Self.optional(folder + "/tokenizer_config.json")
    let json = folder + "/tokenizer.json"
    let pieces = folder + "/tokenizer.model"
    var roles = Roles()
    if FileNames.exists(json) {
      let file = try TokenizerJSON(path: json)
      if Self.isSentencePiece(file) {
        try readSentencePiece(file, pieces: FileNames.exists(pieces) ? pieces : nil)
      } else {
        try readByteLevel(file)
      }
      roles = try Self.roles(file)
    } else if FileNames.exists(pieces) {
      try readPieces(try SentencePieceFile(path: pieces))
      roles.addsBeginning = true
    } else {
      throw QuantError(
        .missingFile, folder, "holds neither tokenizer.json nor tokenizer.model",
        remedy: "fetch the tokenizer's files too")
    }
    try addTokens(of: settings)
    try addVocabulary()
    try addRoles(roles, settings, configuration)
    try addChatTemplate(settings)
  }

  private mutating func add(_ key: String, _ value: GGUFValue) {
    metadata.append(("tokenizer.ggml.\(key)", value))
  }

  /// A configuration file, or an empty one where there is none.
  static func optional(_ path: String) throws(QuantError) -> ConfigurationFile {
    guard FileNames.exists(path) else {
      return ConfigurationFile(path: path, tree: .object([]))
    }
    return ConfigurationFile(path: path, tree: try JSONTree(path: path))
  }

  // MARK: Vocabulary

  /// Places a token; one past the embedding is left out.
  private mutating func place(
    _ text: [UInt8], id: Int, type: TokenizerVocabulary.TokenType, in path: String
  ) throws(QuantError) {
    guard texts.indices.contains(id) else { return }
    if let other = texts[id], other != text {
      throw QuantError(
        .invalidData, path, "two tokens have the id \(id)", remedy: "fetch the file again")
    }
    texts[id] = text
    types[id] = Int32(type.rawValue)
  }

  private mutating func readByteLevel(_ file: TokenizerJSON) throws(QuantError) {
    for normalizer in PreTokenizerForm.stages(of: file.normalizer) {
      guard normalizer == .null || normalizer["type"]?.text == "NFC" else {
        throw file.unsupported(
          "normalizer", "\(quoted(normalizer["type"]?.text ?? "")) is not run")
      }
    }
    guard !file.fallsBackToBytes else {
      throw file.unsupported("model.byte_fallback", "is not known with these stages")
    }
    let form = try PreTokenizerForm(file.preTokenizer, path: file.path)
    guard let name = form.name(ignoringMerges: file.ignoresMerges) else {
      throw file.unsupported(
        "model.ignore_merges", "\(file.ignoresMerges) is not known with these stages")
    }
    for entry in file.vocabulary {
      try place(entry.text, id: entry.id, type: .normal, in: file.path)
    }
    for token in file.addedTokens {
      try place(
        token.content, id: token.id, type: token.isSpecial ? .control : .userDefined,
        in: file.path)
    }
    add("model", .text(TokenizerVocabulary.Model.bytePair.rawValue))
    add("pre", .text(name))
    add("merges", .array(.string, file.merges.map { .string($0.left + [0x20] + $0.right) }))
    add("add_space_prefix", .bool(false))
  }

  /// Whether spaces become U+2581.
  private static func isSentencePiece(_ file: TokenizerJSON) -> Bool {
    file.fallsBackToBytes || file.preTokenizer["type"]?.text == "Metaspace"
      || PreTokenizerForm.stages(of: file.normalizer).contains {
        $0["type"]?.text == "Replace" && $0["content"]?.text == "\u{2581}"
      }
  }

  private mutating func readSentencePiece(
    _ file: TokenizerJSON, pieces: String?
  ) throws(QuantError) {
    var prefix = false
    for normalizer in PreTokenizerForm.stages(of: file.normalizer) {
      switch normalizer["type"]?.text {
      case nil where normalizer == .null: break
      case "Prepend" where normalizer["prepend"]?.text == "\u{2581}": prefix = true
      case "Replace"
      where normalizer["pattern"]?["String"]?.text == " "
        && normalizer["content"]?.text == "\u{2581}":
        break
      case let other: throw file.unsupported("normalizer", "\(quoted(other ?? "")) is not run")
      }
    }
    for stage in PreTokenizerForm.stages(of: file.preTokenizer) {
      switch stage["type"]?.text {
      case nil where stage == .null: break
      case "Metaspace"
      where stage["replacement"]?.text ?? "\u{2581}" == "\u{2581}"
        && stage["split"]?.bool == false:
        prefix = prefix || stage["prepend_scheme"]?.text ?? "always" != "never"
      // Gemma's: spaces are gone when it looks for them.
      case "Split" where stage["pattern"]?["String"]?.text == " ": break
      case let other: throw file.unsupported("pre_tokenizer", "\(quoted(other ?? "")) is not run")
      }
    }
    if let pieces {
      try readPieces(try SentencePieceFile(path: pieces))
    } else {
      try readMerges(file)
      add("add_space_prefix", .bool(prefix))
    }
    for token in file.addedTokens { try addToken(token, in: file.path) }
  }

  /// Tokens of SentencePiece's style without its scores: the earlier the merge that makes a token, the
  /// higher its score, and a token that none makes comes last.
  private mutating func readMerges(_ file: TokenizerJSON) throws(QuantError) {
    guard file.fallsBackToBytes else {
      throw file.unsupported("model.byte_fallback", "false is not known with these stages")
    }
    var ranks: [[UInt8]: Int] = [:]
    ranks.reserveCapacity(file.merges.count)
    for (rank, merge) in file.merges.enumerated() {
      let made = merge.left + merge.right
      if ranks[made] == nil { ranks[made] = rank }
    }
    scores = [Float](repeating: -Float(file.merges.count) - 1, count: texts.count)
    for entry in file.vocabulary {
      let type: TokenizerVocabulary.TokenType =
        entry.text == file.unknownToken
        ? .unknown : ByteName.byte(namedBy: entry.text[...]) != nil ? .byte : .normal
      try place(entry.text, id: entry.id, type: type, in: file.path)
      if texts.indices.contains(entry.id), let rank = ranks[entry.text] {
        scores[entry.id] = -Float(rank)
      }
    }
    add("model", .text(TokenizerVocabulary.Model.sentencePiece.rawValue))
  }

  private mutating func readPieces(_ file: SentencePieceFile) throws(QuantError) {
    scores = [Float](repeating: -1000, count: texts.count)
    for (id, piece) in file.pieces.enumerated() {
      try place(
        piece.text, id: id, type: TokenizerVocabulary.TokenType(rawValue: piece.type) ?? .undefined,
        in: folder + "/tokenizer.model")
      if texts.indices.contains(id) { scores[id] = piece.score }
    }
    add("model", .text(TokenizerVocabulary.Model.sentencePiece.rawValue))
    add("add_space_prefix", .bool(file.addsSpacePrefix))
  }

  /// An added token of a SentencePiece vocabulary, which may stand among the pieces already. A token
  /// that is shown spells its spaces as texts do.
  private mutating func addToken(
    _ token: TokenizerJSON.AddedToken, in path: String
  ) throws(QuantError) {
    guard texts.indices.contains(token.id) else { return }
    let isUnknown = types[token.id] == Int32(TokenizerVocabulary.TokenType.unknown.rawValue)
    try place(
      token.content, id: token.id,
      type: isUnknown ? .unknown : token.isSpecial ? .control : .userDefined, in: path)
  }

  /// Added tokens that only the tokenizer's configuration lists.
  private mutating func addTokens(of settings: ConfigurationFile) throws(QuantError) {
    guard let listed = try settings.object("added_tokens_decoder"),
      case .object(let entries) = listed.tree
    else { return }
    for entry in entries {
      guard let id = Int(entry.key), id >= 0, let content = entry.value["content"]?.text else {
        throw listed.invalid(entry.key, "is no token with an id and a content")
      }
      guard texts.indices.contains(id), texts[id] == nil else { continue }
      try place(
        Array(content.utf8), id: id,
        type: entry.value["special"]?.bool == true ? .control : .userDefined, in: settings.path)
    }
  }

  private mutating func addVocabulary() throws(QuantError) {
    guard texts.contains(where: { $0 != nil }) else {
      throw QuantError(
        .invalidData, folder, "its tokenizer has no tokens", remedy: "fetch the directory again")
    }
    let isSentencePiece = !scores.isEmpty
    let userDefined = Int32(TokenizerVocabulary.TokenType.userDefined.rawValue)
    var tokens: [GGUFValue] = []
    tokens.reserveCapacity(texts.count)
    for (id, text) in texts.enumerated() {
      guard let text else {
        tokens.append(.text("[PAD\(id)]"))
        continue
      }
      guard isSentencePiece, types[id] == userDefined else {
        tokens.append(.string(text))
        continue
      }
      var plain: [UInt8] = []
      EscapedSpace.appendUnescaped(text[...], to: &plain)
      tokens.append(.string(plain))
    }
    add("tokens", .array(.string, tokens))
    add("token_type", .array(.int32, types.map { .int32($0) }))
    if isSentencePiece { add("scores", .array(.float32, scores.map { .float32($0) })) }
  }

  // MARK: Roles

  /// What `tokenizer.json` says of sequences.
  private struct Roles {
    var addsBeginning = false
    var addsEnd = false
    var beginning: [UInt8]?
    var unknown: [UInt8]?
  }

  private static func roles(_ file: TokenizerJSON) throws(QuantError) -> Roles {
    var roles = Roles()
    roles.unknown = file.unknownToken
    for processor in PreTokenizerForm.stages(of: file.postProcessor) {
      switch processor["type"]?.text {
      case nil where processor == .null: break
      case "ByteLevel": break
      case "TemplateProcessing":
        var hasText = false
        for element in processor["single"]?.elements ?? [] {
          if element["Sequence"] != nil {
            hasText = true
          } else if let special = element["SpecialToken"]?["id"]?.text {
            guard hasText ? !roles.addsEnd : !roles.addsBeginning else {
              throw file.unsupported("post_processor", "it adds several tokens at one end")
            }
            if hasText {
              roles.addsEnd = true
            } else {
              roles.addsBeginning = true
              roles.beginning = Array(special.utf8)
            }
          }
        }
      case let other: throw file.unsupported("post_processor", "\(quoted(other ?? "")) is not run")
      }
    }
    return roles
  }

  private mutating func addRoles(
    _ roles: Roles, _ settings: ConfigurationFile, _ configuration: HuggingFaceConfiguration
  ) throws(QuantError) {
    var ids: [[UInt8]: Int] = [:]
    for (id, text) in texts.enumerated() { if let text { ids[text] = id } }
    func token(_ key: String) -> Int? {
      let stated = settings.tree[key]
      guard let text = stated?.text ?? stated?["content"]?.text else { return nil }
      return ids[Array(text.utf8)]
    }
    let generation = try Self.optional(folder + "/generation_config.json")
    let ends =
      (try generation.integers("eos_token_id") + configuration.endOfSequence).filter {
        texts.indices.contains($0)
      }
    func role(_ key: String, _ id: Int?) {
      if let id, texts.indices.contains(id) { add("\(key)_token_id", .uint32(UInt32(id))) }
    }
    role(
      "bos",
      token("bos_token") ?? roles.beginning.flatMap { ids[$0] }
        ?? configuration.beginningOfSequence)
    let end = token("eos_token") ?? ends.first
    role("eos", end)
    role("unknown", token("unk_token") ?? roles.unknown.flatMap { ids[$0] })
    role("padding", token("pad_token") ?? configuration.paddingToken)
    add("add_bos_token", .bool(try settings.bool("add_bos_token") ?? roles.addsBeginning))
    add("add_eos_token", .bool(try settings.bool("add_eos_token") ?? roles.addsEnd))
    var all: [Int] = []
    for id in ends where !all.contains(id) && all.count < 1024 { all.append(id) }
    if !all.isEmpty {
      metadata.append((Self.endsKey, .array(.uint32, all.map { .uint32(UInt32($0)) })))
    }
  }

  private mutating func addChatTemplate(_ settings: ConfigurationFile) throws(QuantError) {
    let path = folder + "/chat_template.jinja"
    if FileNames.exists(path) {
      let file = try MappedFile(path: path)
      let text = withExtendedLifetime(file) { Array(file.bytes.prefix(1 << 24)) }
      metadata.append(("tokenizer.chat_template", .string(text)))
      return
    }
    guard let stated = settings.tree["chat_template"] else { return }
    let named = stated.elements?.first { $0["name"]?.text == "default" } ?? stated.elements?.first
    guard let text = stated.text ?? named?["template"]?.text else {
      throw settings.invalid("chat_template", "is no text nor list of named ones")
    }
    metadata.append(("tokenizer.chat_template", .text(text)))
  }
}
