import DeviceModel
import TestSupport
import Testing

@Suite struct GlobalCostTests {
  private func cost(_ address: (UInt32) -> UInt32, _ mask: LaneMask = .all) -> GlobalCost {
    globalCost(addresses: .each(address), mask: mask)
  }

  /// The table of the CUDA guide's rule: distinct 32-byte sectors, distinct 128-byte lines.
  @Test func knownPatterns() {
    #expect(cost { 4 * $0 } == GlobalCost(requests: 1, sectors: 4, lines: 1))
    #expect(cost { 4 + 4 * $0 } == GlobalCost(requests: 1, sectors: 5, lines: 2))
    #expect(cost { 8 * $0 } == GlobalCost(requests: 1, sectors: 8, lines: 2))
    #expect(cost { 32 * $0 } == GlobalCost(requests: 1, sectors: 32, lines: 8))
    #expect(cost { 128 * $0 } == GlobalCost(requests: 1, sectors: 32, lines: 32))
    #expect(cost { 16 * $0 } == GlobalCost(requests: 1, sectors: 16, lines: 4))
    #expect(cost { _ in 4096 } == GlobalCost(requests: 1, sectors: 1, lines: 1))
    // AWQ's weights: 16 lanes of 4 bytes in each of two rows of 8192 columns.
    #expect(
      cost { 4 * ($0 % 16) + 4096 * ($0 / 16) } == GlobalCost(requests: 1, sectors: 4, lines: 2))
    // QUICK's: 16 bytes every 32 bytes, half of each sector.
    #expect(
      cost { 32 * ($0 % 16) + 32768 * ($0 / 16) } == GlobalCost(requests: 1, sectors: 32, lines: 8))
    #expect(cost({ $0 }, []) == GlobalCost(requests: 0, sectors: 0, lines: 0))
  }

  @Test func randomAccessesAgreeWithSets() {
    var random = RepeatableRandom(seed: 5)
    for _ in 0..<2000 {
      let span = UInt32(1) << UInt32.random(in: 1...24, using: &random)
      let mask = LaneMask(rawValue: UInt32.random(in: 1...UInt32.max, using: &random))
      let addresses = Lanes<UInt32>.each { _ in UInt32.random(in: 0..<span, using: &random) * 4 }
      let active = (0..<32).filter { mask[$0] }.map { addresses[$0] }
      let cost = globalCost(addresses: addresses, mask: mask)
      #expect(cost.sectors == Set(active.map { $0 / 32 }).count)
      #expect(cost.lines == Set(active.map { $0 / 128 }).count)
      #expect(cost.lines <= cost.sectors)
      #expect(cost.sectors <= 4 * cost.lines)
      #expect(cost.sectors <= active.count)
    }
  }
}
