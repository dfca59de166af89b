import QuantKernels
import TestSupport
import Testing

@Suite struct HalfDequantizationTests {
  private static func half(_ value: Float) -> UInt16 { HalfPrecision.half(value) }

  /// Logical half i of a word stands in nibble i / 2 + 4 · (i mod 2).
  private static func nibble(_ word: UInt32, _ i: Int) -> Float {
    Float(word >> UInt32(4 * (i / 2 + 4 * (i % 2))) & 15)
  }

  @Test func wordsPeelIntoTheirNibbles() {
    var random = RepeatableRandom(seed: 1)
    for _ in 0..<500 {
      let word = UInt32.random(in: 0...UInt32.max, using: &random)
      let biased = HalfDequantization.biased(word)
      let normalized = HalfDequantization.normalized(word)
      for i in 0..<8 {
        #expect(biased[i] == Self.half(1024 + Self.nibble(word, i)))
        #expect(normalized[i] == Self.half(Self.nibble(word, i)))
      }
    }
  }

  /// All codes, zero points and telling scales: (q − z) · s rounded once, and QUICK's and AWQ's
  /// forms agree bit for bit but for the sign of a zero, which AWQ's added +0 clears.
  @Test func fastFormsAreTheExactValue() {
    let scales: [UInt16] = [
      0x0001, 0x0003, 0x03FF, 0x0400, 0x0401, 0x1234, 0x2E66, 0x3555, 0x3C00, 0x5BFF, 0x6BFF,
      0x7800, 0x7BFF, 0x7C00, 0x7E00, 0x7DAB, 0x0000, 0x8000, 0x8001, 0x83FF, 0xB555, 0xFBFF,
      0xFC00, 0xFE00,
    ]
    var wrong = 0
    for q in 0..<16 {
      for z in 0..<16 {
        let code = HalfDequantization.biased(UInt32(q) * 0x1111_1111)
        let zero = HalfDequantization.biased(UInt32(z) * 0x1111_1111)
        let plainCode = HalfDequantization.normalized(UInt32(q) * 0x1111_1111)
        let plainZero = HalfDequantization.normalized(UInt32(z) * 0x1111_1111)
        for i in 0..<8 {
          // The difference is exact in both forms, and +0 when q = z.
          let difference = HalfDequantization.subtract(code[i], zero[i])
          if difference != Self.half(Float(q - z)) { wrong += 1 }
          if HalfDequantization.subtract(plainCode[i], plainZero[i]) != difference { wrong += 1 }
        }
        for scale in scales {
          let quick = HalfDequantization.quickValue(code[0], zero: zero[0], scale: scale)
          let quickPlain = HalfDequantization.quickValue(
            plainCode[1], zero: plainZero[1], scale: scale)
          let awq = HalfDequantization.awqValue(plainCode[0], zero: plainZero[0], scale: scale)
          // At most 15 steps of 11 bits: the product is exact in float32.
          let wanted = Self.half(Float(q - z) * HalfPrecision.float(fromHalf: scale))
          let isNaN = HalfPrecision.float(fromHalf: wanted).isNaN
          if isNaN {
            for value in [quick, quickPlain, awq]
            where !HalfPrecision.float(fromHalf: value).isNaN { wrong += 1 }
          } else {
            if quick != wanted || quickPlain != wanted { wrong += 1 }
            if awq != (wanted == 0x8000 ? 0 : wanted) { wrong += 1 }
          }
        }
      }
    }
    #expect(wrong == 0)
  }

  #if !(os(macOS) && arch(x86_64))
    /// The software operations against the compiler's own binary16.
    @Test func operationsRoundOnce() {
      var random = RepeatableRandom(seed: 3)
      func same(_ bits: UInt16, _ wanted: Float16) -> Bool {
        wanted.isNaN ? HalfPrecision.float(fromHalf: bits).isNaN : bits == wanted.bitPattern
      }
      var wrong = 0
      for _ in 0..<20_000 {
        let bits = (0..<3).map { _ in UInt16.random(in: 0...UInt16.max, using: &random) }
        let (a, b) = (Float16(bitPattern: bits[0]), Float16(bitPattern: bits[1]))
        if !same(HalfDequantization.subtract(bits[0], bits[1]), a - b) { wrong += 1 }
        if !same(HalfDequantization.multiply(bits[0], bits[1]), a * b) { wrong += 1 }
      }
      #expect(wrong == 0)
    }
  #endif

  /// A fused product-sum against exact integers: halves are multiples of 2⁻²⁴, products of 2⁻⁴⁸.
  @Test func fusedMultiplyAddRoundsOnce() {
    var random = RepeatableRandom(seed: 4)
    func units(_ bits: UInt16) -> Int { Int(HalfPrecision.float(fromHalf: bits) * 0x1p24) }
    var wrong = 0
    for _ in 0..<20_000 {
      // Exponents kept where the sum in units of 2⁻⁴⁸ fits an Int.
      let a =
        UInt16.random(in: 0...0x3BFF, using: &random) | UInt16.random(in: 0...1, using: &random)
        << 15
      let b = UInt16.random(in: 0...0x3BFF, using: &random)
      let c =
        UInt16.random(in: 0...0x43FF, using: &random) | UInt16.random(in: 0...1, using: &random)
        << 15
      let exact = units(a) * units(b) + units(c) << 24
      let result = HalfDequantization.fusedMultiplyAdd(a, b, c)
      let found = units(result) << 24
      // No neighbor of the result is nearer, and on a tie the result is even.
      for neighbor in [result &- 1, result &+ 1] where neighbor & 0x7FFF < 0x7C00 {
        guard neighbor >> 15 == result >> 15 else { continue }
        let other = units(neighbor) << 24
        let (mine, its) = ((found - exact).magnitude, (other - exact).magnitude)
        if its < mine || (its == mine && result & 1 == 1) { wrong += 1 }
      }
    }
    #expect(wrong == 0)
  }
}
