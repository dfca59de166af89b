import LanguageModel
import QuantKernels
import TestSupport
import XCTest

final class TokenizerTests: XCTestCase {
  private func byteLevel(_ extra: [(String, TokenizerVocabulary.TokenType)] = [])
    -> TokenizerVocabulary
  {
    let bytes = (UInt8.min...UInt8.max).map { TokenizerFixture.spelling(of: $0) }
    var vocabulary = TokenizerVocabulary(
      model: .bytePair, tokens: bytes + extra.map { Array($0.0.utf8) })
    vocabulary.tokenTypes = bytes.map { _ in .normal } + extra.map(\.1)
    vocabulary.merges = []
    return vocabulary
  }

  private func assertRefused(
    _ vocabulary: TokenizerVocabulary, _ code: QuantError.Code, _ words: String,
    line: UInt = #line
  ) {
    XCTAssertThrowsError(try Tokenizer(vocabulary: vocabulary), line: line) { error in
      guard let error = error as? QuantError else { return XCTFail("\(error)", line: line) }
      XCTAssertEqual(error.code, code, error.description, line: line)
      XCTAssertTrue(error.description.contains(words), error.description, line: line)
      XCTAssertFalse(error.description.contains("\n"), line: line)
    }
  }

  // MARK: Vocabularies that are wrong

  func testBadVocabulariesAreRefused() {
    assertRefused(TokenizerVocabulary(model: .bytePair, tokens: []), .invalidData, "empty")
    var vocabulary = byteLevel()
    vocabulary.merges = nil
    assertRefused(vocabulary, .invalidData, "merges")
    vocabulary = byteLevel()
    vocabulary.preTokenizer = "no-such\nname"
    assertRefused(vocabulary, .unsupported, "no-such\\u{a}name")
    vocabulary = byteLevel([("twice", .normal), ("twice", .normal)])
    assertRefused(vocabulary, .invalidData, "256 and 257")
    vocabulary = byteLevel()
    vocabulary.tokenTypes.removeLast()
    assertRefused(vocabulary, .invalidData, "255 elements for 256")
    vocabulary = TokenizerVocabulary(model: .sentencePiece, tokens: [[0x61], [0x62], [0x63]])
    vocabulary.scores = [1, 2]
    assertRefused(vocabulary, .invalidData, "2 elements for 3")
    vocabulary.scores = [1, .nan, 2]
    assertRefused(vocabulary, .invalidData, "token 1")
    vocabulary = byteLevel()
    vocabulary.tokens.append([UInt8](repeating: 0x41, count: 2 << 20))
    vocabulary.tokenTypes.append(.control)
    assertRefused(vocabulary, .invalidData, "special tokens")
  }

  func testOddVocabulariesAreTolerated() throws {
    var vocabulary = byteLevel([("", .normal), ("ab", .normal), ("", .control)])
    vocabulary.merges = [
      "a b", "a  b", "", " ", "a", "a ", " a", "zz top", "ab cd", "x y z", "a b", "b c",
    ].map { Array($0.utf8) }
    vocabulary.specialTokens.beginningOfSequence = 1 << 40
    vocabulary.specialTokens.endOfSequence = -5
    vocabulary.specialTokens.endOfTurn = 256
    vocabulary.tokenTypes += [.normal, .normal]
    let tokenizer = try Tokenizer(vocabulary: vocabulary)
    XCTAssertEqual(tokenizer.encode("abcab", parseSpecial: true), [257, 99, 257])
    // Ids out of range leave the convention.
    XCTAssertEqual(tokenizer.beginningOfSequence, 11)
    XCTAssertEqual(tokenizer.endOfSequence, 11)
    XCTAssertEqual(tokenizer.endOfTurn, 256)
    XCTAssertEqual(tokenizer.endOfGeneration, [11, 256])
    XCTAssertEqual(tokenizer.text(of: 256), Array("[EMPTY_256]".utf8))
    // Texts end before a byte of zero.
    vocabulary.tokens[257] = [0x61, 0x62, 0, 0x63]
    XCTAssertEqual(try Tokenizer(vocabulary: vocabulary).text(of: 257), [0x61, 0x62])
    for id: Int32 in [-1, .min, .max, 259] {
      XCTAssertEqual(tokenizer.bytes(of: id, includeSpecial: true), [])
      XCTAssertNil(tokenizer.text(of: id))
      XCTAssertFalse(tokenizer.isSpecial(id))
    }
  }

  func testASmallVocabularyHasNoConventionalTokens() throws {
    var vocabulary = TokenizerVocabulary(model: .bytePair, tokens: [[0x61], [0x62]])
    vocabulary.merges = []
    vocabulary.addsBeginningOfSequence = true
    let tokenizer = try Tokenizer(vocabulary: vocabulary)
    XCTAssertNil(tokenizer.beginningOfSequence)
    XCTAssertFalse(tokenizer.addsBeginningOfSequence)
    XCTAssertEqual(tokenizer.encode("abc", parseSpecial: false), [0, 1], "c has no token")
  }

  // MARK: Special tokens

  func testControlTokensAreTextUnlessAskedFor() throws {
    let vocabulary = byteLevel([("<|im_end|>", .control), ("<tool>", .userDefined)])
    let tokenizer = try Tokenizer(vocabulary: vocabulary)
    let text = "x<|im_end|><tool>"
    XCTAssertEqual(tokenizer.encode(text, parseSpecial: true), [120, 256, 257])
    XCTAssertEqual(
      tokenizer.encode(text, parseSpecial: false),
      [120] + Array("<|im_end|>".utf8).map { Int32($0) } + [257])
    XCTAssertEqual(tokenizer.bytes(of: 256), [])
    XCTAssertEqual(tokenizer.bytes(of: 256, includeSpecial: true), Array("<|im_end|>".utf8))
    XCTAssertEqual(tokenizer.bytes(of: 257), Array("<tool>".utf8))
    XCTAssertTrue(tokenizer.isSpecial(256))
    XCTAssertFalse(tokenizer.isSpecial(257))
    XCTAssertEqual(tokenizer.token(withText: Array("<tool>".utf8)), 257)
    XCTAssertEqual(tokenizer.endOfTurn, 256)
    XCTAssertTrue(tokenizer.endOfGeneration.contains(256))
  }

  func testForgottenControlTokensAreToldByTheirText() throws {
    let tokenizer = try Tokenizer(vocabulary: byteLevel([("<|eot_id|>", .normal)]))
    XCTAssertEqual(tokenizer.encode("<|eot_id|>", parseSpecial: true), [256])
    XCTAssertTrue(tokenizer.isSpecial(256))
    XCTAssertTrue(tokenizer.endOfGeneration.contains(256))
  }

  func testHarmonyEndsWithReturnNotWithEnd() throws {
    let tokenizer = try Tokenizer(
      vocabulary: byteLevel([
        ("<|end|>", .control), ("<|return|>", .control), ("<|call|>", .control),
        ("<|channel|>", .control),
      ]))
    XCTAssertEqual(tokenizer.endOfGeneration, [11, 257, 258])
    XCTAssertEqual(tokenizer.encode("<|channel|><|end|>", parseSpecial: false), [259, 256])
  }

  func testPhi3TakesTheSpaceAfterItsTokens() throws {
    var vocabulary = byteLevel([("<|user|>", .control), ("<s>", .control)])
    XCTAssertEqual(
      try Tokenizer(vocabulary: vocabulary).encode("a <|user|> \nb<s> c", parseSpecial: true),
      [97, 32, 256, 32, 10, 98, 257, 32, 99])
    vocabulary.modelName = "My Phi-3 Mini"
    XCTAssertEqual(
      try Tokenizer(vocabulary: vocabulary).encode("a <|user|> \nb<s> c", parseSpecial: true),
      [97, 32, 256, 98, 257, 32, 99])
  }

  func testMasksTakeTheSpaceBeforeThem() throws {
    var vocabulary = byteLevel([("<mask>", .control)])
    vocabulary.preTokenizer = "jina-v2-code"
    XCTAssertEqual(
      try Tokenizer(vocabulary: vocabulary).encode("a \t<mask> b", parseSpecial: true),
      [97, 256, 32, 98])
  }

  // MARK: Bytes and characters

  /// Keys are bytes: canonically equivalent strings stay apart.
  func testCanonicallyEquivalentTokensDiffer() throws {
    let composed = Array("\u{E9}".utf8)
    let decomposed = Array("e\u{301}".utf8)
    var vocabulary = TokenizerVocabulary(
      model: .sentencePiece, tokens: [[0x3F], composed, decomposed, Array("\u{301}".utf8), [0x65]])
    vocabulary.addsSpacePrefix = false
    let tokenizer = try Tokenizer(vocabulary: vocabulary)
    XCTAssertEqual(tokenizer.encode(composed, parseSpecial: false), [1])
    XCTAssertEqual(tokenizer.encode(decomposed, parseSpecial: false), [2])
  }

  func testBytesWithoutATokenBecomeTheUnknownToken() throws {
    var vocabulary = TokenizerVocabulary(model: .sentencePiece, tokens: [[0x3F], [0x61]])
    vocabulary.addsSpacePrefix = false
    vocabulary.specialTokens.unknown = 0
    let tokenizer = try Tokenizer(vocabulary: vocabulary)
    XCTAssertEqual(tokenizer.encode("a\u{E9}", parseSpecial: false), [1, 0, 0])
  }

  func testTokensMayEndInsideCharacters() throws {
    let tokenizer = try Tokenizer(vocabulary: byteLevel())
    let text = "naïve \u{1F468}\u{200D}\u{1F469} ☃"
    let ids = tokenizer.encode(text, parseSpecial: false)
    XCTAssertEqual(ids.count, text.utf8.count)
    XCTAssertEqual(ids.flatMap { tokenizer.bytes(of: $0) }, Array(text.utf8))
    XCTAssertEqual(tokenizer.decode(ids), Array(text.utf8))
    XCTAssertEqual(tokenizer.encode("", parseSpecial: true), [])
    XCTAssertEqual(tokenizer.encode([0, 0], parseSpecial: false), [0, 0])
  }

  func testWhatAFileSaysWins() throws {
    var vocabulary = byteLevel()
    vocabulary.preTokenizer = "llama-bpe"
    XCTAssertTrue(try Tokenizer(vocabulary: vocabulary).addsBeginningOfSequence)
    vocabulary.addsBeginningOfSequence = false
    XCTAssertFalse(try Tokenizer(vocabulary: vocabulary).addsBeginningOfSequence)
    vocabulary.preTokenizer = "chatglm-bpe"
    XCTAssertNil(try Tokenizer(vocabulary: vocabulary).beginningOfSequence)
    vocabulary.specialTokens.beginningOfSequence = 7
    vocabulary.addsEndOfSequence = true
    let tokenizer = try Tokenizer(vocabulary: vocabulary)
    XCTAssertEqual(tokenizer.beginningOfSequence, 7)
    XCTAssertTrue(tokenizer.addsEndOfSequence)
  }

  // MARK: Metadata

  func testMetadataIsRead() throws {
    var writer = GGUFWriter()
    try writer.set("tokenizer.ggml.model", .string(Array("llama".utf8)))
    try writer.set(
      "tokenizer.ggml.tokens",
      .array(.string, ["?", "<s>", "</s>", "▁", "a", "▁a"].map { .string(Array($0.utf8)) }))
    try writer.set(
      "tokenizer.ggml.scores", .array(.int32, [0, 0, 0, -1, -2, -3].map { .int32($0) }))
    try writer.set(
      "tokenizer.ggml.token_type", .array(.int32, [2, 3, 3, 1, 1, 1].map { .int32($0) }))
    try writer.set("tokenizer.ggml.eos_token_id", .uint32(1))
    try writer.set("tokenizer.ggml.add_bos_token", .bool(false))
    let metadata = try GGUFFile(bytes: writer.serialized(), name: "image").metadata
    let tokenizer = try Tokenizer(metadata: metadata)
    XCTAssertEqual(tokenizer.encode("a a", parseSpecial: false), [5, 5])
    XCTAssertEqual(tokenizer.endOfSequence, 1)
    XCTAssertEqual(tokenizer.unknown, 0)
    XCTAssertEqual(tokenizer.endOfGeneration, [1, 2])
    XCTAssertFalse(tokenizer.addsBeginningOfSequence)
    XCTAssertThrowsError(try ChatTemplate(metadata: metadata)) {
      XCTAssertEqual(($0 as? QuantError)?.code, .invalidData)
    }
  }

  func testOtherModelsAreRefused() throws {
    for (model, code) in [("bert", QuantError.Code.unsupported), (nil, .invalidData)] {
      var writer = GGUFWriter()
      if let model { try writer.set("tokenizer.ggml.model", .string(Array(model.utf8))) }
      let metadata = try GGUFFile(bytes: writer.serialized(), name: "image").metadata
      XCTAssertThrowsError(try Tokenizer(metadata: metadata)) {
        XCTAssertEqual(($0 as? QuantError)?.code, code)
      }
    }
  }
}
