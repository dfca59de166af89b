import QuantKernels
import Testing

@Suite struct HalfPrecisionTests {
  /// A half's value from its definition, in float64.
  private static func value(_ half: UInt16) -> Double {
    let sign: Double = half & 0x8000 == 0 ? 1 : -1
    let exponent = Int(half >> 10 & 31)
    let fraction = Double(half & 1023)
    if exponent == 31 { return fraction == 0 ? sign * .infinity : .nan }
    if exponent == 0 { return sign * fraction * 0x1p-24 }
    return sign * (1024 + fraction) * Double(sign: .plus, exponent: exponent - 25, significand: 1)
  }

  @Test func everyHalfConvertsExactlyAndBack() {
    var wrong = 0
    for half in UInt16.min...UInt16.max {
      let float = HalfPrecision.float(fromHalf: half)
      let wanted = Self.value(half)
      if wanted.isNaN {
        if !float.isNaN || HalfPrecision.half(float) | 0x200 != half | 0x200 { wrong += 1 }
      } else {
        if Double(float) != wanted || (float.sign == .minus) != (half >= 0x8000) { wrong += 1 }
        if HalfPrecision.half(float) != half { wrong += 1 }
      }
      if HalfPrecision.isFinite(half: half) != wanted.isFinite { wrong += 1 }
    }
    #expect(wrong == 0)
  }

  /// Between each two neighboring halves: the midpoint goes to the even one, the floats beside it
  /// to the nearer one.
  @Test func roundsToNearestEven() {
    var wrong = 0
    for half in UInt16(0)..<0x7C00 {
      let low = HalfPrecision.float(fromHalf: half)
      // Above the largest half the next step would be 65536.
      let high: Float = half == 0x7BFF ? 65536 : HalfPrecision.float(fromHalf: half + 1)
      let middle = low + (high - low) / 2
      let even = half & 1 == 0 ? half : half + 1
      if HalfPrecision.half(middle) != even { wrong += 1 }
      if HalfPrecision.half(middle.nextDown) != half { wrong += 1 }
      if HalfPrecision.half(middle.nextUp) != half + 1 { wrong += 1 }
      if HalfPrecision.half(-middle) != even | 0x8000 { wrong += 1 }
    }
    #expect(wrong == 0)
    for value: Float in [65520, 1e6, .greatestFiniteMagnitude, .infinity] {
      #expect(HalfPrecision.half(value) == 0x7C00 && HalfPrecision.half(-value) == 0xFC00)
    }
    #expect(HalfPrecision.half(.leastNonzeroMagnitude) == 0)
    #expect(HalfPrecision.half(-.leastNonzeroMagnitude) == 0x8000)
    #expect(HalfPrecision.float(fromHalf: HalfPrecision.half(.nan)).isNaN)
    #expect(HalfPrecision.float(fromHalf: HalfPrecision.half(.signalingNaN)).isNaN)
  }

  @Test func brainRoundsToNearestEven() {
    var wrong = 0
    for brain in UInt16.min...UInt16.max {
      let float = HalfPrecision.float(fromBrain: brain)
      if float.isNaN {
        if HalfPrecision.brain(float) | 0x40 != brain | 0x40 { wrong += 1 }
        continue
      }
      if HalfPrecision.brain(float) != brain { wrong += 1 }
      guard float.isFinite else { continue }
      let bits = float.bitPattern
      let even = brain & 1 == 0 ? brain : brain + 1
      if HalfPrecision.brain(Float(bitPattern: bits + 0x8000)) != even { wrong += 1 }
      if HalfPrecision.brain(Float(bitPattern: bits + 0x7FFF)) != brain { wrong += 1 }
      if HalfPrecision.brain(Float(bitPattern: bits + 0x8001)) != brain + 1 { wrong += 1 }
    }
    #expect(wrong == 0)
    #expect(HalfPrecision.float(fromBrain: HalfPrecision.brain(.nan)).isNaN)
    #expect(
      HalfPrecision.float(fromBrain: HalfPrecision.brain(Float(bitPattern: 0x7F80_0001))).isNaN)
  }
}
