/// What attention over a low-rank cache did: multiply-accumulates by purpose, and bytes of latents.
///
/// Counted where kernels are called, by what they were given; the formulas that it must equal are
/// ``LowRankCost``'s. Positions count in blocks of 16, the unit of reading.
public struct LowRankCounters: Sendable, Equatable {
  /// Turning queries into what latents of keys are multiplied with.
  public var queryMultiplies = 0
  /// Scores: queries with latents, or with whole or rebuilt keys.
  public var scoreMultiplies = 0
  /// Rebuilding keys from latents.
  public var rebuildMultiplies = 0
  /// Sums of latents of values.
  public var valueMultiplies = 0
  /// The late up-projection of those sums.
  public var upMultiplies = 0
  /// Bytes of latents read, each time a kernel reads them.
  public var keyBytes = 0
  /// Bytes of value latents read, each time a kernel reads them.
  public var valueBytes = 0

  /// All zero.
  public init() {}

  static func + (a: LowRankCounters, b: LowRankCounters) -> LowRankCounters {
    var sum = a
    sum.queryMultiplies += b.queryMultiplies
    sum.scoreMultiplies += b.scoreMultiplies
    sum.rebuildMultiplies += b.rebuildMultiplies
    sum.valueMultiplies += b.valueMultiplies
    sum.upMultiplies += b.upMultiplies
    sum.keyBytes += b.keyBytes
    sum.valueBytes += b.valueBytes
    return sum
  }
}
