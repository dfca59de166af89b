import CDeviceModel

/// The same arithmetic on two and four registers at once, for one call where a kernel repeats an
/// instruction register by register.
extension Half2 {
  /// a − b, register by register.
  public static func subtract(_ a: Registers4, _ b: Registers4) -> Registers4 {
    unsafe apply(a, b) { unsafe cdm_half2_subtract($0, $1, $2, $3) }
  }

  /// a − b, register by register.
  public static func subtract(_ a: Registers2, _ b: Registers2) -> Registers2 {
    unsafe apply(a, b) { unsafe cdm_half2_subtract($0, $1, $2, $3) }
  }

  /// a · b, register by register.
  public static func multiply(_ a: Registers4, _ b: Registers4) -> Registers4 {
    unsafe apply(a, b) { unsafe cdm_half2_multiply($0, $1, $2, $3) }
  }

  /// a · b + c, fused, register by register.
  public static func fma(_ a: Registers4, _ b: Registers4, _ c: Registers4) -> Registers4 {
    unsafe withUnsafeBytes(of: c) { c in
      let third = unsafe c.baseAddress?.assumingMemoryBound(to: UInt32.self)
      return unsafe apply(a, b) { unsafe cdm_half2_fma($0, $1, third, $2, $3) }
    }
  }

  /// a · b + c, fused, register by register.
  public static func fma(_ a: Registers2, _ b: Registers2, _ c: Registers2) -> Registers2 {
    unsafe withUnsafeBytes(of: c) { c in
      let third = unsafe c.baseAddress?.assumingMemoryBound(to: UInt32.self)
      return unsafe apply(a, b) { unsafe cdm_half2_fma($0, $1, third, $2, $3) }
    }
  }

  @inline(__always)
  private static func apply<R: LaneRegisters>(
    _ a: R, _ b: R,
    _ body: (
      UnsafePointer<UInt32>?, UnsafePointer<UInt32>?, UnsafeMutablePointer<UInt32>?, Int
    ) -> Void
  ) -> R {
    var out = R()
    unsafe withUnsafeBytes(of: a) { a in
      unsafe withUnsafeBytes(of: b) { b in
        unsafe withUnsafeMutableBytes(of: &out) { out in
          unsafe body(
            a.baseAddress?.assumingMemoryBound(to: UInt32.self),
            b.baseAddress?.assumingMemoryBound(to: UInt32.self),
            out.baseAddress?.assumingMemoryBound(to: UInt32.self), 8 * R.bytesPerLane)
        }
      }
    }
    return out
  }
}
