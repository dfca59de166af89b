/// Looks whole buffers over for bytes that a format does not have, at the speed of memory: loops
/// without an early exit, which the compiler makes vector code of. Whoever finds damage searches its
/// place afterwards.
enum ByteScan {
  /// The largest byte; 0 when there is none.
  static func maximum(_ bytes: UnsafeRawBufferPointer) -> UInt8 {
    maximum(bytes) { $0 }
  }

  static func maximum(_ bytes: [UInt8]) -> UInt8 {
    bytes.withUnsafeBytes { maximum($0) }
  }

  /// Whether one of the four 2-bit fields of a byte is 3.
  static func hasThree(_ bytes: UnsafeRawBufferPointer) -> Bool {
    // A field's upper bit AND its lower one.
    any(bytes) { $0 & $0 >> 1 & 0x55 }
  }

  /// Whether a half byte exceeds `limit`, which is less than 15.
  static func hasNibble(above limit: UInt8, _ bytes: UnsafeRawBufferPointer) -> Bool {
    // The sum carries into bit 4 exactly then.
    let carry = 15 - limit
    return any(bytes) { ((($0 & 15) &+ carry) | (($0 >> 4) &+ carry)) & 16 }
  }

  /// Whether a byte holds five trits as ⌈256 · v / 243⌉ of no v.
  ///
  /// b is ⌈256 · v / 243⌉ for v = ⌊243 · b / 256⌋ exactly when 243 · b leaves less than 243 over.
  static func hasNonCanonicalFraction(_ bytes: UnsafeRawBufferPointer) -> Bool {
    maximum(bytes) { $0 &* 243 } > 242
  }

  /// The place of the first byte that `isBad`, for an error's text.
  static func first(
    in bytes: UnsafeRawBufferPointer, where isBad: (UInt8) -> Bool
  ) -> (index: Int, byte: UInt8)? {
    for (index, byte) in bytes.enumerated() where isBad(byte) { return (index, byte) }
    return nil
  }

  @inline(__always)
  private static func any(_ bytes: UnsafeRawBufferPointer, _ flag: (UInt8) -> UInt8) -> Bool {
    var flags: UInt8 = 0
    for byte in bytes { flags |= flag(byte) }
    return flags != 0
  }

  @inline(__always)
  private static func maximum(
    _ bytes: UnsafeRawBufferPointer, _ key: (UInt8) -> UInt8
  ) -> UInt8 {
    var largest: UInt8 = 0
    for byte in bytes { largest = max(largest, key(byte)) }
    return largest
  }
}
