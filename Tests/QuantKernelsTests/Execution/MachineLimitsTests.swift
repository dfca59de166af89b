import CQuantKernels
import QuantKernels
import Testing

@Suite("Machine limits")
struct MachineLimitsTests {
  @Test("Every read loop reads every word, at every level", arguments: InstructionSet.supported)
  func readLoops(level: InstructionSet) throws {
    let words = 4 * 4096
    let memory = UnsafeMutablePointer<UInt64>.allocate(capacity: words)
    defer { memory.deallocate() }
    var expected: UInt64 = 0
    for word in 0..<words {
      memory[word] = UInt64(word + 1) &* 0x9E37_79B9_7F4A_7C15
      expected ^= memory[word]
    }
    for streams in [1, 2, 4] {
      for prefetch in [0, 1] {
        let sum = qk_probe_read(
          level.kernelTableIdentifier, Int32(streams), Int32(prefetch), memory, words * 8)
        #expect(sum == expected, "\(streams) streams, prefetch \(prefetch)")
      }
    }
  }

  @Test("Multiply loops count what they do", arguments: InstructionSet.supported)
  func peaks(level: InstructionSet) {
    for kind in [QK_PEAK_INT8, QK_PEAK_BF16, QK_PEAK_FP32] {
      var sink = Float.nan
      let few = qk_probe_peak(level.kernelTableIdentifier, kind, 3, &sink)
      #expect(sink.isFinite)
      let many = qk_probe_peak(level.kernelTableIdentifier, kind, 30, &sink)
      #expect(few > 0 && many == 10 * few)
      #expect(sink.isFinite)
    }
  }

  @Test("Limits are positive and named", arguments: [1, 2])
  func limits(threads: Int) throws {
    let limits = try MachineLimits(pool: WorkerPool(threads: threads), bytes: 1 << 20)
    #expect(limits.rankedReadLoops.count == 12)
    #expect(Set(limits.rankedReadLoops.map(\.description)).count == 12)
    #expect(limits.readGigabytesPerSecond(milliseconds: 3) > 0)
    for peak in MachineLimits.Peak.allCases {
      #expect(limits.gigaMultiplyAddsPerSecond(peak, milliseconds: 2) > 0)
      #expect(!limits.instruction(peak).isEmpty)
    }
  }

  @Test("What cannot be measured is an error")
  func refused() {
    let pool = WorkerPool(threads: 1)
    #expect(throws: QuantError.self) { try MachineLimits(pool: pool, bytes: Int.max / 2) }
    for level in InstructionSet.allCases where !level.isSupported {
      #expect(throws: QuantError.self) {
        try MachineLimits(pool: pool, instructionSet: level, bytes: 4096)
      }
    }
  }
}
