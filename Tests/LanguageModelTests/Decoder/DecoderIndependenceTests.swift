import LanguageModel
import QuantKernels
import Testing

/// Logits do not depend on how tokens are cut into calls, nor on threads: bit for bit.
@Suite struct DecoderIndependenceTests {
  /// Bits of the logits after each token, read in calls of the given sizes.
  private func bits(_ session: Session, _ tokens: [Int32], calls: [Int]) throws -> [[UInt32]] {
    var result: [[UInt32]] = []
    var first = 0
    let vocabulary = session.model.configuration.vocabularySize
    for count in calls {
      let part = Array(tokens[first..<first + count])
      try session.forward(part, logits: 0..<count) { rows, logits in
        for row in 0..<rows.count {
          result.append((0..<vocabulary).map { logits[row * vocabulary + $0].bitPattern })
        }
      }
      first += count
    }
    return result
  }

  @Test(
    arguments: ModelCase.architectures, [(Arithmetic.fast, KeyValueType.f16), (.exact, .f32)])
  func batchesEqualSteps(_ model: ModelCase, _ mode: (Arithmetic, KeyValueType)) throws {
    let tokens = model.tokens(37)
    let loaded = try model.load(arithmetic: mode.0, keyValueType: mode.1)
    let session = try loaded.makeSession()
    let steps = try bits(session, tokens, calls: Array(repeating: 1, count: 37))
    for calls in [[37], [1, 36], [36, 1], [7, 2, 20, 8]] {
      session.reset()
      #expect(try bits(session, tokens, calls: calls) == steps)
    }
    // The last row alone, which spares the rest of the last layer.
    session.reset()
    try session.forward(tokens)
    #expect(session.logits.map(\.bitPattern) == steps.last)
    session.reset()
    try session.prefill(Array(tokens[..<30]))
    for token in tokens[30...] { try session.forward(token: token) }
    #expect(session.logits.map(\.bitPattern) == steps.last)
    // Taking tokens back.
    session.truncate(to: 20)
    try session.forward(Array(tokens[20...]))
    #expect(session.logits.map(\.bitPattern) == steps.last)
  }

  /// Longer than one batch of 512.
  @Test func longPromptsEqualSteps() throws {
    let model = ModelCase("llama", .llama) {
      $0.layerCount = 2
      $0.contextLength = 1024
    }
    let tokens = model.tokens(600)
    let session = try model.load(arithmetic: .fast, keyValueType: .f16).makeSession()
    try session.prefill(Array(tokens[..<599]))
    try session.forward(token: tokens[599])
    let expected = session.logits.map(\.bitPattern)
    session.reset()
    try session.forward(tokens)
    #expect(session.logits.map(\.bitPattern) == expected)
    session.reset()
    var visited: [Int] = []
    try session.forward(tokens, logits: 500..<600) { rows, _ in visited += rows }
    #expect(visited == Array(500..<600))
  }

  @Test(arguments: ModelCase.architectures)
  func threadsDoNotChangeBits(_ model: ModelCase) throws {
    let tokens = model.tokens(33)
    let results = try [1, 2, 7].map { threads in
      let loaded = try model.load(threads: threads, arithmetic: .fast, keyValueType: .f16)
      return try bits(loaded.makeSession(), tokens, calls: [32, 1])
    }
    #expect(results[0] == results[1])
    #expect(results[0] == results[2])
  }

  /// Every instruction set runs; integer products are equal, float expressions may round
  /// differently between levels.
  @Test(arguments: InstructionSet.supported)
  func instructionSetsAgree(_ set: InstructionSet) throws {
    let model = ModelCase.architectures[0]
    let tokens = model.tokens(9)
    var options = LanguageModel.Options()
    options.instructionSet = set
    options.arithmetic = .exact
    options.keyValueType = .f32
    let session = try LanguageModel(file: try model.file(), options: options).makeSession()
    try session.forward(tokens)
    let expected = try #require(ReferenceDecoder(file: try model.file()).logits(tokens).last)
    for (found, value) in zip(session.logits, expected) {
      #expect(abs(Double(found) - value) < 1e-4)
    }
  }
}
