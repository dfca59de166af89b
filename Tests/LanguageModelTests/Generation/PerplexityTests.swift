import Foundation
import LanguageModel
import QuantKernels
import Testing

@Suite struct PerplexityTests {
  /// −ln p of each token after the first, from logits of one call, in double.
  private func losses(_ model: LanguageModel, _ window: [Int32]) throws -> [Double] {
    let vocabulary = model.configuration.vocabularySize
    var result: [Double] = []
    try model.makeSession().forward(window, logits: 0..<window.count - 1) { rows, logits in
      for row in rows {
        let values = (0..<vocabulary).map {
          Double(logits[(row - rows.lowerBound) * vocabulary + $0])
        }
        let sum = values.reduce(0) { $0 + exp($1) }
        result.append(log(sum) - values[Int(window[row + 1])])
      }
    }
    return result
  }

  /// The definition, by hand: mean and standard error over the second half of consecutive windows.
  @Test(arguments: [nil, Int32(1)])
  func windowsAreScoredAsDefined(_ beginning: Int32?) throws {
    let model = ModelCase.architectures[0]
    let loaded = try model.load()
    let tokens = model.tokens(3 * 16 + 5)
    var scored: [Double] = []
    for start in [0, 16, 32] {
      var window = Array(tokens[start..<start + 16])
      if let beginning { window[0] = beginning }
      // Rows 8…14 predict tokens 9…15.
      scored += try losses(loaded, window)[8...14]
    }
    let mean = scored.reduce(0, +) / 21
    let variance = scored.reduce(0) { $0 + $1 * $1 } / 21 - mean * mean
    let found = try Perplexity(
      of: tokens, model: loaded, beginningOfSequence: beginning, options: .init(context: 16))
    #expect(found.windows == 3 && found.scoredTokens == 21 && found.textTokens == 53)
    // Losses are stored as floats: 2⁻²⁴ of about 6.
    #expect(abs(log(found.perplexity) - mean) < 1e-6)
    #expect(abs(found.standardError / found.perplexity - (variance / 20).squareRoot()) < 1e-6)
    let first = try Perplexity(
      of: tokens, model: loaded, beginningOfSequence: beginning,
      options: .init(context: 16, windows: 1))
    #expect(abs(log(first.perplexity) - scored[..<7].reduce(0, +) / 7) < 1e-6)
  }

  @Test func slidingWindowsScoreTheirLastTokens() throws {
    let model = ModelCase.architectures[2]
    let loaded = try model.load()
    let tokens = model.tokens(30)
    var scored: [Double] = []
    for start in stride(from: 0, through: 14, by: 4) {
      scored += try losses(loaded, Array(tokens[start..<start + 16])).suffix(4)
    }
    let found = try Perplexity(
      of: tokens, model: loaded, beginningOfSequence: nil, options: .init(context: 16, stride: 4))
    #expect(found.windows == 4 && found.scoredTokens == 16)
    #expect(abs(log(found.perplexity) - scored.reduce(0, +) / 16) < 1e-6)
  }

  @Test func textIsTokenizedWithBeginningOfSequenceWhereTheModelAddsOne() throws {
    let text = Array(
      "the hen and the other hen is in the tin of tea, so it sings and is no more".utf8)
    let plain = try ModelCase.architectures[0].load()
    let count = plain.tokenizer.encode(text, parseSpecial: false).count
    let without = try Perplexity(of: text, model: plain, options: .init(context: 8))
    #expect(without.textTokens == count)
    let gemma = try Perplexity(
      of: text, model: ModelCase.architectures[3].load(), options: .init(context: 8))
    #expect(gemma.textTokens == count + 1)
  }

  @Test func badRequestsAreRefused() throws {
    let loaded = try ModelCase.architectures[0].load()
    let tokens = ModelCase.architectures[0].tokens(40)
    let requests: [(Int, Perplexity.Options)] = [
      (15, .init(context: 16)), (40, .init(context: 3)), (40, .init(context: 100_000)),
      (40, .init(context: 16, windows: 0)), (40, .init(context: 16, stride: 0)),
      (40, .init(context: 16, stride: 16)),
    ]
    for (count, options) in requests {
      let error = #expect(throws: QuantError.self) {
        try Perplexity(
          of: Array(tokens[..<count]), model: loaded, beginningOfSequence: nil, options: options)
      }
      #expect(error?.code == .invalidArgument)
    }
    let flag = CancellationFlag()
    flag.cancel()
    let error = #expect(throws: QuantError.self) {
      try Perplexity(
        of: tokens, model: loaded, beginningOfSequence: nil, options: .init(context: 16),
        cancellation: flag)
    }
    #expect(error?.code == .cancelled)
  }
}
