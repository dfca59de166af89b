import QuantKernels
import TestSupport
import Testing

@Suite struct Int4SlicingTests {
  private static func samples() throws -> [Int4Matrix] {
    let zeros = try Int4TensorsTests.random(
      rows: 24, columns: 96, groupSize: 32, zeros: 0...15, seed: 1)
    let symmetric = try Int4TensorsTests.random(
      rows: 24, columns: 96, groupSize: 32, zeros: nil, seed: 2)
    var random = RepeatableRandom(seed: 3)
    let minimums = try Int4Matrix(
      rows: 24, columns: 96, groupSize: 32, codes: zeros.codes, scales: zeros.scales,
      offsets: .minimums(random.normals(72)),
      inputPermutation: (0..<96).map { Int32($0) }.shuffled(using: &random))
    return [zeros, symmetric, minimums]
  }

  @Test func slicesJoinAgain() throws {
    for matrix in try Self.samples() {
      let parts = try [0..<8, 8..<9, 9..<24].map { try matrix.rows($0) }
      #expect(parts.map(\.rows) == [8, 1, 15])
      #expect(parts[1][0, 40] == matrix[8, 40])
      #expect(try Int4Matrix.joined(parts) == matrix)
      for range in [0..<0, -1..<3, 20..<25, 30..<40] {
        #expect(throws: QuantError.self) { try matrix.rows(range) }
      }
    }
  }

  @Test func differentPartsDoNotJoin() throws {
    let samples = try Self.samples()
    #expect(throws: QuantError.self) { try Int4Matrix.joined([]) }
    for i in 0..<3 {
      for j in 0..<3 where i != j {
        #expect(throws: QuantError.self) { try Int4Matrix.joined([samples[i], samples[j]]) }
      }
    }
    let other = try Int4TensorsTests.random(
      rows: 24, columns: 96, groupSize: 96, zeros: 0...15, seed: 1)
    #expect(throws: QuantError.self) { try Int4Matrix.joined([samples[0], other]) }
  }

  /// A product with the same input keeps its terms: value and input element stay together.
  @Test func permutedColumnsFollowTheirInputs() throws {
    var random = RepeatableRandom(seed: 4)
    var order: [Int32] = []
    for group in [2, 0, 1] {
      order += (0..<32).map { Int32(32 * group + $0) }.shuffled(using: &random)
    }
    for matrix in try Self.samples() {
      let moved = try matrix.permutingColumns(order)
      let inputs = try #require(moved.inputPermutation)
      for row in 0..<matrix.rows {
        for column in 0..<matrix.columns {
          let source = Int(order[column])
          #expect(moved[row, column] == matrix[row, source])
          #expect(Int(inputs[column]) == matrix.inputPermutation.map { Int($0[source]) } ?? source)
        }
      }
      var back = [Int32](repeating: 0, count: 96)
      for (column, source) in order.enumerated() { back[Int(source)] = Int32(column) }
      #expect(try moved.permutingColumns(back).codes == matrix.codes)

      for bad in [[], Array(order.dropLast()), order + [0], [Int32](repeating: 0, count: 96)] {
        #expect(throws: QuantError.self) { try matrix.permutingColumns(bad) }
      }
      var mixing = order
      mixing.swapAt(0, 95)
      #expect(throws: QuantError.self) { try matrix.permutingColumns(mixing) }
      mixing[0] = 96
      #expect(throws: QuantError.self) { try matrix.permutingColumns(mixing) }
    }
  }

  @Test func permutedRowsMoveWhole() throws {
    var random = RepeatableRandom(seed: 5)
    let order = (0..<24).map { Int32($0) }.shuffled(using: &random)
    for matrix in try Self.samples() {
      let moved = try matrix.permutingRows(order)
      for row in 0..<24 {
        for column in 0..<96 { #expect(moved[row, column] == matrix[Int(order[row]), column]) }
      }
      #expect(throws: QuantError.self) { try matrix.permutingRows([0, 1]) }
      #expect(throws: QuantError.self) { try matrix.permutingRows(order.map { $0 - 1 }) }
    }
  }
}
