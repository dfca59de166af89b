import TestSupport
import Testing

@testable import QuantKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// How far products are from those of the floats and from b1.58's, for three kinds of activations:
/// the root mean square of the difference over that of the outputs. Weights have the density of the
/// 2B model, 42.2 % zeros.
@Suite struct TernaryErrorTests {
  enum Activations: String, CaseIterable {
    case normal
    case heavyTailed  // Student's t, 3 degrees of freedom
    case outliers  // normal with three elements 30 times as large

    func values(_ count: Int, columns: Int, using random: inout RepeatableRandom) -> [Float] {
      var x = random.normals(count * columns)
      switch self {
      case .normal: break
      case .heavyTailed:
        let squares = random.normals(3 * x.count).map { $0 * $0 }
        for i in x.indices {
          x[i] /= ((squares[3 * i] + squares[3 * i + 1] + squares[3 * i + 2]) / 3).squareRoot()
        }
      case .outliers:
        for token in 0..<count {
          for _ in 0..<3 { x[token * columns + .random(in: 0..<columns, using: &random)] *= 30 }
        }
      }
      return x
    }

    /// Percent: one scale a token against the floats; Q8_K against the floats and against one scale.
    /// Computed apart in float64 for the same shape (the digest of arXiv 2502.11880).
    var expected: (token: Double, blocks: Double, apart: Double) {
      switch self {
      case .normal: (0.84, 0.70, 1.02)
      case .heavyTailed: (3.85, 1.81, 3.88)
      case .outliers: (6.37, 2.45, 6.25)
      }
    }
  }

  private static func error(_ y: [Float], _ exact: [Double]) -> Double {
    let size = exact.reduce(0) { $0 + $1 * $1 }
    let difference = zip(y, exact).reduce(0) { $0 + (Double($1.0) - $1.1) * (Double($1.0) - $1.1) }
    return 100 * (difference / size).squareRoot()
  }

  @Test(arguments: Activations.allCases)
  func lossyModesAreAsFarAsTheyShouldBe(_ kind: Activations) throws {
    var random = RepeatableRandom(seed: 41)
    let (rows, columns, count) = (512, 2560, 16)
    let codes = (0..<rows * columns).map { _ -> UInt8 in
      let u = Double.random(in: 0..<1, using: &random)
      return u < 0.28894 ? 0 : u < 0.71105 ? 1 : 2
    }
    let matrix = try TernaryMatrix(rows: rows, columns: columns, codes: codes, scales: .tensor(1))
    let x = kind.values(count, columns: columns, using: &random)
    let floats = (0..<count * rows).map { output -> Double in
      let (token, row) = output.quotientAndRemainder(dividingBy: rows)
      var sum = 0.0
      for k in 0..<columns {
        sum += Double(x[token * columns + k]) * Double(Int(codes[row * columns + k]) - 1)
      }
      return sum
    }
    func product(_ format: PackedTernary.Format) throws -> [Float] {
      try PackedTernary(matrix, format: format).matmul(x)
    }
    let exact = try product(.twoBit)
    let blocks = try product(.blockQuantized)
    let tables = try product(.lookupRoundedPairs)
    let doubles = exact.map(Double.init)
    let token = Self.error(exact, floats)
    let (ofBlocks, apart) = (Self.error(blocks, floats), Self.error(blocks, doubles))
    let (ofTables, tablesApart) = (Self.error(tables, floats), Self.error(tables, doubles))
    func tenths(_ value: Double) -> String { "\((100 * value).rounded() / 100) %" }
    print(
      "\(kind.rawValue): one scale a token \(tenths(token)) from floats; Q8_K \(tenths(ofBlocks)), "
        + "\(tenths(apart)) from one scale; 8-bit tables \(tenths(ofTables)), "
        + "\(tenths(tablesApart))")
    // Activations differ from the digest's in their seed only, but the largest of a heavy tail
    // differs a lot; normal ones agree within a tenth.
    let slack = kind == .normal ? 1.1 : 2
    for (ours, wanted) in [
      (token, kind.expected.token), (ofBlocks, kind.expected.blocks), (apart, kind.expected.apart),
    ] {
      #expect(ours < slack * wanted && wanted < slack * ours, "\(ours) beside \(wanted)")
    }
    // Nearer to the floats, farther from the network's training; tables lose on both.
    #expect(ofBlocks < token && apart > 0.5 * token)
    #expect(ofTables > token && tablesApart > 0)
  }
}
