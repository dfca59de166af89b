import QuantKernels
import TestSupport
import Testing

@Suite struct Int4QuantizingTests {
  /// Plain rounding to nearest of one group, with the scale rounded to binary16: what the search
  /// must not fall behind.
  private static func plainError(_ values: ArraySlice<Float>, symmetric: Bool) -> Double {
    let scale: Float
    let zero: Float
    if symmetric {
      let extreme = values.max { $0.magnitude < $1.magnitude } ?? 0
      scale = extreme / -8
      zero = 8
    } else {
      let (low, high) = (min(values.min() ?? 0, 0), max(values.max() ?? 0, 0))
      scale = (high - low) / 15
      zero = scale == 0 ? 0 : (-low / scale).rounded()
    }
    let half = HalfPrecision.float(fromHalf: HalfPrecision.half(scale))
    return values.reduce(0) { sum, value in
      let code = half == 0 ? zero : min(max((value / half + zero).rounded(.toNearestOrEven), 0), 15)
      let difference = Double(value) - Double(half) * Double(code - zero)
      return sum + difference * difference
    }
  }

  @Test(arguments: [32, 64, 192], [false, true])
  func searchBeatsPlainRounding(groupSize: Int, symmetric: Bool) throws {
    let (rows, columns) = (7, 192)
    var random = RepeatableRandom(seed: 21)
    let values = random.normals(rows * columns)
    let matrix = try Int4Matrix(
      quantizing: values, rows: rows, columns: columns, groupSize: groupSize, symmetric: symmetric)
    let back = matrix.dequantized()
    var total = 0.0
    var plain = 0.0
    for start in stride(from: 0, to: values.count, by: groupSize) {
      let group = values[start..<start + groupSize]
      let error = group.indices.reduce(0.0) { sum, i in
        sum + (Double(values[i]) - Double(back[i])) * (Double(values[i]) - Double(back[i]))
      }
      let reference = Self.plainError(group, symmetric: symmetric)
      #expect(error <= reference * 1.00001)
      total += error
      plain += reference
    }
    #expect(total < plain * 0.95)
    #expect((matrix.offsets == .symmetric) == symmetric)
    let halves = matrix.scales.map { HalfPrecision.float(fromHalf: HalfPrecision.half($0)) }
    #expect(halves == matrix.scales)
    for row in 0..<rows {
      for column in 0..<columns {
        #expect(matrix[row, column] == back[row * columns + column])
      }
    }
  }

  /// What 4 bits can hold exactly comes back exactly.
  @Test func exactMatricesStayExact() throws {
    var random = RepeatableRandom(seed: 4)
    var values: [Float] = []
    for _ in 0..<16 {
      var group = (0..<32).map { _ in Float(Int.random(in: -5...10, using: &random)) * 0.125 }
      (group[0], group[1]) = (-5 * 0.125, 10 * 0.125)
      values += group
    }
    let matrix = try Int4Matrix(quantizing: values, rows: 4, columns: 128, groupSize: 32)
    #expect(matrix.dequantized() == values)
    let zero = try Int4Matrix(
      quantizing: [Float](repeating: 0, count: 64), rows: 2, columns: 32, groupSize: 32)
    #expect(zero.dequantized().allSatisfy { $0 == 0 })
    let positive = try Int4Matrix(
      quantizing: (0..<32).map { Float($0 % 16) }, rows: 1, columns: 32, groupSize: 32)
    #expect(positive.dequantized() == (0..<32).map { Float($0 % 16) })
    let tiny = try Int4Matrix(
      quantizing: [Float](repeating: 1e-20, count: 32), rows: 1, columns: 32, groupSize: 32,
      symmetric: true)
    #expect(tiny.dequantized().allSatisfy { $0 == 0 })
  }

  @Test func refusesBadInput() throws {
    var values = [Float](repeating: 0.5, count: 128)
    for bad in [Float.nan, .infinity, -.infinity, 1e6] {
      values[70] = bad
      for symmetric in [false, true] {
        let error = #expect(throws: QuantError.self) {
          try Int4Matrix(
            quantizing: values, rows: 2, columns: 64, groupSize: 32, symmetric: symmetric)
        }
        #expect(error?.code == .invalidData)
        #expect(error?.problem.contains("row 1, column 6") == true)
      }
    }
    values[70] = 0
    for (rows, columns, group) in [
      (2, 64, 0), (2, 64, 48), (2, 64, 16), (2, 64, -32), (0, 64, 32), (2, 0, 32), (3, 64, 32),
      (.max, 2, 2), (-2, -64, 32),
    ] {
      #expect(throws: QuantError.self) {
        try Int4Matrix(quantizing: values, rows: rows, columns: columns, groupSize: group)
      }
    }
    #expect(throws: QuantError.self) {
      try Int4Matrix(quantizing: [], rows: 0, columns: 0, groupSize: 0)
    }
  }
}
