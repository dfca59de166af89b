import QuantKernels
import TestSupport
import Testing

@Suite struct HuggingFaceTernaryTests {
  @Test func goldenVector() throws {
    let codes = goldenTernaryWeights(32).map { UInt8($0 + 1) }
    let matrix = try TernaryMatrix(rows: 8, columns: 4, codes: codes, scales: .tensor(0.5))
    let tensors = try matrix.huggingFace(.multiplier)
    #expect(tensors.weights == [2, 1, 4, 137, 97, 146, 168, 136])
    #expect(tensors.weightShape == [2, 4])
    #expect(try TernaryMatrix(tensors) == matrix)
  }

  /// The two conventions are reciprocal; reading the one as the other would be wrong by the square.
  @Test func scalesMeanTheOpposite() throws {
    for scale in [Float(0.5), 1.171875, 0.0078125, 3] {
      let matrix = try TernaryMatrix(
        rows: 1, columns: 2, codes: [0, 2], scales: .tensor(scale))
      let multiplier = try matrix.huggingFace(.multiplier)
      #expect(multiplier.weightScale == scale)
      let divisor = try matrix.huggingFace(.divisor)
      #expect(divisor.weightScale == 1 / scale)
      let back = try TernaryMatrix(divisor).scale(row: 0)
      #expect(HalfPrecision.brain(back) == HalfPrecision.brain(scale))
      #expect((back - scale).magnitude <= scale.ulp)
    }
  }

  /// Rows that do not go by fours: the packer's padding is cut off, not read as −1.
  @Test(arguments: [0, 1, 2, 3, 5, 6, 7, 8, 13])
  func rowsNeedNotGoByFours(rows: Int) throws {
    var random = RepeatableRandom(seed: UInt64(rows))
    let columns = 9
    let codes = (0..<rows * columns).map { _ in UInt8.random(in: 0...2, using: &random) }
    let matrix = try TernaryMatrix(
      rows: rows, columns: columns, codes: codes, scales: .tensor(0.25))
    let tensors = try matrix.huggingFace(.divisor)
    let packedRows = (rows + 3) / 4
    #expect(tensors.weightShape == [packedRows, columns])
    for row in 0..<4 * packedRows {
      for k in 0..<columns {
        let byte = tensors.weights[row % packedRows * columns + k]
        let code = byte >> UInt8(2 * (row / packedRows)) & 3
        #expect(code == (row < rows ? codes[row * columns + k] : 0))
      }
    }
    #expect(try TernaryMatrix(tensors) == matrix)
    let read = try HuggingFaceTernary(
      weights: tensors.weights, weightShape: tensors.weightShape, weightScale: 4,
      convention: .divisor, rows: rows)
    #expect(read == tensors)
  }

  @Test func refusesBadInput() throws {
    func refused(
      _ weights: [UInt8] = [1, 1], shape: [Int] = [1, 2], scale: Float = 1,
      _ convention: HuggingFaceTernary.ScaleConvention = .multiplier, rows: Int? = nil
    ) {
      #expect(throws: QuantError.self) {
        try HuggingFaceTernary(
          weights: weights, weightShape: shape, weightScale: scale, convention: convention,
          rows: rows)
      }
    }
    refused([1, 3])
    refused([0xC0, 1])
    refused([1])
    refused(shape: [2])
    refused(shape: [-1, -2])
    refused(shape: [.max, 2])
    refused(shape: [1 << 40, 1 << 40])
    refused(scale: .nan)
    refused(scale: .infinity)
    refused(scale: 0, .divisor)
    refused(scale: 1e-42, .divisor)
    for rows in [-1, 0, 5, .max] { refused(rows: rows) }
    let rows = try TernaryMatrix(
      rows: 2, columns: 1, codes: [0, 2], scales: .rows([1, 2]))
    #expect(throws: QuantError.self) { try rows.huggingFace(.multiplier) }
    let zero = try TernaryMatrix(rows: 1, columns: 1, codes: [2], scales: .tensor(0))
    #expect(throws: QuantError.self) { try zero.huggingFace(.divisor) }
  }
}
