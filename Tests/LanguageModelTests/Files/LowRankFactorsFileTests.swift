import LanguageModel
import QuantKernels
import TestSupport
import Testing

/// Factor files: what was written comes back, and nothing else comes in.
@Suite struct LowRankFactorsFileTests {
  private func example(
    _ mode: LowRankFactors.KeyMode = .rebuilt, hasBias: Bool = false
  ) throws -> LowRankFactorsFile {
    let shape = LowRankFactors.Shape(
      layers: 2, queryHeads: 4, keyValueHeads: 2, headDimension: 4, modelWidth: 6,
      rotaryDimension: 4, rotaryStyle: .interleaved)
    var random = RepeatableRandom(seed: 3)
    func group(_ rank: Int) -> LowRankFactors.Group {
      .init(
        rank: rank, down: random.normals(6 * rank), up: random.normals(8 * rank),
        bias: hasBias ? random.normals(8) : nil)
    }
    /// One latent of frequency 1 for both heads.
    func commuting() -> LowRankFactors.Group {
      var up = [Float](repeating: 0, count: 16)
      for head in 0..<2 {
        let (a, b) = shape.elements(ofPair: 1)
        (up[(head * 4 + a) * 2], up[(head * 4 + b) * 2 + 1]) = (2, 2)
        (up[(head * 4 + a) * 2 + 1], up[(head * 4 + b) * 2]) = (-3, 3)
      }
      return .init(
        rank: 2, down: random.normals(12), up: up, latentBias: hasBias ? [1, 2] : nil,
        frequencies: [1])
    }
    let layers = (0..<2).map { layer in
      LowRankFactors.Layer(
        keys: mode == .rotated ? [] : [mode == .commuting ? commuting() : group(3)],
        values: [group(1 + layer)])
    }
    return LowRankFactorsFile(
      factors: try LowRankFactors(
        shape: shape, headsPerGroup: 2, keyMode: mode, bits: 3, isRotated: true, layers: layers),
      modelChecksum: 0x0123_4567_89AB_CDEF, notes: ["method": "loss", "text": "a \"text\"\n"])
  }

  private func read(_ bytes: [UInt8]) throws -> LowRankFactorsFile {
    try LowRankFactorsFile(file: SafetensorsFile(bytes: bytes, name: "factors"))
  }

  @Test(arguments: LowRankFactors.KeyMode.allCases, [false, true])
  func roundTrips(_ mode: LowRankFactors.KeyMode, _ hasBias: Bool) throws {
    let file = try example(mode, hasBias: hasBias)
    #expect(try read(try file.serialized()) == file)
    let folder = TemporaryFolder()
    try file.write(to: folder.file("factors"))
    #expect(try LowRankFactorsFile(path: folder.file("factors")) == file)
    #expect(folder.names == ["factors"])
    #expect(throws: QuantError.self) {
      try file.write(to: folder.file("cancelled"), isCancelled: { true })
    }
    #expect(folder.names == ["factors"])
  }

  /// Every byte changed, one at a time: an error, or at worst another note; never other factors.
  @Test func anyDamageIsNoticed() throws {
    let file = try example(.commuting, hasBias: true)
    let bytes = try file.serialized()
    for index in bytes.indices {
      for flip: UInt8 in [1, 0x80] {
        var damaged = bytes
        damaged[index] ^= flip
        guard let found = try? read(damaged) else { continue }
        #expect(found.factors.layers == file.factors.layers, "byte \(index)")
      }
    }
    for count in 0..<bytes.count {
      #expect(throws: QuantError.self) { try read(Array(bytes.prefix(count))) }
    }
  }

  /// Metadata that lie, with a data part that is whole.
  @Test func hostileMetadataAreRefused() throws {
    let good = try example()
    let source = try SafetensorsFile(bytes: try good.serialized(), name: "factors")
    func rewrite(
      _ change: (inout [String: String]) -> Void, rename: (String) -> String = { $0 },
      drop: String? = nil
    ) throws -> [UInt8] {
      var metadata = source.metadata
      change(&metadata)
      var writer = SafetensorsWriter(metadata: metadata)
      for tensor in source.tensors where tensor.name != drop {
        try writer.addTensor(
          rename(tensor.name), type: tensor.type, shape: tensor.shape,
          bytes: Array(source.bytes(of: tensor)))
      }
      return try writer.serialized()
    }
    _ = try read(try rewrite { _ in })
    for (key, values) in [
      "format": ["", "pt"], "version": ["2", ""],
      "layers": ["0", "-1", "3", "1", "1073741824", "99999999999999999999", "x", " 2", "2.0"],
      "query_heads": ["3", "0"], "key_value_heads": ["0", "4", "3"],
      "head_dimension": ["5", "0", "8", "1073741824"], "model_width": ["0", "7", "1073741824"],
      "rotary_dimension": ["3", "6", "-2"], "rotary_style": ["neox", ""],
      "heads_per_group": ["0", "1", "3"], "key_mode": ["rotated", "commuting", "none"],
      "bits": ["0", "5", "16"], "rotated": ["yes", ""], "model": ["12", "zzzzzzzzzzzzzzzz"],
      "checksum": ["0000000000000000", ""],
    ] {
      for value in values {
        #expect(throws: QuantError.self, "\(key) = \(value)") {
          try read(try rewrite { $0[key] = value })
        }
      }
      #expect(throws: QuantError.self, "no \(key)") {
        try read(try rewrite { $0[key] = nil })
      }
    }
    #expect(throws: QuantError.self) {
      try read(try rewrite({ _ in }, drop: "layers.1.value.0.up"))
    }
    #expect(throws: QuantError.self) {
      try read(
        try rewrite({ _ in }, rename: { $0 == "layers.0.key.0.down" ? "layers.9.x" : $0 }))
    }
  }

  /// Factors are for the model they were made of.
  @Test func otherModelsAreRefused() throws {
    var description = SyntheticModel(.llama)
    let model = try LanguageModel(
      file: GGUFFile(bytes: try description.serialized(), name: "model"))
    let shape = LowRankFactors.Shape(model.configuration)
    func group(_ rank: Int) -> LowRankFactors.Group {
      .init(
        rank: rank, down: [Float](repeating: 1, count: rank * shape.modelWidth),
        up: [Float](repeating: 1, count: rank * shape.keyValueWidth))
    }
    let factors = try LowRankFactors(
      shape: shape, headsPerGroup: shape.keyValueHeads, keyMode: .rebuilt, bits: 4,
      isRotated: false,
      layers: (0..<shape.layers).map { _ in .init(keys: [group(2)], values: [group(3)]) })
    let file = LowRankFactorsFile(
      factors: factors, modelChecksum: model.file.keyValueChecksum())
    try file.check(against: model, name: "factors")
    description.seed = 2
    let other = try LanguageModel(
      file: GGUFFile(bytes: try description.serialized(), name: "other"))
    #expect(throws: QuantError.self) { try file.check(against: other, name: "factors") }
    description.headCount = 2
    let narrow = try LanguageModel(
      file: GGUFFile(bytes: try description.serialized(), name: "narrow"))
    #expect(throws: QuantError.self) { try file.check(against: narrow, name: "factors") }
    #expect(throws: QuantError.self) {
      try example().check(against: model, name: "factors")
    }
  }
}
