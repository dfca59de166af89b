import QuantKernels
import TestSupport
import Testing

@Suite struct Int4ImportTests {
  private static func matrix(_ type: GGMLType, _ bytes: [UInt8], rows: Int, columns: Int) throws
    -> Int4Matrix
  {
    try bytes.withUnsafeBytes { source in
      try Int4Matrix(type: type, bytes: source, rows: rows, columns: columns)
    }
  }

  /// Random blocks with finite factors: the imported matrix has the values that ggml's
  /// dequantization gives, to the bit.
  @Test(arguments: [GGMLType.q4_0, .q4_1, .q4_k])
  func importsWithoutRequantizing(_ type: GGMLType) throws {
    let (rows, columns) = (5, 512)
    var random = RepeatableRandom(seed: 31)
    let blocks = rows * columns / type.blockElements
    var bytes: [UInt8] = []
    for _ in 0..<blocks {
      var block = (0..<type.blockBytes).map { _ in UInt8.random(in: 0...255, using: &random) }
      for at in type == .q4_0 ? [0] : [0, 2] {
        let half = HalfPrecision.half(.random(in: -0.1...0.1, using: &random))
        (block[at], block[at + 1]) = (UInt8(half & 255), UInt8(half >> 8))
      }
      bytes += block
    }
    let matrix = try Self.matrix(type, bytes, rows: rows, columns: columns)
    #expect(matrix.groupSize == 32)
    let wanted = try GGMLBlocks.dequantize(type, bytes)
    #expect(matrix.dequantized().map(\.bitPattern) == wanted.map(\.bitPattern))
    #expect(
      (0..<columns).map { matrix[3, $0].bitPattern }
        == wanted[3 * columns..<4 * columns].map(\.bitPattern))
    if type == .q4_0 { #expect(matrix.offsets == .symmetric) }
  }

  @Test func refusesBadTensors() throws {
    let row = [UInt8](repeating: 0, count: 18 * 2)
    for (type, rows, columns) in [
      (GGMLType.q8_0, 1, 64), (.f16, 1, 18), (.q4_0, 1, 63), (.q4_0, 2, 64), (.q4_0, 0, 64),
      (.q4_0, 1, 0), (.q4_0, -1, -64), (.q4_0, .max, 64), (.q4_1, 1, 64), (.q4_k, 1, 64),
    ] {
      #expect(throws: QuantError.self) { try Self.matrix(type, row, rows: rows, columns: columns) }
    }
    var infinite = row
    infinite[19] = 0x7C
    let error = #expect(throws: QuantError.self) {
      try Self.matrix(.q4_0, infinite, rows: 1, columns: 64)
    }
    #expect(error?.code == .invalidData)
  }
}
