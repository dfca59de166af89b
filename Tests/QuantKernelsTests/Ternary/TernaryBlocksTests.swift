import QuantKernels
import TestSupport
import Testing

/// GGUF's ternary types against ggml's own library and against the canonical matrix.
@Suite struct TernaryBlocksTests {
  private static func floats(_ hexadecimal: String) -> [Float] {
    let bytes = TernaryCase.bytes(hexadecimal)
    return stride(from: 0, to: bytes.count, by: 4).map { at in
      Float(bitPattern: (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[at + $1]) << UInt32(8 * $1) })
    }
  }

  @Test(arguments: TernaryGolden.dequantized)
  func dequantizesAsTheReference(_ golden: TernaryGolden) throws {
    let values = try GGMLBlocks.dequantize(golden.type, TernaryCase.bytes(golden.source))
    #expect(values.map(\.bitPattern) == Self.floats(golden.wanted).map(\.bitPattern))
  }

  @Test(arguments: TernaryGolden.quantized)
  func quantizesAsTheReference(_ golden: TernaryGolden) throws {
    let bytes = try GGMLBlocks.quantize(golden.type, Self.floats(golden.source))
    #expect(bytes == TernaryCase.bytes(golden.wanted))
  }

  /// The quantizer of floats and the packer of codes meet.
  @Test(arguments: [(GGMLType.tq1_0, TernaryFormat.tq1_0), (.tq2_0, .tq2_0)])
  func ternaryMatricesQuantizeToThemselves(_ type: GGMLType, _ format: TernaryFormat) throws {
    let matrix = try TernaryCase.matrix(rows: 5, columns: 512)
    let bytes = try GGMLBlocks.quantize(type, matrix.dequantized())
    #expect(try matrix.packed(as: format) == bytes)
    #expect(try GGMLBlocks.dequantize(type, bytes) == matrix.dequantized())
    #expect(try TernaryMatrix(format, bytes: bytes, rows: 5, columns: 512) == matrix)
  }

  @Test func i2sTakesItsScaleFromTheTail() throws {
    let matrix = try TernaryCase.matrix(rows: 3, columns: 256, scales: .tensor(0.1))
    let bytes = try matrix.packed(as: .i2s(.x86))
    #expect(GGMLType.i2_s.tensorBytes(elements: 768) == bytes.count)
    #expect(try GGMLBlocks.dequantize(.i2_s, bytes) == matrix.dequantized())
    // Some blocks, with the tail behind them.
    let part = Array(bytes[64..<96] + bytes.suffix(32))
    #expect(try GGMLBlocks.dequantize(.i2_s, part) == Array(matrix.dequantized()[256..<384]))
    for bad in [[], Array(bytes.prefix(31)), Array(bytes.dropLast()), bytes + [0]] {
      #expect(throws: QuantError.self) { try GGMLBlocks.dequantize(.i2_s, bad) }
    }
  }
}
