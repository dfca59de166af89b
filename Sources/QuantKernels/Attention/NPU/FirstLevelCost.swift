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

  /// Modelled cycles of a split part for tiles that see so many keys each: what choosing N₁ rests on. Of each stack of N₁ keys
  ///
  /// - vector units: six plain repeats and an exponential one for 64 scores, for the output two
  ///   repeats a row and 64 of its columns; the starts of eleven instructions and two reductions for
  ///   a piece of scores, of six for a stack's product;
  /// - the cube: its fractals, twice d a score;
  /// - the cache: the exchange, half of it each way, and keys and values; memory: what of them the
  ///   cache does not hold.
  ///
  /// Of a core the slower of its units sets the pace, or the round trip of a stack through both and
  /// three flags, of which `slots` are under way at a time; one round trip more fills and drains the
  /// pipeline. Cache and memory are the chip's.
  public func cycles(
    visibleKeys: Int, firstLevelKeys: Int, tiles: Double, on spec: NPUSpec
  ) -> Double {
    let stacks = Double(Self.stacks(visibleKeys: visibleKeys, firstLevelKeys: firstLevelKeys))
    guard stacks > 0 else { return 0 }
    let keys = Double(visibleKeys) / stacks
    let rows = Double(blockRows)
    let width = Double(headDimension)
    let units = spec.coupling == .split ? spec.vectorUnits.value : 1
    let pieces = (rows / units * keys / Double(FusedNPUPlan.pieceElements)).rounded(.up)
    let folds = Double(min(firstLevelKeys, visibleKeys) % 512 == 0 ? 2 : max(1, Int(keys) / 64))
    let vector =
      rows / units
      * (keys / 64 * (6 * spec.repeatCycles.value + spec.exponentialRepeatCycles.value)
        + 2 * width / 64 * spec.repeatCycles.value)
      + spec.vectorStartCycles.value * (pieces * (11 + 2 * folds) + 6)
    let cube = rows * keys * 2 * width / spec.cubeRate.value
    let workspace = Double(workspaceBytes(firstLevelKeys: firstLevelKeys)) * spec.cores.value
    let fits = workspace <= spec.l2Bytes.value
    let room = spec.l2Bytes.value - (fits ? workspace : 0)
    let exchange = rows * keys * exchangeBytesPerScore(firstLevelKeys: max(1, Int(keys))) / 2
    let loads = keys * 4 * width
    // Of keys and values both fit, the keys alone, or neither.
    let live = Double(liveKeyValueBytes)
    let missing = live <= room ? 0 : live / 2 <= room ? 0.5 : 1
    let cache = (exchange + loads) / spec.l2Read.value
    let memory = ((fits ? 0 : 2 * exchange) + missing * loads) / spec.memoryPort.value
    // Copies go on beside both, piece by piece.
    let roundTrip = vector + cube + 3 * spec.flagCycles.value
    let pace = max(vector, cube, roundTrip / Double(slots))
    let core = (tiles / spec.cores.value).rounded(.up) * stacks * pace + roundTrip
    return max(core, tiles / spec.cores.value * stacks * max(cache, memory))
  }

  /// The candidate of the fewest ``cycles(visibleKeys:firstLevelKeys:tiles:on:)`` among N₀, 2N₀,
  /// 4N₀, … that is at most `largest`; N₀ when that is none.
  public func best(
    visibleKeys: Int, tiles: Int, secondLevelKeys: Int, largest: Int, on spec: NPUSpec
  ) -> Int {
    guard secondLevelKeys > 0 else { return 0 }
    var best = secondLevelKeys
    var least = Double.infinity
    var candidate = secondLevelKeys
    while candidate <= largest {
      let cycles = cycles(
        visibleKeys: max(1, visibleKeys), firstLevelKeys: candidate, tiles: Double(max(1, tiles)),
        on: spec)
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
