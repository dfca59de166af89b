/// The fast 4-bit to binary16 conversions of GPU kernels, on bits: what a lane's registers hold
/// after each step.
///
/// A word's nibbles 0…7 hold logical halves e0 e2 e4 e6 e1 e3 e5 e7. Masks 0x000f000f and
/// 0x00f000f0 and a shift by 8 peel off pairs, and or-ing 0x6400, the binary16 1024, makes halves
/// of them without a conversion: 1024 + v from a low nibble, 1024 + 16v from a high one.
///
/// AWQ normalizes both to v. QUICK leaves the low ones biased and maps the high ones to 1024 + v
/// too; as zero points go the same way, (1024 + q) − (1024 + z) = q − z, exact because binary16
/// holds all integers to 2048.
///
/// Source: SqueezeBits/QUICK `csrc/dequantize_quick.cuh`; Kim et al., "Who Says Elephants Can't
/// Run" (2211.10017), for the idea of the biased exponent.
public enum HalfDequantization {
  /// Logical halves e0…e7 as 1024 + v, QUICK's form.
  public static func biased(_ word: UInt32) -> SIMD8<UInt16> {
    // fma(x, 1/16, 960): (1024 + 16v)/16 + 960 = 1024 + v.
    peel(word, low: { $0 }, high: { fusedMultiplyAdd($0, 0x2C00, 0x6380) })
  }

  /// Logical halves e0…e7 as v, AWQ's form.
  public static func normalized(_ word: UInt32) -> SIMD8<UInt16> {
    // x − 1024, and fma(x, 1/16, −64): (1024 + 16v)/16 − 64 = v.
    peel(word, low: { subtract($0, 0x6400) }, high: { fusedMultiplyAdd($0, 0x2C00, 0xD400) })
  }

  /// (x − zero) · scale in binary16, QUICK's last steps: the difference exact, the product rounded
  /// once.
  public static func quickValue(_ x: UInt16, zero: UInt16, scale: UInt16) -> UInt16 {
    multiply(subtract(x, zero), scale)
  }

  /// fma(x − zero, scale, +0) in binary16, AWQ's last steps: QUICK's value but that a zero is
  /// always +0.
  public static func awqValue(_ x: UInt16, zero: UInt16, scale: UInt16) -> UInt16 {
    fusedMultiplyAdd(subtract(x, zero), scale, 0)
  }

  private static func peel(
    _ word: UInt32, low: (UInt16) -> UInt16, high: (UInt16) -> UInt16
  ) -> SIMD8<UInt16> {
    var halves = SIMD8<UInt16>(repeating: 0)
    for pair in 0..<4 {
      let shifted = word >> UInt32(pair / 2 * 8)
      let isHigh = pair % 2 == 1
      let peeled = shifted & (isHigh ? 0x00F0_00F0 : 0x000F_000F) | 0x6400_6400
      for half in 0..<2 {
        let bits = UInt16(truncatingIfNeeded: peeled >> UInt32(16 * half))
        halves[2 * pair + half] = isHigh ? high(bits) : low(bits)
      }
    }
    return halves
  }

  // float32 has more than twice binary16's precision plus two bits, so a sum or product rounded to
  // float32 first and binary16 then is rounded correctly.

  /// a − b in binary16.
  public static func subtract(_ a: UInt16, _ b: UInt16) -> UInt16 {
    HalfPrecision.half(HalfPrecision.float(fromHalf: a) - HalfPrecision.float(fromHalf: b))
  }

  /// a · b in binary16.
  public static func multiply(_ a: UInt16, _ b: UInt16) -> UInt16 {
    HalfPrecision.half(HalfPrecision.float(fromHalf: a) * HalfPrecision.float(fromHalf: b))
  }

  /// a · b + c in binary16, rounded once.
  ///
  /// The product (22 bits) is exact in float64. The sum is too, unless the product is some 2³⁷
  /// times smaller than `c`, when the result is `c` either way. Float32 then keeps its last bit odd
  /// if anything was cut off, so that the rounding to binary16 is the only one.
  public static func fusedMultiplyAdd(_ a: UInt16, _ b: UInt16, _ c: UInt16) -> UInt16 {
    let product =
      Double(HalfPrecision.float(fromHalf: a)) * Double(HalfPrecision.float(fromHalf: b))
    let sum = product + Double(HalfPrecision.float(fromHalf: c))
    let nearest = Float(sum)
    guard nearest.isFinite, Double(nearest) != sum else { return HalfPrecision.half(nearest) }
    let outward = Double(nearest).magnitude > sum.magnitude
    let truncated = outward ? nearest.bitPattern - 1 : nearest.bitPattern
    return HalfPrecision.half(Float(bitPattern: truncated | 1))
  }
}
