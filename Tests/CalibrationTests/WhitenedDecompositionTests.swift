import QuantKernels
import TestSupport
import Testing

@testable import Calibration

@Suite struct WhitenedDecompositionTests {
  /// ‖(W − Ŵ) X‖² over the rows x of X.
  private func error(_ weights: Matrix, _ pair: FactorPair, _ x: Matrix) -> Double {
    let difference = weights.minus(pair.up.product(pair.down))
    return x.product(difference.transpose).squaredNorm
  }

  private func plain(_ weights: Matrix) throws -> WhitenedDecomposition {
    try WhitenedDecomposition(
      weights: weights, inputs: Whitening(Gram(of: .identity(weights.columns))), subject: "plain")
  }

  /// ‖(W − Ŵ)X‖² = Σ σ² of what is cut; never above the plain decomposition's; not increasing; zero
  /// at full rank.
  @Test(arguments: [(12, 40), (40, 12), (16, 16), (64, 48), (1, 9), (9, 1)])
  func errorIsWhatWasCut(_ rows: Int, _ columns: Int) throws {
    var random = RepeatableRandom(seed: UInt64(rows * 100 + columns))
    let weights = random.matrix(rows, columns)
    let x = random.activations(3 * columns + 5, columns)
    let whitening = try Whitening(Gram(of: x))
    #expect(whitening.shift == 0)
    let found = try WhitenedDecomposition(weights: weights, inputs: whitening, subject: "test")
    let unwhitened = try plain(weights)
    let whole = x.product(weights.transpose).squaredNorm
    #expect(found.fullRank == min(rows, columns))
    var last = Double.infinity
    for rank in 1...found.fullRank {
      let measured = error(weights, found.factors(rank: rank), x)
      let predicted = found.energies[rank...].reduce(0, +)
      #expect(abs(measured - predicted) <= 1e-9 * whole)
      #expect(measured <= error(weights, unwhitened.factors(rank: rank), x) + 1e-9 * whole)
      #expect(measured <= last + 1e-12 * whole)
      last = measured
    }
    #expect(last <= 1e-20 * whole)
  }

  /// The optimum of larger groups contains that of smaller ones: J ≤ G(8) ≤ G(4) ≤ G(2) ≤ M at the
  /// same number of latents.
  @Test(arguments: 1...6)
  func largerGroupsErrLess(_ seed: Int) throws {
    let (heads, headDimension, columns) = (16, 4, 72)
    var random = RepeatableRandom(seed: UInt64(seed))
    // Every other one of low rank plus noise, as real projections are.
    var weights = random.matrix(heads * headDimension, columns)
    if seed % 2 == 0 {
      let low = random.matrix(heads * headDimension, 6).product(random.matrix(6, columns))
      weights = Matrix(
        rows: weights.rows, columns: columns,
        values: zip(weights.values, low.values).map { 0.3 * $0 + $1 })
    }
    let x = random.activations(200, columns)
    let whitening = try Whitening(Gram(of: x))
    for rank in 1...headDimension {
      var last = 0.0
      for size in [16, 8, 4, 2, 1] {
        var total = 0.0
        for group in 0..<heads / size {
          let rows = group * size * headDimension..<(group + 1) * size * headDimension
          let decomposition = try WhitenedDecomposition(
            weights: weights.selecting(rows: rows), inputs: whitening, subject: "test")
          total += decomposition.energies[(rank * size)...].reduce(0, +)
        }
        #expect(total >= last * (1 - 1e-10), "rank \(rank), groups of \(size)")
        last = total
      }
    }
  }

  /// With outputs weighted by G = M Mᵀ: tr(G ΔW C ΔWᵀ) = Σ σ² of what is cut, and no more than what
  /// the unweighted factors cost.
  @Test func weightedErrorIsWhatWasCut() throws {
    let (rows, columns) = (12, 20)
    var random = RepeatableRandom(seed: 3)
    let weights = random.matrix(rows, columns)
    let x = random.activations(80, columns)
    let gradients = random.activations(60, rows)
    let inputs = try Whitening(Gram(of: x))
    let outputs = try Whitening(Gram(of: gradients))
    let weighted = try WhitenedDecomposition(
      weights: weights, inputs: inputs, outputs: outputs, subject: "test")
    let unweighted = try WhitenedDecomposition(weights: weights, inputs: inputs, subject: "test")
    /// Σ over gradients and inputs of (gᵀ ΔW x)².
    func cost(_ pair: FactorPair) -> Double {
      let difference = weights.minus(pair.up.product(pair.down))
      return gradients.product(difference).product(x.transpose).squaredNorm
    }
    let whole = gradients.product(weights).product(x.transpose).squaredNorm
    for rank in 1...rows {
      let measured = cost(weighted.factors(rank: rank))
      #expect(abs(measured - weighted.energies[rank...].reduce(0, +)) <= 1e-9 * whole)
      #expect(measured <= cost(unweighted.factors(rank: rank)) + 1e-9 * whole)
    }
  }

  /// Σ is split evenly, and a bias comes through.
  @Test func factorsAreBalanced() throws {
    var random = RepeatableRandom(seed: 4)
    let weights = random.matrix(8, 10)
    let whitening = try Whitening(Gram(of: .identity(10)))
    let pair = try WhitenedDecomposition(
      weights: weights, bias: [1, 2, 3, 4, 5, 6, 7, 8], inputs: whitening, subject: "test"
    ).factors(rank: 5)
    #expect(pair.bias == [1, 2, 3, 4, 5, 6, 7, 8])
    for latent in 0..<5 {
      let up = (0..<8).reduce(0) { $0 + pair.up[$1, latent] * pair.up[$1, latent] }
      let down = (0..<10).reduce(0) { $0 + pair.down[latent, $1] * pair.down[latent, $1] }
      #expect(abs(up - down) <= 1e-12 * up)
    }
  }

  /// Rank-deficient and all-zero weights decompose to finite factors that are exact.
  @Test func degenerateWeights() throws {
    var random = RepeatableRandom(seed: 5)
    let x = random.activations(40, 10)
    let whitening = try Whitening(Gram(of: x))
    let low = random.matrix(8, 2).product(random.matrix(2, 10))
    for weights in [low, Matrix(zeros: 8, 10)] {
      let decomposition = try WhitenedDecomposition(
        weights: weights, inputs: whitening, subject: "test")
      for rank in [2, 5, 8] {
        let pair = decomposition.factors(rank: rank)
        #expect(pair.up.values.allSatisfy(\.isFinite) && pair.down.values.allSatisfy(\.isFinite))
        #expect(error(weights, pair, x) <= 1e-18 * (x.squaredNorm + 1))
      }
    }
    for bad in [Double.nan, .infinity] {
      var weights = low
      weights[3, 3] = bad
      #expect(throws: QuantError.self) {
        try WhitenedDecomposition(weights: weights, inputs: whitening, subject: "test")
      }
    }
  }

  /// A singular Gram is lifted to its floor, relative to its trace: scaling the text scales nothing
  /// else.
  @Test func singularGramsAreLifted() throws {
    var random = RepeatableRandom(seed: 6)
    let weights = random.matrix(6, 12)
    let x = random.matrix(5, 12)
    var products: [Matrix] = []
    for scale in [1e-6, 1, 1e6] {
      let scaled = Matrix(rows: 5, columns: 12, values: x.values.map { $0 * scale })
      let gram = Gram(of: scaled)
      let whitening = try Whitening(gram)
      #expect(whitening.shift > 0)
      #expect(whitening.shift <= 1.01 * Whitening.standardFloor * gram.trace / 12)
      let pair = try WhitenedDecomposition(
        weights: weights, inputs: whitening, subject: "test"
      ).factors(rank: 5)
      #expect(error(weights, pair, scaled) <= 1e-6 * scaled.squaredNorm)
      products.append(pair.up.product(pair.down))
    }
    for product in products {
      #expect(product.minus(products[1]).squaredNorm <= 1e-6 * products[1].squaredNorm)
    }
  }

  @Test func grams() throws {
    var random = RepeatableRandom(seed: 7)
    let x = random.matrix(9, 4)
    let gram = Gram(of: x)
    let expected = x.transpose.product(x)
    #expect(gram.symmetric.minus(expected).squaredNorm <= 1e-24 * expected.squaredNorm)
    #expect(gram.count == 9)
    let block = gram.block(1..<3).symmetric
    #expect(block[0, 1] == gram.symmetric[1, 2] && block[1, 1] == gram.symmetric[2, 2])
    let again = try Gram(width: 4, count: 9, values: expected.values)
    #expect(try Whitening(again).shift == 0)
    func refuses(_ change: (inout [Double]) -> Void, count: Int = 9) {
      var values = expected.values
      change(&values)
      #expect(throws: QuantError.self) { try Gram(width: 4, count: count, values: values) }
    }
    refuses { $0[1] += 1 }
    refuses { $0[5] = .nan }
    refuses { $0[5] = .infinity }
    refuses { $0[0] = -1 }
    refuses { $0.removeLast() }
    refuses({ _ in }, count: 0)
    #expect(throws: QuantError.self) { try Whitening(Gram(width: 4)) }
    #expect(throws: QuantError.self) { try Whitening(Gram(of: Matrix(zeros: 5, 4))) }
    #expect(throws: QuantError.self) { try Whitening(gram, floor: .nan) }
    #expect(throws: QuantError.self) { try Whitening(gram, floor: -1) }
    // Symmetric, but with an eigenvalue of −3.
    #expect(throws: QuantError.self) {
      try Whitening(try Gram(width: 2, count: 1, values: [1, 4, 4, 1]), floor: 0)
    }
  }
}
