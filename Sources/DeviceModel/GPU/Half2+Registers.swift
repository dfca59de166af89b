import CDeviceModel

/// The same arithmetic on four registers at once and in place, for one call and no copies where a
/// kernel repeats an instruction register by register.
extension Half2 {
  /// a − b into a, register by register.
  public static func subtract(_ b: Registers4, from a: inout Registers4) {
    unsafe apply(&a, b) { unsafe cdm_half2_subtract($0, $1, $2, $3) }
  }

  /// (a − b) · c into a, rounded after each of the two, register by register.
  public static func subtract(
    _ b: Registers4, from a: inout Registers4, thenMultiplyBy c: Registers4
  ) {
    unsafe withUnsafeBytes(of: c) { c in
      let third = unsafe c.baseAddress?.assumingMemoryBound(to: UInt32.self)
      unsafe apply(&a, b) { unsafe cdm_half2_subtract_multiply($0, $1, third, $2, $3) }
    }
  }

  /// a · b + c into a, fused, register by register.
  public static func fma(_ a: inout Registers4, _ b: Registers4, _ c: Registers4) {
    unsafe withUnsafeBytes(of: c) { c in
      let third = unsafe c.baseAddress?.assumingMemoryBound(to: UInt32.self)
      unsafe apply(&a, b) { unsafe cdm_half2_fma($0, $1, third, $2, $3) }
    }
  }

  // Each function reads eight halves of both operands before it writes them, so that the result may
  // stand where an operand stood.
  @inline(__always)
  private static func apply(
    _ a: inout Registers4, _ b: Registers4,
    _ body: (
      UnsafePointer<UInt32>?, UnsafePointer<UInt32>?, UnsafeMutablePointer<UInt32>?, Int
    ) -> Void
  ) {
    unsafe withUnsafeBytes(of: b) { b in
      unsafe withUnsafeMutableBytes(of: &a) { a in
        let words = unsafe a.baseAddress?.assumingMemoryBound(to: UInt32.self)
        unsafe body(
          UnsafePointer(words), b.baseAddress?.assumingMemoryBound(to: UInt32.self), words,
          128)
      }
    }
  }
}
