import LanguageModel
import QuantKernels
import Testing

/// What a file can get wrong beyond its own format.
@Suite struct ModelLoadingTests {
  /// A synthetic model's file with some metadata and tensors replaced.
  private func file(
    _ model: ModelCase = ModelCase.architectures[0], set: [(String, GGUFValue)] = [],
    without: Set<String> = [], drop: Set<String> = [],
    add: [(name: String, type: GGMLType, dimensions: [Int], bytes: [UInt8])] = []
  ) throws -> GGUFFile {
    let source = try model.file()
    var writer = GGUFWriter()
    writer.copyMetadata(from: source.metadata, except: without)
    for (key, value) in set { try writer.set(key, value) }
    for tensor in source.tensors where !drop.contains(tensor.name) {
      try writer.addTensor(copying: tensor, from: source)
    }
    for tensor in add {
      try writer.addTensor(
        tensor.name, type: tensor.type, dimensions: tensor.dimensions, bytes: tensor.bytes)
    }
    return try GGUFFile(bytes: try writer.serialized(), name: "changed")
  }

  private func expectError(
    _ code: QuantError.Code, _ file: GGUFFile, naming subject: String,
    location: SourceLocation = #_sourceLocation
  ) {
    let error = #expect(throws: QuantError.self, sourceLocation: location) {
      try LanguageModel(file: file)
    }
    #expect(error?.code == code, "\(String(describing: error))", sourceLocation: location)
    #expect(
      error?.subject.contains(subject) == true, "\(String(describing: error))",
      sourceLocation: location)
  }

  @Test func configurationsAreRead() throws {
    let gemma = try ModelCase.architectures[3].load().configuration
    #expect(gemma.architecture == .gemma3 && gemma.slidingWindow == 16)
    #expect((0..<7).map(gemma.isLocal) == [true, true, true, true, true, false, true])
    #expect(gemma.embeddingScale == 8 && gemma.activation == .geluTanh)
    #expect(gemma.rotary.base == 10_000 && gemma.rotaryStyle == .halves)
    let flags = [true, false, true, true, false, true, false]
    let listed = try file(
      ModelCase.architectures[3],
      set: [("gemma3.attention.sliding_window_pattern", .array(.bool, flags.map { .bool($0) }))])
    #expect(try LanguageModel(file: listed).configuration.localLayers == flags)
    let llama = try ModelCase.architectures[0].load().configuration
    #expect(llama.rotaryStyle == .interleaved && llama.keyValueHeadCount == 2)
    #expect(!llama.isLocal(layer: 0))
    #expect(llama.vocabularySize == 320 && llama.headDimension == 32)
  }

  @Test func unknownArchitecturesAreNamedWithThoseThatRun() throws {
    let unknown = try file(set: [("general.architecture", .text("mamba"))])
    let error = #expect(throws: QuantError.self) { try LanguageModel(file: unknown) }
    #expect(error?.code == .unsupported)
    #expect(error?.problem.contains("mamba") == true)
    #expect(error?.remedy.contains("llama, qwen2, qwen3, gemma3") == true)
    expectError(
      .unsupported, try file(without: ["general.architecture"]), naming: "general.architecture")
  }

  @Test(arguments: [
    "block_count", "embedding_length", "feed_forward_length", "attention.head_count",
    "context_length",
  ])
  func sizesAreChecked(_ key: String) throws {
    let bad: [GGUFValue] = [
      .uint32(0), .uint32(.max), .int64(-5), .uint64(.max), .text("many"), .float32(3),
    ]
    for value in bad {
      let changed = try file(set: [("llama.\(key)", value)])
      expectError(.invalidData, changed, naming: key)
    }
    expectError(.invalidData, try file(without: ["llama.\(key)"]), naming: key)
  }

  @Test func otherValuesAreChecked() throws {
    let bad: [(String, GGUFValue)] = [
      ("attention.head_count_kv", .uint32(3)), ("attention.head_count_kv", .uint32(0)),
      ("attention.key_length", .uint32(31)), ("attention.key_length", .uint32(0)),
      ("attention.layer_norm_rms_epsilon", .float32(.nan)),
      ("attention.layer_norm_rms_epsilon", .float32(-1)), ("rope.freq_base", .float32(0)),
      ("rope.freq_base", .float32(.infinity)), ("rope.dimension_count", .uint32(64)),
      ("rope.scaling.factor", .float32(-2)),
    ]
    for (key, value) in bad {
      expectError(.invalidData, try file(set: [("llama.\(key)", value)]), naming: key)
    }
    let odd = try file(set: [("llama.rope.dimension_count", .uint32(31))])
    expectError(.invalidData, odd, naming: "rotary")
    let unsupported: [(String, GGUFValue)] = [
      ("expert_count", .uint32(8)), ("attention.value_length", .uint32(16)),
      ("rope.scaling.type", .text("longrope")), ("attention.sliding_window", .uint32(64)),
      ("feed_forward_length", .array(.uint32, [.uint32(96), .uint32(64)])),
    ]
    for (key, value) in unsupported {
      expectError(.unsupported, try file(set: [("llama.\(key)", value)]), naming: key)
    }
    // One equal value a layer is the same as one value.
    let lists = try file(
      set: [("llama.attention.head_count", .array(.uint32, [.uint32(4), .uint32(4)]))])
    #expect(try LanguageModel(file: lists).configuration.headCount == 4)
  }

  @Test func tensorsAreChecked() throws {
    let name = "blk.1.ffn_up.weight"
    expectError(.invalidData, try file(drop: [name]), naming: name)
    let row = [UInt8](repeating: 0, count: 4 * 64 * 95)
    expectError(
      .invalidData, try file(drop: [name], add: [(name, .f32, [64, 95], row)]), naming: name)
    expectError(.invalidData, try file(drop: ["token_embd.weight"]), naming: "token_embd")
    expectError(.invalidData, try file(drop: ["output_norm.weight"]), naming: "output_norm")
    expectError(
      .unsupported,
      try file(add: [("blk.0.attn_sub_norm.weight", .f32, [2], [UInt8](repeating: 0, count: 8))]),
      naming: "attn_sub_norm")
    var norm = [UInt8](repeating: 0, count: 4 * 64)
    norm[3] = 0x7F
    norm[2] = 0xC0
    expectError(
      .invalidData,
      try file(
        drop: ["blk.0.attn_norm.weight"], add: [("blk.0.attn_norm.weight", .f32, [64], norm)]),
      naming: "attn_norm")
    var weights = [UInt8](repeating: 0, count: 4 * 64 * 96)
    weights[7] = 0x7F
    weights[6] = 0x80
    expectError(
      .invalidData, try file(drop: [name], add: [(name, .f32, [64, 96], weights)]), naming: "ffn_up"
    )
  }

  @Test func frequencyDivisorsAreChecked() throws {
    let zeros = [UInt8](repeating: 0, count: 4 * 16)
    expectError(
      .invalidData, try file(add: [("rope_freqs.weight", .f32, [16], zeros)]), naming: "rotary")
    expectError(
      .invalidData, try file(add: [("rope_freqs.weight", .f32, [8], Array(zeros[..<32]))]),
      naming: "rope_freqs")
  }

  @Test func aModelLargerThanMemoryIsRefused() throws {
    var options = LanguageModel.Options()
    options.memoryLimit = 100_000
    let small = #expect(throws: QuantError.self) {
      try LanguageModel(file: try file(), options: options)
    }
    #expect(small?.code == .outOfMemory)
    // A context whose cache no machine holds, within what the file claims to be trained for.
    options.memoryLimit = nil
    options.contextLength = 1 << 28
    let long = try file(
      set: [
        ("llama.context_length", .uint32(1 << 28)),
        ("llama.block_count", .uint32(2)),
      ])
    let wide = #expect(throws: QuantError.self) { try LanguageModel(file: long, options: options) }
    #expect(wide?.code == .outOfMemory)
    options.contextLength = nil
    let loaded = try LanguageModel(file: long, options: options)
    #expect(loaded.contextLength == 4096)
    let session = #expect(throws: QuantError.self) {
      try loaded.makeSession(contextLength: 1 << 28)
    }
    #expect(session?.code == .outOfMemory)
  }

  @Test func badOptionsAreRefused() throws {
    let changes: [(inout LanguageModel.Options) -> Void] = [
      { $0.threads = 0 }, { $0.threads = 1000 }, { $0.contextLength = 0 },
      { $0.contextLength = 257 },
    ]
    for change in changes {
      var options = LanguageModel.Options()
      change(&options)
      let error = #expect(throws: QuantError.self) {
        try LanguageModel(file: try file(), options: options)
      }
      #expect(error?.code == .invalidArgument)
    }
    let missing = #expect(throws: QuantError.self) {
      try LanguageModel(path: "no-such-model.gguf")
    }
    #expect(missing?.code == .missingFile)
  }

  @Test func progressReachesOne() throws {
    var seen: [Double] = []
    _ = try LanguageModel(file: try file()) { seen.append($0) }
    #expect(seen.last == 1 && seen == seen.sorted() && seen.count > 2)
  }

  @Test func loadingCanBeCancelled() throws {
    let flag = CancellationFlag()
    flag.cancel()
    let error = #expect(throws: QuantError.self) {
      try LanguageModel(file: try file(), cancellation: flag)
    }
    #expect(error?.code == .cancelled)
  }

  @Test func syntheticModelsRepeat() throws {
    let model = SyntheticModel(.llama)
    #expect(try model.serialized() == model.serialized())
    var other = model
    other.seed = 2
    #expect(try other.serialized() != model.serialized())
    other.vocabularySize = 10
    #expect(throws: QuantError.self) { try other.serialized() }
  }
}
