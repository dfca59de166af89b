import CDeviceModel

/// Arithmetic on pairs of binary16, one pair a lane, each operation rounded once to nearest even; NaN
/// results are 0x7FFF. Pure: what a kernel does with it, it counts itself.
public enum Half2 {
  /// a + b.
  public static func add(_ a: Lanes<UInt32>, _ b: Lanes<UInt32>) -> Lanes<UInt32> {
    unsafe apply(a, b) { unsafe cdm_half2_add($0, $1, $2, 32) }
  }

  /// a − b.
  public static func subtract(_ a: Lanes<UInt32>, _ b: Lanes<UInt32>) -> Lanes<UInt32> {
    unsafe apply(a, b) { unsafe cdm_half2_subtract($0, $1, $2, 32) }
  }

  /// a · b.
  public static func multiply(_ a: Lanes<UInt32>, _ b: Lanes<UInt32>) -> Lanes<UInt32> {
    unsafe apply(a, b) { unsafe cdm_half2_multiply($0, $1, $2, 32) }
  }

  /// a · b + c, fused.
  public static func fma(
    _ a: Lanes<UInt32>, _ b: Lanes<UInt32>, _ c: Lanes<UInt32>
  ) -> Lanes<UInt32> {
    unsafe withUnsafeBytes(of: c) { c in
      let third = unsafe c.baseAddress?.assumingMemoryBound(to: UInt32.self)
      return unsafe apply(a, b) { unsafe cdm_half2_fma($0, $1, third, $2, 32) }
    }
  }

  /// Two floats to a pair, `low` in the lower half.
  public static func pack(low: Lanes<Float>, high: Lanes<Float>) -> Lanes<UInt32> {
    var out = Lanes<UInt32>()
    unsafe withUnsafeBytes(of: low) { low in
      unsafe withUnsafeBytes(of: high) { high in
        unsafe withUnsafeMutableBytes(of: &out) { out in
          unsafe cdm_half2_from_floats(
            low.baseAddress?.assumingMemoryBound(to: Float.self),
            high.baseAddress?.assumingMemoryBound(to: Float.self),
            out.baseAddress?.assumingMemoryBound(to: UInt32.self), 32)
        }
      }
    }
    return out
  }

  /// A pair's two halves as floats, exactly.
  public static func unpack(_ pairs: Lanes<UInt32>) -> (low: Lanes<Float>, high: Lanes<Float>) {
    var low = Lanes<Float>()
    var high = Lanes<Float>()
    unsafe withUnsafeBytes(of: pairs) { pairs in
      unsafe withUnsafeMutableBytes(of: &low) { low in
        unsafe withUnsafeMutableBytes(of: &high) { high in
          unsafe cdm_floats_from_half2(
            pairs.baseAddress?.assumingMemoryBound(to: UInt32.self),
            low.baseAddress?.assumingMemoryBound(to: Float.self),
            high.baseAddress?.assumingMemoryBound(to: Float.self), 32)
        }
      }
    }
    return (low, high)
  }

  /// `dp4a`: four signed bytes of a by four of b, added to c, wrapping.
  public static func dp4a(
    _ a: Lanes<UInt32>, _ b: Lanes<UInt32>, _ c: Lanes<Int32>
  ) -> Lanes<Int32> {
    var sum = c
    unsafe withUnsafeBytes(of: a) { a in
      unsafe withUnsafeBytes(of: b) { b in
        unsafe withUnsafeMutableBytes(of: &sum) { sum in
          unsafe cdm_dp4a(
            a.baseAddress?.assumingMemoryBound(to: UInt32.self),
            b.baseAddress?.assumingMemoryBound(to: UInt32.self),
            sum.baseAddress?.assumingMemoryBound(to: Int32.self), 32)
        }
      }
    }
    return sum
  }

  private static func apply(
    _ a: Lanes<UInt32>, _ b: Lanes<UInt32>,
    _ body: (UnsafePointer<UInt32>?, UnsafePointer<UInt32>?, UnsafeMutablePointer<UInt32>?) -> Void
  ) -> Lanes<UInt32> {
    var out = Lanes<UInt32>()
    unsafe withUnsafeBytes(of: a) { a in
      unsafe withUnsafeBytes(of: b) { b in
        unsafe withUnsafeMutableBytes(of: &out) { out in
          unsafe body(
            a.baseAddress?.assumingMemoryBound(to: UInt32.self),
            b.baseAddress?.assumingMemoryBound(to: UInt32.self),
            out.baseAddress?.assumingMemoryBound(to: UInt32.self))
        }
      }
    }
    return out
  }
}
