import LanguageModel
import QuantKernels
import TestSupport
import XCTest

/// Random vocabularies give a typed error or a tokenizer that takes any text.
final class TokenizerHostileTests: XCTestCase {
  private var random = RepeatableRandom(seed: 5)

  private func bytes(_ longest: Int) -> [UInt8] {
    // Few values, so that texts meet; among them parts of characters, spaces and zero.
    let alphabet: [UInt8] = [
      0x61, 0x62, 0x20, 0x0A, 0x00, 0xC4, 0xA0, 0xE2, 0x96, 0x81, 0xFF, 0x3C,
    ]
    return (0..<Int.random(in: 0...longest, using: &random)).map { _ in
      alphabet[Int.random(in: 0..<alphabet.count, using: &random)]
    }
  }

  private func id() -> Int? {
    [nil, -1, 0, 3, 20, .max, .min][Int.random(in: 0..<7, using: &random)]
  }

  private func vocabulary() -> TokenizerVocabulary {
    let models = TokenizerVocabulary.Model.allCases
    let names = [
      "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "</s>", "<|channel|>", "<mask>",
    ]
    let preTokenizers = ["", "llama-bpe", "kimi-k2", "gemma4", "jina-v2-de", "superbpe", "no"]
    var tokens = (0..<Int.random(in: 0...40, using: &random)).map { _ in bytes(6) }
    if Bool.random(using: &random) { tokens += names.map { Array($0.utf8) } }
    if Bool.random(using: &random) {
      // Mostly without repetitions, or few would be accepted.
      var seen: Set<[UInt8]> = []
      tokens = tokens.filter { seen.insert(Array($0.prefix { $0 != 0 })).inserted }
    }
    var vocabulary = TokenizerVocabulary(
      model: models[Int.random(in: 0..<models.count, using: &random)], tokens: tokens)
    vocabulary.preTokenizer = preTokenizers[Int.random(in: 0..<preTokenizers.count, using: &random)]
    let count = max(0, tokens.count + Int.random(in: -1...3, using: &random))
    if Bool.random(using: &random) {
      vocabulary.scores = (0..<count).map { _ in
        [0, 1, -1, .infinity, -.infinity, -0.0, 1e30][Int.random(in: 0..<7, using: &random)]
      }
    }
    if Bool.random(using: &random) {
      vocabulary.tokenTypes = (0..<count).map { _ in
        TokenizerVocabulary.TokenType(rawValue: Int.random(in: 0...6, using: &random)) ?? .normal
      }
    }
    if Int.random(in: 0..<8, using: &random) > 0 {
      vocabulary.merges = (0..<Int.random(in: 0...30, using: &random)).map { _ in bytes(7) }
    }
    vocabulary.specialTokens.beginningOfSequence = id()
    vocabulary.specialTokens.endOfSequence = id()
    vocabulary.specialTokens.unknown = id()
    vocabulary.specialTokens.endOfTurn = id()
    vocabulary.specialTokens.fillInMiddlePadding = id()
    vocabulary.addsBeginningOfSequence = [nil, true, false][Int.random(in: 0..<3, using: &random)]
    vocabulary.modelName = Bool.random(using: &random) ? "PHI-3" : "modern-bert"
    return vocabulary
  }

  func testRandomVocabularies() {
    var accepted = 0
    var refused = 0
    for round in 0..<600 {
      let vocabulary = vocabulary()
      do throws(QuantError) {
        let tokenizer = try Tokenizer(vocabulary: vocabulary)
        accepted += 1
        let size = tokenizer.vocabularySize
        XCTAssertEqual(size, vocabulary.tokens.count)
        func isToken(_ id: Int32) -> Bool { id >= 0 && Int(id) < size }
        XCTAssertTrue(tokenizer.endOfGeneration.allSatisfy(isToken), "round \(round)")
        XCTAssertTrue(tokenizer.beginningOfSequence.map(isToken) ?? true)
        if tokenizer.addsBeginningOfSequence { XCTAssertNotNil(tokenizer.beginningOfSequence) }
        for special in [false, true] {
          let ids = tokenizer.encode(
            bytes(60) + Array("<|end|> <mask>".utf8), parseSpecial: special)
          XCTAssertTrue(ids.allSatisfy(isToken), "round \(round)")
          _ = tokenizer.decode(ids, includeSpecial: special)
        }
      } catch {
        refused += 1
        XCTAssertTrue([.invalidData, .unsupported].contains(error.code))
        XCTAssertFalse(error.description.contains("\n"))
      }
    }
    XCTAssertGreaterThan(accepted, 60)
    XCTAssertGreaterThan(refused, 60)
  }
}
