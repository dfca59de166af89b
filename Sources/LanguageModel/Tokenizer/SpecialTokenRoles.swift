/// Which tokens begin and end sequences, turns and generation.
///
/// Files state few of these, so the rest are told by well-known texts, as llama.cpp does. Tokens
/// found that way become control tokens if the file forgot to say so.
struct SpecialTokenRoles: Sendable {
  private(set) var beginningOfSequence: Int?
  private(set) var endOfSequence: Int?
  private(set) var endOfTurn: Int?
  private(set) var endOfMessage: Int?
  private(set) var unknown: Int?
  /// The tokens after which a model has finished.
  private(set) var endOfGeneration: Set<Int> = []

  /// - Parameters:
  ///   - texts: the tokens' texts by id; `count` of them are tokens.
  ///   - hasDefaultBeginning: whether the model has a conventional beginning-of-sequence token.
  ///   - attributes: corrected in place.
  init(
    _ vocabulary: TokenizerVocabulary, texts: ByteStringTable, hasDefaultBeginning: Bool,
    attributes: inout [TokenAttributes]
  ) {
    let count = vocabulary.tokens.count
    let given = vocabulary.specialTokens
    func id(_ given: Int?, default standard: Int? = nil) -> Int? {
      if let given, given >= 0, given < count { return given }
      guard let standard, standard < count else { return nil }
      return standard
    }
    switch vocabulary.model {
    case .bytePair:
      beginningOfSequence = id(given.beginningOfSequence, default: hasDefaultBeginning ? 11 : nil)
      endOfSequence = id(given.endOfSequence, default: 11)
      unknown = id(given.unknown)
    case .sentencePiece:
      beginningOfSequence = id(given.beginningOfSequence, default: 1)
      endOfSequence = id(given.endOfSequence, default: 2)
      unknown = id(given.unknown, default: 0)
    case .gemma4:
      beginningOfSequence = id(given.beginningOfSequence)
      endOfSequence = id(given.endOfSequence)
      unknown = id(given.unknown)
    }

    func token(_ text: String) -> Int? { texts.number(of: Array(text.utf8)) }
    func find(_ given: Int?, _ names: [String], _ attributes: inout [TokenAttributes]) -> Int? {
      if let id = id(given) { return id }
      for name in names {
        guard let found = token(name), found < count else { continue }
        attributes[found].insert(.control)
        return found
      }
      return nil
    }
    endOfTurn = find(given.endOfTurn, SpecialTokenRoles.endOfTurnNames, &attributes)
    endOfMessage = find(given.endOfMessage, ["<|eom_id|>"], &attributes)
    typealias Names = SpecialTokenRoles
    _ = find(given.fillInMiddlePrefix, Names.prefixNames, &attributes)
    _ = find(given.fillInMiddleSuffix, Names.suffixNames, &attributes)
    _ = find(given.fillInMiddleMiddle, Names.middleNames, &attributes)
    let ending = [
      find(given.fillInMiddlePadding, Names.paddingNames, &attributes),
      find(given.fillInMiddleRepository, Names.repositoryNames, &attributes),
      find(given.fillInMiddleSeparator, ["<|file_sep|>"], &attributes),
      endOfSequence, endOfTurn, endOfMessage,
    ]
    endOfGeneration = Set(ending.compactMap { $0 })
    endOfGeneration.formUnion(vocabulary.endOfGeneration.filter { (0..<count).contains($0) })
    for name in SpecialTokenRoles.endOfGenerationNames {
      guard let found = token(name), found < count else { continue }
      endOfGeneration.insert(found)
      attributes[found].insert(.control)
    }
    correct(&attributes, token: { token($0).flatMap { $0 < count ? $0 : nil } })
  }

  /// Exceptions for models whose tokens have these texts but another meaning.
  private mutating func correct(
    _ attributes: inout [TokenAttributes], token: (String) -> Int?
  ) {
    // Harmony's markup is shown and always read.
    for name in ["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"] {
      if let found = token(name) { attributes[found] = .userDefined }
    }
    func ends(_ name: String) -> Bool { token(name).map(endOfGeneration.contains) ?? false }
    // Harmony and Solar end a message, not the answer, with "<|end|>".
    let calls = ends("<|call|>") || ends("<|calls|>")
    if calls, ends("<|return|>") || ends("<|flush|>"), let end = token("<|end|>"),
      endOfGeneration.remove(end) != nil
    {
      attributes[end] = .userDefined
    }
    // Gemma 4 and PLaMo have an ordinary token with the text of Llama's end of sequence.
    if ends("<|tool_response>") || ends("<|plamo:eos|>"), let end = token("</s>"),
      endOfGeneration.remove(end) != nil
    {
      attributes[end] = .normal
    }
  }

  private static let endOfTurnNames = [
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>",
    "<EOT>", "_<EOT>", "[EOT]", "<｜end▁of▁sentence｜>", "<end_of_utterance>",
  ]

  private static let endOfGenerationNames =
    endOfTurnNames + [
      "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "</s>", "<|eom_id|>", "[EOS]", "<eos>",
      "<turn|>", "<|tool_response>", "[e~[",
    ]

  private static let prefixNames = [
    "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>",
    "<|code_prefix|>", "<|prefix|>",
  ]
  private static let suffixNames = [
    "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>",
    "<|code_suffix|>", "<|suffix|>",
  ]
  private static let middleNames = [
    "<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>", "▁<MID>",
    "<|code_middle|>", "<|middle|>",
  ]
  private static let paddingNames = ["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"]
  private static let repositoryNames = [
    "<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>",
  ]
}
