import CQuantKernels
import Testing

/// How many products a 16-bit lane takes before it is widened: at the bound of each kernel, and one
/// step past it, where a copy that widens later is wrong.
///
/// The lane is that of `vpmaddubsw` and `vpaddw`: pairs of products, saturated, added modulo 2¹⁶.
@Suite struct TernaryBoundsTests {
  /// Sums `steps` pairs of products of one code and one activation as such a lane does.
  private func lane(steps: Int, unsigned: Int, signed: Int) -> Int {
    var sum: Int16 = 0
    for _ in 0..<steps {
      let pair = 2 * unsigned * signed
      sum &+= Int16(clamping: pair)
    }
    return Int(sum)
  }

  /// A lane that widens after `steps` steps, against integers without a bound.
  private func isExact(steps: Int, unsigned: Int, signed: [Int]) -> Bool {
    signed.allSatisfy {
      lane(steps: steps, unsigned: unsigned, signed: $0) == steps * 2 * unsigned * $0
    }
  }

  @Test func plainCodes() {
    // 2 · 2 · −128 · 64 = −2¹⁵; one more step wraps around.
    #expect(isExact(steps: 64, unsigned: 2, signed: [-128, 127]))
    #expect(!isExact(steps: 65, unsigned: 2, signed: [-128, 127]))
    #expect(Int(QK_TERNARY_STEPS) <= 64)
    // A block of Q8_K is 64 steps of 4 columns.
    #expect(Int(QK_Q8K_COLUMNS) / 4 <= 64)
    // Both counts of steps of a vector divide a chunk.
    #expect(QK_TERNARY_STEPS % 4 == 0 && QK_TERNARY_STEPS % 5 == 0)
  }

  /// Fields 1 and 3 of a byte are multiplied four times too large, two of them a vector: 8 vectors
  /// are 16 steps.
  @Test func codesTimesFour() {
    #expect(isExact(steps: 16, unsigned: 8, signed: [-128, 127]))
    #expect(!isExact(steps: 17, unsigned: 8, signed: [-128, 127]))
  }

  /// Five-trit weights are signed and their activations unsigned, x + 128.
  @Test func unsignedActivations() {
    #expect(isExact(steps: 64, unsigned: 255, signed: [-1, 1]))
    #expect(!isExact(steps: 65, unsigned: 255, signed: [-1, 1]))
  }

  /// Lookups add one 16-bit entry a group: a pair's is at most 256, a triple's 384, a rounded pair's
  /// 128. A lane takes every second group of a chunk.
  @Test func tables() {
    func isExact(entries: Int, of value: Int) -> Bool {
      var sum: Int16 = 0
      for _ in 0..<entries { sum &+= Int16(value) }
      return Int(sum) == entries * value
    }
    let chunk = Int(QK_LOOKUP_CHUNK)
    for (value, group, most) in [(256, 2, 127), (384, 3, 85), (128, 2, 255)] {
      #expect(isExact(entries: most, of: value) && isExact(entries: most, of: -value))
      #expect(!isExact(entries: most + 1, of: value))
      #expect(chunk % group == 0 && chunk / group / 2 <= most)
    }
    // Chunks are whole units of either format.
    #expect(chunk % 8 == 0 && chunk % 24 == 0)
  }

  /// 32 bits: 2 · 128 · K below 2³¹, which the largest K that is accepted keeps, and the next does
  /// not.
  @Test func wholeRows() {
    let most = Int(QK_TERNARY_MAX_COLUMNS)
    #expect(2 * 128 * most <= Int(Int32.max))
    #expect(2 * 128 * (most + 1) > Int(Int32.max))
  }

  /// The published kernel's fault (microsoft/BitNet issue 629): 32 blocks of 4 pairs a lane without
  /// widening are wrong from activations of 64 on at K = 4096.
  @Test func thirtyTwoBlocksOverflow() {
    #expect(isExact(steps: 4 * 32, unsigned: 2, signed: [63]))
    #expect(!isExact(steps: 4 * 32, unsigned: 2, signed: [64]))
    // K = 2560 has 20 blocks: right up to 102, wrong at 103.
    #expect(isExact(steps: 4 * 20, unsigned: 2, signed: [102]))
    #expect(!isExact(steps: 4 * 20, unsigned: 2, signed: [103]))
  }
}
