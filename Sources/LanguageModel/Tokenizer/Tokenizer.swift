import QuantKernels

/// Text to token ids and back, by the tables of a model file.
///
/// Ids are those of llama.cpp for the same file, token for token, for text of any kind, invalid
/// UTF-8 included. Where llama.cpp stops the process instead of answering, this says what it does:
/// - bytes that spell a value past U+10FFFF read as invalid, one U+FFFD a byte, in byte-level
///   models;
/// - a byte for which a SentencePiece vocabulary has no token becomes the unknown token, or
///   nothing;
/// - special tokens of equal length that overlap in a text are taken by lower id (llama.cpp: in no
///   defined order).
public final class Tokenizer: Sendable {
  private enum Encoder: Sendable {
    case bytePair(BytePairEncoder)
    case sentencePiece(SentencePieceEncoder)
  }

  private let encoder: Encoder
  private let texts: ByteStringTable
  private let attributes: [TokenAttributes]
  private let splitter: SpecialTokenSplitter
  /// What each token means, in a row, and where each begins.
  private let pieces: [UInt8]
  private let pieceStarts: [Int]

  /// Tokens in the vocabulary.
  public let vocabularySize: Int
  /// The token that begins a sequence.
  public let beginningOfSequence: Int32?
  /// The token that ends a sequence.
  public let endOfSequence: Int32?
  /// The token that ends a turn of a conversation.
  public let endOfTurn: Int32?
  /// The token that stands for what no other token can spell.
  public let unknown: Int32?
  /// The tokens after which a model has finished.
  public let endOfGeneration: Set<Int32>
  /// Whether prompts begin with ``beginningOfSequence``; ``encode(_:parseSpecial:)-([UInt8],_)``
  /// never adds it.
  public let addsBeginningOfSequence: Bool
  /// Whether texts end with ``endOfSequence``; ``encode(_:parseSpecial:)-([UInt8],_)`` never adds
  /// it.
  public let addsEndOfSequence: Bool
  /// Whether text is encoded as if a space stood before it.
  public let addsSpacePrefix: Bool

  /// Reads the tokenizer of a model file.
  ///
  /// - Throws: as ``init(vocabulary:)``, and for metadata that name no tokenizer or an unknown one.
  public convenience init(metadata: some TokenizerMetadata) throws(QuantError) {
    try self.init(vocabulary: TokenizerVocabulary(metadata: metadata))
  }

  /// Checks a vocabulary and builds its tables. O(bytes of the vocabulary).
  ///
  /// Tolerated as llama.cpp does: role ids outside the vocabulary (ignored), empty tokens (named
  /// `[EMPTY_id]`), texts with a byte of zero (they end before it), merges of texts that are no
  /// tokens (they merge, and what is no token in the end falls back to bytes), repeated merges (the
  /// first counts).
  /// - Throws: `invalidData` for no tokens, too many, two alike, fewer scores or types than tokens,
  ///   a score that is NaN, or a byte-level vocabulary without merges; `unsupported` for an unknown
  ///   pre-tokenizer.
  public init(vocabulary: TokenizerVocabulary) throws(QuantError) {
    let texts = try Tokenizer.checkedTexts(vocabulary)
    var attributes = Tokenizer.attributes(vocabulary)
    var preTokenizer: PreTokenizer?
    if vocabulary.model != .sentencePiece {
      preTokenizer = try PreTokenizer(
        named: vocabulary.model == .gemma4 ? "gemma4" : vocabulary.preTokenizer)
    }
    let roles = SpecialTokenRoles(
      vocabulary, texts: texts,
      hasDefaultBeginning: preTokenizer?.hasDefaultBeginningOfSequence ?? true,
      attributes: &attributes)
    if let preTokenizer {
      let merges = try Tokenizer.checkedMerges(vocabulary)
      encoder = .bytePair(
        BytePairEncoder(texts: texts, merges: merges, preTokenizer: preTokenizer))
    } else {
      encoder = .sentencePiece(
        SentencePieceEncoder(texts: texts, scores: vocabulary.scores, unknown: roles.unknown))
    }
    (pieces, pieceStarts) = Tokenizer.pieces(
      texts, attributes, spellsBytes: preTokenizer?.encodesBytes ?? false)
    Tokenizer.setStripping(vocabulary, texts, &attributes)
    self.texts = texts
    self.attributes = attributes
    splitter = try SpecialTokenSplitter(texts: texts, attributes: attributes)
    vocabularySize = texts.count
    func id(_ id: Int?) -> Int32? { id.map { Int32(truncatingIfNeeded: $0) } }
    beginningOfSequence = id(roles.beginningOfSequence)
    endOfSequence = id(roles.endOfSequence)
    endOfTurn = id(roles.endOfTurn)
    unknown = id(roles.unknown)
    endOfGeneration = Set(roles.endOfGeneration.map { Int32(truncatingIfNeeded: $0) })
    let isSentencePiece = vocabulary.model == .sentencePiece
    let adds =
      preTokenizer?.isGemma4 == true
      || vocabulary.addsBeginningOfSequence
        ?? (isSentencePiece || preTokenizer?.addsBeginningOfSequence == true)
    addsBeginningOfSequence = adds && roles.beginningOfSequence != nil
    addsEndOfSequence = vocabulary.addsEndOfSequence == true && roles.endOfSequence != nil
    addsSpacePrefix = vocabulary.addsSpacePrefix ?? isSentencePiece
  }

  // MARK: Encoding

  /// The token ids of a text, without a beginning-of-sequence token.
  ///
  /// - Parameters:
  ///   - text: any bytes; UTF-8 where the model is to make sense of them.
  ///   - parseSpecial: whether the texts of control tokens become those tokens. Switch it on for
  ///     prompts that a ``ChatTemplate`` made, and off for text of unknown origin. Tokens that the
  ///     vocabulary calls user-defined are found either way.
  /// - Complexity: O(n log n) in the longest word, O(n) otherwise.
  public func encode(_ text: [UInt8], parseSpecial: Bool) -> [Int32] {
    text.withUnsafeBufferPointer { encode($0, parseSpecial: parseSpecial) }
  }

  /// The token ids of a text, without a beginning-of-sequence token.
  public func encode(_ text: String, parseSpecial: Bool) -> [Int32] {
    var text = text
    return text.withUTF8 { encode($0, parseSpecial: parseSpecial) }
  }

  private func encode(_ text: UnsafeBufferPointer<UInt8>, parseSpecial: Bool) -> [Int32] {
    var output: [Int32] = []
    output.reserveCapacity(text.count / 3 + 1)
    var workspace = BytePairEncoder.Workspace()
    var followsSpecial = true
    // Positions inside a part take 32 bits, and an invalid byte grows to three.
    let part = 1 << 30
    for start in stride(from: 0, to: text.count, by: part) {
      let text = UnsafeBufferPointer(rebasing: text[start..<min(start + part, text.count)])
      for fragment in splitter.split(text, parsesControl: parseSpecial) {
        switch fragment {
        case .token(let id):
          output.append(id)
          followsSpecial = true
        case .text(let range):
          let text = UnsafeBufferPointer(rebasing: text[range])
          switch encoder {
          case .bytePair(let encoder):
            encoder.encode(text, into: &output, workspace: &workspace)
          case .sentencePiece(let encoder):
            let escaped = EscapedSpace.escape(text, prefix: addsSpacePrefix && followsSpecial)
            escaped.withUnsafeBufferPointer { encoder.encode(escaped: $0, into: &output) }
          }
          followsSpecial = false
        }
      }
    }
    return output
  }

  // MARK: Decoding

  /// Appends the bytes that a token stands for; they may be part of a character.
  ///
  /// - Parameters:
  ///   - token: an id; one outside the vocabulary stands for nothing.
  ///   - includeSpecial: whether control tokens and the unknown token give their texts, or nothing.
  ///   - bytes: what they are appended to.
  public func appendBytes(
    of token: Int32, includeSpecial: Bool = false, to bytes: inout [UInt8]
  ) {
    guard token >= 0, Int(token) < vocabularySize else { return }
    if !includeSpecial, !attributes[Int(token)].isDisjoint(with: .hidden) { return }
    bytes.append(contentsOf: pieces[pieceStarts[Int(token)]..<pieceStarts[Int(token) + 1]])
  }

  /// The bytes that a token stands for; they may be part of a character.
  public func bytes(of token: Int32, includeSpecial: Bool = false) -> [UInt8] {
    var result: [UInt8] = []
    appendBytes(of: token, includeSpecial: includeSpecial, to: &result)
    return result
  }

  /// The text of a sequence of tokens, without the space that ``addsSpacePrefix`` put before it.
  ///
  /// Decoding what was encoded gives the same bytes where they were valid UTF-8. Two exceptions in
  /// SentencePiece vocabularies: U+2581 comes back as a space, and a space stands after each
  /// special token if ``addsSpacePrefix``.
  public func decode(_ tokens: some Sequence<Int32>, includeSpecial: Bool = false) -> [UInt8] {
    var result: [UInt8] = []
    var isFirst = addsSpacePrefix
    for token in tokens {
      appendBytes(of: token, includeSpecial: includeSpecial, to: &result)
      if isFirst, includeSpecial || !isSpecial(token) {
        if result.first == 0x20 { result.removeFirst() }
        isFirst = false
      }
    }
    return result
  }

  /// A token's text as the vocabulary spells it, or nil outside the vocabulary.
  public func text(of token: Int32) -> [UInt8]? {
    guard token >= 0, Int(token) < vocabularySize else { return nil }
    return Array(texts[Int(token)])
  }

  /// The token whose text in the vocabulary this is, or nil.
  public func token(withText text: [UInt8]) -> Int32? {
    texts.number(of: text).map { Int32(truncatingIfNeeded: $0) }
  }

  /// Whether a token is markup that is not shown: a control token or the unknown token.
  public func isSpecial(_ token: Int32) -> Bool {
    token >= 0 && Int(token) < vocabularySize
      && !attributes[Int(token)].isDisjoint(with: .hidden)
  }
}
