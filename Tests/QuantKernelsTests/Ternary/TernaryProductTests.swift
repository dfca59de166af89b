import QuantKernels
import TestSupport
import Testing

/// From a file's bytes to a product: every lossless way gives the reference's bits.
@Suite struct TernaryProductTests {
  @Test(arguments: PackedTernary.Format.allCases)
  func importedWeightsMultiplyAsTheReference(_ format: PackedTernary.Format) throws {
    var random = RepeatableRandom(seed: 77)
    let (rows, columns) = (33, 256)
    let codes = (0..<rows * columns).map { _ in UInt8.random(in: 0...2, using: &random) }
    for scales: TernaryMatrix.Scales in [
      .tensor(0.75), .rows((0..<rows).map { Float($0) / 16 - 1 }),
    ] {
      let matrix = try TernaryMatrix(rows: rows, columns: columns, codes: codes, scales: scales)
      let x = random.normals(3 * columns)
      let wanted = matrix.referenceProduct(x, count: 3)
      for level in InstructionSet.supported {
        let packed = try PackedTernary(matrix, format: format, instructionSet: level)
        let y = try packed.matmul(x)
        if format.isLossless {
          #expect(y == wanted, "\(level)")
        } else {
          let largest = wanted.map(abs).max() ?? 0
          for (ours, exact) in zip(y, wanted) { #expect(abs(ours - exact) <= 0.05 * largest) }
        }
      }
    }
  }

  @Test func aFileFormatLeadsToTheSameProduct() throws {
    var random = RepeatableRandom(seed: 78)
    let (rows, columns) = (16, 512)
    let codes = (0..<rows * columns).map { _ in UInt8.random(in: 0...2, using: &random) }
    let matrix = try TernaryMatrix(
      rows: rows, columns: columns, codes: codes, scales: .tensor(0.5))
    let x = random.normals(columns)
    let wanted = try PackedTernary(matrix).matmul(x)
    for format in [TernaryFormat.i2s(.x86), .tq1_0, .tq2_0, .iq2BN, .fiveTrits] {
      let again = try TernaryMatrix(
        format, bytes: matrix.packed(as: format), rows: rows, columns: columns)
      #expect(try PackedTernary(again).matmul(x) == wanted, "\(format.name)")
    }
  }
}
