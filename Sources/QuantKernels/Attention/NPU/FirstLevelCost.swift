import DeviceModel

/// The cost model of two-level tiling: what a first-level block of N₁ keys costs, as pure formulas.
///
/// Source: derived from the structure of FastAttention's two levels (arXiv 2410.16663); the counters
/// of the simulated kernels equal them, which tests prove.
public struct FirstLevelCost: Sendable, Hashable {
  /// Query rows of a tile, B_q.
  public var blockRows: Int
  /// Width of keys and values, d.
  public var headDimension: Int
  /// Workspace slots of a core.
  public var slots: Int

  /// A model of tiles of that size.
  public init(blockRows: Int, headDimension: Int, slots: Int = 3) {
    self.blockRows = blockRows
    self.headDimension = headDimension
    self.slots = slots
  }

  /// Stacks of a tile that sees so many keys: ⌈visible / N₁⌉.
  public static func stacks(visibleKeys: Int, firstLevelKeys: Int) -> Int {
    guard visibleKeys > 0, firstLevelKeys > 0 else { return 0 }
    return (visibleKeys - 1) / firstLevelKeys + 1
  }

  /// Hand-overs of a tile: scores, probabilities and products of each stack, 3 · ⌈visible / N₁⌉.
  public static func handOvers(visibleKeys: Int, firstLevelKeys: Int) -> Int {
    3 * stacks(visibleKeys: visibleKeys, firstLevelKeys: firstLevelKeys)
  }

  /// Rescales of a tile's output: ⌈visible / N₁⌉ − 1.
  public static func rescales(visibleKeys: Int, firstLevelKeys: Int) -> Int {
    max(0, stacks(visibleKeys: visibleKeys, firstLevelKeys: firstLevelKeys) - 1)
  }

  /// Bytes between cube and vector units a score on a split part: float32 scores and binary16
  /// probabilities written and read, 12, and a stack's float32 product written and read, 8d a row.
  public func exchangeBytesPerScore(firstLevelKeys: Int) -> Double {
    12 + 8 * Double(headDimension) / Double(firstLevelKeys)
  }

  /// Bytes of a core's workspace: slots · (B_q · N₁ · 6 + B_q · d · 4).
  public func workspaceBytes(firstLevelKeys: Int) -> Int {
    slots * blockRows * (firstLevelKeys * 6 + headDimension * 4)
  }

  /// The largest N₁ whose workspaces fit a cache on that many cores; 0 when none does.
  public func cacheBound(cores: Int, cacheBytes: Int) -> Int {
    guard cores > 0, slots > 0, blockRows > 0 else { return 0 }
    return max(0, (cacheBytes / (cores * slots * blockRows) - headDimension * 4) / 6)
  }

  /// Modelled cycles that N₁ adds to a tile of so many visible keys, on a split part: its exchange
  /// through the cache (or memory, when the workspaces do not fit), one flag's wait a hand-over that
  /// the pipeline of two stacks does not hide (one stack in `slots`), and filling and draining the
  /// pipeline with one stack's scores and softmax.
  ///
  /// Only differences between N₁ mean something.
  public func addedCycles(
    visibleKeys: Int, firstLevelKeys: Int, on spec: NPUSpec
  ) -> Double {
    let stacks = Self.stacks(visibleKeys: visibleKeys, firstLevelKeys: firstLevelKeys)
    let rows = Double(blockRows)
    let fits =
      workspaceBytes(firstLevelKeys: firstLevelKeys) * spec.cores.wholeNumber
      <= spec.l2Bytes.wholeNumber
    let rate = fits ? spec.l2Read.value : spec.memoryPort.value
    let units = spec.vectorUnits.value
    let exchange =
      rows * Double(visibleKeys) * exchangeBytesPerScore(firstLevelKeys: firstLevelKeys)
      / rate / 2 / units
    // Rescale and sum of the output: two operations a repeat of 64 lanes.
    let update =
      Double(stacks) * (2 * rows * Double(headDimension) / 64 * spec.repeatCycles.value / units)
    let flags = Double(3 * stacks) * spec.flagCycles.value / Double(slots)
    let first = Double(min(firstLevelKeys, visibleKeys))
    let fill =
      rows * first * Double(headDimension) / spec.cubeRate.value
      + rows * first / 64 * 8 * spec.repeatCycles.value / units
    return exchange + update + flags + fill
  }

  /// The candidate of least ``addedCycles(visibleKeys:firstLevelKeys:on:)`` among N₀, 2N₀, 4N₀, …
  /// that is at most `largest`; N₀ when that is none.
  public func best(
    visibleKeys: Int, secondLevelKeys: Int, largest: Int, on spec: NPUSpec
  ) -> Int {
    guard secondLevelKeys > 0 else { return 0 }
    var best = secondLevelKeys
    var least = Double.infinity
    var candidate = secondLevelKeys
    while candidate <= largest {
      let cycles = addedCycles(visibleKeys: visibleKeys, firstLevelKeys: candidate, on: spec)
      if cycles < least {
        least = cycles
        best = candidate
      }
      if candidate >= visibleKeys || candidate > Int.max / 2 { break }
      candidate *= 2
    }
    return best
  }
}

extension Sourced {
  /// The number as a count, 0 where it is negative or no number.
  var wholeNumber: Int { value.isFinite && value > 0 ? Int(min(value, 1e15)) : 0 }
}
