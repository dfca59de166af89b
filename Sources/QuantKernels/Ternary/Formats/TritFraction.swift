/// Five trits in a byte as a fixed-point fraction, as ggml's TQ1_0 and ik_llama.cpp's IQ1_BN store
/// them: a number v in 0…242 becomes b = ⌈256 · v / 243⌉.
///
/// b / 256 is a little above v / 243, so that multiplying b by a power of three modulo 256 drops
/// leading base-3 digits and the next one is the integer part of three times the rest: no division.
/// All 256 bytes decode to trits; the 13 that no v gives decode too, and are refused where bytes must
/// be a quantizer's own.
enum TritFraction {
  /// 1, 3, 9, 27, 81.
  static let powers: [UInt8] = [1, 3, 9, 27, 81]

  /// ⌈256 · v / 243⌉.
  static func byte(_ value: Int) -> UInt8 { UInt8(truncatingIfNeeded: (value * 256 + 242) / 243) }

  /// v, for bytes that ``byte(_:)`` gives.
  static func value(_ byte: UInt8) -> Int { (Int(byte) * 243) >> 8 }

  /// Whether ``byte(_:)`` gives it.
  static func isCanonical(_ byte: UInt8) -> Bool { byte &* 243 <= 242 }

  /// The digit behind the leading ones that `power` = 3ⁿ drops.
  @inline(__always)
  static func trit(_ byte: UInt8, droppingBy power: UInt8) -> UInt8 {
    UInt8(truncatingIfNeeded: (UInt16(byte &* power) * 3) >> 8)
  }
}
