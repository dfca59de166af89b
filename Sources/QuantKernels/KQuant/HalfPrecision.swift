/// Conversions between float32 and the two 16-bit formats, as bits.
///
/// Swift's `Float16` is not available on every platform this package builds on, and its software
/// conversion is slow on those without the instruction; these are exact integer forms.
public enum HalfPrecision {
  /// The float32 of an IEEE 754 binary16; exact, subnormals, infinities and NaN payloads included.
  @inlinable
  public static func float(fromHalf half: UInt16) -> Float {
    let sign = UInt32(half & 0x8000) << 16
    let magnitude = UInt32(half & 0x7FFF)
    if magnitude >= 0x7C00 {  // infinity or NaN: the exponent field is all ones in both formats
      return Float(bitPattern: sign | 0x7F80_0000 | (magnitude & 0x3FF) << 13)
    }
    if magnitude < 0x0400 {  // zero or subnormal: a multiple of 2⁻²⁴
      return Float(bitPattern: sign | (Float(magnitude) * 0x1p-24).bitPattern)
    }
    // Rebias the exponent by 127 − 15.
    return Float(bitPattern: sign | (magnitude << 13 + 112 << 23))
  }

  /// The binary16 nearest to a float32, ties to even; beyond ±65520 infinity, NaN stays NaN (made
  /// quiet).
  @inlinable
  public static func half(_ value: Float) -> UInt16 {
    let bits = value.bitPattern
    let sign = UInt16(truncatingIfNeeded: bits >> 16) & 0x8000
    let magnitude = bits & 0x7FFF_FFFF
    if magnitude > 0x7F80_0000 {
      return sign | 0x7E00 | UInt16(truncatingIfNeeded: magnitude >> 13) & 0x3FF
    }
    if magnitude >= 0x4780_0000 { return sign | 0x7C00 }  // 2¹⁶ and above
    // 2⁻¹⁴ and above: round the 13 bits that go; a carry may give infinity.
    if magnitude >= 0x3880_0000 {
      let rebased = magnitude - 112 << 23
      return sign | UInt16(truncatingIfNeeded: (rebased + 0xFFF + (rebased >> 13) & 1) >> 13)
    }
    // Below the normals the unit is 2⁻²⁴, which is the spacing of floats in [0.5, 1): adding 0.5
    // rounds.
    let rounded = Float(bitPattern: magnitude) + 0.5
    return sign | UInt16(truncatingIfNeeded: rounded.bitPattern - 0x3F00_0000)
  }

  /// The float32 of a bfloat16; exact.
  @inlinable
  public static func float(fromBrain brain: UInt16) -> Float {
    Float(bitPattern: UInt32(brain) << 16)
  }

  /// The bfloat16 nearest to a float32, ties to even; NaN stays NaN (made quiet).
  @inlinable
  public static func brain(_ value: Float) -> UInt16 {
    let bits = value.bitPattern
    if bits & 0x7FFF_FFFF > 0x7F80_0000 { return UInt16(truncatingIfNeeded: bits >> 16) | 0x40 }
    return UInt16(truncatingIfNeeded: (bits &+ 0x7FFF &+ (bits >> 16) & 1) >> 16)
  }

  /// Whether a binary16 is neither infinite nor NaN.
  @inlinable
  public static func isFinite(half: UInt16) -> Bool { half & 0x7C00 != 0x7C00 }
}
