import LanguageModel
import QuantKernels
import Testing

/// Logits against an independent float64 decoder.
@Suite struct DecoderReferenceTests {
  /// Every architecture and what it varies in, past the sliding window.
  ///
  /// The tolerance is derived from the model itself: the reference, run a second time with every
  /// operation rounded to float32, shows by how much rounding moves the logits. Another order of
  /// sums draws other roundings of the same size, so the worst of some thousand logits lies within
  /// a small multiple of it; 16 leaves room. A wrong constant, a swapped pair or a missing norm
  /// moves logits by 10⁻³ and more, a thousand times the tolerance.
  @Test(arguments: ModelCase.variants)
  func logitsAgreeWithFloat64(_ model: ModelCase) throws {
    let tokens = model.tokens(22)
    let file = try model.file()
    let expected = try ReferenceDecoder(file: file).logits(tokens)
    let rounded = try ReferenceDecoder(file: file, rounds: true).logits(tokens)
    let rounding = zip(expected, rounded).flatMap { zip($0, $1).map { abs($0 - $1) } }.max() ?? 0
    let tolerance = 16 * rounding
    #expect(rounding > 0 && tolerance < 1e-3)

    let session = try model.load().makeSession()
    var worst = 0.0
    try session.forward(tokens, logits: 0..<tokens.count) { rows, logits in
      for row in rows {
        let found = logits + (row - rows.lowerBound) * model.model.vocabularySize
        for (token, value) in expected[row].enumerated() {
          worst = max(worst, abs(Double(found[token]) - value))
        }
      }
    }
    #expect(worst <= tolerance)
  }

  /// int8 activations and a half-precision cache stay near: a coarse bound that a mix-up of scales
  /// would break.
  @Test(arguments: ModelCase.architectures)
  func fastArithmeticStaysNear(_ model: ModelCase) throws {
    let tokens = model.tokens(12)
    let expected = try #require(ReferenceDecoder(file: try model.file()).logits(tokens).last)
    let session = try model.load(arithmetic: .fast, keyValueType: .f16).makeSession()
    try session.forward(tokens)
    var error = 0.0
    var size = 0.0
    for (value, found) in zip(expected, session.logits) {
      error += (value - Double(found)) * (value - Double(found))
      size += value * value
    }
    // An int8 of a group's range errs by at most 1/254 of it; a handful of products on the way add
    // up.
    #expect(error / size < 1e-3)
  }
}
