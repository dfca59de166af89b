import LanguageModel
import QuantKernels
import TestSupport
import XCTest

/// The fast algorithms against plain ones, on random vocabularies and texts of few letters.
final class TokenizerReferenceTests: XCTestCase {
  private let letters = ["a", "b", "c", "d"]

  private func word(_ length: Int, _ random: inout RepeatableRandom) -> String {
    (0..<length).map { _ in letters[Int.random(in: 0..<letters.count, using: &random)] }.joined()
  }

  private func bytes(_ texts: [String]) -> [[UInt8]] { texts.map { Array($0.utf8) } }

  func testBytePairMergesAsTheReference() throws {
    var random = RepeatableRandom(seed: 1)
    for round in 0..<12 {
      var known = letters
      var merges: [String] = []
      for _ in 0..<Int.random(in: 0...40, using: &random) {
        let left = known[Int.random(in: 0..<known.count, using: &random)]
        let right = known[Int.random(in: 0..<known.count, using: &random)]
        if left.count + right.count > 12 { continue }
        merges.append(left + " " + right)
        if !known.contains(left + right) { known.append(left + right) }
      }
      var ranks: [String: Int] = [:]
      for (rank, merge) in merges.enumerated() where ranks[merge] == nil { ranks[merge] = rank }
      // Every third of the longer texts is no token: it falls back to letters.
      let tokens = known.enumerated().filter { $0.offset < 4 || $0.offset % 3 != 0 }.map(\.element)
      var vocabulary = TokenizerVocabulary(model: .bytePair, tokens: bytes(tokens))
      vocabulary.preTokenizer = "gpt-2"
      vocabulary.merges = bytes(merges)
      let tokenizer = try Tokenizer(vocabulary: vocabulary)
      // Around the length where another algorithm takes over, too.
      for length in [1, 2, 3, 7, 20, 39, 40, 41, 60, 200] {
        let text = word(length, &random)
        let parts = ReferenceTokenizers.bytePair(text.map(String.init), ranks: ranks)
        let expected = parts.flatMap { tokens.contains($0) ? [$0] : $0.map(String.init) }
        let found = tokenizer.encode(text, parseSpecial: false)
        XCTAssertEqual(found.map { tokens[Int($0)] }, expected, "round \(round), \(text)")
        XCTAssertEqual(tokenizer.decode(found), Array(text.utf8))
      }
    }
  }

  func testSentencePieceMergesAsTheReference() throws {
    var random = RepeatableRandom(seed: 2)
    for round in 0..<12 {
      var tokens = ["<unk>", "<s>", "</s>", "\u{2581}"] + letters
      for _ in 0..<40 {
        let token = word(Int.random(in: 2...5, using: &random), &random)
        let spaced = Bool.random(using: &random) ? "\u{2581}" + token : token
        if !tokens.contains(spaced) { tokens.append(spaced) }
      }
      // Few distinct scores, so that position decides often; zeros of both signs are equal.
      let choices: [Float] = [-3, -2, -0.0, 0, 1, .infinity]
      let scores = tokens.map { _ in choices[Int.random(in: 0..<choices.count, using: &random)] }
      var vocabulary = TokenizerVocabulary(model: .sentencePiece, tokens: bytes(tokens))
      vocabulary.scores = scores
      vocabulary.tokenTypes =
        [.unknown, .control, .control] + tokens.dropFirst(3).map { _ in .normal }
      let tokenizer = try Tokenizer(vocabulary: vocabulary)
      let byText = Dictionary(uniqueKeysWithValues: zip(tokens, scores))
      for length in [1, 2, 5, 20, 100] {
        let text = (0..<length).map { _ in word(3, &random) }.joined(separator: " ")
        let escaped = "\u{2581}" + text.split(separator: " ").joined(separator: "\u{2581}")
        let expected = ReferenceTokenizers.sentencePiece(
          escaped.map(String.init), scores: byText)
        let found = tokenizer.encode(text, parseSpecial: false)
        XCTAssertEqual(found.map { tokens[Int($0)] }, expected, "round \(round), \(text)")
        XCTAssertEqual(tokenizer.decode(found), Array(text.utf8))
      }
    }
  }

  func testSpecialTokensAreFoundAsTheReference() throws {
    var random = RepeatableRandom(seed: 3)
    for round in 0..<60 {
      var specials: [String] = []
      for _ in 0..<Int.random(in: 1...12, using: &random) {
        let special = word(Int.random(in: 2...6, using: &random), &random)
        if !specials.contains(special) { specials.append(special) }
      }
      var vocabulary = TokenizerVocabulary(model: .bytePair, tokens: bytes(specials + letters))
      vocabulary.tokenTypes = specials.map { _ in .userDefined } + letters.map { _ in .normal }
      vocabulary.merges = []
      let tokenizer = try Tokenizer(vocabulary: vocabulary)
      for length in [1, 5, 30, 80] {
        let text = word(length, &random)
        let expected = ReferenceTokenizers.split(text, specials: specials).flatMap { part in
          switch part {
          case .text(let text): text.map(String.init)
          case .token(let token): [token]
          }
        }
        let found = tokenizer.encode(text, parseSpecial: false)
        XCTAssertEqual(
          found.map { (specials + letters)[Int($0)] }, expected, "round \(round): \(specials)")
      }
    }
  }

  /// Any bytes give some ids, in range, the same from a second call.
  func testAnyBytesEncode() throws {
    let byteLevel = try XCTUnwrap(TokenizerFixture("byte-level.txt", spellsBytes: true))
    let sentencePiece = try XCTUnwrap(TokenizerFixture("sentencepiece.txt"))
    var random = RepeatableRandom(seed: 4)
    let tokenizers = [
      try Tokenizer(vocabulary: byteLevel.vocabulary(.bytePair, preTokenizer: "llama-bpe")),
      try Tokenizer(vocabulary: byteLevel.vocabulary(.bytePair, preTokenizer: "tekken")),
      try Tokenizer(vocabulary: byteLevel.vocabulary(.gemma4)),
      try Tokenizer(vocabulary: sentencePiece.vocabulary(.sentencePiece)),
    ]
    for tokenizer in tokenizers {
      for length in 0..<120 {
        let text = (0..<length).map { _ in UInt8.random(in: 0...255, using: &random) }
        let ids = tokenizer.encode(text, parseSpecial: true)
        XCTAssertTrue(ids.allSatisfy { $0 >= 0 && Int($0) < tokenizer.vocabularySize })
        XCTAssertEqual(tokenizer.encode(text, parseSpecial: true), ids)
      }
    }
    // The highest four-byte forms spell no character; llama.cpp stops the process there.
    let invalid = tokenizers[0].encode(
      [0xF4, 0x90, 0x80, 0x80, 0xF7, 0xBF, 0xBF, 0xBF], parseSpecial: false)
    XCTAssertEqual(
      tokenizers[0].decode(invalid), Array(String(repeating: "\u{FFFD}", count: 8).utf8))
  }

  /// A megabyte without a place to cut: a quadratic algorithm would take hours.
  func testLongWordsTakeNoLongerThanTheirLength() throws {
    let byteLevel = try XCTUnwrap(TokenizerFixture("byte-level.txt", spellsBytes: true))
    let tokenizer = try Tokenizer(
      vocabulary: byteLevel.vocabulary(.bytePair, preTokenizer: "llama-bpe"))
    #if DEBUG
      let length = 1 << 15
    #else
      let length = 1 << 20
    #endif
    for letter in ["e", " ", "\n", "<ab"] {
      let text = String(repeating: letter, count: length / letter.utf8.count)
      let start = ContinuousClock.now
      let ids = tokenizer.encode(text, parseSpecial: true)
      XCTAssertLessThan(ContinuousClock.now - start, .seconds(20))
      XCTAssertEqual(tokenizer.decode(ids), Array(text.utf8))
    }
  }
}
