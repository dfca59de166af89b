import DeviceModel

/// Arithmetic on the lanes of a simulated warp as loops over memory, which the compiler vectorizes;
/// its operators on `SIMD32` work element by element and are some thirty times slower.
extension SIMD32 where Scalar == UInt32 {
  /// `body` of each lane's word.
  @inline(__always)
  func mapWords(_ body: (UInt32) -> UInt32) -> Self {
    var out = Self()
    withUnsafeBytes(of: self) { from in
      withUnsafeMutableBytes(of: &out) { to in
        let from = from.assumingMemoryBound(to: UInt32.self)
        let to = to.assumingMemoryBound(to: UInt32.self)
        for lane in 0..<32 { to[lane] = body(from[lane]) }
      }
    }
    return out
  }

  /// Each lane's address, `bytes` further on.
  func moved(by bytes: Int) -> Self {
    let step = UInt32(truncatingIfNeeded: bytes)
    return mapWords { $0 &+ step }
  }

  /// The same bits as floats.
  var asFloats: SIMD32<Float> { unsafeBitCast(self, to: SIMD32<Float>.self) }
}

extension SIMD32 where Scalar == Float {
  /// Lane by lane, rounded once.
  func plus(_ other: Self) -> Self {
    var out = Self()
    withUnsafeBytes(of: self) { a in
      withUnsafeBytes(of: other) { b in
        withUnsafeMutableBytes(of: &out) { to in
          let a = a.assumingMemoryBound(to: Float.self)
          let b = b.assumingMemoryBound(to: Float.self)
          let to = to.assumingMemoryBound(to: Float.self)
          for lane in 0..<32 { to[lane] = a[lane] + b[lane] }
        }
      }
    }
    return out
  }

  /// The same bits as words.
  var asWords: SIMD32<UInt32> { unsafeBitCast(self, to: SIMD32<UInt32>.self) }
}
