import QuantKernels
import TestSupport
import Testing

@testable import Calibration

/// Factors of full rank, in float64, against dense attention: nothing is lost but the rounding of
/// doubles, whatever the groups.
@Suite struct FullRankAttentionTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let heads: Int
    let queriesPerHead: Int
    let group: Int
    let style: VectorOperations.RotaryStyle
    let hasBias: Bool
    let headDimension = 8
    var width: Int { heads * headDimension + 9 }

    var shape: LowRankFactors.Shape {
      LowRankFactors.Shape(
        layers: 1, queryHeads: heads * queriesPerHead, keyValueHeads: heads,
        headDimension: headDimension, modelWidth: width, rotaryDimension: headDimension,
        rotaryStyle: style)
    }

    var testDescription: String {
      "\(heads)×\(queriesPerHead) heads, groups of \(group), \(style)\(hasBias ? ", bias" : "")"
    }
  }

  /// M, G of 2, 4 and 8, J; one and three queries a head; both styles; with and without bias.
  static let cases: [Case] = [1, 2, 4, 8, 16].flatMap { group in
    [1, 3].flatMap { queries in
      [VectorOperations.RotaryStyle.halves, .interleaved].flatMap { style in
        [false, true].map { hasBias in
          Case(
            heads: 16, queriesPerHead: queries, group: group, style: style, hasBias: hasBias)
        }
      }
    }
  }

  @Test(arguments: cases)
  func isDenseAttention(_ test: Case) throws {
    let (rows, positions) = (test.heads * test.headDimension, 20)
    var random = RepeatableRandom(seed: UInt64(test.group))
    let scale = 1 / Double(test.width).squareRoot()
    func projection() -> Matrix {
      var matrix = random.matrix(rows, test.width)
      for index in matrix.values.indices { matrix.values[index] *= scale }
      return matrix
    }
    let weights = (keys: projection(), values: projection())
    let bias = test.hasBias ? random.normals(rows).map(Double.init) : nil
    let inputs = try Whitening(Gram(of: random.matrix(4 * test.width, test.width)))
    let tokens = random.matrix(positions, test.width)
    let queries = random.matrix(1, rows * test.queriesPerHead).values

    /// Heads by the projection itself, or by latents of every group.
    func dense(_ weights: Matrix) -> Matrix {
      var out = tokens.product(weights.transpose)
      if let bias {
        for row in 0..<positions { for column in 0..<rows { out[row, column] += bias[column] } }
      }
      return out
    }
    func rebuilt(_ weights: Matrix) throws -> Matrix {
      var out = Matrix(zeros: positions, rows)
      let width = test.group * test.headDimension
      for group in 0..<test.heads / test.group {
        let range = group * width..<(group + 1) * width
        let decomposition = try WhitenedDecomposition(
          weights: weights.selecting(rows: range), bias: bias.map { Array($0[range]) },
          inputs: inputs, subject: "test")
        let pair = decomposition.factors(rank: decomposition.fullRank)
        let heads = tokens.product(pair.down.transpose).product(pair.up.transpose)
        for row in 0..<positions {
          for column in 0..<width {
            out[row, range.lowerBound + column] = heads[row, column] + (pair.bias?[column] ?? 0)
          }
        }
      }
      return out
    }
    func attention(_ keys: Matrix, _ values: Matrix) -> [Double] {
      let turned = turned(keys, test.shape)
      let d = test.headDimension
      return (0..<test.shape.queryHeads).flatMap { head -> [Double] in
        let shared = head / test.queriesPerHead * d
        let scores = (0..<positions).map { position in
          (0..<d).reduce(0.0) { $0 + queries[head * d + $1] * turned[position, shared + $1] }
            / Double(d).squareRoot()
        }
        let top = scores.max() ?? 0
        let weights = scores.map { exponential($0 - top) }
        let sum = weights.reduce(0, +)
        return (0..<d).map { element in
          (0..<positions).reduce(0.0) { $0 + weights[$1] * values[$1, shared + element] } / sum
        }
      }
    }
    let expected = attention(dense(weights.keys), dense(weights.values))
    let found = attention(try rebuilt(weights.keys), try rebuilt(weights.values))
    var (error, size) = (0.0, 0.0)
    for (x, y) in zip(found, expected) {
      error += (x - y) * (x - y)
      size += y * y
    }
    #expect((error / size).squareRoot() <= 1e-12)
  }

  private func turned(_ keys: Matrix, _ shape: LowRankFactors.Shape) -> Matrix {
    var result = keys
    for position in 0..<keys.rows {
      for pair in 0..<shape.rotaryPairs {
        let angle =
          Double(position)
          * exponential(
            -naturalLogarithm(10_000) * Double(2 * pair) / Double(shape.rotaryDimension))
        let (a, b) = shape.elements(ofPair: pair)
        for head in 0..<shape.keyValueHeads {
          let at = head * shape.headDimension
          let (x, y) = (keys[position, at + a], keys[position, at + b])
          result[position, at + a] = x * cosine(angle) - y * sine(angle)
          result[position, at + b] = y * cosine(angle) + x * sine(angle)
        }
      }
    }
    return result
  }
}

/// What cutting ranks does to a model's predictions.
@Suite struct DiscardedEnergyTests {
  /// Projections of known spectra, low rank plus noise: the divergence of next-token distributions from
  /// the dense ones falls with the rank as the discarded Σ σ² does. To second order it is a quadratic
  /// form of the outputs' errors, whose mean square is that sum.
  @Test(arguments: [LowRankFactors.Kind.key, .value])
  func divergenceFollowsWhatWasCut(_ kind: LowRankFactors.Kind) throws {
    let (heads, d, width, vocabulary, positions) = (4, 8, 48, 40, 160)
    let rows = heads * d
    var random = RepeatableRandom(seed: 21)
    /// `U diag(σ) Vᵀ`: eight strong directions, then noise that falls slowly.
    func projection() throws -> Matrix {
      let left = try random.matrix(rows, rows).singularValues(of: "test").left
      let right = try random.matrix(rows, width).singularValues(of: "test").right
      var scaled = left
      for column in 0..<rows {
        let sigma =
          column < 8 ? 1 / Double(1 + column) : 0.02 * exponential(-0.15 * Double(column - 8))
        for row in 0..<rows { scaled[row, column] *= sigma }
      }
      return scaled.product(right)
    }
    let (queryWeights, keys, values) = (try projection(), try projection(), try projection())
    let head = random.matrix(vocabulary, rows)
    let text = random.matrix(positions, width)
    let inputs = try Whitening(Gram(of: text))
    let decomposition = try WhitenedDecomposition(
      weights: kind == .key ? keys : values, inputs: inputs, subject: "test")

    /// log-probabilities `[positions × vocabulary]`, causal attention over the text.
    func predictions(_ keys: Matrix, _ values: Matrix) -> [[Double]] {
      let q = text.product(queryWeights.transpose)
      let k = text.product(keys.transpose)
      let v = text.product(values.transpose)
      return (0..<positions).map { row in
        var out = Matrix(zeros: 1, rows)
        for number in 0..<heads {
          let scores = (0...row).map { key in
            (0..<d).reduce(0.0) { $0 + q[row, number * d + $1] * k[key, number * d + $1] }
              / Double(d).squareRoot()
          }
          let top = scores.max() ?? 0
          let weights = scores.map { exponential($0 - top) }
          let sum = weights.reduce(0, +)
          for element in 0..<d {
            out[0, number * d + element] =
              (0...row).reduce(0.0) { $0 + weights[$1] * v[$1, number * d + element] } / sum
          }
        }
        let logits = out.product(head.transpose).values
        let top = logits.max() ?? 0
        let sum = logits.reduce(0.0) { $0 + exponential($1 - top) }
        return logits.map { $0 - top - naturalLogarithm(sum) }
      }
    }
    let dense = predictions(keys, values)
    var last = Double.infinity
    var ratios: [Double] = []
    for rank in [1, 2, 3, 4, 6, 8, 12, 16, 24, 30] {
      let pair = decomposition.factors(rank: rank)
      let cut = pair.up.product(pair.down)
      let found = kind == .key ? predictions(cut, values) : predictions(keys, cut)
      let divergence =
        zip(dense, found).reduce(0.0) { total, pair in
          total
            + zip(pair.0, pair.1).reduce(0.0) { $0 + exponential($1.0) * ($1.0 - $1.1) }
        } / Double(positions)
      #expect(divergence < last, "rank \(rank)")
      last = divergence
      ratios.append(divergence / decomposition.energies[rank...].reduce(0, +))
    }
    // Discarded energies span four orders of magnitude; the ratio is the curvature, which stays.
    let energies = decomposition.energies
    let span = energies[1...].reduce(0, +) / energies[30...].reduce(0, +)
    #expect(span > 1e3, "\(span)")
    let spread = (ratios.max() ?? 0) / (ratios.min() ?? 1)
    #expect(spread < 10, "\(ratios)")
  }
}
