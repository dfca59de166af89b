import QuantKernels

/// A GGUF file's tokenizer as `tokenizer.json`, `tokenizer_config.json` and, for SentencePiece's
/// style, `tokenizer.model`.
struct HuggingFaceTokenizerExport {
  private let vocabulary: TokenizerVocabulary
  private let tokenizer: Tokenizer
  private let chatTemplate: String?
  private let form: PreTokenizerForm?

  /// - Throws: ``QuantError`` `.unsupported` for a tokenizer that the format cannot state; as
  ///   ``Tokenizer``.
  init(_ file: GGUFFile) throws(QuantError) {
    vocabulary = try TokenizerVocabulary(metadata: file.metadata)
    tokenizer = try Tokenizer(vocabulary: vocabulary)
    chatTemplate = file.metadata.string("tokenizer.chat_template")
    switch vocabulary.model {
    case .sentencePiece: form = nil
    case .bytePair:
      guard let form = PreTokenizerForm.form(named: vocabulary.preTokenizer) else {
        throw QuantError(
          .unsupported, "\(file.path): tokenizer.ggml.pre",
          "\(quoted(vocabulary.preTokenizer)) has no known form in tokenizer.json",
          remedy: "convert to a GGUF type, which keeps it")
      }
      self.form = form
    case .gemma4:
      throw QuantError(
        .unsupported, "\(file.path): tokenizer.ggml.model",
        "gemma4 has no known form in tokenizer.json",
        remedy: "convert to a GGUF type, which keeps it")
    }
  }

  private func type(_ id: Int) -> TokenizerVocabulary.TokenType {
    vocabulary.tokenTypes.indices.contains(id) ? vocabulary.tokenTypes[id] : .normal
  }

  /// A token's text, which JSON holds only as valid UTF-8.
  private func text(_ id: Int) throws(QuantError) -> String {
    // A file's spelling ends at its first byte of zero.
    guard let bytes = tokenizer.text(of: Int32(id)),
      let text = String(validating: bytes, as: UTF8.self)
    else {
      throw QuantError(
        .unsupported, "token \(id)", "is no valid UTF-8, as JSON has to be",
        remedy: "convert to a GGUF type, which keeps it")
    }
    return text
  }

  /// `bos_token_id`, `eos_token_id` (a list), `pad_token_id`.
  var ids: [(key: String, value: JSONTree)] {
    var keys: [(key: String, value: JSONTree)] = []
    func add(_ key: String, _ id: Int?) {
      if let id, vocabulary.tokens.indices.contains(id) { keys.append((key, .integer(id))) }
    }
    add("bos_token_id", vocabulary.specialTokens.beginningOfSequence)
    let first = tokenizer.endOfSequence.map { [Int($0)] } ?? []
    let others = tokenizer.endOfGeneration.map { Int($0) }.sorted().filter { !first.contains($0) }
    keys.append(("eos_token_id", .array((first + others).map { .integer($0) })))
    add("pad_token_id", vocabulary.specialTokens.padding)
    return keys
  }

  // MARK: tokenizer_config.json

  func settings() throws(QuantError) -> JSONTree {
    var keys: [(key: String, value: JSONTree)] = [
      ("tokenizer_class", .string("PreTrainedTokenizerFast")),
      ("add_bos_token", .bool(tokenizer.addsBeginningOfSequence)),
      ("add_eos_token", .bool(tokenizer.addsEndOfSequence)),
      ("clean_up_tokenization_spaces", .bool(false)),
    ]
    let special = vocabulary.specialTokens
    for (key, id) in [
      ("bos_token", special.beginningOfSequence), ("eos_token", special.endOfSequence),
      ("unk_token", special.unknown), ("pad_token", special.padding),
    ] {
      guard let id, vocabulary.tokens.indices.contains(id) else { continue }
      keys.append((key, .string(try text(id))))
    }
    if let chatTemplate { keys.append(("chat_template", .string(chatTemplate))) }
    return .object(keys)
  }

  // MARK: tokenizer.json

  func tokenizerJSON() throws(QuantError) -> JSONTree {
    var entries: [(key: String, value: JSONTree)] = []
    var added: [JSONTree] = []
    var unknown: String?
    for id in vocabulary.tokens.indices {
      let type = type(id)
      // Unused ids stay gaps.
      if type == .unused || type == .undefined { continue }
      let text = try text(id)
      entries.append((text, .integer(id)))
      guard [.control, .userDefined, .unknown].contains(type) else { continue }
      if type == .unknown, unknown == nil { unknown = text }
      added.append(
        .object([
          ("id", .integer(id)), ("content", .string(text)), ("single_word", .bool(false)),
          ("lstrip", .bool(false)), ("rstrip", .bool(false)),
          ("normalized", .bool(false)), ("special", .bool(type != .userDefined)),
        ]))
    }
    var model: [(key: String, value: JSONTree)] = [
      ("type", .string("BPE")), ("dropout", .null),
      ("unk_token", form == nil ? unknown.map { .string($0) } ?? .null : .null),
      ("continuing_subword_prefix", .null), ("end_of_word_suffix", .null),
      ("fuse_unk", .bool(form == nil)), ("byte_fallback", .bool(form == nil)),
      (
        "ignore_merges",
        .bool(form != nil && PreTokenizerForm.ignoresMerges(vocabulary.preTokenizer))
      ),
    ]
    model.append(("vocab", .object(entries)))
    model.append(("merges", .array(form == nil ? try derivedMerges() : try statedMerges())))
    return .object([
      ("version", .string("1.0")), ("truncation", .null), ("padding", .null),
      ("added_tokens", .array(added)), ("normalizer", normalizer),
      ("pre_tokenizer", form?.tree ?? .null), ("post_processor", try postProcessor()),
      ("decoder", decoder), ("model", .object(model)),
    ])
  }

  private var normalizer: JSONTree {
    guard form == nil else { return .null }
    var stages: [JSONTree] = []
    if tokenizer.addsSpacePrefix {
      stages.append(
        .object([("type", .string("Prepend")), ("prepend", .string("\u{2581}"))]))
    }
    stages.append(
      .object([
        ("type", .string("Replace")), ("pattern", .object([("String", .string(" "))])),
        ("content", .string("\u{2581}")),
      ]))
    return .object([("type", .string("Sequence")), ("normalizers", .array(stages))])
  }

  private var decoder: JSONTree {
    guard form == nil else {
      return .object([
        ("type", .string("ByteLevel")), ("add_prefix_space", .bool(true)),
        ("trim_offsets", .bool(true)), ("use_regex", .bool(true)),
      ])
    }
    var stages: [JSONTree] = [
      .object([
        ("type", .string("Replace")), ("pattern", .object([("String", .string("\u{2581}"))])),
        ("content", .string(" ")),
      ]), .object([("type", .string("ByteFallback"))]), .object([("type", .string("Fuse"))]),
    ]
    if tokenizer.addsSpacePrefix {
      stages.append(
        .object([
          ("type", .string("Strip")), ("content", .string(" ")), ("start", .integer(1)),
          ("stop", .integer(0)),
        ]))
    }
    return .object([("type", .string("Sequence")), ("decoders", .array(stages))])
  }

  private func postProcessor() throws(QuantError) -> JSONTree {
    let ends = [
      tokenizer.addsBeginningOfSequence ? tokenizer.beginningOfSequence : nil,
      tokenizer.addsEndOfSequence ? tokenizer.endOfSequence : nil,
    ]
    guard ends.contains(where: { $0 != nil }) else {
      guard form != nil else { return .null }
      return .object([
        ("type", .string("ByteLevel")), ("add_prefix_space", .bool(true)),
        ("trim_offsets", .bool(false)), ("use_regex", .bool(true)),
      ])
    }
    var special: [(key: String, value: JSONTree)] = []
    func element(_ id: Int32, _ type: Int) throws(QuantError) -> JSONTree {
      let text = try text(Int(id))
      if !special.contains(where: { $0.key == text }) {
        special.append(
          (
            text,
            .object([
              ("id", .string(text)), ("ids", .array([.integer(Int(id))])),
              ("tokens", .array([.string(text)])),
            ])
          ))
      }
      return .object([
        ("SpecialToken", .object([("id", .string(text)), ("type_id", .integer(type))]))
      ])
    }
    func sequence(_ name: String, _ type: Int) throws(QuantError) -> [JSONTree] {
      var elements: [JSONTree] = []
      if let id = ends[0] { elements.append(try element(id, type)) }
      elements.append(
        .object([
          ("Sequence", .object([("id", .string(name)), ("type_id", .integer(type))]))
        ]))
      if let id = ends[1] { elements.append(try element(id, type)) }
      return elements
    }
    let single = try sequence("A", 0)
    let pair = try single + sequence("B", 1)
    return .object([
      ("type", .string("TemplateProcessing")), ("single", .array(single)),
      ("pair", .array(pair)), ("special_tokens", .object(special)),
    ])
  }

  // MARK: Merges

  private func statedMerges() throws(QuantError) -> [JSONTree] {
    var merges: [JSONTree] = []
    for (rank, merge) in (vocabulary.merges ?? []).enumerated() {
      guard let text = String(validating: merge, as: UTF8.self) else {
        throw QuantError(
          .unsupported, "merge \(rank)", "is no valid UTF-8, as JSON has to be",
          remedy: "convert to a GGUF type, which keeps it")
      }
      // One that has no two halves can never apply.
      if merge.split(separator: 0x20, omittingEmptySubsequences: false).filter({ !$0.isEmpty })
        .count == 2, merge.count(where: { $0 == 0x20 }) == 1
      {
        merges.append(.string(text))
      }
    }
    return merges
  }

  /// The merges of a vocabulary of scores: every way to make a token of two others, the higher the
  /// token's score the earlier, as Hugging Face's converter of SentencePiece models derives them.
  private func derivedMerges() throws(QuantError) -> [JSONTree] {
    var merges: [(score: Float, id: Int, split: Int)] = []
    for id in vocabulary.tokens.indices where type(id) == .normal {
      guard let text = tokenizer.text(of: Int32(id)) else { continue }
      for split in text.indices.dropFirst() where text[split] & 0xC0 != 0x80 {
        if tokenizer.token(withText: Array(text[..<split])) != nil,
          tokenizer.token(withText: Array(text[split...])) != nil
        {
          merges.append((score(id), id, split))
        }
      }
    }
    // Of one token's splits, the one with the longer left half first.
    merges.sort { ($0.score, $1.id, $0.split) > ($1.score, $0.id, $1.split) }
    var result: [JSONTree] = []
    for merge in merges {
      guard let text = tokenizer.text(of: Int32(merge.id)),
        let left = String(validating: text[..<merge.split], as: UTF8.self),
        let right = String(validating: text[merge.split...], as: UTF8.self)
      else { continue }
      result.append(.array([.string(left), .string(right)]))
    }
    return result
  }

  private func score(_ id: Int) -> Float {
    vocabulary.scores.indices.contains(id) ? vocabulary.scores[id] : 0
  }

  /// `tokenizer.model`, which keeps scores and kinds; nil for byte-level tokenizers.
  var pieces: SentencePieceFile? {
    guard form == nil else { return nil }
    let pieces = vocabulary.tokens.indices.map { id in
      SentencePieceFile.Piece(
        text: tokenizer.text(of: Int32(id)) ?? [], score: score(id), type: type(id).rawValue)
    }
    return SentencePieceFile(pieces: pieces, addsSpacePrefix: tokenizer.addsSpacePrefix)
  }
}
