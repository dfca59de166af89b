import QuantKernels
import TestSupport
import Testing

@testable import LanguageModel

/// A whole model on several ranks: every rank's logits are the same bits, those of one rank that adds
/// up in their order, and near those of one rank that does not.
@Suite struct ParallelModelTests {
  /// A llama with three heads of keys and values, so that two ranks have unequal shares.
  private static let text = Array(
    String(repeating: "The river runs to the sea, and the sea returns it as rain. 0123 ", count: 30)
      .utf8)

  private static func bench(
    _ architecture: ModelConfiguration.Architecture, type: GGMLType = .q4_1,
    _ edit: (inout SyntheticModel) -> Void = { _ in }
  ) throws -> Workbench {
    try Workbench(architecture, type: type) {
      $0.layerCount = 2
      $0.headCount = 6
      $0.keyValueHeadCount = 3
      $0.headDimension = 32
      $0.embeddingLength = 96
      $0.feedForwardLength = 256
      $0.vocabularySize = 331
      edit(&$0)
    }
  }

  private static func tokens(_ count: Int) -> [Int32] {
    var random = RepeatableRandom(seed: 5)
    return (0..<count).map { _ in .random(in: 3..<331, using: &random) }
  }

  /// Logits of all tokens of a prompt, then of steps after it.
  private static func logits(_ session: Session, prompt: Int = 9, steps: Int = 3) throws -> [Float]
  {
    let tokens = tokens(prompt + steps)
    var all: [Float] = []
    try session.forward(Array(tokens[..<prompt]), logits: 0..<prompt) { rows, logits in
      all += UnsafeBufferPointer(start: logits, count: rows.count * 331)
    }
    for token in tokens[prompt...] {
      try session.forward(token: token)
      all += session.logits
    }
    return all
  }

  private static func options(
    _ arithmetic: Arithmetic, int4: String? = nil, parts: Int = 1
  ) -> LanguageModel.Options {
    var options = LanguageModel.Options()
    options.threads = 2
    options.arithmetic = arithmetic
    options.keyValueType = .f32
    options.contextLength = 64
    options.int4Layers = int4
    options.reductionParts = parts
    return options
  }

  private static func check(
    _ path: String, _ arithmetic: Arithmetic, int4: String? = nil, ranks: Int
  ) throws {
    let parallel = try LanguageModel.run(
      path: path, options: options(arithmetic, int4: int4), ranks: ranks
    ) { session, _ in try logits(session).map(\.bitPattern) }
    #expect(parallel.count == ranks)
    for bits in parallel { #expect(bits == parallel[0]) }
    let ordered = try logits(
      LanguageModel(path: path, options: options(arithmetic, int4: int4, parts: ranks))
        .makeSession())
    #expect(ordered.map(\.bitPattern) == parallel[0], "\(ranks) ranks, \(arithmetic)")
    guard arithmetic == .exact else { return }
    let plain = try logits(
      LanguageModel(path: path, options: options(arithmetic, int4: int4)).makeSession())
    var largest: Float = 0
    for (one, other) in zip(plain, ordered) { largest = max(largest, abs(one - other)) }
    #expect(largest < 1e-3)
    for row in 0..<plain.count / 331 {
      let values = plain[row * 331..<(row + 1) * 331]
      let best = values.enumerated().max { $0.1 < $1.1 }?.offset
      let others = ordered[row * 331..<(row + 1) * 331]
      let found = others.enumerated().max { $0.1 < $1.1 }?.offset
      let two = Array(values.sorted().suffix(2))
      if two[1] - two[0] > 1e-3 { #expect(best == found) }
    }
  }

  @Test(arguments: [1, 2, 3], Arithmetic.allCases)
  func ranksOfAGGUF(ranks: Int, arithmetic: Arithmetic) throws {
    for (architecture, type) in [
      (ModelConfiguration.Architecture.llama, GGMLType.q4_1), (.qwen2, .q8_0), (.qwen3, .f16),
    ] {
      let bench = try Self.bench(architecture, type: type) {
        $0.hasBiases = true
      }
      try Self.check(bench.source, arithmetic, ranks: ranks)
    }
  }

  /// GPTQ layers with act-order: P2 moved into gate and up, the attention's output sorted by rank.
  /// The same with the orders moved by the conversion, that of attention's outputs too.
  enum Order: CaseIterable { case none, actOrder, moved }

  @Test(arguments: [1, 2, 3], Order.allCases)
  func ranksOfActOrder(ranks: Int, order: Order) throws {
    let bench = try Self.bench(.llama, type: .f32) { $0.hasBiases = true }
    var options = ModelConverter.Options()
    options.calibrationText = Self.text
    options.actOrder = order != .none
    options.movesInputOrder = order == .moved
    options.calibrationTokens = 1000
    options.groupSize = 32
    try bench.convert(bench.source, to: .safetensors(.gptq), "int4.safetensors", options)
    let int4 = bench.folder.file("int4.safetensors")
    for arithmetic in Arithmetic.allCases {
      try Self.check(bench.source, arithmetic, int4: int4, ranks: ranks)
    }
  }

  /// Heads of a rank that are half a group of the output projection's inputs, which stand in order.
  @Test(arguments: [2, 4], [Order.none, .moved])
  func headsThatCutGroups(ranks: Int, order: Order) throws {
    let bench = try Self.bench(.llama, type: .f32) {
      $0.headCount = 8
      $0.keyValueHeadCount = 4
      $0.embeddingLength = 128
      $0.feedForwardLength = 512
    }
    var options = ModelConverter.Options()
    options.calibrationText = Self.text
    options.actOrder = order == .moved
    options.movesInputOrder = order == .moved
    options.calibrationTokens = 1000
    options.groupSize = 128
    try bench.convert(bench.source, to: .safetensors(.gptq), "int4.safetensors", options)
    for arithmetic in Arithmetic.allCases {
      try Self.check(
        bench.source, arithmetic, int4: bench.folder.file("int4.safetensors"), ranks: ranks)
    }
  }

  /// Int4 layers are the model's: logits near those of the floats they were made of, and the exact
  /// products of their values.
  @Test func overlaidLayersAreUsed() throws {
    let bench = try Self.bench(.llama, type: .f32)
    var conversion = ModelConverter.Options()
    conversion.groupSize = 32
    try bench.convert(bench.source, to: .safetensors(.awq), "int4.safetensors", conversion)
    try bench.convert(bench.source, to: .gguf(.q4_1), "rounded.gguf")
    func logits(_ path: String, _ int4: String? = nil) throws -> [Float] {
      try Self.logits(
        LanguageModel(path: path, options: Self.options(.exact, int4: int4)).makeSession())
    }
    let floats = try logits(bench.source)
    let overlaid = try logits(bench.source, bench.folder.file("int4.safetensors"))
    let rounded = try logits(bench.folder.file("rounded.gguf"))
    func distance(_ found: [Float]) -> Float {
      zip(found, floats).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
    }
    #expect(distance(overlaid) > 0)
    // Rounding of the same number of bits, in another format.
    #expect(distance(overlaid) < 3 * distance(rounded))
  }

  private func refusal(_ body: () throws -> Void) -> QuantError? {
    do { try body() } catch { return error as? QuantError }
    return nil
  }

  @Test func badRanks() throws {
    let bench = try Self.bench(.llama)
    func code(_ ranks: Int, path: String? = nil) -> QuantError.Code? {
      refusal {
        _ = try LanguageModel.run(
          path: path ?? bench.source, options: Self.options(.fast), ranks: ranks
        ) { session, _ in session.position }
      }?.code
    }
    #expect(code(3) == nil)
    #expect(code(4) == .unsupported)
    for ranks in [0, -1, 1000] { #expect(code(ranks) == .invalidArgument) }
    #expect(code(2, path: bench.folder.file("none.gguf")) == .missingFile)
    let ternary = try Workbench(.bitnetB158, type: .tq2_0)
    #expect(code(2, path: ternary.source) == .unsupported)
    // K-quants have blocks of 256 hidden channels.
    let wide = try Self.bench(.llama, type: .q4_0) { $0.feedForwardLength = 64 }
    #expect(code(3, path: wide.source) == .unsupported)
    // A shared model needs its connection.
    var shared = Self.options(.fast)
    shared.ranks = 2
    #expect(
      refusal { _ = try LanguageModel(path: bench.source, options: shared).makeSession() }?.code
        == .invalidArgument)
    shared.reductionParts = 2
    #expect(
      refusal { _ = try LanguageModel(path: bench.source, options: shared) }?.code
        == .invalidArgument)
    shared.reductionParts = 1
    shared.rank = 2
    #expect(
      refusal { _ = try LanguageModel(path: bench.source, options: shared) }?.code
        == .invalidArgument)
    // Layers of another model.
    let other = try Self.bench(.llama) { $0.embeddingLength = 64 }
    var conversion = ModelConverter.Options()
    conversion.groupSize = 32
    try other.convert(other.source, to: .safetensors(.awq), "int4.safetensors", conversion)
    #expect(
      refusal {
        _ = try LanguageModel(
          path: bench.source,
          options: Self.options(.fast, int4: other.folder.file("int4.safetensors")))
      }?.code == .invalidData)
  }

  /// Ranks with different files, a rank that stops, and one that reads other tokens: all end.
  @Test func ranksThatFail() throws {
    let first = try Self.bench(.llama)
    let second = try Self.bench(.llama) { $0.seed = 2 }
    let paths = [first.source, second.source]
    let files = refusal {
      _ = try ThreadCommunicator.run(ranks: 2) { communicator in
        var options = Self.options(.fast)
        (options.rank, options.ranks) = (communicator.rank, 2)
        let session = try LanguageModel(path: paths[communicator.rank], options: options)
          .makeSession(communicator: communicator)
        try session.forward([5])
      }
    }
    #expect(files?.code == .invalidData && files?.subject.contains("model") == true)
    withExtendedLifetime(second) {}
    for isThrowing in [true, false] {
      let gone = refusal {
        _ = try LanguageModel.run(
          path: first.source, options: Self.options(.fast), ranks: 2
        ) { session, rank in
          try session.forward([5, 6])
          if rank == 1 {
            if isThrowing {
              throw QuantError(.invalidData, "disk", "failed", remedy: "replace it")
            }
            return
          }
          for _ in 0..<5 { try session.forward(token: 7) }
        }
      }
      #expect(gone?.code == (isThrowing ? .invalidData : .invalidArgument))
    }
    let tokens = refusal {
      _ = try LanguageModel.run(
        path: first.source, options: Self.options(.fast), ranks: 2
      ) { session, rank in try session.forward(rank == 0 ? [5, 6] : [5]) }
    }
    #expect(tokens?.code == .invalidArgument)
    let bad = refusal {
      _ = try LanguageModel.run(
        path: first.source, options: Self.options(.fast), ranks: 2
      ) { session, rank in try session.forward(rank == 0 ? [5] : [-5]) }
    }
    #expect(bad?.code == .invalidArgument)
  }
}
