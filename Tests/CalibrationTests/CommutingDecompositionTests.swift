import LanguageModel
import QuantKernels
import TestSupport
import Testing

@testable import Calibration

/// Keys that are scored by latents: nothing is rebuilt, and nothing is lost at full rank.
@Suite struct CommutingDecompositionTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let heads: Int
    let headDimension: Int
    let rotaryDimension: Int
    let style: RotaryEmbedding.Style
    let width: Int
    let hasBias: Bool

    var testDescription: String {
      "\(heads) heads of \(headDimension), \(rotaryDimension) rotated \(style), width \(width)"
    }

    var shape: LowRankFactors.Shape {
      LowRankFactors.Shape(
        layers: 1, queryHeads: heads, keyValueHeads: heads, headDimension: headDimension,
        modelWidth: width, rotaryDimension: rotaryDimension, rotaryStyle: style)
    }
  }

  static let cases = [
    Case(heads: 1, headDimension: 8, rotaryDimension: 8, style: .halves, width: 24, hasBias: false),
    Case(heads: 3, headDimension: 8, rotaryDimension: 8, style: .halves, width: 32, hasBias: true),
    Case(
      heads: 4, headDimension: 16, rotaryDimension: 16, style: .interleaved, width: 70,
      hasBias: false),
    Case(
      heads: 3, headDimension: 12, rotaryDimension: 8, style: .interleaved, width: 40,
      hasBias: true),
    Case(heads: 2, headDimension: 10, rotaryDimension: 4, style: .halves, width: 33, hasBias: true),
    // Narrower than the heads together: every frequency still has all it can use.
    Case(heads: 4, headDimension: 8, rotaryDimension: 4, style: .halves, width: 7, hasBias: false),
  ]

  /// The rotary embedding of a key, element by element from its definition.
  private func rotated(_ key: [Double], _ shape: LowRankFactors.Shape, position: Int) -> [Double] {
    var result = key
    for head in 0..<key.count / shape.headDimension {
      for pair in 0..<shape.rotaryPairs {
        let (a, b) = shape.elements(ofPair: pair)
        let (i, j) = (head * shape.headDimension + a, head * shape.headDimension + b)
        let (c, s) = turn(pair, shape, position)
        result[i] = key[i] * c - key[j] * s
        result[j] = key[j] * c + key[i] * s
      }
    }
    return result
  }

  private func turn(
    _ pair: Int, _ shape: LowRankFactors.Shape, _ position: Int
  ) -> (Double, Double) {
    let frequency = exponential(
      -naturalLogarithm(10_000) * Double(2 * pair) / Double(shape.rotaryDimension))
    let angle = Double(position) * frequency
    return (cosine(angle), sine(angle))
  }

  @Test(arguments: cases)
  func scoresFromRotatedLatents(_ c: Case) throws {
    let shape = c.shape
    let rows = c.heads * c.headDimension
    var random = RepeatableRandom(seed: 11)
    let weights = random.matrix(rows, c.width)
    let bias = c.hasBias ? random.normals(rows).map(Double.init) : nil
    let text = random.activations(3 * c.width, c.width)
    let decomposition = try CommutingDecomposition(
      weights: weights, bias: bias, shape: shape, inputs: Whitening(Gram(of: text)),
      subject: "test")
    let pair = decomposition.factors(rank: decomposition.fullRank)
    #expect(pair.bias == nil && pair.frequencies.count * 2 == pair.down.rows)
    var (error, size) = (0.0, 0.0)
    for position in [0, 1, 7, 100, 65_536] {
      let x = random.matrix(1, c.width)
      let query = random.matrix(1, rows)
      var key = x.product(weights.transpose).values
      if let bias { key = zip(key, bias).map { $0 + $1 } }
      let turned = rotated(key, shape, position: position)
      // The cache's side: the latent turned, and the query through B.
      var latent = x.product(pair.down.transpose).values
      if let latentBias = pair.latentBias { latent = zip(latent, latentBias).map { $0 + $1 } }
      for (index, frequency) in pair.frequencies.enumerated() where frequency < shape.rotaryPairs {
        let (c, s) = turn(frequency, shape, position)
        let (u, v) = (latent[2 * index], latent[2 * index + 1])
        latent[2 * index] = u * c - v * s
        latent[2 * index + 1] = v * c + u * s
      }
      for head in 0..<c.heads {
        var (expected, found, bound) = (0.0, 0.0, 0.0)
        for element in head * c.headDimension..<(head + 1) * c.headDimension {
          expected += query[0, element] * turned[element]
          bound += abs(query[0, element] * turned[element])
          for (index, value) in latent.enumerated() {
            found += query[0, element] * pair.up[element, index] * value
          }
        }
        error += (expected - found) * (expected - found)
        size += bound * bound
      }
    }
    #expect((error / size).squareRoot() <= 1e-12)
  }

  /// At every rank the float32 factors are ones that ``LowRankFactors`` takes, the error on the text is
  /// what was cut, and it does not increase.
  @Test(arguments: cases)
  func everyRankCommutes(_ c: Case) throws {
    let shape = c.shape
    var random = RepeatableRandom(seed: 12)
    let weights = random.matrix(c.heads * c.headDimension, c.width)
    let text = random.activations(3 * c.width, c.width)
    let decomposition = try CommutingDecomposition(
      weights: weights, shape: shape, inputs: Whitening(Gram(of: text)), subject: "test")
    let whole = text.product(weights.transpose).squaredNorm
    var last = Double.infinity
    for rank in stride(from: 2, through: decomposition.fullRank, by: 2) {
      let pair = decomposition.factors(rank: rank)
      let difference = weights.minus(pair.up.product(pair.down))
      let error = text.product(difference.transpose).squaredNorm
      #expect(abs(error - decomposition.energies[rank...].reduce(0, +)) <= 1e-9 * whole)
      #expect(error <= last + 1e-12 * whole)
      last = error
      let group = try pair.group(rotates: false, subject: "test")
      _ = try LowRankFactors(
        shape: shape, headsPerGroup: c.heads, keyMode: .commuting, bits: 4, isRotated: false,
        layers: [
          .init(
            keys: [group],
            values: [
              .init(
                rank: 1, down: [Float](repeating: 1, count: c.width),
                up: [Float](repeating: 1, count: weights.rows))
            ])
        ])
    }
    #expect(last <= 1e-18 * whole)
  }

  /// Commuting factors are a special case of factors, so the plain optimum errs no more.
  @Test func plainFactorsErrNoMore() throws {
    let c = Self.cases[2]
    var random = RepeatableRandom(seed: 13)
    let weights = random.matrix(c.heads * c.headDimension, c.width)
    let inputs = try Whitening(Gram(of: random.activations(200, c.width)))
    let commuting = try CommutingDecomposition(
      weights: weights, shape: c.shape, inputs: inputs, subject: "test")
    let plain = try WhitenedDecomposition(weights: weights, inputs: inputs, subject: "test")
    for rank in stride(from: 2, through: plain.fullRank, by: 2) {
      #expect(
        plain.energies[rank...].reduce(0, +)
          <= commuting.energies[rank...].reduce(0, +) + 1e-9 * plain.energies[0])
    }
  }
}
