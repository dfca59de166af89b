import LanguageModel
import QuantKernels
import Testing

@Suite struct GenerationTests {
  private let model = ModelCase("llama", .llama) { $0.contextLength = 64 }

  private func options(_ tokens: Int?) -> GenerationOptions {
    var options = GenerationOptions()
    options.maximumTokens = tokens
    options.stopsAtEndOfGeneration = false
    return options
  }

  /// Greedy generation equals taking the likeliest token of each step by hand; text and callback
  /// agree with it.
  @Test func greedyGenerationFollowsTheLikeliest() throws {
    let loaded = try model.load()
    let prompt = model.tokens(6)
    var streamed: [Int32] = []
    var text = ""
    let result = try loaded.makeSession().generate(prompt: prompt, options: options(12)) {
      streamed.append($0)
      text += $1
      return true
    }
    let session = try loaded.makeSession()
    try session.forward(prompt)
    var expected: [Int32] = []
    for _ in 0..<12 {
      let token = try #require(
        session.logits.indices.max { session.logits[$0] < session.logits[$1] })
      expected.append(Int32(token))
      try session.forward(token: Int32(token))
    }
    #expect(result.tokens == expected)
    #expect(streamed == expected)
    #expect(result.reason == .maximumTokens)
    #expect(result.promptTokens == 6 && !result.beganWithBeginningOfSequence)
    #expect(result.decodeSteps == 11)
    #expect(result.text == String(decoding: loaded.tokenizer.decode(expected), as: UTF8.self))
    #expect(text == result.text)
    #expect(result.promptSeconds > 0 && result.decodeSeconds > 0)
  }

  @Test func aSeedDeterminesTheText() throws {
    let loaded = try model.load()
    func run(_ seed: UInt64) throws -> [Int32] {
      var options = options(20)
      options.sampling.temperature = 1.5
      options.sampling.seed = seed
      return try loaded.generate(prompt: "the hen and", options: options).tokens
    }
    #expect(try run(5) == run(5))
    #expect(try run(5) != run(6))
  }

  @Test func aFullContextStops() throws {
    let loaded = try model.load(contextLength: 20)
    let result = try loaded.makeSession().generate(prompt: model.tokens(8), options: options(nil))
    #expect(result.reason == .contextFull)
    // 12 positions are left, and the last token generated needs none.
    #expect(result.tokens.count == 13)
    let full = try loaded.makeSession().generate(prompt: model.tokens(20), options: options(nil))
    #expect(full.reason == .contextFull && full.tokens.count == 1)
  }

  @Test func aPromptLongerThanTheContextIsRefused() throws {
    let loaded = try model.load(contextLength: 20)
    let session = try loaded.makeSession()
    let error = #expect(throws: QuantError.self) {
      try session.generate(prompt: model.tokens(21), options: options(1))
    }
    #expect(error?.code == .invalidArgument && error?.subject == "prompt")
    #expect(session.position == 0)
    #expect(throws: QuantError.self) { try session.forward(model.tokens(21)) }
  }

  @Test func anEmptyPromptStartsFromBeginningOfSequenceOrIsRefused() throws {
    let result = try model.load().generate(prompt: "", options: options(3))
    #expect(result.beganWithBeginningOfSequence && result.promptTokens == 1)
    #expect(result.tokens.count == 3)
    let without = ModelCase("no BOS", .qwen2) { $0.hasBeginningOfSequence = false }
    let error = #expect(throws: QuantError.self) {
      try without.load().generate(prompt: "", options: options(3))
    }
    #expect(error?.code == .invalidArgument && error?.subject == "prompt")
  }

  @Test func aModelThatWantsBeginningOfSequenceGetsOneOnce() throws {
    let gemma = ModelCase.architectures[3]
    let loaded = try gemma.load()
    let session = try loaded.makeSession()
    let first = try session.generate(prompt: [9, 10], options: options(1))
    #expect(first.beganWithBeginningOfSequence && first.promptTokens == 3)
    let next = try session.generate(prompt: [11], options: options(1))
    #expect(!next.beganWithBeginningOfSequence && next.promptTokens == 1)
    let own = try loaded.makeSession().generate(prompt: [1, 9, 10], options: options(1))
    #expect(!own.beganWithBeginningOfSequence && own.tokens == first.tokens)
  }

  @Test func endOfGenerationStopsAndIsNoPartOfTheText() throws {
    let loaded = try model.load()
    var options = GenerationOptions()
    options.sampling.temperature = 4
    options.sampling.topK = 0
    options.sampling.topP = 1
    options.sampling.minP = 0
    // Nearly uniform over 320 tokens, so one of many seeds meets an end token within 50.
    for seed in 0..<40 {
      options.sampling.seed = UInt64(seed)
      let result = try loaded.generate(prompt: "a", options: options)
      if result.reason == .endOfGeneration {
        #expect(loaded.tokenizer.endOfGeneration.isDisjoint(with: result.tokens))
        return
      }
    }
    Issue.record("no generation ended")
  }

  @Test func cancellationAndCallbackStop() throws {
    let loaded = try model.load()
    let flag = CancellationFlag()
    let session = try loaded.makeSession()
    var count = 0
    let result = try session.generate(
      prompt: model.tokens(3), options: options(30), cancellation: flag
    ) { _, _ in
      count += 1
      if count == 4 { flag.cancel() }
      return true
    }
    #expect(result.reason == .cancelled && result.tokens.count == 4)
    let before = try loaded.makeSession().generate(
      prompt: model.tokens(3), options: options(30), cancellation: flag)
    #expect(before.reason == .cancelled && before.tokens.isEmpty)
    let stopped = try loaded.makeSession().generate(
      prompt: model.tokens(3), options: options(30)
    ) { _, _ in false }
    #expect(stopped.reason == .callback && stopped.tokens.count == 1)
  }

  @Test func badTokensAreRefusedAndChangeNothing() throws {
    let session = try model.load().makeSession()
    try session.forward([5, 6])
    for tokens in [[], [-1], [320], [5, .max]] as [[Int32]] {
      let error = #expect(throws: QuantError.self) { try session.forward(tokens) }
      #expect(error?.code == .invalidArgument)
      #expect(session.position == 2)
    }
    #expect(throws: QuantError.self) {
      try session.forward([5], logits: 0..<2) { _, _ in }
    }
    #expect(throws: QuantError.self) {
      try session.generate(prompt: [5], options: options(-1))
    }
  }
}
