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
  /// Bytes of keys and values that all cores read at a time: what the workspaces leave room for, or
  /// not, in the cache.
  public var liveKeyValueBytes: Int

  /// A model of tiles of that size.
  public init(
    blockRows: Int, headDimension: Int, slots: Int = 3, liveKeyValueBytes: Int = 0
  ) {
    self.blockRows = blockRows
    self.headDimension = headDimension
    self.slots = slots
    self.liveKeyValueBytes = liveKeyValueBytes
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

  /// Modelled cycles of one stack on a split part.
  struct StackCycles {
    /// A vector unit: six plain repeats and an exponential one for 64 scores, for the output two
    /// repeats a row and 64 of its columns; the starts of eleven instructions and two reductions for
    /// a piece of scores, of six for the product.
    var vector = 0.0
    /// The cube's fractals, twice d a score.
    var cube = 0.0
    /// The cube's loads: keys, values, probabilities.
    var load = 0.0
    /// The share of a core in the cache: the exchange, half of it each way, keys and values.
    var cache = 0.0
    /// The share of a core in memory: what of these the cache does not hold.
    var memory = 0.0

    static func * (cycles: StackCycles, count: Double) -> StackCycles {
      StackCycles(
        vector: cycles.vector * count, cube: cycles.cube * count, load: cycles.load * count,
        cache: cycles.cache * count, memory: cycles.memory * count)
    }

    static func += (sum: inout StackCycles, other: StackCycles) {
      sum = StackCycles(
        vector: sum.vector + other.vector, cube: sum.cube + other.cube,
        load: sum.load + other.load, cache: sum.cache + other.cache,
        memory: sum.memory + other.memory)
    }
  }

  func cycles(ofStack keys: Int, firstLevelKeys: Int, on spec: NPUSpec) -> StackCycles {
    guard keys > 0 else { return StackCycles() }
    let rows = Double(blockRows)
    let width = Double(headDimension)
    let keyCount = Double(keys)
    let unitRows = rows / (spec.coupling == .split ? spec.vectorUnits.value : 1)
    let pieces = (unitRows / Double(FusedNPUPlan.pieceRows(columns: firstLevelKeys))).rounded(.up)
    let folds = Double(keys % 512 == 0 ? 2 : (keys + 63) / 64)
    let workspace = Double(workspaceBytes(firstLevelKeys: firstLevelKeys)) * spec.cores.value
    let fits = workspace <= spec.l2Bytes.value
    let room = spec.l2Bytes.value - (fits ? workspace : 0)
    let exchange = rows * keyCount * exchangeBytesPerScore(firstLevelKeys: keys) / 2
    let loads = keyCount * 4 * width
    // Of keys and values both fit, the keys alone, or neither.
    let live = Double(liveKeyValueBytes)
    let missing = live <= room ? 0 : live / 2 <= room ? 0.5 : 1
    let probabilities = rows * keyCount * 2
    return StackCycles(
      vector: unitRows
        * (keyCount / 64 * (6 * spec.repeatCycles.value + spec.exponentialRepeatCycles.value)
          + 2 * width / 64 * spec.repeatCycles.value)
        + spec.vectorStartCycles.value * (pieces * (11 + 2 * folds) + 6),
      cube: rows * keyCount * 2 * width / spec.cubeRate.value,
      load: missing * loads / spec.memoryPort.value
        + (1 - missing) * loads / spec.l2Read.value
        + probabilities / (fits ? spec.l2Read.value : spec.memoryPort.value),
      cache: (exchange + loads) / spec.l2Read.value,
      memory: ((fits ? 0 : 2 * exchange) + missing * loads) / spec.memoryPort.value)
  }

  /// Modelled cycles of a split part for tiles that see so many keys: what choosing N₁ rests on.
  ///
  /// Of a core the slowest of its units sets the pace, or the round trip of a stack through vector
  /// units, cube and three flags, of which `slots` are under way at a time; one round trip more
  /// fills and drains the pipeline. Cache and memory are the chip's.
  ///
  /// - Parameters:
  ///   - tiles: visible keys, and how many tiles see so many.
  ///   - firstLevelKeys: N₁: keys between two hand-overs.
  ///   - spec: the device.
  /// - Complexity: O(tiles).
  public func cycles(
    of tiles: [(visibleKeys: Int, count: Int)], firstLevelKeys: Int, on spec: NPUSpec
  ) -> Double {
    guard firstLevelKeys > 0 else { return 0 }
    let whole = cycles(ofStack: firstLevelKeys, firstLevelKeys: firstLevelKeys, on: spec)
    var sum = StackCycles()
    var stacks = 0.0
    var count = 0
    var longest = StackCycles()
    for tile in tiles where tile.visibleKeys > 0 {
      let wholes = tile.visibleKeys / firstLevelKeys
      let rest = cycles(
        ofStack: tile.visibleKeys % firstLevelKeys, firstLevelKeys: firstLevelKeys, on: spec)
      sum += whole * Double(wholes * tile.count)
      sum += rest * Double(tile.count)
      stacks +=
        Double(
          Self.stacks(visibleKeys: tile.visibleKeys, firstLevelKeys: firstLevelKeys) * tile.count)
      count += tile.count
      if wholes > 0 { longest = whole } else if rest.cube > longest.cube { longest = rest }
    }
    guard count > 0 else { return 0 }
    let cores = spec.cores.value
    // Tiles are whole: the busiest core has up to one more than its share.
    let share = (Double(count) / cores).rounded(.up) / Double(count)
    let flags = 3 * spec.flagCycles.value
    let core = max(
      sum.vector, sum.cube, sum.load, (sum.vector + sum.cube + flags * stacks) / Double(slots))
    return max(
      core * share + longest.vector + longest.cube + flags, sum.cache / cores,
      sum.memory / cores)
  }

  /// The candidate of the fewest ``cycles(of:firstLevelKeys:on:)`` among N₀, 2N₀, 4N₀, … that is at
  /// most `largest`; N₀ when that is none.
  public func best(
    for tiles: [(visibleKeys: Int, count: Int)], secondLevelKeys: Int, largest: Int,
    on spec: NPUSpec
  ) -> Int {
    guard secondLevelKeys > 0 else { return 0 }
    let most = tiles.map(\.visibleKeys).max() ?? 0
    var best = secondLevelKeys
    var least = Double.infinity
    var candidate = secondLevelKeys
    while candidate <= largest {
      let cycles = cycles(of: tiles, firstLevelKeys: candidate, on: spec)
      if cycles < least {
        least = cycles
        best = candidate
      }
      if candidate >= most || candidate > Int.max / 2 { break }
      candidate *= 2
    }
    return best
  }
}

extension Sourced {
  /// The number as a count, 0 where it is negative or no number.
  var wholeNumber: Int { value.isFinite && value > 0 ? Int(min(value, 1e15)) : 0 }
}
