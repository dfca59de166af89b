import QuantKernels
import TestSupport
import Testing

/// Attention over parts of the keys, and their merge.
@Suite struct AttentionPartialTests {
  private func part(_ random: inout RepeatableRandom, width: Int, spread: Float) throws
    -> AttentionPartial
  {
    try AttentionPartial(
      maximum: Float.random(in: -spread...spread, using: &random),
      sum: Float.random(in: 1...100, using: &random),
      output: (0..<width).map { _ in Float.random(in: -50...50, using: &random) })
  }

  private func merged(_ first: AttentionPartial, _ second: AttentionPartial) throws
    -> AttentionPartial
  {
    var result = first
    try result.merge(second)
    return result
  }

  @Test func emptyIsTheIdentity() throws {
    var random = RepeatableRandom(seed: 2)
    let empty = try AttentionPartial(width: 5)
    for _ in 0..<50 {
      let part = try part(&random, width: 5, spread: 200)
      for result in [try merged(part, empty), try merged(empty, part)] {
        #expect(result.maximum.bitPattern == part.maximum.bitPattern)
        #expect(result.sum.bitPattern == part.sum.bitPattern)
        #expect(result.output.map(\.bitPattern) == part.output.map(\.bitPattern))
      }
    }
    #expect(try merged(empty, empty) == empty)
    #expect(empty.isEmpty && empty.logSumExp == -.infinity)
    #expect(empty.normalized == [0, 0, 0, 0, 0])
  }

  /// Within 2 ulp of the sum, which has no cancellation, and of the sum of magnitudes for outputs.
  @Test func associative() throws {
    var random = RepeatableRandom(seed: 3)
    for round in 0..<2000 {
      let spread: Float = [0.1, 5, 30, 100][round % 4]
      let parts = try (0..<3).map { _ in try part(&random, width: 4, spread: spread) }
      let left = try merged(merged(parts[0], parts[1]), parts[2])
      let right = try merged(parts[0], merged(parts[1], parts[2]))
      #expect(left.maximum == right.maximum)
      #expect((left.sum - right.sum).magnitude <= 2 * left.sum.ulp)
      for index in 0..<4 {
        let magnitude = parts.reduce(0.0) {
          $0 + exponential(Double($1.maximum - left.maximum)) * Double($1.output[index].magnitude)
        }
        #expect(
          (left.output[index] - right.output[index]).magnitude <= 2 * Float(magnitude).ulp)
      }
    }
  }

  /// Any cut of the keys into parts gives attention over all of them.
  @Test func cutsOfKeys() throws {
    var random = RepeatableRandom(seed: 4)
    let (positions, dimension, width) = (50, 6, 3)
    let query = random.normals(dimension)
    let keys = random.normals(positions * dimension)
    let values = random.normals(positions * width)
    var scores: [Double] = []
    for position in 0..<positions {
      scores.append(
        (0..<dimension).reduce(0.0) {
          $0 + Double(query[$1]) * Double(keys[position * dimension + $1])
        } * 0.5)
    }
    let largest = scores.max() ?? 0
    let weights = scores.map { exponential($0 - largest) }
    let total = weights.reduce(0, +)
    for cuts in [[0, 50], [0, 1, 50], [0, 20, 20, 50], [0, 49, 50], [0, 7, 19, 33, 50]] {
      for tile in [1, 7, 64] {
        var result = try AttentionPartial(width: width)
        for (start, end) in zip(cuts, cuts.dropFirst()) {
          var part = try AttentionPartial(width: width)
          try part.attend(
            query: query[...], keys: keys[start * dimension..<end * dimension],
            values: values[start * width..<end * width], scale: 0.5, tile: tile)
          #expect(part.isEmpty == (start == end))
          try result.merge(part)
        }
        for element in 0..<width {
          let expected = (0..<positions).reduce(0.0) {
            $0 + weights[$1] / total * Double(values[$1 * width + element])
          }
          // Scores of magnitude 10 are off by 8 u · Σ|q||k|; 50 terms and their rescales by 60 u.
          #expect((Double(result.normalized[element]) - expected).magnitude < 2e-5)
        }
        #expect((Double(result.logSumExp) - largest - naturalLogarithm(total)).magnitude < 2e-5)
      }
    }
  }

  @Test func extremes() throws {
    // Scores ±1e4: the far ones vanish exactly.
    var part = try AttentionPartial(width: 1)
    try part.attend(query: [1e4], keys: [-1, 1, 0.5], values: [3, 7, 9], scale: 1, tile: 2)
    #expect(part.normalized == [7] && part.maximum == 1e4 && part.sum == 1)
    // A value that is not finite, of a key that weighs nothing, does not leak.
    var masked = try AttentionPartial(width: 1)
    try masked.attend(
      query: [1e4], keys: [-1, 1], values: [.infinity, 7], scale: 1, tile: 2)
    #expect(masked.normalized == [7])
    // Nothing but −∞.
    var none = try AttentionPartial(width: 1)
    try none.attend(query: [1], keys: [-.infinity], values: [7], scale: 1, tile: 1)
    #expect(none.isEmpty && none.normalized == [0])
    // No number stays none, alone and merged from either side.
    var bad = try AttentionPartial(width: 1)
    try bad.attend(query: [.nan], keys: [1], values: [7], scale: 1, tile: 1)
    #expect(bad.normalized[0].isNaN)
    #expect(try merged(bad, part).normalized[0].isNaN)
    #expect(try merged(part, bad).normalized[0].isNaN)
  }

  @Test func badArguments() throws {
    var part = try AttentionPartial(width: 2)
    let before = part
    #expect(throws: QuantError.self) { try part.merge(AttentionPartial(width: 3)) }
    for (keys, values, scale, tile) in [
      (3, 2, 1, 1), (4, 2, 1, 1), (4, 6, 1, 1), (2, 2, Float.nan, 1), (2, 2, Float.infinity, 1),
      (2, 2, 1, 0), (2, 2, 1, -1),
    ] as [(Int, Int, Float, Int)] {
      #expect(throws: QuantError.self) {
        try part.attend(
          query: [1, 2], keys: [Float](repeating: 1, count: keys)[...],
          values: [Float](repeating: 1, count: values)[...], scale: scale, tile: tile)
      }
    }
    #expect(throws: QuantError.self) {
      try part.attend(query: [], keys: [], values: [], scale: 1, tile: 1)
    }
    #expect(part == before)
    #expect(throws: QuantError.self) { try AttentionPartial(width: -1) }
    #expect(throws: QuantError.self) { try AttentionPartial(maximum: 0, sum: 0, output: []) }
    #expect(throws: QuantError.self) { try AttentionPartial(maximum: 0, sum: -1, output: []) }
  }
}
