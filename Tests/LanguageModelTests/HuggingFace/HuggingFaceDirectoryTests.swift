import QuantKernels
import TestSupport
import Testing

@testable import LanguageModel

/// A directory is the model that it was made of: the same logits, tokens and text.
@Suite struct HuggingFaceDirectoryTests {
  private static let floats: [GGMLType] = [.f32, .f16, .bf16]

  private static let models: [ModelCase] = [
    ModelCase("llama", .llama) {
      $0.hasBiases = true
      $0.tiesHead = false
      $0.addsBeginningOfSequence = true
    },
    ModelCase("llama, half of a head rotated, positions divided", .llama) {
      $0.rotaryDimension = 16
      $0.rotaryScaling = .linear(factor: 4)
    },
    ModelCase("qwen2 with YaRN", .qwen2) {
      $0.rotaryScaling = .yarn(.init(factor: 4, originalContext: 64))
    },
    ModelCase("qwen3", .qwen3) { $0.tiesHead = false },
    ModelCase("gemma3", .gemma3) {
      $0.layerCount = 7
      $0.rotaryScaling = .linear(factor: 8)
      $0.rotaryBase = 1_000_000
      $0.attentionSoftCap = 2
      $0.logitSoftCap = 3
      $0.slidingWindow = 5
    },
    ModelCase("BitNet in floats", .bitnetB158),
    ModelCase("BitNet with SiLU in floats", .bitnet),
  ]

  private static func bench(_ model: ModelCase, _ type: GGMLType) throws -> DirectoryBench {
    var description = model.model
    description.weightType = type
    description.embeddingType = type
    return try DirectoryBench(description)
  }

  @Test(arguments: models, floats)
  func logitsAndTokensAreTheModels(_ model: ModelCase, type: GGMLType) throws {
    let bench = try Self.bench(model, type)
    let summary = try bench.convert(bench.source, .gguf(type), "model/")
    #expect(summary.fallbacks.isEmpty)
    for arithmetic in Arithmetic.allCases {
      #expect(try bench.areAlike("model", "source.gguf", arithmetic), "\(arithmetic)")
    }
    // The same rows in a GGUF file: the same bits, in every architecture.
    try bench.gguf(of: "model", "rows.gguf")
    #expect(try bench.logits("model") == bench.logits("rows.gguf"))
    let (one, other) = (try bench.load("source.gguf"), try bench.load("model/"))
    for special in [false, true] {
      #expect(
        one.tokenizer.encode(DirectoryBench.torture, parseSpecial: special)
          == other.tokenizer.encode(DirectoryBench.torture, parseSpecial: special))
    }
    #expect(one.tokenizer.endOfGeneration == other.tokenizer.endOfGeneration)
    #expect(one.tokenizer.beginningOfSequence == other.tokenizer.beginningOfSequence)
    #expect(one.tokenizer.addsBeginningOfSequence == other.tokenizer.addsBeginningOfSequence)
    var generation = GenerationOptions()
    generation.maximumTokens = 12
    #expect(
      try one.generate(prompt: "the man and", options: generation).tokens
        == other.generate(prompt: "the man and", options: generation).tokens)
    let message = [ChatMessage.user("Hello")]
    #expect(
      try ChatTemplate(metadata: one.file.metadata).format(message, addGenerationPrompt: true)
        == ChatTemplate(metadata: other.file.metadata).format(message, addGenerationPrompt: true))
    #expect(one.configuration.rotary == other.configuration.rotary)
    #expect(one.configuration.localLayers == other.configuration.localLayers)
  }

  /// Back to GGUF: every tensor's bytes, every key of the model and the tokenizer.
  @Test(arguments: models, floats)
  func roundTripsAreExact(_ model: ModelCase, type: GGMLType) throws {
    let bench = try Self.bench(model, type)
    try bench.convert(bench.source, .gguf(type), "model/")
    try bench.convert(bench.path("model"), .gguf(type), "back.gguf")
    let (before, after) = (
      try GGUFFile(path: bench.source), try GGUFFile(path: bench.path("back.gguf"))
    )
    #expect(Set(before.tensors.map(\.name)) == Set(after.tensors.map(\.name)))
    for tensor in before.tensors {
      let other = try #require(after.tensor(named: tensor.name))
      #expect(tensor.type == other.type && tensor.dimensions == other.dimensions)
      #expect(Array(before.bytes(of: tensor)) == Array(after.bytes(of: other)), "\(tensor.name)")
    }
    for key in before.metadata.keys {
      // What a directory has no place for, and what files leave to a default.
      if key.hasPrefix("general.") || key.hasSuffix(".vocab_size") { continue }
      #expect(before.metadata.value(key) == after.metadata.value(key), "\(key)")
    }
    #expect(after.metadata.type(of: ModelConfiguration.rotaryStyleKey) == nil)
    // And a directory of a directory is the same files.
    try bench.convert(bench.path("model"), .gguf(type), "again/")
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
      #expect(
        readFile(bench.path("model/\(name)")) == readFile(bench.path("again/\(name)")), "\(name)")
    }
  }

  /// Requantized to blocks, rows of Q and K come out as from the GGUF.
  @Test func directoriesConvertToBlocks() throws {
    let bench = try Self.bench(Self.models[0], .f32)
    try bench.convert(bench.source, .gguf(.f32), "model/")
    try bench.convert(bench.path("model"), .gguf(.q8_0), "one.gguf")
    try bench.convert(bench.source, .gguf(.q8_0), "other.gguf")
    #expect(try bench.logits("one.gguf", .fast) == bench.logits("other.gguf", .fast))
  }

  @Test func shardsAreOneModel() throws {
    let bench = try Self.bench(Self.models[0], .f16)
    try bench.convert(bench.source, .gguf(.f16), "model/")
    try bench.copy("model", "shards")
    let whole = try SafetensorsModel(path: bench.path("model"))
    var map: [String] = []
    for shard in 0..<3 {
      var writer = SafetensorsWriter(metadata: ["format": "pt"])
      for (index, tensor) in whole.tensors.enumerated() where index % 3 == shard {
        try writer.addTensor(
          tensor.name, type: tensor.type, shape: tensor.shape,
          bytes: Array(whole.bytes(of: tensor)))
        map.append("\"\(tensor.name)\": \"model-\(shard).safetensors\"")
      }
      try writer.write(to: bench.path("shards/model-\(shard).safetensors"))
    }
    bench.write(
      "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {\(map.joined(separator: ","))}}",
      "shards/model.safetensors.index.json")
    bench.folder.write([], "shards/model.safetensors")
    #expect(try bench.logits("shards") == bench.logits("model"))
    // Floats are used where they lie.
    let file = try GGUFFile(path: bench.path("shards"))
    let tensor = try #require(file.tensor(named: "blk.1.attn_v.weight"))
    #expect(tensor.type == .f16)
    #expect(
      file.bytes(of: tensor).elementsEqual(
        whole.bytes(of: try #require(whole.tensor(named: "model.layers.1.self_attn.v_proj.weight")))
      ))
  }

  /// Llama 3's rule, here written anew, is found from divisors; others have no place in a directory.
  @Test func llama3Frequencies() throws {
    let divisors = (0..<16).map { pair -> Float in
      // Wave lengths against the context that the model was first trained for.
      let wave = 2 * 3.141592653589793 * power(10_000, Double(pair) / 16)
      if wave < 64 / 4 { return 1 }
      if wave > 64 { return 8 }
      let smooth = (64 / wave - 1) / 3
      return Float(1 / ((1 - smooth) / 8 + smooth))
    }
    #expect(divisors.contains { $0 > 1 && $0 < 8 })
    let bench = try DirectoryBench(.llama) { $0.frequencyDivisors = divisors }
    try bench.convert(bench.source, .gguf(.f32), "model/")
    #expect(try bench.text("model/config.json").contains("\"rope_type\": \"llama3\""))
    let (one, other) = (
      try DirectoryBench.logits(bench.load("source.gguf")),
      try DirectoryBench.logits(bench.load("model"))
    )
    #expect(zip(one, other).allSatisfy { abs($0 - $1) < 1e-3 })
    try bench.convert(bench.path("model"), .gguf(.f32), "back.gguf")
    #expect(try bench.areAlike("back.gguf", "model", .exact))
    let odd = try DirectoryBench(.llama) {
      $0.frequencyDivisors = divisors.map { $0 == 1 ? 1.5 : $0 }
    }
    let error = #expect(throws: QuantError.self) {
      try odd.convert(odd.source, .gguf(.f32), "model/")
    }
    #expect(error?.code == .unsupported)
    #expect(odd.folder.names == ["source.gguf"])
  }

  private func power(_ base: Double, _ exponent: Double) -> Double {
    // By repeated roots, apart from the library's function.
    var (result, root, left) = (1.0, base, exponent)
    for _ in 0..<60 {
      if left >= 1 {
        result *= root
        left -= 1
      }
      root = root.squareRoot()
      left *= 2
    }
    return result
  }

  // MARK: Int4

  /// Int4 layers of a directory are what `--int4-layers` takes from it, in every format.
  @Test(
    arguments: [Int4Tensors.Format.awq, .gptq, .quick, .marlin],
    [ModelConfiguration.Architecture.llama, .qwen2])
  func int4DirectoriesEqualOverlays(
    format: Int4Tensors.Format, architecture: ModelConfiguration.Architecture
  ) throws {
    let bench = try DirectoryBench(architecture) {
      $0.embeddingType = .f16
      $0.hasBiases = true
      $0.embeddingLength = 128
      $0.headDimension = 32
      $0.feedForwardLength = 256
    }
    let isActOrder = format == .gptq
    try bench.convert(bench.source, .safetensors(format), "model/") {
      $0.groupSize = 64
      $0.symmetric = format == .marlin
      guard isActOrder else { return }
      $0.calibrationText = Array(
        String(repeating: "The river runs to the sea, and the rain returns. 0123 ", count: 20).utf8)
      $0.calibrationTokens = 600
      $0.actOrder = true
    }
    for arithmetic in Arithmetic.allCases {
      #expect(
        try bench.areAlike("model", "source.gguf", arithmetic, int4: "model/model.safetensors"),
        "\(arithmetic)")
    }
    let file = try GGUFFile(path: bench.path("model"))
    #expect(file.tensors.filter { $0.storage == .int4 }.count == 14)
    // Floats of the layers: a GGUF of them gives the same, to float's last places.
    try bench.convert(bench.path("model"), .gguf(.f32), "floats.gguf")
    let (one, other) = (
      try DirectoryBench.logits(bench.load("model")),
      try DirectoryBench.logits(bench.load("floats.gguf"))
    )
    #expect(zip(one, other).allSatisfy { abs($0 - $1) < 1e-3 })
    // Repacked among directories, bit for bit.
    if format == .awq {
      try bench.convert(bench.path("model"), .safetensors(.quick), "quick/")
      #expect(try bench.logits("quick") == bench.logits("model"))
    }
    // On two ranks as on one that adds up in their order.
    var parts = DirectoryBench.options()
    parts.reductionParts = 2
    let ordered = try DirectoryBench.logits(
      LanguageModel(path: bench.path("model"), options: parts))
    let ranks = try LanguageModel.run(
      path: bench.path("model"), options: DirectoryBench.options(), ranks: 2
    ) { session, _ in
      try session.forward([5, 6, 7])
      return Array(session.logits)
    }
    let single = try LanguageModel(path: bench.path("model"), options: parts).makeSession()
    try single.forward([5, 6, 7])
    #expect(ranks[0] == Array(single.logits) && ranks[1] == ranks[0])
    #expect(zip(one, ordered).allSatisfy { abs($0 - $1) < 1e-3 })
  }

  @Test func int4LayersBesideFloats() throws {
    let bench = try DirectoryBench(.qwen2)
    try bench.convert(bench.source, .safetensors(.awq), "model/") { $0.groupSize = 32 }
    try bench.convert(bench.source, .gguf(.f16), "floats/")
    // One layer stays a float one, as `modules_to_not_convert` leaves them.
    let (int4, floats) = (
      try SafetensorsModel(path: bench.path("model")),
      try SafetensorsModel(path: bench.path("floats"))
    )
    let kept = "model.layers.1.mlp.down_proj"
    var writer = SafetensorsWriter(metadata: int4.files[0].metadata)
    for tensor in int4.tensors where !tensor.name.hasPrefix(kept) {
      try writer.addTensor(
        tensor.name, type: tensor.type, shape: tensor.shape, bytes: Array(int4.bytes(of: tensor)))
    }
    let own = try #require(floats.tensor(named: kept + ".weight"))
    try writer.addTensor(
      own.name, type: own.type, shape: own.shape, bytes: Array(floats.bytes(of: own)))
    try bench.copy("model", "mixed")
    try writer.write(to: bench.path("mixed/model.safetensors"))
    let file = try GGUFFile(path: bench.path("mixed"))
    #expect(file.tensor(named: "blk.1.ffn_down.weight")?.type == .f16)
    #expect(file.tensors.filter { $0.storage == .int4 }.count == 13)
    #expect(try bench.logits("mixed") != bench.logits("model"))
  }

  // MARK: BitNet

  /// Packed ternary layers in both conventions; rows that do not go by fours.
  @Test(arguments: [ModelConfiguration.Architecture.bitnetB158, .bitnet, .llama])
  func packedTernary(_ architecture: ModelConfiguration.Architecture) throws {
    let bench = try DirectoryBench(architecture) {
      $0.embeddingLength = 256
      $0.embeddingType = .f16
      $0.headDimension = 64
      $0.feedForwardLength = 98
    }
    // A llama's weights are rounded to ternary.
    try bench.convert(bench.source, .native, "model.qkn")
    try bench.convert(bench.path("model.qkn"), .native, "model/")
    for arithmetic in Arithmetic.allCases {
      #expect(try bench.areAlike("model", "model.qkn", arithmetic), "\(arithmetic)")
    }
    try bench.convert(bench.path("model.qkn"), .native, "divisor/") {
      $0.ternaryConvention = .divisor
    }
    #expect(try bench.text("divisor/config.json").contains("\"linear_class\": \"bitlinear\""))
    let (one, other) = (
      try DirectoryBench.logits(bench.load("model")),
      try DirectoryBench.logits(bench.load("divisor"))
    )
    #expect(zip(one, other).allSatisfy { abs($0 - $1) < 1e-3 * max(1, abs($0)) })
    // The one read as the other is another model.
    try bench.replace("\"bitlinear\"", "\"autobitlinear\"", in: "divisor/config.json")
    let wrong = try DirectoryBench.logits(bench.load("divisor"))
    #expect(zip(one, wrong).contains { abs($0 - $1) > 1e-2 })
    // Codes come back as they were.
    try bench.convert(bench.path("model"), .native, "back.qkn")
    let (before, after) = (
      try GGUFFile(path: bench.path("model.qkn")), try GGUFFile(path: bench.path("back.qkn"))
    )
    for tensor in before.tensors {
      let found = try #require(after.tensor(named: tensor.name))
      #expect(Array(before.bytes(of: tensor)) == Array(after.bytes(of: found)), "\(tensor.name)")
    }
  }

  /// `online` layers are floats that are rounded, here as BitNet b1.58 does.
  @Test func roundedTernary() throws {
    let bench = try DirectoryBench(.bitnetB158)
    try bench.convert(bench.source, .gguf(.f32), "model/")
    try bench.replace(
      "\"architectures\"",
      "\"quantization_config\": {\"quant_method\": \"bitnet\", \"linear_class\": "
        + "\"autobitlinear\", \"quantization_mode\": \"online\"}, \"architectures\"",
      in: "model/config.json")
    let file = try GGUFFile(path: bench.path("model"))
    let name = "blk.0.ffn_up.weight"
    let tensor = try #require(file.tensor(named: name))
    #expect(tensor.isTernary && tensor.type == nil)
    let source = try GGUFFile(path: bench.source)
    let floats = try GGMLBlocks.dequantize(
      .f32, Array(source.bytes(of: try #require(source.tensor(named: name)))))
    let mean = Float(floats.reduce(0.0) { $0 + Double(abs($1)) } / Double(floats.count))
    let expected = floats.map { min(max(($0 / mean).rounded(.toNearestOrEven), -1), 1) * mean }
    #expect(try file.foreignFloats(of: tensor) == expected)
    #expect(try bench.load("model", .fast).ternary != nil)
    _ = try bench.logits("model", .fast)
  }

  // MARK: Output folders

  @Test func foldersAppearWholeOrNotAtAll() throws {
    let bench = try DirectoryBench(.llama)
    // A new folder, an empty one, and one of ours again.
    try bench.convert(bench.source, .gguf(.f16), "new/")
    bench.makeFolder("empty")
    try bench.convert(bench.source, .gguf(.f16), "empty")
    let before = readFile(bench.path("new/model.safetensors"))
    #expect(before == readFile(bench.path("empty/model.safetensors")))
    try bench.convert(bench.source, .gguf(.f32), "new/")
    let after = readFile(bench.path("new/model.safetensors"))
    #expect(before != after && after != nil)
    func refused(_ code: QuantError.Code, _ body: () throws -> Void) {
      let error = #expect(throws: QuantError.self) { try body() }
      #expect(error?.code == code, "\(error?.description ?? "")")
    }
    // Files that are not a model's are never lost.
    bench.write("mine", "empty/notes.txt")
    refused(.invalidArgument) { try bench.convert(bench.source, .gguf(.f32), "empty/") }
    #expect(try bench.text("empty/notes.txt") == "mine")
    #expect(before == readFile(bench.path("empty/model.safetensors")))
    refused(.invalidArgument) { try bench.convert(bench.path("new"), .gguf(.f32), "new/") }
    for name in ["config.json", "model.safetensors"] {
      refused(.invalidArgument) {
        try bench.convert(bench.path("new"), .gguf(.f32), "new/\(name)")
      }
    }
    refused(.invalidArgument) { try bench.convert(bench.source, .gguf(.f32), "source.gguf/") }
    refused(.unsupported) { try bench.convert(bench.source, .gguf(.q4_0), "blocks/") }
    refused(.missingFile) { try bench.convert(bench.source, .gguf(.f16), "no/such/folder/") }
    for at in [0, 1, 3] {
      let calls = Counter()
      refused(.cancelled) {
        _ = try ModelConverter(source: bench.source, target: .gguf(.f16), pool: bench.pool).write(
          to: bench.path("new/"), isCancelled: { calls.next() > at })
      }
    }
    #expect(readFile(bench.path("new/model.safetensors")) == after)
    #expect(bench.folder.names == ["empty", "new", "source.gguf"])
    // Safetensors alone are no model to make a directory of.
    refused(.unsupported) {
      try bench.convert(bench.path("new/model.safetensors"), .safetensors(.awq), "other/")
    }
  }
}

private final class Counter: @unchecked Sendable {
  // Asked from one thread at a time.
  private var count = 0
  func next() -> Int {
    count += 1
    return count
  }
}
