import QuantKernels
import TestSupport
import Testing

@Suite struct HadamardRotationTests {
  /// R Rᵀ = I, R = Rᵀ, and every entry is as even as the rank allows.
  @Test(arguments: Array(1...130) + [160, 255, 256, 352, 511, 512])
  func isOrthogonalAndEven(_ rank: Int) throws {
    let rotation = try HadamardRotation(rank: rank)
    let matrix = rotation.matrix
    var worst = 0.0
    for row in 0..<rank {
      for column in row..<rank {
        var sum = 0.0
        for index in 0..<rank {
          sum += matrix[row * rank + index] * matrix[column * rank + index]
        }
        worst = max(worst, abs(sum - (row == column ? 1 : 0)))
        worst = max(worst, abs(matrix[row * rank + column] - matrix[column * rank + row]))
      }
    }
    #expect(worst <= 1e-12)
    // √2 in place of 1 where the rank has an odd part; exactly even where it has none.
    let limit = (rank & (rank - 1) == 0 ? 1 : 2.0.squareRoot()) / Double(rank).squareRoot()
    #expect(matrix.allSatisfy { abs($0) <= limit * (1 + 1e-12) })
    // One large coordinate loses its peak, whichever it is.
    #expect(rank < 4 || matrix.map(abs).max() ?? 1 < 0.75)
  }

  /// The large ranks, of which published tables of Hadamard matrices have no 800, 928 or 992: the
  /// fast form is an involution, so it is orthogonal where it is symmetric, and agrees with entries.
  @Test(arguments: stride(from: 32, through: 4096, by: 32).map { $0 })
  func multiplesOf32(_ rank: Int) throws {
    let rotation = try HadamardRotation(rank: rank)
    var random = RepeatableRandom(seed: UInt64(rank))
    let x = random.normals(rank).map(Double.init)
    var y = x
    var scratch = [Double](repeating: 0, count: rank)
    rotation.apply(&y, scratch: &scratch)
    for row in [0, 1, rank / 2, rank - 1] {
      var sum = 0.0
      for column in 0..<rank { sum += rotation[row, column] * x[column] }
      #expect(abs(sum - y[row]) <= 1e-12 * Double(rank).squareRoot())
    }
    var back = y
    rotation.apply(&back, scratch: &scratch)
    let error = zip(back, x).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
    let size = x.reduce(0) { $0 + $1 * $1 }
    #expect((error / size).squareRoot() <= 1e-12)
  }

  /// (A R)(Rᵀ B) = A B to 1e-6 in float32, for every rank to 512 and multiples of 32 to 4096.
  @Test(arguments: Array(1...512) + stride(from: 544, through: 4096, by: 32).map { $0 })
  func foldKeepsTheProduct(_ rank: Int) throws {
    let (rows, columns) = (3, 4)
    var random = RepeatableRandom(seed: UInt64(rank))
    let down = random.normals(rank * columns).map(Double.init)
    let up = random.normals(rows * rank).map(Double.init)
    var (foldedDown, foldedUp) = (down, up)
    try HadamardRotation(rank: rank).fold(into: &foldedDown, &foldedUp)
    let roundedDown = foldedDown.map { Float($0) }
    let roundedUp = foldedUp.map { Float($0) }
    var (error, size) = (0.0, 0.0)
    for row in 0..<rows {
      for column in 0..<columns {
        var (expected, found) = (0.0, 0.0)
        for index in 0..<rank {
          expected += up[row * rank + index] * down[index * columns + column]
          found +=
            Double(roundedUp[row * rank + index]) * Double(roundedDown[index * columns + column])
        }
        error += (expected - found) * (expected - found)
        size += expected * expected
      }
    }
    #expect((error / size).squareRoot() <= 1e-6)
  }

  @Test func refusesRanks() {
    for rank in [0, -1, Int.min, 65_537, Int.max] {
      #expect(throws: QuantError.self) { try HadamardRotation(rank: rank) }
    }
    var (down, up) = ([1.0, 2, 3], [1.0])
    #expect(throws: QuantError.self) { try HadamardRotation(rank: 2).fold(into: &down, &up) }
  }
}
