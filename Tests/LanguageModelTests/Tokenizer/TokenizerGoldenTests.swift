import LanguageModel
import QuantKernels
import TestSupport
import XCTest

/// Ids that llama.cpp gave (`Tests/Fixtures/Tokenizer/make.py`).
final class TokenizerGoldenTests: XCTestCase {
  private func assertEqual(
    _ tokenizer: Tokenizer, _ cases: [TokenizerFixture.Case], line: UInt = #line
  ) {
    XCTAssertGreaterThan(cases.count, 10, line: line)
    for (index, expected) in cases.enumerated() {
      let message = "text \(index): \(String(decoding: expected.text, as: UTF8.self))"
      XCTAssertEqual(
        tokenizer.encode(expected.text, parseSpecial: false), expected.plain, message, line: line)
      XCTAssertEqual(
        tokenizer.encode(expected.text, parseSpecial: true), expected.special, message, line: line)
    }
  }

  func testSmolLM2() throws {
    let metadata = try GGUFFile(path: RealModel.path()).metadata
    try XCTSkipUnless(
      metadata.string("tokenizer.ggml.pre") == "smollm"
        && metadata.stringBytes("tokenizer.ggml.tokens")?.count == 49152,
      "the model is not SmolLM2")
    let fixture = try XCTUnwrap(TokenizerFixture("smollm2.txt"))
    let tokenizer = try Tokenizer(metadata: metadata)
    assertEqual(tokenizer, fixture.cases)
    XCTAssertEqual(tokenizer.endOfGeneration, fixture.ends)
    XCTAssertEqual(tokenizer.beginningOfSequence, 1)
    XCTAssertEqual(tokenizer.endOfSequence, 2)
    XCTAssertFalse(tokenizer.addsBeginningOfSequence)
    for text in fixture.cases.map(\.text) where String(validating: text, as: UTF8.self) != nil {
      let ids = tokenizer.encode(text, parseSpecial: false)
      XCTAssertEqual(tokenizer.decode(ids), text)
    }
    let template = try ChatTemplate(metadata: metadata)
    XCTAssertEqual(template.family, .chatML)
    XCTAssertEqual(
      template.format([.user("Hi")], addGenerationPrompt: true),
      "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
        + "<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
  }

  func testEveryPreTokenizer() throws {
    let fixture = try XCTUnwrap(TokenizerFixture("byte-level.txt", spellsBytes: true))
    XCTAssertGreaterThan(fixture.checksums.count, 40)
    for (name, expected) in fixture.checksums {
      let tokenizer = try Tokenizer(
        vocabulary: fixture.vocabulary(.bytePair, preTokenizer: name))
      XCTAssertEqual(expected.count, 2 * fixture.cases.count)
      for (index, text) in fixture.cases.map(\.text).enumerated() {
        for (place, special) in [false, true].enumerated() {
          let ids = tokenizer.encode(text, parseSpecial: special)
          XCTAssertEqual(
            TokenizerFixture.checksum(ids), expected[2 * index + place],
            "\(name), text \(index), special \(special): \(ids)")
        }
      }
    }
  }

  func testSentencePiece() throws {
    let fixture = try XCTUnwrap(TokenizerFixture("sentencepiece.txt"))
    let tokenizer = try Tokenizer(vocabulary: fixture.vocabulary(.sentencePiece))
    assertEqual(tokenizer, fixture.cases)
    XCTAssertEqual(tokenizer.endOfGeneration, fixture.ends)
    XCTAssertTrue(tokenizer.addsBeginningOfSequence)
    XCTAssertTrue(tokenizer.addsSpacePrefix)
    // A space is put behind user-defined tokens, too, and stays.
    let specials = Set(fixture.types.indices.filter { fixture.types[$0] == .userDefined })
    let round = fixture.cases.filter {
      String(validating: $0.text, as: UTF8.self) != nil
        && specials.isDisjoint(with: $0.plain.map { Int($0) })
    }
    XCTAssertGreaterThan(round.count, 6)
    for text in round.map(\.text) {
      XCTAssertEqual(tokenizer.decode(tokenizer.encode(text, parseSpecial: false)), text)
    }
  }
}
