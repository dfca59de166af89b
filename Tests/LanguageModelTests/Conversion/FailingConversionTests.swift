import LanguageModel
import QuantKernels
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

@Suite("Conversions that fail")
struct FailingConversionTests {
  private func expect(
    _ code: QuantError.Code, _ body: () throws -> Void,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let error = #expect(throws: QuantError.self, sourceLocation: sourceLocation) { try body() }
    #expect(error?.code == code, "\(error?.description ?? "")", sourceLocation: sourceLocation)
  }

  @Test("Nothing appears when a conversion fails or is cancelled")
  func whole() throws {
    let bench = try Workbench(type: .f32)
    let converter = ModelConverter(source: bench.source, target: .gguf(.q8_0), pool: bench.pool)
    expect(.cancelled) {
      _ = try converter.write(to: bench.folder.file("never.gguf"), isCancelled: { true })
    }
    expect(.cancelled) {
      _ = try ModelConverter(source: bench.source, target: .safetensors(.awq), pool: bench.pool)
        .write(to: bench.folder.file("never.safetensors"), isCancelled: { true })
    }
    #expect(bench.folder.names == ["source.gguf"])
  }

  @Test("Requests that cannot be met")
  func requests() throws {
    let bench = try Workbench(type: .q4_1)
    expect(.invalidArgument) { try bench.convert(bench.source, to: .gguf(.f16), "source.gguf") }
    expect(.missingFile) {
      try bench.convert(bench.folder.file("none"), to: .gguf(.f16), "out.gguf")
    }
    var options = ModelConverter.Options()
    options.groupSize = 36
    expect(.invalidArgument) {
      try bench.convert(bench.source, to: .safetensors(.awq), "out.safetensors", options)
    }
    // Zero points do not fit into Marlin.
    try bench.convert(bench.source, to: .safetensors(.awq), "a.safetensors")
    expect(.unsupported) {
      try bench.convert(bench.folder.file("a.safetensors"), to: .safetensors(.marlin), "out")
    }
    expect(.unsupported) {
      try bench.convert(bench.folder.file("a.safetensors"), to: .gguf(.q4_0), "out.gguf")
    }
    expect(.invalidArgument) { _ = try ConversionTarget(named: "q9_9") }
    expect(.unsupported) { _ = try ConversionTarget(named: "Q6_K") }
    bench.folder.write([1, 2, 3], "garbage")
    expect(.invalidData) { try bench.convert(bench.folder.file("garbage"), to: .gguf(.f16), "out") }
    #expect(bench.folder.names == ["a.safetensors", "garbage", "source.gguf"])
  }

  @Test("The source is never the output, by whatever path")
  func sourceIsKept() throws {
    let bench = try Workbench(type: .q4_1)
    let before = readFile(bench.source)
    let names = ["link.gguf", "hard.gguf"]
    #expect(symlink(bench.source, bench.folder.file(names[0])) == 0)
    #expect(link(bench.source, bench.folder.file(names[1])) == 0)
    for name in ["./source.gguf"] + names {
      expect(.invalidArgument) { try bench.convert(bench.source, to: .gguf(.f16), name) }
    }
    #expect(readFile(bench.source) == before)
    // A folder's file is a source too.
    try bench.convert(bench.source, to: .safetensors(.awq), "model.safetensors")
    let shard = readFile(bench.folder.file("model.safetensors"))
    expect(.invalidArgument) {
      try bench.convert(bench.folder.path, to: .safetensors(.quick), "model.safetensors")
    }
    #expect(readFile(bench.folder.file("model.safetensors")) == shard)
  }

  @Test("What memory does not hold is refused before it is taken")
  func largerThanMemory() throws {
    let bench = try Workbench(type: .q4_1)
    var options = ModelConverter.Options()
    options.memoryLimit = 10_000
    try bench.convert(bench.source, to: .safetensors(.awq), "a.safetensors")
    for (source, target) in [
      (bench.source, ConversionTarget.safetensors(.awq)), (bench.source, .gguf(.q8_0)),
      (bench.folder.file("a.safetensors"), .safetensors(.quick)),
    ] {
      options.memoryLimit = source == bench.source && target == .gguf(.q8_0) ? 1_000 : 10_000
      expect(.outOfMemory) { try bench.convert(source, to: target, "never", options) }
    }
    #expect(!bench.folder.names.contains("never"))
  }

  @Test("Heads that the rows do not divide into", arguments: [0, 3, 1 << 62, Int.max])
  func absurdHeads(count: Int) throws {
    let bench = try Workbench(type: .q4_1)
    let file = try bench.gguf("source.gguf")
    for key in ["head_count", "head_count_kv"] {
      var writer = GGUFWriter()
      writer.copyMetadata(from: file.metadata)
      try writer.set("llama.attention.\(key)", .uint64(UInt64(count)))
      for tensor in file.tensors { try writer.addTensor(copying: tensor, from: file) }
      try writer.write(to: bench.folder.file("heads.gguf"))
      expect(.invalidData) {
        try bench.convert(bench.folder.file("heads.gguf"), to: .safetensors(.awq), "never")
      }
    }
  }

  @Test("A damaged value is found and named")
  func damaged() throws {
    let bench = try Workbench(type: .f32)
    var bytes = try #require(readFile(bench.source))
    let file = try bench.gguf("source.gguf")
    let tensor = try #require(file.tensor(named: "blk.0.ffn_up.weight"))
    for (index, byte) in [UInt8(0), 0, 0xC0, 0x7F].enumerated() {
      bytes[tensor.offset + 400 + index] = byte
    }
    let path = bench.folder.write(bytes, "nan.gguf")
    for target in [ConversionTarget.gguf(.q8_0), .safetensors(.awq)] {
      let error = #expect(throws: QuantError.self) { try bench.convert(path, to: target, "out") }
      #expect(error?.code == .invalidData)
      #expect(error?.subject.contains("up") == true, "\(error?.description ?? "")")
    }
    #expect(!bench.folder.names.contains("out"))
  }

  @Test("Int4 layers whose tensors do not belong together")
  func mismatched() throws {
    let bench = try Workbench()
    func model(_ qweight: [Int], _ scales: [Int], _ qzeros: [Int]?) throws -> String {
      var writer = SafetensorsWriter()
      try writer.addTensor(
        "l.qweight", type: .i32, shape: qweight,
        bytes: [UInt8](repeating: 0, count: qweight.reduce(4, *)))
      try writer.addTensor(
        "l.scales", type: .f16, shape: scales,
        bytes: [UInt8](repeating: 0, count: scales.reduce(2, *)))
      if let qzeros {
        try writer.addTensor(
          "l.qzeros", type: .i32, shape: qzeros,
          bytes: [UInt8](repeating: 0, count: qzeros.reduce(4, *)))
      }
      let path = bench.folder.file("layer.safetensors")
      try writer.write(to: path)
      return path
    }
    for (weights, scales, zeros) in [
      ([64, 8], [2, 64], nil), ([64, 8], [2, 63], [2, 8]), ([64, 8], [3, 64], [3, 8]),
      ([64, 8], [2, 64], [2, 7]), ([64], [2, 64], [2, 8]), ([0, 8], [2, 64], [2, 8]),
    ] as [([Int], [Int], [Int]?)] {
      expect(.invalidData) {
        try bench.convert(try model(weights, scales, zeros), to: .safetensors(.gptq), "out")
      }
    }
  }
}
