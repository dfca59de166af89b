import CQuantKernels
import QuantKernels
import TestSupport
import Testing

@Suite struct QuantizedLatentTests {
  /// Vectors that defeat careless quantizers.
  static func vectors(_ count: Int, seed: UInt64) -> [(name: String, x: [Float])] {
    var random = RepeatableRandom(seed: seed)
    let normal = random.normals(count)
    return [
      ("normal", normal), ("positive", normal.map { abs($0) + 10.2 }),
      ("negative", normal.map { -abs($0) - 3e4 }), ("constant", normal.map { _ in 10.3 }),
      ("constant half", normal.map { _ in -2.5 }), ("zero", normal.map { _ in 0 }),
      ("signed zeros", normal.map { $0 < 0 ? -0.0 : 0.0 }),
      ("denormal", normal.map { $0 * 1e-39 }), ("small halves", normal.map { $0 * 1e-6 }),
      ("far from zero", normal.map { 1000 + $0 * 1e-3 }),
      ("largest", normal.map { $0 < 0 ? -65504 : 65504 }),
      ("one outlier", normal.enumerated().map { $0.offset == 0 ? 1e4 : $0.element }),
    ]
  }

  @Test(arguments: [2, 3, 4, 8])
  func everyNumberIsWithinHalfAScale(bits: Int) throws {
    for count in [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 64, 90, 352, 1000] {
      for (name, x) in Self.vectors(count, seed: UInt64(count)) {
        let quantized = try QuantizedLatent(x, bits: bits)
        let half = Double(HalfPrecision.float(fromHalf: quantized.scale)) / 2
        #expect(half.isFinite)
        for (number, latent) in zip(x, quantized.latents)
        where abs(Double(number) - latent) > half * (1 + 1e-6) {
          Issue.record("\(name) \(count): \(number) is \(latent), scale \(2 * half)")
        }
        #expect(quantized.codes.allSatisfy { Int($0) < 1 << bits })
      }
    }
  }

  /// A zero point clamped to the codes' range would bring 10.2…10.8 back as 0.95.
  @Test func aVectorOfOneSignSurvives() throws {
    let x: [Float] = [10.2, 10.4, 10.6, 10.8]
    for latent in zip(x, try QuantizedLatent(x, bits: 4).latents) {
      #expect(abs(Double(latent.0) - latent.1) < 0.03)
    }
  }

  @Test(arguments: InstructionSet.supported)
  func everyInstructionSetGivesTheSameCodes(level: InstructionSet) throws {
    for count in 1...130 {
      for bits in [2, 3, 4, 8] {
        for (name, x) in Self.vectors(count, seed: UInt64(count * 10 + bits)) {
          let found = try QuantizedLatent(x, bits: bits, instructionSet: level)
          let wanted = try QuantizedLatent(x, bits: bits, instructionSet: .scalar)
          if found != wanted { Issue.record("\(name) \(count) at \(bits) bits") }
        }
      }
    }
  }

  @Test(arguments: [2, 3, 4, 8])
  func packingIsUndoneForEveryLength(bits: Int) throws {
    var random = RepeatableRandom(seed: 3)
    for count in 1...1024 {
      let latent = try QuantizedLatent(random.normals(count), bits: bits)
      #expect(latent.packed.count == (count * bits + 7) / 8)
      if try QuantizedLatent.unpack(latent.packed, count: count, bits: bits) != latent.codes {
        Issue.record("\(count) codes of \(bits) bits")
      }
    }
  }

  /// The interleaved blocks of the cache, every width and both kinds, in memory that was not zero.
  @Test(arguments: [LatentType.eightBit, .fourBit, .threeBit, .twoBit], [false, true])
  func blocksGiveCodesBack(type: LatentType, isValue: Bool) throws {
    var random = RepeatableRandom(seed: 4)
    for width in Array(1...100) + [127, 128, 129, 255, 256, 511, 512, 1024] {
      let bytes = qk_latent_block_bytes(type.kernelTypeForTests, width)
      #expect(bytes == 16 * ((width * type.bits + 7) / 8 + 4))
      #expect(type.bytes(width: width) * 16 == bytes)
      let memory = try #require(GuardedBytes(capacity: bytes))
      defer { withExtendedLifetime(memory) {} }
      let block = memory.tail(bytes)
      for index in block.indices { block[index] = .random(in: 0...255, using: &random) }
      let kind: Int32 = isValue ? 1 : 0
      let base = try #require(block.baseAddress)
      let latents = try (0..<16).map { _ in
        try QuantizedLatent(random.normals(width), bits: type.bits)
      }
      for position in [3, 0, 15, 7, 8, 1, 2, 4, 5, 6, 9, 14, 13, 12, 11, 10] {
        qk_latent_store_codes(
          type.kernelTypeForTests, kind, latents[position].codes, latents[position].scale,
          latents[position].minimum, width, position, base)
      }
      for position in 0..<16 {
        var codes = [UInt8](repeating: 0, count: width)
        var numbers = [Float](repeating: 0, count: width)
        qk_latent_load(type.kernelTypeForTests, kind, base, width, position, &codes, &numbers)
        if codes != latents[position].codes { Issue.record("width \(width), \(position)") }
        #expect(
          zip(numbers, latents[position].latents).allSatisfy { abs(Double($0) - $1) < 1e-6 })
      }
    }
  }

  @Test func badInputIsRefused() {
    func expect(_ code: QuantError.Code, _ body: () throws -> Void) {
      #expect { try body() } throws: { ($0 as? QuantError)?.code == code }
    }
    for bits in [-1, 0, 1, 5, 6, 7, 9, 16, .max] {
      expect(.invalidArgument) { _ = try QuantizedLatent([1], bits: bits) }
      expect(.invalidArgument) { _ = try QuantizedLatent.unpack([0], count: 1, bits: bits) }
    }
    for bits in [-1, 0, 1, 5, 9, 64] {
      expect(.invalidArgument) { _ = try LatentType(bits: bits) }
    }
    expect(.invalidArgument) { _ = try QuantizedLatent([], bits: 4) }
    expect(.invalidArgument) { _ = try QuantizedLatent.unpack([], count: 1, bits: 4) }
    expect(.invalidArgument) { _ = try QuantizedLatent.unpack([0, 0], count: 0, bits: 4) }
    for bad in [Float.nan, .infinity, -.infinity, 65505] {
      expect(.invalidData) { _ = try QuantizedLatent([1, bad, 2], bits: 4) }
    }
  }
}

extension LatentType {
  var kernelTypeForTests: qk_latent_type {
    switch self {
    case .f32: QK_LATENT_FLOAT
    case .f16: QK_LATENT_HALF
    case .eightBit: QK_LATENT_8
    case .fourBit: QK_LATENT_4
    case .threeBit: QK_LATENT_3
    case .twoBit: QK_LATENT_2
    }
  }
}
