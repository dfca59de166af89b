import DeviceModel
import Testing

@Suite("Banks of a unified buffer")
struct UnifiedBufferBanksTests {
  private let rule = UnifiedBufferBanks.arch220

  @Test("Documented addresses: banks and groups")
  func addresses() {
    #expect(rule.bank(0x10020) == 17 && rule.group(0x10020) == 1)
    #expect(rule.bank(0x20020) == 33 && rule.group(0x20020) == 1)
    // 16 groups of three banks: the last row of the buffer is in the last of 48.
    #expect(rule.bank(192 * 1024 - 32) == 47)
  }

  @Test("Documented pairs: which conflict")
  func pairs() {
    // Two sources of one group.
    #expect(rule.conflict(0x10020, 0x20020, isReadAndWrite: false))
    #expect(rule.cycles(reads: [0x10020, 0x20020], writes: []) == 2)
    // Two sources of two groups.
    #expect(!rule.conflict(0x10020, 0x10000, isReadAndWrite: false))
    #expect(rule.cycles(reads: [0x10020, 0x10000], writes: []) == 1)
    // Source and target of one bank.
    #expect(rule.conflict(0x10020, 0x10E20, isReadAndWrite: true))
    #expect(rule.cycles(reads: [0x10020], writes: [0x10E20]) == 2)
    // A read and a write of one group but two banks go together.
    #expect(rule.cycles(reads: [0x10020], writes: [0x20020]) == 1)
  }

  @Test("Documented strides of a target: 8 and 4 cycles a repeat")
  func strides() {
    func cycles(blockStride: Int) -> Int {
      rule.cycles(
        reads: [], write: VectorOperand(0x1FE00, blockStride: blockStride, repeatStride: 0),
        repeats: 1)
    }
    #expect(cycles(blockStride: 16) == 8)
    #expect(cycles(blockStride: 8) == 4)
    #expect(cycles(blockStride: 1) == 1)
  }

  @Test(
    "A repeat costs one cycle to eight an operand, shifts by a bank's row pattern change nothing")
  func invariants() {
    for source in stride(from: 0, to: 2048, by: 96) {
      for target in stride(from: 0, to: 2048, by: 160) {
        let reads = (0..<8).map { source + 32 * $0 }
        let writes = (0..<8).map { target + 64 * $0 }
        let cycles = rule.cycles(reads: reads, writes: writes)
        #expect((1...16).contains(cycles))
        #expect(cycles == rule.cycles(reads: reads.reversed(), writes: writes))
        #expect(
          cycles
            == rule.cycles(reads: reads.map { $0 + 512 }, writes: writes.map { $0 + 512 }))
        #expect(rule.cycles(reads: Array(reads.dropLast()), writes: writes) <= cycles)
      }
    }
  }
}
