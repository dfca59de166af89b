import QuantKernels
import TestSupport
import Testing

@Suite struct GGMLBlocksTests {
  private static func bytes(_ hexadecimal: String) -> [UInt8] {
    let digits = hexadecimal.utf8.map { $0 < 58 ? $0 - 48 : $0 - 87 }
    return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
  }

  private static func bits(_ bytes: [UInt8]) -> [UInt32] {
    stride(from: 0, to: bytes.count, by: 4).map { at in
      (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[at + $1]) << UInt32(8 * $1) }
    }
  }

  @Test(arguments: GGMLGolden.dequantized)
  func dequantizesAsTheReference(_ golden: GGMLGolden) throws {
    let values = try GGMLBlocks.dequantize(golden.type, Self.bytes(golden.source))
    #expect(values.map(\.bitPattern) == Self.bits(Self.bytes(golden.wanted)))
  }

  @Test func everyTypeHasAGoldenBlock() {
    let covered = Set(GGMLGolden.dequantized.map(\.type))
    // The ternary types' stand in TernaryGolden.
    #expect(covered.union([.f32, .tq1_0, .tq2_0, .i2_s]) == Set(GGMLType.allCases))
  }

  @Test(arguments: GGMLGolden.quantized)
  func quantizesAsTheReference(_ golden: GGMLGolden) throws {
    let values = Self.bits(Self.bytes(golden.source)).map { Float(bitPattern: $0) }
    #expect(try GGMLBlocks.quantize(golden.type, values) == Self.bytes(golden.wanted))
  }

  /// Codes of a block are recovered when its dequantized values are quantized again: the extreme is
  /// exact in Q4_0 and Q8_0 when it is present.
  @Test(arguments: [GGMLType.q4_0, .q8_0])
  func quantizationIsIdempotent(_ type: GGMLType) throws {
    var random = RepeatableRandom(seed: 1)
    let blocks = try GGMLBlocks.quantize(type, random.normals(32 * 64))
    let values = try GGMLBlocks.dequantize(type, blocks)
    #expect(try GGMLBlocks.dequantize(type, GGMLBlocks.quantize(type, values)) == values)
  }

  @Test(arguments: [GGMLType.q4_0, .q4_1, .q8_0])
  func errorIsWithinHalfAStep(_ type: GGMLType) throws {
    var random = RepeatableRandom(seed: 2)
    let values = random.normals(32 * 64)
    let back = try GGMLBlocks.dequantize(type, GGMLBlocks.quantize(type, values))
    for start in stride(from: 0, to: values.count, by: 32) {
      let block = values[start..<start + 32]
      let largest = block.map(\.magnitude).max() ?? 0
      let step =
        switch type {
        case .q4_0: largest / 8
        case .q4_1: ((block.max() ?? 0) - (block.min() ?? 0)) / 15
        default: largest / 127
        }
      // Q4_0's positive side ends at 7 steps; binary16 scales cost another part in 2048 of the
      // whole range.
      let bound = (type == .q4_0 ? 1 : 0.5) * step + largest / 512
      for i in block.indices { #expect((values[i] - back[i]).magnitude <= bound) }
    }
  }

  @Test func floatsCopyAndExtremesStay() throws {
    let values: [Float] = [
      0, -0, 1.5, .infinity, -.infinity, .greatestFiniteMagnitude, .leastNonzeroMagnitude,
    ]
    let copy = try GGMLBlocks.dequantize(.f32, GGMLBlocks.quantize(.f32, values))
    #expect(copy.map(\.bitPattern) == values.map(\.bitPattern))
    #expect(try GGMLBlocks.dequantize(.f16, GGMLBlocks.quantize(.f16, [70000])) == [.infinity])
    // Subnormal spread: 1/d overflows, the block becomes zero, nothing traps.
    let tiny = [Float](repeating: 0, count: 255) + [0x1p-132]
    for type in [GGMLType.q4_0, .q4_1, .q8_0, .tq1_0, .tq2_0] {
      let back = try GGMLBlocks.dequantize(type, GGMLBlocks.quantize(type, tiny))
      #expect(back.allSatisfy { $0 == 0 })
    }
  }

  @Test func refusesBadInput() throws {
    #expect(throws: QuantError.self) {
      try GGMLBlocks.dequantize(.q4_0, [UInt8](repeating: 0, count: 17))
    }
    #expect(throws: QuantError.self) {
      try GGMLBlocks.quantize(.q4_0, [Float](repeating: 0, count: 31))
    }
    for type in [GGMLType.q5_0, .q5_1, .q4_k, .q5_k, .q6_k, .i2_s] {
      let error = #expect(throws: QuantError.self) { try GGMLBlocks.quantize(type, []) }
      #expect(error?.code == .unsupported)
    }
    for type in [GGMLType.q4_0, .q4_1, .q8_0, .tq1_0, .tq2_0] {
      for bad in [Float.nan, .infinity, -.infinity, 1e30] {
        var values = [Float](repeating: 1, count: 256)
        values[40] = bad
        let error = #expect(throws: QuantError.self) { try GGMLBlocks.quantize(type, values) }
        #expect(error?.code == .invalidData)
      }
    }
    var output = [Float](repeating: 0, count: 33)
    let bytes = [UInt8](repeating: 0, count: 36)
    output.withUnsafeMutableBufferPointer { target in
      bytes.withUnsafeBytes { source in
        #expect(throws: QuantError.self) { try GGMLBlocks.dequantize(.q4_0, source, into: target) }
        #expect(throws: QuantError.self) {
          try GGMLBlocks.dequantize(
            .q4_0, source, into: UnsafeMutableBufferPointer(rebasing: target[0..<32]))
        }
      }
    }
  }
}
