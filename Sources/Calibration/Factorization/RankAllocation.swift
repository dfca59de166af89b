import QuantKernels

/// How a budget of latents is shared out among the groups of a model.
///
/// Every unit, a group of some layer's keys or values, gets a multiple of `step` latents, or all that
/// it can have; at least one step and never more than its full rank. The sum is the budget, but for
/// what no whole step fits into.
public enum RankAllocation {
  /// Ranks as near as steps allow to shares of `scores`.
  ///
  /// Shares are found that are proportional to the scores where neither the least nor the full rank
  /// binds, then cut to steps; the steps that are left go to the largest remainders, each once. With
  /// scores equal to the full ranks this is the uniform allocation.
  ///
  /// - Throws: `QuantError` `.invalidArgument` for a ratio outside 0…1, a step below 1, a budget
  ///   below one step a unit, or scores that are negative, not finite, or of another number.
  /// - Complexity: O(units · log units).
  public static func proportional(
    to scores: [Double], fullRanks: [Int], ratio: Double, step: Int
  ) throws(QuantError) -> [Int] {
    let budget = try Budget(fullRanks: fullRanks, ratio: ratio, step: step)
    guard scores.count == fullRanks.count, scores.allSatisfy({ $0.isFinite && $0 >= 0 }) else {
      throw QuantError(
        .invalidArgument, "scores",
        "\(scores.count) scores of \(fullRanks.count) groups, or one that is negative or not finite",
        remedy: "calibrate on an ordinary text")
    }
    let least = fullRanks.map { Double(min(step, $0)) }
    let target = Double(budget.latents)
    // Without any score all are alike.
    let largest = scores.max() ?? 0
    let shares = largest > 0 ? scores.map { $0 / largest } : scores.map { _ in 1 }
    func ranks(_ scale: Double) -> [Double] {
      zip(shares, zip(least, fullRanks)).map { share, bounds in
        min(max(share * scale, bounds.0), Double(bounds.1))
      }
    }
    // The sum grows with the scale; doubles cannot tell scales apart after 200 halvings.
    var (low, high) = (0.0, target)
    while ranks(high).reduce(0, +) < target, high < 1e300 { high *= 2 }
    for _ in 0..<200 {
      let middle = (low + high) / 2
      if ranks(middle).reduce(0, +) <= target { low = middle } else { high = middle }
    }
    let wanted = ranks(low)
    var result = wanted.indices.map { index -> Int in
      if wanted[index] >= Double(fullRanks[index]) { return fullRanks[index] }
      // A share that bisection left a rounding below a step is that step.
      let whole = Int((wanted[index] * (1 + 1e-12)) / Double(step)) * step
      return min(max(whole, min(step, fullRanks[index])), fullRanks[index])
    }
    let order = wanted.indices.sorted {
      let (a, b) = (wanted[$0] - Double(result[$0]), wanted[$1] - Double(result[$1]))
      return a != b ? a > b : $0 < $1
    }
    budget.spendRest(&result, order: order)
    return result
  }

  /// The ranks that leave the least error in all: the step that saves most is taken until the budget
  /// is spent.
  ///
  /// Each unit's energies do not increase, so that the greedy choice is the best one for steps of
  /// equal size.
  ///
  /// - Parameters:
  ///   - energies: of each unit what every further latent saves; their number is its full rank.
  ///   - ratio: of all ranks that are kept, 0…1.
  ///   - step: ranks are multiples of it, or full.
  /// - Throws: as ``proportional(to:fullRanks:ratio:step:)``.
  /// - Complexity: O(budget / step · log units).
  public static func waterFilling(
    energies: [[Double]], ratio: Double, step: Int
  ) throws(QuantError) -> [Int] {
    let fullRanks = energies.map(\.count)
    let budget = try Budget(fullRanks: fullRanks, ratio: ratio, step: step)
    guard energies.allSatisfy({ $0.allSatisfy { $0.isFinite && $0 >= 0 } }) else {
      throw QuantError(
        .invalidArgument, "energies", "one is negative or not finite",
        remedy: "calibrate on an ordinary text")
    }
    var result = fullRanks.map { min(step, $0) }
    var left = budget.latents - result.reduce(0, +)
    /// What the next step of a unit saves a latent.
    func gain(_ unit: Int) -> Double {
      let next = energies[unit][result[unit]..<min(result[unit] + step, fullRanks[unit])]
      return next.isEmpty ? -1 : next.reduce(0, +) / Double(next.count)
    }
    // A binary heap of (gain, unit), the largest gain first and of equal ones the first unit.
    var heap = energies.indices.map { (gain: gain($0), unit: $0) }
    func precedes(_ a: (gain: Double, unit: Int), _ b: (gain: Double, unit: Int)) -> Bool {
      a.gain != b.gain ? a.gain > b.gain : a.unit < b.unit
    }
    func sink(_ start: Int) {
      var index = start
      while true {
        var best = index
        for child in [2 * index + 1, 2 * index + 2]
        where child < heap.count && precedes(heap[child], heap[best]) { best = child }
        if best == index { return }
        heap.swapAt(index, best)
        index = best
      }
    }
    for index in stride(from: heap.count / 2, through: 0, by: -1) { sink(index) }
    while let top = heap.first, left > 0 {
      let size = min(step, fullRanks[top.unit] - result[top.unit])
      if size > 0, size <= left {
        result[top.unit] += size
        left -= size
        heap[0].gain = gain(top.unit)
      } else {
        // Full, or its step no longer fits.
        if let last = heap.popLast(), !heap.isEmpty { heap[0] = last }
      }
      sink(0)
    }
    return result
  }

  /// How many latents there are to share out.
  private struct Budget {
    let latents: Int
    private let fullRanks: [Int]
    private let step: Int

    init(fullRanks: [Int], ratio: Double, step: Int) throws(QuantError) {
      guard ratio > 0, ratio <= 1 else {
        throw QuantError(
          .invalidArgument, "ratio", "\(ratio) is not above 0 and at most 1",
          remedy: "choose the share of key and value elements to keep, such as 0.5")
      }
      guard (1...(1 << 20)).contains(step), !fullRanks.isEmpty,
        fullRanks.allSatisfy({ (1...(1 << 30)).contains($0) })
      else {
        throw QuantError(
          .invalidArgument, "rank step", "\(step) for \(fullRanks.count) groups",
          remedy: "choose a step of 1…\(1 << 20)")
      }
      let total = fullRanks.reduce(0, +)
      let least = fullRanks.reduce(0) { $0 + min(step, $1) }
      let wanted = ratio * Double(total)
      latents =
        ratio == 1 ? total : min(Int((wanted / Double(step)).rounded()) * step, total)
      guard latents >= least else {
        throw QuantError(
          .invalidArgument, "ratio",
          "\(ratio) leaves \(latents) latents where \(fullRanks.count) groups take at least "
            + "\(least) in steps of \(step)",
          remedy: "choose a ratio of at least \(Double(least) / Double(total)) or a smaller step")
      }
      self.fullRanks = fullRanks
      self.step = step
    }

    /// Hands out what is left of the budget in whole steps, round after round in the order given.
    func spendRest(_ ranks: inout [Int], order: [Int]) {
      var left = latents - ranks.reduce(0, +)
      var gave = true
      while left > 0, gave {
        gave = false
        for unit in order {
          let size = min(step, fullRanks[unit] - ranks[unit])
          if size > 0, size <= left {
            ranks[unit] += size
            left -= size
            gave = true
          }
        }
      }
    }
  }
}
