import QuantKernels
import TestSupport
import Testing

@testable import LanguageModel

@Suite struct NativeContainerTests {
  private func hash(_ bytes: [UInt8], pieces: [Int] = []) -> UInt64 {
    var hash = XXH64()
    var start = 0
    for piece in pieces + [bytes.count] {
      let end = min(bytes.count, start + piece)
      bytes[start..<end].withUnsafeBytes { hash.update($0) }
      start = end
    }
    return hash.finish()
  }

  /// Numbers that `xxh64sum` prints.
  @Test func checksumIsXXH64() {
    #expect(hash([]) == 0xEF46_DB37_51D8_E999)
    #expect(hash(Array("a".utf8)) == 0xD24E_C4F1_A98C_6E5B)
    #expect(hash(Array("abc".utf8)) == 0x44BC_2CF5_AD77_0999)
    #expect(
      hash(Array("Nobody inspects the spammish repetition".utf8)) == 0xFBCE_A83C_8A37_8BF1)
    let long = (0..<1000).map { UInt8(truncatingIfNeeded: $0 * 37) }
    #expect(hash(long, pieces: [1, 31, 32, 33, 7, 200]) == hash(long))
  }

  /// One that no block of another format divides: 3 layers of odd widths, padded inside their rows.
  private func bench() throws -> Workbench {
    try Workbench(.bitnetB158, type: .f16) {
      $0.embeddingLength = 100
      $0.headDimension = 26
      $0.feedForwardLength = 161
      $0.layerCount = 2
    }
  }

  @Test func matricesComeBackBitForBit() throws {
    let bench = try bench()
    let summary = try bench.convert(bench.source, to: .native, "model.qkn")
    #expect(summary.fallbacks.isEmpty && summary.converted == 15)
    let before = try bench.gguf("source.gguf")
    let native = try bench.gguf("model.qkn")
    #expect(native.tensors.map(\.name) == before.tensors.map(\.name))
    let down = try #require(native.tensor(named: "blk.1.ffn_down.weight"))
    #expect(down.typeName == "ternary" && down.dimensions == [161, 100])
    #expect(down.byteCount == 100 * 2 * 32 + 4)  // 161 columns are two blocks of 160
    // Back as floats, and once more as native: the same values, the same bytes.
    try bench.convert(bench.folder.file("model.qkn"), to: .gguf(.f16), "floats.gguf")
    let floats = try bench.gguf("floats.gguf")
    for tensor in before.tensors {
      #expect(try bench.floats(before, tensor.name) == bench.floats(floats, tensor.name))
    }
    #expect(!floats.metadata.keys.contains { $0.hasPrefix(NativeContainer.keyPrefix) })
    let again = try bench.convert(bench.folder.file("model.qkn"), to: .native, "again.qkn")
    #expect(again.exact == 15)
    let bytes = try MappedFile(path: bench.folder.file("again.qkn")).withBytes { Array($0) }
    #expect(bytes == (try MappedFile(path: bench.folder.file("model.qkn")).withBytes { Array($0) }))
    #expect(Array(bytes.prefix(12)) == Array("QKNATIVE".utf8) + [1, 0, 0, 0])
    #expect(try ModelFileKind(path: bench.folder.file("model.qkn")) == .gguf)
  }

  @Test func nativeModelsRunAsTheirSourceDoes() throws {
    let bench = try Workbench(.bitnetB158, type: .i2_s)
    try bench.convert(bench.source, to: .native, "model.qkn")
    let first = try LanguageModel(path: bench.source).makeSession()
    let native = try LanguageModel(path: bench.folder.file("model.qkn"))
    #expect(native.ternary != nil)
    let second = try native.makeSession()
    try first.forward([5, 6, 7, 8])
    try second.forward([5, 6, 7, 8])
    #expect(Array(first.logits) == Array(second.logits))
  }

  /// A float model becomes ternary by its layers' mean magnitudes.
  @Test func anyModelCanBeMadeTernary() throws {
    for type in [GGMLType.f32, .q4_1] {
      let bench = try Workbench(type: type)
      let summary = try bench.convert(bench.source, to: .native, "model.qkn")
      #expect(summary.fallbacks.isEmpty)
      let session = try LanguageModel(path: bench.folder.file("model.qkn")).makeSession()
      try session.forward([5, 6])
      #expect(session.logits.allSatisfy { $0.isFinite })
    }
  }

  @Test func damageIsFound() throws {
    let bench = try Workbench(.bitnetB158, type: .i2_s) { $0.layerCount = 1 }
    try bench.convert(bench.source, to: .native, "model.qkn")
    let bytes = try MappedFile(path: bench.folder.file("model.qkn")).withBytes { Array($0) }
    func code(_ bytes: [UInt8]) -> QuantError.Code? {
      do throws(QuantError) {
        _ = try GGUFFile(bytes: bytes, name: "changed")
        return nil
      } catch {
        return error.code
      }
    }
    #expect(code(bytes) == nil)
    var random = RepeatableRandom(seed: 3)
    for _ in 0..<300 {
      var changed = bytes
      let place = Int.random(in: 0..<bytes.count, using: &random)
      changed[place] ^= 1 << UInt8.random(in: 0...7, using: &random)
      let found = code(changed)
      #expect(found == .invalidData || found == .unsupported, "byte \(place)")
      let cut = Int.random(in: 0..<bytes.count, using: &random)
      #expect(code(Array(bytes[..<cut])) == .invalidData, "cut at \(cut)")
    }
    #expect(code(bytes + [0]) == .invalidData)
    var newer = bytes
    newer[8] = 2
    #expect(code(newer) == .unsupported)
  }

  /// A checksum is no proof of sense: shapes that do not fit their bytes, and codes that are none.
  @Test func contentsAreCheckedToo() throws {
    func container(shape: [UInt64], byte: UInt8) throws -> [UInt8] {
      var writer = GGUFWriter()
      try writer.set(
        "quantkernels.ternary.x", .array(.uint64, shape.map { .uint64($0) }))
      let bytes = [UInt8](repeating: byte, count: 2 * 32) + [0, 0, 128, 63]
      try writer.addTensor("x", type: .f32, dimensions: [17], bytes: bytes)
      var image = try writer.serialized()
      // The tensor as 68 bytes of I8 instead of 17 floats.
      let header = image.lastIndex(of: 17) ?? 0
      image[header] = 68
      image[header + 8] = 24
      let sink = MemorySink()
      try NativeContainer.write(imageBytes: image.count, to: sink) { sink throws(QuantError) in
        try sink.write(image)
      }
      return sink.bytes
    }
    let good = try GGUFFile(bytes: try container(shape: [150, 2], byte: 121), name: "good")
    #expect(good.tensors[0].dimensions == [150, 2])
    for shape: [UInt64] in [[150, 3], [0, 2], [1 << 63, 2], [1 << 40, 1 << 40], [150], []] {
      let error = #expect(throws: QuantError.self, "\(shape)") {
        try GGUFFile(bytes: try container(shape: shape, byte: 121), name: "bad")
      }
      #expect(error?.code == .invalidData)
    }
    let file = try GGUFFile(bytes: try container(shape: [150, 2], byte: 250), name: "codes")
    let error = #expect(throws: QuantError.self) {
      try TernaryWeights.matrix(file.tensors[0], columns: 150, file: file, order: .x86)
    }
    #expect(error?.code == .invalidData)
  }
}
