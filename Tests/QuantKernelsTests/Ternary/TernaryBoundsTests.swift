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
