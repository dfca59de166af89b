/// Banks of a unified buffer: pure rules, no state.
///
/// Rows of 32 bytes; `bank = (a >> 16) · groups + ((a >> 5) mod groups)`, `group = bank mod groups`.
/// In one cycle a group serves at most one row read and one row write, and a bank not both.
/// Source: hiascend operator-performance documentation, arch 220x.
public struct UnifiedBufferBanks: Sendable, Hashable {
  /// Bank groups.
  public let groups: Int

  /// 16 groups of three 4 KiB banks: 192 KiB.
  public static let arch220 = UnifiedBufferBanks(groups: 16)

  /// The bank of a byte address.
  public func bank(_ address: Int) -> Int { (address >> 16) * groups + group(address) }

  /// The bank group of a byte address.
  public func group(_ address: Int) -> Int { (address >> 5) & (groups - 1) }

  /// Cycles of one repeat that reads and writes the 32-byte rows at these addresses: the fullest
  /// group's reads or writes, or the fullest bank's reads and writes together. At least 1; a row
  /// that several reads name counts once (assumed).
  public func cycles(reads: [Int], writes: [Int]) -> Int {
    var most = 1
    for (index, address) in reads.enumerated() {
      var inGroup = 1
      var inBank = 1
      // Distinct rows only: one that stands earlier in the list was counted there.
      if reads[..<index].contains(where: { $0 >> 5 == address >> 5 }) { continue }
      for earlier in reads[..<index] where group(earlier) == group(address) {
        inGroup += 1
        if bank(earlier) == bank(address) { inBank += 1 }
      }
      for write in writes where bank(write) == bank(address) { inBank += 1 }
      most = max(most, inGroup, inBank)
    }
    for (index, address) in writes.enumerated() {
      most = max(
        most, 1 + writes[..<index].count { group($0) == group(address) })
    }
    return most
  }

  /// Whether two rows of one repeat cannot be served in one cycle: two reads or two writes in a
  /// group, or a read and a write in a bank.
  public func conflict(_ first: Int, _ second: Int, isReadAndWrite: Bool) -> Bool {
    isReadAndWrite ? bank(first) == bank(second) : group(first) == group(second)
  }
}

/// One operand of a vector instruction: 8 blocks of 32 bytes a repeat.
public struct VectorOperand: Sendable, Hashable {
  /// Byte address of the first block.
  public var address: Int
  /// Blocks from one to the next of a repeat; 0 reads the same block eight times.
  public var blockStride: Int
  /// Blocks from one repeat to the next.
  public var repeatStride: Int
  /// Blocks of a repeat, 1…8.
  public var blocks: Int

  /// An operand; contiguous where nothing else is said.
  public init(_ address: Int, blockStride: Int = 1, repeatStride: Int = 8, blocks: Int = 8) {
    self.address = address
    self.blockStride = blockStride
    self.repeatStride = repeatStride
    self.blocks = blocks
  }

  func rows(_ iteration: Int) -> [Int] {
    (0..<blocks).map { address &+ 32 &* (iteration &* repeatStride &+ $0 &* blockStride) }
  }
}

extension UnifiedBufferBanks {
  /// Cycles of an instruction of that many repeats: the sum over them.
  ///
  /// - Complexity: O(repeats).
  public func cycles(reads: [VectorOperand], write: VectorOperand?, repeats: Int) -> Int {
    (0..<max(0, repeats)).reduce(0) { sum, iteration in
      sum
        + cycles(
          reads: reads.flatMap { $0.rows(iteration) }, writes: write?.rows(iteration) ?? [])
    }
  }
}
