import QuantKernels
import TestSupport
import Testing

@testable import LanguageModel

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Directories that are damaged, or of models that are not run: typed errors that name the place.
@Suite struct HostileDirectoryTests {
  private static func bench(
    _ architecture: ModelConfiguration.Architecture = .llama
  ) throws -> DirectoryBench {
    let bench = try DirectoryBench(architecture, type: .f16) { $0.layerCount = 1 }
    try bench.convert(bench.source, .gguf(.f16), "model/")
    return bench
  }

  private func refusal(_ bench: DirectoryBench, _ name: String = "model") -> QuantError? {
    do throws(QuantError) {
      _ = try LanguageModel(path: bench.path(name), options: DirectoryBench.options())
      return nil
    } catch { return error }
  }

  private func expect(
    _ code: QuantError.Code, _ place: String, _ bench: DirectoryBench,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let error = refusal(bench)
    #expect(error?.code == code, "\(error?.description ?? "read")", sourceLocation: sourceLocation)
    #expect(
      error?.description.contains(place) == true, "\(error?.description ?? "read")",
      sourceLocation: sourceLocation)
    #expect(error?.description.contains("\n") != true, sourceLocation: sourceLocation)
  }

  @Test(arguments: ["config.json", "tokenizer.json", "model.safetensors"])
  func missingFiles(name: String) throws {
    let bench = try Self.bench()
    unlink(bench.path("model/\(name)"))
    expect(.missingFile, name == "tokenizer.json" ? "tokenizer" : name, bench)
  }

  @Test func optionalFiles() throws {
    let bench = try Self.bench()
    for name in ["generation_config.json", "tokenizer_config.json"] {
      unlink(bench.path("model/\(name)"))
    }
    #expect(refusal(bench) == nil)
  }

  /// Keys that change what a model computes.
  @Test(arguments: [
    (#""LlamaForCausalLM""#, #""GraniteForCausalLM""#, "architectures"),
    (#""hidden_act": "silu""#, #""hidden_act": "gelu""#, "hidden_act"),
    (
      #""rope_scaling": null"#, #""rope_scaling": {"rope_type": "dynamic", "factor": 2}"#,
      "rope_type"
    ),
    (#""rope_scaling": null"#, #""rope_scaling": {"type": "longrope"}"#, "type"),
    (
      #""rope_scaling": null"#,
      #""rope_scaling": {"rope_type": "yarn", "factor": 2, "truncate": false}"#, "truncate"
    ),
    (#""rope_scaling": null"#, #""sliding_window": 16"#, "sliding_window"),
    (#""rope_scaling": null"#, #""num_local_experts": 8"#, "num_local_experts"),
    (#""rope_scaling": null"#, #""residual_multiplier": 0.5"#, "residual_multiplier"),
    (#""rope_scaling": null"#, #""layer_types": ["linear_attention"]"#, "layer_types"),
    (#""rope_scaling": null"#, #""final_logit_softcapping": 30.0"#, "final_logit_softcapping"),
    (#""rope_scaling": null"#, #""quantization_config": {"quant_method": "fp8"}"#, "quant_method"),
    (
      #""rope_scaling": null"#,
      #""quantization_config": {"quant_method": "gptq", "bits": 8}"#, "bits"
    ),
    (
      #""rope_scaling": null"#,
      #""quantization_config": {"quant_method": "awq", "version": "gemv"}"#, "version"
    ),
    (
      #""rope_scaling": null"#,
      #""quantization_config": {"quant_method": "bitnet", "linear_class": "other"}"#, "linear_class"
    ),
  ])
  func unsupported(old: String, new: String, place: String) throws {
    let bench = try Self.bench()
    try bench.replace(old, new, in: "model/config.json")
    expect(.unsupported, place, bench)
  }

  /// Values that are missing, absurd or of another type.
  @Test(arguments: [
    (#""num_hidden_layers": 1"#, #""num_hidden_layers": 2"#, "model.layers.1"),
    (
      #""num_hidden_layers": 1"#, #""num_hidden_layers": 99999999999999999999"#, "num_hidden_layers"
    ),
    (#""num_hidden_layers": 1"#, #""num_hidden_layers": -1"#, "num_hidden_layers"),
    (#""num_hidden_layers": 1"#, #""num_hidden_layers": "1""#, "num_hidden_layers"),
    (#""num_hidden_layers": 1"#, #""other": 1"#, "num_hidden_layers"),
    (#""hidden_size": 64"#, #""hidden_size": 65"#, "embed_tokens"),
    (#""head_dim": 32"#, #""head_dim": 200000000"#, "head_dim"),
    (#""head_dim": 32"#, #""head_dim": 64"#, "q_proj"),
    (#""num_attention_heads": 4"#, #""num_attention_heads": 268435456"#, "q_proj"),
    (#""rms_norm_eps": 1e-05"#, #""rms_norm_eps": 1e999"#, "rms_norm_eps"),
    (#""tie_word_embeddings": true"#, #""tie_word_embeddings": false"#, "lm_head"),
    (#""tie_word_embeddings": true"#, #""tie_word_embeddings": 1"#, "tie_word_embeddings"),
    (
      #""rope_scaling": null"#, #""quantization_config": {"quant_method": "bitnet"}"#,
      "q_proj"
    ),
    (#""rope_scaling": null"#, #""partial_rotary_factor": 2"#, "partial_rotary_factor"),
    (#""rope_scaling": null"#, #""rope_scaling": {"rope_type": "linear"}"#, "factor"),
    (#""rope_scaling": null"#, #""hidden_size": 64"#, "appears twice"),
  ])
  func invalid(old: String, new: String, place: String) throws {
    let bench = try Self.bench()
    try bench.replace(old, new, in: "model/config.json")
    expect(.invalidData, place, bench)
  }

  /// What is harmless stays so.
  @Test(arguments: [
    #""sliding_window": 4096"#, #""num_experts": 0"#, #""attention_dropout": 0.0"#,
    #""pretraining_tp": 1"#, #""layer_types": ["full_attention"]"#,
    #""rope_scaling": {"rope_type": "default"}"#,
    #""rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}"#,
  ])
  func harmless(entry: String) throws {
    let bench = try Self.bench()
    let before = try bench.logits("model")
    try bench.replace(#""rope_scaling": null"#, entry, in: "model/config.json")
    #expect(try bench.logits("model") == before)
  }

  @Test func tensorsThatDoNotFit() throws {
    let bench = try Self.bench()
    let model = try SafetensorsModel(path: bench.path("model"))
    func rewrite(_ change: (SafetensorsTensor) -> (String, SafetensorsType, [Int])?) throws {
      var writer = SafetensorsWriter()
      for tensor in model.tensors {
        guard let (name, type, shape) = change(tensor) else { continue }
        let count = try #require(type.byteCount(shape: shape))
        try writer.addTensor(
          name, type: type, shape: shape,
          bytes: Array(Array(model.bytes(of: tensor)).prefix(count))
            + [UInt8](repeating: 0, count: max(0, count - tensor.byteCount)))
      }
      try writer.write(to: bench.path("model/model.safetensors.new"))
      _ = rename(bench.path("model/model.safetensors.new"), bench.path("model/model.safetensors"))
    }
    let up = "model.layers.0.mlp.up_proj.weight"
    try rewrite { $0.name == up ? nil : ($0.name, $0.type, $0.shape) }
    expect(.invalidData, up, bench)
    try rewrite { ($0.name, $0.type, $0.name == up ? $0.shape.reversed() : $0.shape) }
    expect(.invalidData, up, bench)
    try rewrite { ($0.name, $0.name == up ? .f8_e4m3 : $0.type, $0.shape) }
    expect(.unsupported, up, bench)
    try rewrite { ($0.name, $0.name == up ? .u8 : $0.type, $0.shape) }
    expect(.unsupported, up, bench)
    try rewrite { ($0.name == up ? "model.layers.0.mlp.lora.weight" : $0.name, $0.type, $0.shape) }
    expect(.invalidData, up, bench)
    let norm = "model.norm.weight"
    try rewrite { ($0.name, $0.type, $0.name == norm ? [$0.shape[0], 1] : $0.shape) }
    expect(.invalidData, norm, bench)
    try rewrite { ($0.name, $0.type, $0.name == norm ? [1] : $0.shape) }
    expect(.invalidData, "output_norm", bench)
    // A tensor more.
    var writer = SafetensorsWriter()
    for tensor in model.tensors {
      try writer.addTensor(
        tensor.name, type: tensor.type, shape: tensor.shape, bytes: Array(model.bytes(of: tensor)))
    }
    try writer.addTensor(
      "model.layers.0.mlp.adapter.weight", type: .f32, shape: [1], bytes: [0, 0, 0, 0])
    try writer.write(to: bench.path("model/model.safetensors"))
    expect(.unsupported, "adapter", bench)
  }

  @Test func shards() throws {
    let bench = try Self.bench()
    let whole = try #require(readFile(bench.path("model/model.safetensors")))
    bench.folder.write(Array(whole.prefix(whole.count - 100)), "model/model.safetensors")
    expect(.invalidData, "model.safetensors", bench)
    bench.folder.write(whole, "model/model.safetensors")
    func index(_ entries: [(String, String)]) {
      let map = entries.map { "\"\($0.0)\": \"\($0.1)\"" }.joined(separator: ", ")
      bench.write("{\"weight_map\": {\(map)}}", "model/model.safetensors.index.json")
    }
    index([("model.norm.weight", "absent.safetensors")])
    expect(.missingFile, "absent.safetensors", bench)
    for name in ["../source.gguf", "/etc/passwd", "..", ".", "", "a/b.safetensors"] {
      index([("model.norm.weight", name)])
      expect(.invalidData, "not in its folder", bench)
    }
    index([("no.such.tensor", "model.safetensors")])
    expect(.invalidData, "no.such.tensor", bench)
    bench.folder.write(whole, "model/copy.safetensors")
    index([("model.norm.weight", "model.safetensors"), ("lm_head.weight", "copy.safetensors")])
    expect(.invalidData, "lm_head", bench)
    index([
      ("model.norm.weight", "model.safetensors"), ("model.embed_tokens.weight", "copy.safetensors"),
    ])
    expect(.invalidData, "two files", bench)
    bench.write("{\"weight_map\": []}", "model/model.safetensors.index.json")
    expect(.invalidData, "JSON", bench)
  }

  @Test func int4TensorsThatDoNotFit() throws {
    let bench = try DirectoryBench(.llama) { $0.layerCount = 1 }
    try bench.convert(bench.source, .safetensors(.gptq), "model/") { $0.groupSize = 32 }
    #expect(refusal(bench) == nil)
    let model = try SafetensorsModel(path: bench.path("model"))
    func rewrite(
      _ change: (SafetensorsTensor, inout [UInt8]) -> (String, [Int])?
    ) throws {
      var writer = SafetensorsWriter(metadata: model.files[0].metadata)
      for tensor in model.tensors {
        var bytes = Array(model.bytes(of: tensor))
        guard let (name, shape) = change(tensor, &bytes) else { continue }
        try writer.addTensor(name, type: tensor.type, shape: shape, bytes: bytes)
      }
      try writer.write(to: bench.path("model/new"))
      _ = rename(bench.path("model/new"), bench.path("model/model.safetensors"))
    }
    let up = "model.layers.0.mlp.up_proj"
    for suffix in [".scales", ".qweight", ".qzeros"] {
      try rewrite { tensor, _ in tensor.name == up + suffix ? nil : (tensor.name, tensor.shape) }
      expect(.invalidData, up, bench)
      try rewrite { tensor, _ in
        (tensor.name, tensor.name == up + suffix ? tensor.shape.reversed() : tensor.shape)
      }
      expect(.invalidData, "up", bench)
    }
    // Groups that are not there.
    try rewrite { tensor, bytes in
      if tensor.name == up + ".g_idx" { bytes[3] = 0x7F }
      return (tensor.name, tensor.shape)
    }
    expect(.invalidData, "up", bench)
    // Sizes of the configuration that the words do not have.
    try rewrite { tensor, _ in (tensor.name, tensor.shape) }
    try bench.replace(
      "\"intermediate_size\": 96", "\"intermediate_size\": 268435456", in: "model/config.json")
    expect(.invalidData, "codes", bench)
    try bench.replace("268435456", "64", in: "model/config.json")
    expect(.invalidData, "int4 layer", bench)
  }

  @Test func ternaryTensorsThatDoNotFit() throws {
    let bench = try DirectoryBench(.bitnetB158) {
      $0.layerCount = 1
      $0.embeddingType = .f16
    }
    try bench.convert(bench.source, .native, "model/")
    #expect(refusal(bench) == nil)
    let whole = try #require(readFile(bench.path("model/model.safetensors")))
    let file = try SafetensorsModel(path: bench.path("model"))
    func damage(_ name: String, _ bytes: [UInt8]) throws {
      let tensor = try #require(file.tensor(named: name))
      var mutant = whole
      mutant.replaceSubrange(tensor.offset..<tensor.offset + bytes.count, with: bytes)
      bench.folder.write(mutant, "model/model.safetensors")
    }
    let up = "model.layers.0.mlp.up_proj.weight"
    try damage(up, [0xFF])
    expect(.invalidData, "ffn_up", bench)
    try damage(up + "_scale", [0, 0, 0xC0, 0x7F])
    expect(.invalidData, up + "_scale", bench)
    bench.folder.write(whole, "model/model.safetensors")
    try bench.replace("\"offline\"", "\"online\"", in: "model/config.json")
    expect(.invalidData, "q_proj", bench)
  }

  /// Every file of a directory, with any bytes: nothing but a typed error, or a model.
  @Test(arguments: 0..<4)
  func mutations(part: Int) throws {
    let bench = try Self.bench([.llama, .qwen3, .gemma3, .bitnetB158][part])
    try bench.copy("model", "mutant")
    bench.write(
      "{\"weight_map\": {\"model.norm.weight\": \"model.safetensors\", "
        + "\"model.embed_tokens.weight\": \"model.safetensors\"}}",
      "mutant/model.safetensors.index.json")
    let names = [
      "config.json", "config.json", "tokenizer.json", "tokenizer_config.json",
      "generation_config.json", "model.safetensors.index.json",
    ]
    let originals = try names.map { try #require(readFile(bench.path("mutant/\($0)"))) }
    var random = RepeatableRandom(seed: UInt64(part + 1))
    let words = [
      "null", "true", "-1", "0", "1e308", "99999999999999999999", "\"\"", "[]", "{}", "[[[[",
      "\"..\"",
      "0.5", "\\ud800", "\"\\u0000\"", "4096", "2",
    ].map { Array($0.utf8) }
    var opened = 0
    for _ in 0..<2500 {
      let which = Int.random(in: 0..<names.count, using: &random)
      var bytes = originals[which]
      for _ in 0..<Int.random(in: 1...3, using: &random) where !bytes.isEmpty {
        let place = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0..<5, using: &random) {
        case 0: bytes[place] = .random(in: 0...255, using: &random)
        case 1: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        case 2: bytes.remove(at: place)
        case 3:
          // A value in place of another.
          let start = bytes[place...].firstIndex(of: UInt8(ascii: ":")).map { $0 + 1 } ?? place
          let end =
            bytes[start...].firstIndex(where: { [0x2C, 0x0A, 0x7D].contains($0) }) ?? bytes.count
          bytes.replaceSubrange(
            start..<max(start, end), with: words.randomElement(using: &random) ?? [])
        default: bytes.removeSubrange(place..<min(bytes.count, place + 40))
        }
      }
      bench.folder.write(bytes, "mutant/\(names[which])")
      do throws(QuantError) {
        let file = try GGUFFile(path: bench.path("mutant"))
        _ = try ModelConfiguration(file: file)
        let tokenizer = try Tokenizer(metadata: file.metadata)
        _ = tokenizer.encode(DirectoryBench.torture, parseSpecial: true)
        opened += 1
        if opened % 16 == 0 {
          var options = DirectoryBench.options()
          options.contextLength = nil
          options.memoryLimit = 64 << 20
          let session = try LanguageModel(file: file, options: options)
            .makeSession(contextLength: 4)
          try session.forward([3, 4])
        }
      } catch {
        if error.problem.isEmpty || error.remedy.isEmpty || error.description.contains("\n") {
          Issue.record("\(error)")
        }
      }
      bench.folder.write(originals[which], "mutant/\(names[which])")
    }
    // Some changes are harmless, most are not.
    #expect(opened > 100)
  }
}
