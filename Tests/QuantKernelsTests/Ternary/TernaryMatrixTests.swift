import QuantKernels
import TestSupport
import Testing

@Suite struct TernaryMatrixTests {
  @Test func givesValuesExactly() throws {
    let matrix = try TernaryMatrix(
      rows: 2, columns: 3, codes: [0, 1, 2, 2, 2, 0], scales: .rows([0.37, -1e30]))
    #expect(matrix.dequantized() == [-0.37, 0, 0.37, -1e30, -1e30, 1e30])
    #expect(matrix[1, 2] == 1e30)
    #expect(matrix.scale(row: 0) == 0.37)
    let shared = try TernaryMatrix(rows: 2, columns: 1, codes: [0, 2], scales: .tensor(3))
    #expect(shared[0, 0] == -3 && shared[1, 0] == 3)
  }

  @Test func refusesBadInput() throws {
    func code(_ rows: Int, _ columns: Int, _ codes: [UInt8], _ scales: TernaryMatrix.Scales)
      -> QuantError.Code?
    {
      #expect(throws: QuantError.self) {
        try TernaryMatrix(rows: rows, columns: columns, codes: codes, scales: scales)
      }?.code
    }
    #expect(code(-1, 1, [], .tensor(1)) == .invalidArgument)
    #expect(code(.max, 2, [], .tensor(1)) == .invalidArgument)
    #expect(code(.max, 0, [], .tensor(1)) == .invalidArgument)
    #expect(code(1, 2, [1], .tensor(1)) == .invalidArgument)
    #expect(code(1, 2, [1, 1], .rows([1, 1])) == .invalidArgument)
    #expect(code(1, 2, [1, 3], .tensor(1)) == .invalidData)
    #expect(code(1, 1, [1], .tensor(.nan)) == .invalidData)
    #expect(code(1, 1, [1], .rows([.infinity])) == .invalidData)
    // The error says where.
    var codes = [UInt8](repeating: 1, count: 1000)
    codes[777] = 255
    let error = #expect(throws: QuantError.self) {
      try TernaryMatrix(rows: 10, columns: 100, codes: codes, scales: .tensor(1))
    }
    #expect(error?.problem == "code 255 at row 7, column 77")
  }

  @Test func matricesMayBeEmpty() throws {
    for (rows, columns) in [(0, 0), (3, 0), (0, 5)] {
      let matrix = try TernaryMatrix(
        quantizing: [], rows: rows, columns: columns, grouping: .rows)
      #expect(matrix.dequantized() == [])
      #expect(
        matrix.referenceProduct([Float](repeating: 1, count: columns), count: 1)
          == [Float](repeating: 0, count: rows))
    }
  }

  /// Absmean: m = 1 here, and ±0.5 goes to the even 0.
  @Test func quantizesByTheMeanMagnitude() throws {
    let values: [Float] = [0.5, -0.5, 0.50000006, -0.50000006, 2, -2, 1.5, 0.5, 1]
    let sum = values.reduce(Float(0)) { $0 + $1.magnitude }
    let padded = values + [9.5 - sum] + [Float](repeating: 0.5, count: 1)
    let mean = padded.reduce(0.0) { $0 + Double($1.magnitude) } / Double(padded.count)
    let matrix = try TernaryMatrix(quantizing: padded, rows: 1, columns: padded.count)
    #expect(matrix.scales == .tensor(Float(mean)))
    let exact = try TernaryMatrix(
      quantizing: [0.5, -0.5, 0.75, -0.75, 1.5, -2, 1, 1], rows: 2, columns: 4)
    #expect(exact.scales == .tensor(1))
    #expect(exact.codes == [1, 1, 2, 0, 2, 0, 2, 2])
    let rows = try TernaryMatrix(
      quantizing: [1, -1, 0, 0, 3, 0, 0, 1], rows: 2, columns: 4, grouping: .rows)
    #expect(rows.scales == .rows([0.5, 1]))
    #expect(rows.codes == [2, 0, 1, 1, 2, 1, 1, 2])
  }

  @Test func quantizesZerosAndRefusesNaN() throws {
    let zeros = try TernaryMatrix(quantizing: .init(repeating: 0, count: 6), rows: 2, columns: 3)
    #expect(zeros.scales == .tensor(1e-5))
    #expect(zeros.codes.allSatisfy { $0 == 1 })
    let tiny = try TernaryMatrix(quantizing: [1e-6, -1e-5, 0], rows: 1, columns: 3)
    #expect(tiny.scales == .tensor(1e-5) && tiny.codes == [1, 0, 1])
    let huge = try TernaryMatrix(
      quantizing: [.greatestFiniteMagnitude, -.greatestFiniteMagnitude], rows: 1, columns: 2)
    #expect(huge.codes == [2, 0])
    for bad in [Float.nan, .infinity, -.infinity] {
      let error = #expect(throws: QuantError.self) {
        try TernaryMatrix(quantizing: [0, bad], rows: 1, columns: 2)
      }
      #expect(error?.code == .invalidData)
    }
    #expect(throws: QuantError.self) { try TernaryMatrix(quantizing: [0], rows: 1, columns: 2) }
  }

  @Test func takesTernaryFloatsExactly() throws {
    let one = try TernaryMatrix(exactly: [0, 0.3, -0.3, 0, 0, 0], rows: 3, columns: 2)
    #expect(one.scales == .tensor(0.3))
    #expect(one.dequantized() == [0, 0.3, -0.3, 0, 0, 0])
    let rows = try TernaryMatrix(exactly: [0, 0.3, -0.5, 0.5], rows: 2, columns: 2)
    #expect(rows.scales == .rows([0.3, 0.5]))
    let error = #expect(throws: QuantError.self) {
      try TernaryMatrix(exactly: [0, 0.3, -0.5, 0.25], rows: 2, columns: 2)
    }
    #expect(error?.code == .unsupported)
  }

  /// A row of zeros goes with any scale.
  @Test func findsTheCommonScale() throws {
    func common(_ codes: [UInt8], _ scales: [Float]) throws -> Float? {
      try TernaryMatrix(rows: scales.count, columns: 1, codes: codes, scales: .rows(scales))
        .commonScale
    }
    #expect(try common([1, 2, 1, 0], [9, 0.5, 0, 0.5]) == 0.5)
    #expect(try common([2, 0], [0.5, 0.25]) == nil)
    #expect(try common([1, 1], [3, 4]) == 3)
    #expect(try common([], []) == 0)
  }
}

@Suite struct TernaryActivationsTests {
  private func codes(_ x: [Float]) -> [Int8] {
    TernaryActivations(x, count: 1, columns: x.count).codes
  }

  @Test func roundsHalvesToEven() {
    #expect(codes([127, 0.5, 1.5, 2.5, -0.5, -1.5]) == [127, 0, 2, 2, 0, -2])
  }

  @Test func edgesAreDefined() {
    let zero = TernaryActivations([0, -0, 0], count: 1, columns: 3)
    #expect(zero.codes == [0, 0, 0] && zero.scales == [12_700_000])
    // Below the floor the token does not fill the range.
    #expect(codes([1e-6, -1e-6, 1e-39]) == [13, -13, 0])
    #expect(codes([.greatestFiniteMagnitude, -.greatestFiniteMagnitude]) == [127, -127])
    for bad in [Float.nan, .infinity, -.infinity] {
      let two = TernaryActivations([1, bad, 1, -1], count: 2, columns: 2)
      #expect(two.codes == [0, 0, 127, -127])
      #expect(two.scales[0].isNaN && two.scales[1] == 127)
    }
  }

  @Test func finiteTokensNeverGiveTheLowestCode() {
    var random = RepeatableRandom(seed: 1)
    for _ in 0..<200 {
      let scale = Float(
        sign: .plus, exponent: .random(in: -120...120, using: &random), significand: 1)
      let x = random.normals(64).map { $0 * scale }
      #expect(!codes(x).contains(-128))
    }
  }

  @Test func goldenSum() throws {
    let weights = goldenTernaryWeights(256)
    #expect(weights.prefix(8) == [1, 0, -1, 0, 0, 1, -1, -1])
    #expect(weights.reduce(0) { $0 + Int($1) } == -3)
    let matrix = try TernaryMatrix(
      rows: 1, columns: 256, codes: weights.map { UInt8($0 + 1) }, scales: .tensor(1))
    let a = (0..<256).map { Int8(37 * $0 % 255 - 127) }
    #expect(matrix.referenceSums(a, count: 1) == [756])
  }
}
