import Calibration
import QuantKernels
import TestSupport
import Testing

@Suite struct RankAllocationTests {
  private func energies(_ fullRanks: [Int], seed: UInt64) -> [[Double]] {
    var random = RepeatableRandom(seed: seed)
    return fullRanks.map { count in
      let scale = Double.random(in: 0.01...100, using: &random)
      return (0..<count).map { _ in scale * Double.random(in: 0...1, using: &random) }
        .sorted(by: >)
    }
  }

  static let shapes: [[Int]] = [
    [64], [64, 64, 64], Array(repeating: 192, count: 60), [1, 2, 3, 100, 7],
    Array(repeating: 4096, count: 64), [112, 48, 96, 80],
  ]

  /// Exact budget, multiples of the step or full, at least a step, never above full rank.
  @Test(arguments: shapes, [1, 2, 8, 32])
  func budgetsAreMet(_ fullRanks: [Int], _ step: Int) throws {
    let total = fullRanks.reduce(0, +)
    let least = fullRanks.reduce(0) { $0 + min(step, $1) }
    var random = RepeatableRandom(seed: UInt64(step))
    let scores = fullRanks.map { _ in Double.random(in: 0...1, using: &random) }
    let energies = energies(fullRanks, seed: 3)
    for ratio in [0.05, 0.25, 0.3, 0.5, 0.7, 0.999, 1] {
      let wanted =
        ratio == 1 ? total : Int((ratio * Double(total) / Double(step)).rounded()) * step
      let budget = min(wanted, total)
      if budget < least {
        #expect(throws: QuantError.self) {
          try RankAllocation.waterFilling(energies: energies, ratio: ratio, step: step)
        }
        continue
      }
      let uniform = fullRanks.map { Double($0) }
      for ranks in [
        try RankAllocation.proportional(
          to: scores, fullRanks: fullRanks, ratio: ratio, step: step),
        try RankAllocation.proportional(
          to: uniform, fullRanks: fullRanks, ratio: ratio, step: step),
        try RankAllocation.waterFilling(energies: energies, ratio: ratio, step: step),
      ] {
        for (rank, full) in zip(ranks, fullRanks) {
          #expect(rank <= full && rank >= min(step, full))
          #expect(rank % step == 0 || rank == full)
        }
        let sum = ranks.reduce(0, +)
        #expect(sum <= budget && sum > budget - step)
        // Exactly the budget where steps divide everything.
        if fullRanks.allSatisfy({ $0 % step == 0 }) { #expect(sum == budget) }
      }
    }
  }

  /// Where no bound binds, ranks are within a step of their proportional share; ours do not overshoot
  /// where the paper's code does (64 matrices of 4096, ratio 0.3).
  @Test func proportionalSharesAreProportional() throws {
    let fullRanks = Array(repeating: 4096, count: 64)
    let scores = (0..<64).map { 1 + Double($0 % 7) / 10 }
    let ranks = try RankAllocation.proportional(
      to: scores, fullRanks: fullRanks, ratio: 0.3, step: 32)
    let budget = Int((0.3 * 64 * 4096 / 32).rounded()) * 32
    #expect(ranks.reduce(0, +) == budget)
    let sum = scores.reduce(0, +)
    for (rank, score) in zip(ranks, scores) {
      #expect(abs(Double(rank) - Double(budget) * score / sum) < 32)
    }
    // Scores far apart: the large one is capped, what it cannot take goes to the others.
    let capped = try RankAllocation.proportional(
      to: [100, 1, 1], fullRanks: [64, 64, 64], ratio: 0.5, step: 8)
    #expect(capped == [64, 16, 16])
    // No scores at all: all alike.
    #expect(
      try RankAllocation.proportional(
        to: [0, 0], fullRanks: [64, 64], ratio: 0.5, step: 8) == [32, 32])
  }

  /// Against every possible allocation of a small case.
  @Test(arguments: 1...20)
  func waterFillingIsOptimal(_ seed: Int) throws {
    let energies = energies([6, 8, 4], seed: UInt64(seed))
    let step = 2
    for ratio in [0.4, 0.5, 0.8] {
      let ranks = try RankAllocation.waterFilling(energies: energies, ratio: ratio, step: step)
      func saved(_ ranks: [Int]) -> Double {
        zip(energies, ranks).reduce(0) { $0 + $1.0.prefix($1.1).reduce(0, +) }
      }
      var best = 0.0
      for a in stride(from: 2, through: 6, by: step) {
        for b in stride(from: 2, through: 8, by: step) {
          for c in stride(from: 2, through: 4, by: step)
          where a + b + c <= ranks.reduce(0, +) { best = max(best, saved([a, b, c])) }
        }
      }
      #expect(saved(ranks) >= best * (1 - 1e-12))
      let uniform = try RankAllocation.proportional(
        to: [6, 8, 4], fullRanks: [6, 8, 4], ratio: ratio, step: step)
      #expect(saved(ranks) >= saved(uniform) * (1 - 1e-12))
    }
  }

  @Test func badInput() {
    for ratio in [0, -0.5, 1.0001, .nan, .infinity, -.infinity] {
      #expect(throws: QuantError.self) {
        try RankAllocation.proportional(to: [1], fullRanks: [8], ratio: ratio, step: 1)
      }
      #expect(throws: QuantError.self) {
        try RankAllocation.waterFilling(energies: [[1, 1]], ratio: ratio, step: 1)
      }
    }
    for (scores, fullRanks, step) in [
      ([1.0], [8], 0), ([1.0], [8], -3), ([1.0], [8, 8], 1), ([.nan], [8], 1), ([-1.0], [8], 1),
      ([.infinity], [8], 1), ([1.0], [0], 1), ([], [], 1),
    ] {
      #expect(throws: QuantError.self) {
        try RankAllocation.proportional(to: scores, fullRanks: fullRanks, ratio: 0.5, step: step)
      }
    }
    #expect(throws: QuantError.self) {
      try RankAllocation.waterFilling(energies: [[1, .nan]], ratio: 0.5, step: 1)
    }
    #expect(throws: QuantError.self) {
      try RankAllocation.waterFilling(energies: [[]], ratio: 0.5, step: 1)
    }
    // A step that leaves no room.
    #expect(throws: QuantError.self) {
      try RankAllocation.waterFilling(
        energies: Array(repeating: Array(repeating: 1, count: 64), count: 4), ratio: 0.1, step: 32)
    }
  }
}
