/// The rules of shared memory that are known, and as switches those that are not.
///
/// The default is the documented rule, called M1: 32 banks of 4 bytes, each serving one word a pass,
/// lanes with the same word sharing it.
public struct BankPolicy: Sendable, Hashable {
  /// Some chips return two lanes a slot when every active lane's address equals its
  /// neighbor's (lane xor 1), or all of them that of lane xor 2: 8- and 16-byte loads then take
  /// half the passes. Reported for Volta and Turing (NVIDIA developer forum 77228), measured on an
  /// H100 by cycles and by counter; not seen on L1 hits of compute capability 8.0, 8.6 and 9.0.
  /// Undocumented and open for 8.x, hence off.
  public var pairMerge: Bool
  /// Phases without an active lane count no wavefront, as an H100's counter does. Its cycles are
  /// those of all phases all the same: a 16-byte access of the first eight lanes alone takes four.
  public var skipEmptyPhases: Bool
  /// Passes added to a 16-byte store whose lanes do not write one consecutive segment. Marlin's
  /// source suspects such a cost; nothing documents it, and an H100 has none in five patterns, hence
  /// 0. The base rule with a penalty is called M2.
  public var splitStorePenalty: Int

  /// - Parameters:
  ///   - splitStorePenalty: negative values count as 0.
  ///   - pairMerge: as the property.
  ///   - skipEmptyPhases: as the property.
  public init(
    pairMerge: Bool = false, skipEmptyPhases: Bool = true, splitStorePenalty: Int = 0
  ) {
    self.pairMerge = pairMerge
    self.skipEmptyPhases = skipEmptyPhases
    self.splitStorePenalty = max(0, min(splitStorePenalty, 1 << 20))
  }

  /// The documented rule.
  public static let m1 = BankPolicy()
  /// The documented rule and what it leaves open, as an H100 has it (`Benchmarks/hardware/results`).
  public static let hopper = BankPolicy(pairMerge: true)
  /// The documented rule, and twice the passes for a full warp's 16-byte store that is not
  /// consecutive. The size of the penalty, the four passes of such a store, is assumed.
  public static let m2 = BankPolicy(splitStorePenalty: 4)
}
