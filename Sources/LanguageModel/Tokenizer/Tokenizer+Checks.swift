import QuantKernels

extension Tokenizer {
  /// Numbers the tokens' texts by their ids.
  static func checkedTexts(_ vocabulary: TokenizerVocabulary) throws(QuantError) -> ByteStringTable
  {
    let tokens = vocabulary.tokens
    let remedy = "fetch the file again or convert the model again"
    func fail(_ key: String, _ problem: String) -> QuantError {
      QuantError(.invalidData, "tokenizer.ggml.\(key)", problem, remedy: remedy)
    }
    guard !tokens.isEmpty else { throw fail("tokens", "the vocabulary is empty") }
    // Merges add up to three texts each, and all of them are numbered and placed in 32 bits.
    let merges = vocabulary.merges ?? []
    let bytes = tokens.reduce(0) { $0 + max($1.count, 32) }
    let storage = ByteStringTable.storage(
      count: tokens.count + 3 * merges.count, bytes: bytes + 2 * merges.reduce(0) { $0 + $1.count })
    guard storage < ByteStringTable.largestStorage else {
      throw fail("tokens", "\(tokens.count) tokens and their merges are too large")
    }
    for (key, count) in [
      ("scores", vocabulary.scores.count), ("token_type", vocabulary.tokenTypes.count),
    ] where count > 0 && count < tokens.count {
      throw fail(key, "\(count) elements for \(tokens.count) tokens")
    }
    if vocabulary.model == .sentencePiece,
      let index = vocabulary.scores.prefix(tokens.count).firstIndex(where: \.isNaN)
    {
      throw fail("scores", "the score of token \(index) is not a number")
    }
    var table = ByteStringTable(
      capacity: tokens.count, bytes: tokens.reduce(0) { $0 + $1.count })
    for (id, token) in tokens.enumerated() {
      let cut = untilNull(token)
      // An empty token keeps its id under a name that hardly any text has.
      let text = cut.isEmpty ? Array("[EMPTY_\(id)]".utf8)[...] : cut
      let (number, isNew) = text.withUnsafeBufferPointer { table.insert($0) }
      guard isNew else {
        throw fail("tokens", "tokens \(number) and \(id) have the same text")
      }
    }
    return table
  }

  /// A text up to its first byte of zero: llama.cpp reads texts of vocabularies as C strings.
  static func untilNull(_ text: [UInt8]) -> ArraySlice<UInt8> { text.prefix { $0 != 0 } }

  static func checkedMerges(_ vocabulary: TokenizerVocabulary) throws(QuantError) -> [[UInt8]] {
    if let merges = vocabulary.merges { return merges }
    // Kimi K2's files may leave them out.
    if vocabulary.preTokenizer == "kimi-k2" { return [] }
    throw QuantError(
      .invalidData, "tokenizer.ggml.merges", "the vocabulary has no merges",
      remedy: "use a file that was converted with its merges")
  }

  static func attributes(_ vocabulary: TokenizerVocabulary) -> [TokenAttributes] {
    let count = vocabulary.tokens.count
    if vocabulary.tokenTypes.isEmpty { return [TokenAttributes](repeating: .normal, count: count) }
    return vocabulary.tokenTypes.prefix(count).map { TokenAttributes($0) }
  }

  /// White space around special tokens belongs to them in models that are told by name.
  static func setStripping(
    _ vocabulary: TokenizerVocabulary, _ texts: ByteStringTable,
    _ attributes: inout [TokenAttributes]
  ) {
    func token(_ text: String) -> Int? { texts.number(of: Array(text.utf8)) }
    let name = vocabulary.modelName.lowercased()
    let preTokenizer = vocabulary.preTokenizer
    if ["jina-v2-de", "jina-v2-es", "jina-v2-code"].contains(where: { preTokenizer.contains($0) }) {
      if let mask = token("<mask>") { attributes[mask].insert(.stripsLeft) }
    } else if ["phi-3", "phi3"].contains(where: { name.contains($0) }) {
      for id in attributes.indices where !attributes[id].isDisjoint(with: .special) {
        attributes[id].insert(.stripsRight)
      }
      if let end = token("</s>") { attributes[end].insert(.stripsRight) }
      for text in ["<unk>", "<s>", "<|endoftext|>"] {
        if let id = token(text) { attributes[id].remove(.stripsRight) }
      }
    } else if name.contains("modern-bert"), let mask = token("[MASK]") {
      attributes[mask].insert(.stripsLeft)
    }
  }

  /// What each token means, all in a row, and where each begins; one more start ends the last.
  static func pieces(
    _ texts: ByteStringTable, _ attributes: [TokenAttributes], spellsBytes: Bool
  ) -> ([UInt8], [Int]) {
    var pieces: [UInt8] = []
    var starts = [0]
    starts.reserveCapacity(texts.count + 1)
    for id in 0..<texts.count {
      let text = texts[id]
      if !attributes[id].isDisjoint(with: .special) {
        pieces.append(contentsOf: text)
      } else if attributes[id].contains(.normal) {
        if spellsBytes {
          ByteSpelling.appendMeaning(of: text, to: &pieces)
        } else {
          EscapedSpace.appendUnescaped(text, to: &pieces)
        }
      } else if attributes[id].contains(.byte) {
        if let byte = ByteName.byte(namedBy: text) {
          pieces.append(byte)
        } else if text.count == 1 {
          pieces.append(contentsOf: text)
        }
      }
      starts.append(pieces.count)
    }
    return (pieces, starts)
  }
}
