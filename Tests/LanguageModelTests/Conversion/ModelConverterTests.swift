import LanguageModel
import QuantKernels
import TestSupport
import Testing

/// A tiny model on disk and what is made of it.
struct Workbench {
  let folder = TemporaryFolder()
  let pool = WorkerPool(threads: 2)
  var source: String { folder.file("source.gguf") }

  init(
    _ architecture: ModelConfiguration.Architecture = .llama, type: GGMLType = .q4_0,
    edit: (inout SyntheticModel) -> Void = { _ in }
  ) throws {
    var model = SyntheticModel(architecture)
    model.layerCount = 1
    model.weightType = type
    edit(&model)
    try model.write(to: folder.file("source.gguf"))
  }

  @discardableResult
  func convert(
    _ from: String, to target: ConversionTarget, _ name: String,
    _ options: ModelConverter.Options = ModelConverter.Options()
  ) throws -> ModelConverter.Summary {
    try ModelConverter(source: from, target: target, options: options, pool: pool)
      .write(to: folder.file(name))
  }

  func gguf(_ name: String) throws -> GGUFFile { try GGUFFile(path: folder.file(name)) }

  func safetensors(_ name: String) throws -> SafetensorsModel {
    try SafetensorsModel(path: folder.file(name))
  }

  /// A tensor of a GGUF file as floats.
  func floats(_ file: GGUFFile, _ name: String) throws -> [Float] {
    let tensor = try #require(file.tensor(named: name))
    return try GGMLBlocks.dequantize(try #require(tensor.type), Array(file.bytes(of: tensor)))
  }

  func layer(_ name: String, _ layer: String, _ format: Int4Tensors.Format) throws -> Int4Matrix {
    let model = try safetensors(name)
    func words(_ suffix: String) -> ([UInt32], [Int]) {
      guard let tensor = model.tensor(named: layer + suffix) else { return ([], []) }
      let bytes = Array(model.bytes(of: tensor))
      return (
        stride(from: 0, to: bytes.count, by: 4).map { at in
          (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[at + $1]) << UInt32(8 * $1) }
        }, tensor.shape
      )
    }
    let scale = try #require(model.tensor(named: layer + ".scales"))
    let bytes = Array(model.bytes(of: scale))
    let halves = stride(from: 0, to: bytes.count, by: 2).map {
      UInt16(bytes[$0]) | UInt16(bytes[$0 + 1]) << 8
    }
    let (weights, zeros) = (words(".qweight"), words(".qzeros"))
    return try Int4Matrix(
      Int4Tensors(
        format: format, weights: weights.0, weightShape: weights.1, scales: halves,
        scaleShape: scale.shape, zeroPoints: zeros.0, zeroPointShape: zeros.1,
        groupIndices: format == .gptq || format == .gptqV2
          ? words(".g_idx").0.map { Int32(bitPattern: $0) } : nil))
  }
}

@Suite("Conversion to GGUF types")
struct GGUFConversionTests {
  @Test("Matrices change, norms stay", arguments: ConversionTarget.ggufTypes)
  func types(type: GGMLType) throws {
    let bench = try Workbench(type: .q8_0)
    let summary = try bench.convert(bench.source, to: .gguf(type), "out.gguf")
    let (before, after) = (try bench.gguf("source.gguf"), try bench.gguf("out.gguf"))
    #expect(after.tensors.map(\.name) == before.tensors.map(\.name))
    #expect(summary.fallbacks.isEmpty && summary.tensors == before.tensors.count)
    for tensor in after.tensors {
      #expect(tensor.type == (tensor.dimensions.count == 1 ? .f32 : type), "\(tensor.name)")
      let old = try bench.floats(before, tensor.name)
      let new = try bench.floats(after, tensor.name)
      if tensor.dimensions.count == 1 {
        #expect(new == old)
        continue
      }
      // What the type's own quantizer makes of the floats, so no value is worse than its block
      // allows.
      let expected = try GGMLBlocks.dequantize(type, try GGMLBlocks.quantize(type, old))
      #expect(new == expected, "\(tensor.name)")
    }
    for key in before.metadata.keys where !key.hasPrefix("general.") {
      #expect(after.metadata.value(key) == before.metadata.value(key), "\(key)")
    }
    // The converted file runs.
    _ = try LanguageModel(path: bench.folder.file("out.gguf"))
  }

  @Test("Ternary types keep the embedding, and ternary weights exactly")
  func ternary() throws {
    let bench = try Workbench(type: .f32) {
      $0.embeddingLength = 256
      $0.feedForwardLength = 512
      $0.embeddingType = .f16
    }
    let before = try bench.gguf("source.gguf")
    let name = "blk.0.ffn_down.weight"
    for type in ConversionTarget.ternaryTypes {
      let summary = try bench.convert(bench.source, to: .gguf(type), "\(type.name).gguf")
      // The heads' outputs are 128, half a block of TQ1_0 and TQ2_0.
      #expect(summary.fallbacks == (type == .i2_s ? [] : ["blk.0.attn_output.weight"]))
      let after = try bench.gguf("\(type.name).gguf")
      #expect(after.tensor(named: "token_embd.weight")?.type == .f16)
      #expect(after.tensor(named: name)?.type == type)
      let old = try bench.floats(before, name)
      let new = try bench.floats(after, name)
      if type == .i2_s {
        #expect(new == (try TernaryMatrix(quantizing: old, rows: 256, columns: 512)).dequantized())
      } else {
        #expect(
          new == (try GGMLBlocks.dequantize(type, try GGMLBlocks.quantize(type, old))))
      }
      let session = try LanguageModel(path: bench.folder.file("\(type.name).gguf")).makeSession()
      try session.forward([5, 6, 7])
      #expect(session.logits.allSatisfy { $0.isFinite })
    }
    // Out of I2_S the same weights come back, and into it again the same bytes.
    let i2s = bench.folder.file("I2_S.gguf")
    try bench.convert(i2s, to: .gguf(.f32), "floats.gguf")
    #expect(
      try bench.floats(bench.gguf("floats.gguf"), name)
        == bench.floats(bench.gguf("I2_S.gguf"), name))
    try bench.convert(bench.folder.file("floats.gguf"), to: .gguf(.i2_s), "again.gguf")
    let (first, again) = (try bench.gguf("I2_S.gguf"), try bench.gguf("again.gguf"))
    let (a, b) = (try #require(first.tensor(named: name)), try #require(again.tensor(named: name)))
    #expect(Array(first.bytes(of: a)) == Array(again.bytes(of: b)))
  }

  @Test("The embedding's type is its own, and unchanged tensors keep their bits")
  func embedding() throws {
    let bench = try Workbench(type: .q4_1)
    var options = ModelConverter.Options()
    options.embeddingType = .q8_0
    let summary = try bench.convert(bench.source, to: .gguf(.q4_1), "out.gguf", options)
    #expect(summary.exact == summary.converted)
    let (before, after) = (try bench.gguf("source.gguf"), try bench.gguf("out.gguf"))
    for tensor in before.tensors {
      let other = try #require(after.tensor(named: tensor.name))
      #expect(Array(after.bytes(of: other)) == Array(before.bytes(of: tensor)), "\(tensor.name)")
    }
  }

  @Test("Rows that are no whole blocks become F16")
  func fallback() throws {
    let bench = try Workbench(type: .f32) {
      $0.feedForwardLength = 48
      $0.embeddingType = .f16
    }
    let summary = try bench.convert(bench.source, to: .gguf(.q8_0), "out.gguf")
    #expect(summary.fallbacks == ["blk.0.ffn_down.weight"])
    #expect(try bench.gguf("out.gguf").tensor(named: "blk.0.ffn_down.weight")?.type == .f16)
  }
}

@Suite("Conversion to int4 safetensors")
struct Int4ConversionTests {
  @Test(
    "Q4_0 layers keep their codes and scales in every format",
    arguments: [Int4Tensors.Format.awq, .gptq, .quick, .marlin])
  func exact(format: Int4Tensors.Format) throws {
    let bench = try Workbench()
    let summary = try bench.convert(bench.source, to: .safetensors(format), "out.safetensors")
    #expect(summary.groupSize == 32 && summary.exact == summary.converted && summary.exact == 7)
    let file = try bench.gguf("source.gguf")
    let model = try bench.safetensors("out.safetensors")
    let shape = try #require(model.tensor(named: "model.layers.0.mlp.down_proj.qweight")).shape
    // N = 64, which QUICK pads to 128, K = 96.
    let expected: [Int] =
      switch format {
      case .awq: [96, 8]
      case .gptq, .gptqV2: [12, 64]
      case .quick: [24, 64]
      case .marlin: [6, 128]
      }
    #expect(shape == expected)
    let read = try bench.layer("out.safetensors", "model.layers.0.mlp.down_proj", format)
    let values = try bench.floats(file, "blk.0.ffn_down.weight")
    #expect(Array(read.dequantized().prefix(64 * 96)) == values)
  }

  @Test("Rows of Q and K return to the order of the original checkpoint")
  func rotaryOrder() throws {
    let bench = try Workbench()
    try bench.convert(bench.source, to: .safetensors(.awq), "out.safetensors")
    let file = try bench.gguf("source.gguf")
    for (part, heads) in [("q", 4), ("k", 2)] {
      let read = try bench.layer("out.safetensors", "model.layers.0.self_attn.\(part)_proj", .awq)
      let values = try bench.floats(file, "blk.0.attn_\(part).weight")
      // Heads of 32: pair p of a head lies in rows 2p and 2p + 1 of the file, p and p + 16 there.
      for row in 0..<heads * 32 {
        let (head, within) = (row / 32, row % 32)
        let origin = head * 32 + (within < 16 ? 2 * within : 2 * (within - 16) + 1)
        #expect((0..<64).allSatisfy { read[row, $0] == values[origin * 64 + $0] }, "\(part) \(row)")
      }
    }
    // Architectures that rotate halves keep their rows.
    let other = try Workbench(.qwen2)
    try other.convert(other.source, to: .safetensors(.awq), "out.safetensors")
    let read = try other.layer("out.safetensors", "model.layers.0.self_attn.q_proj", .awq)
    #expect(
      read.dequantized() == (try other.floats(try other.gguf("source.gguf"), "blk.0.attn_q.weight"))
    )
  }

  @Test("Repacking in a circle changes no byte", arguments: [false, true])
  func circle(symmetric: Bool) throws {
    let bench = try Workbench(type: .q4_1)
    var options = ModelConverter.Options()
    options.symmetric = symmetric
    try bench.convert(bench.source, to: .safetensors(.awq), "a.safetensors", options)
    let formats: [Int4Tensors.Format] = symmetric ? [.quick, .marlin, .gptq] : [.quick, .gptq]
    var last = "a.safetensors"
    for format in formats {
      let next = "\(format.rawValue).safetensors"
      let summary = try bench.convert(bench.folder.file(last), to: .safetensors(format), next)
      #expect(summary.exact == summary.converted && summary.converted == 7)
      last = next
    }
    try bench.convert(bench.folder.file(last), to: .safetensors(.awq), "b.safetensors")
    #expect(
      readFile(bench.folder.file("a.safetensors")) == readFile(bench.folder.file("b.safetensors")))
  }

  @Test(
    "Zero points of the second GPTQ version are told by the configuration beside the file",
    arguments: [
      ("quantize_config.json", #"{"bits": 4, "checkpoint_format": "gptq_v2"}"#, true),
      ("config.json", #"{"quantization_config": {"checkpoint_format": "gptq_v2"}}"#, true),
      ("config.json", #"{"quantization_config": {"checkpoint_format": "gptq"}}"#, false),
      ("config.json", #"{"quantization_config": null, "checkpoint_format": null}"#, false),
    ])
  func zeroPointVersions(name: String, text: String, isSecond: Bool) throws {
    let bench = try Workbench()
    let matrix = try Int4Matrix(
      rows: 8, columns: 32, groupSize: 32, codes: (0..<256).map { UInt8($0 % 16) },
      scales: (0..<8).map { Float($0 + 1) / 8 }, offsets: .zeroPoints([1, 2, 3, 4, 5, 6, 7, 15]))
    let tensors = try matrix.tensors(isSecond ? .gptqV2 : .gptq)
    func bytes(_ words: [UInt32]) -> [UInt8] {
      words.flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) } }
    }
    var writer = SafetensorsWriter()
    try writer.addTensor(
      "l.qweight", type: .i32, shape: tensors.weightShape, bytes: bytes(tensors.weights))
    try writer.addTensor(
      "l.qzeros", type: .i32, shape: tensors.zeroPointShape, bytes: bytes(tensors.zeroPoints))
    try writer.addTensor(
      "l.scales", type: .f16, shape: tensors.scaleShape,
      bytes: tensors.scales.flatMap { [UInt8(truncatingIfNeeded: $0), UInt8($0 >> 8)] })
    try writer.write(to: bench.folder.file("model.safetensors"))
    bench.folder.write(Array(text.utf8), name)
    try bench.convert(bench.folder.path, to: .safetensors(.awq), "out.safetensors")
    #expect(try bench.layer("out.safetensors", "l", .awq) == matrix)
    bench.folder.write(Array("{".utf8), name)
    #expect(throws: QuantError.self) {
      try bench.convert(bench.folder.path, to: .safetensors(.awq), "out.safetensors")
    }
  }

  @Test("Quantizing stays within a step of each group, and other tensors become F16")
  func quantizes() throws {
    let bench = try Workbench(.gemma3, type: .f32)
    let summary = try bench.convert(bench.source, to: .safetensors(.gptq), "out.safetensors")
    #expect(summary.exact == 0 && summary.groupSize == 32)
    let file = try bench.gguf("source.gguf")
    let model = try bench.safetensors("out.safetensors")
    // Norms lose the 1 that GGUF files of Gemma add.
    let norm = try #require(model.tensor(named: "model.layers.0.input_layernorm.weight"))
    #expect(norm.type == .f16)
    let stored = try GGMLBlocks.dequantize(.f16, Array(model.bytes(of: norm)))
    for (value, original) in zip(stored, try bench.floats(file, "blk.0.attn_norm.weight")) {
      #expect(abs(value - (original - 1)) <= 0x1p-10)
    }
    #expect(model.tensor(named: "model.layers.0.pre_feedforward_layernorm.weight") != nil)
    #expect(model.tensor(named: "model.layers.0.post_feedforward_layernorm.weight") != nil)
    #expect(model.tensor(named: "model.layers.0.mlp.up_proj.g_idx")?.shape == [64])
    let second = model.files[0].metadata["checkpoint_format"] == "gptq_v2"
    let read = try bench.layer(
      "out.safetensors", "model.layers.0.mlp.up_proj", second ? .gptqV2 : .gptq)
    let values = try bench.floats(file, "blk.0.ffn_up.weight")
    for row in 0..<read.rows {
      for column in 0..<read.columns {
        // Best-scale search may clip a group's extreme by a little more than half a step.
        let step = abs(read.scales[row * read.groups + column / read.groupSize])
        #expect(abs(read[row, column] - values[row * 64 + column]) <= 3 * step)
      }
    }
  }

  @Test("A float checkpoint quantizes like the GGUF file that it came from")
  func fromFloats() throws {
    let bench = try Workbench(.qwen2, type: .f32)
    try bench.convert(bench.source, to: .safetensors(.awq), "direct.safetensors")
    let file = try bench.gguf("source.gguf")
    var writer = SafetensorsWriter()
    for (ours, theirs) in [("ffn_up", "mlp.up_proj"), ("ffn_down", "mlp.down_proj")] {
      let tensor = try #require(file.tensor(named: "blk.0.\(ours).weight"))
      try writer.addTensor(
        "model.layers.0.\(theirs).weight", type: .f32, shape: [tensor.rows, tensor.columns],
        bytes: Array(file.bytes(of: tensor)))
    }
    try writer.write(to: bench.folder.file("float.safetensors"))
    try bench.convert(
      bench.folder.file("float.safetensors"), to: .safetensors(.awq), "b.safetensors")
    for layer in ["model.layers.0.mlp.up_proj", "model.layers.0.mlp.down_proj"] {
      #expect(
        try bench.layer("b.safetensors", layer, .awq)
          == (try bench.layer("direct.safetensors", layer, .awq)))
    }
  }
}
