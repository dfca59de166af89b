import DeviceModel

/// Arithmetic of attention kernels on the lanes of a warp, as loops over memory.
enum LaneMath {
  /// 2^x as a GPU's special-function unit is documented to give it: within 2 units of the last place,
  /// results below 2⁻¹²⁶ flushed to 0.
  ///
  /// x = n + f with |f| ≤ ½; the series of 2^f to f⁷ is off by (½·ln 2)⁸/8! = 5·10⁻⁹ at most, the
  /// rest is rounding.
  @inline(__always)
  static func exp2(_ x: Float) -> Float {
    // Comparisons with NaN are false and let it through.
    let high = x > 128 ? 128 : x
    let inside = high < -127 ? -127 : high
    // Adding 1.5·2²³ rounds to a whole number, which the low bits then are.
    let shifted = inside + 12_582_912
    let f = inside - (shifted - 12_582_912)
    var series: Float = 1.525_273_4e-5
    series = series * f + 1.540_353_0e-4
    series = series * f + 1.333_355_8e-3
    series = series * f + 9.618_129_1e-3
    series = series * f + 5.550_410_9e-2
    series = series * f + 2.402_265_1e-1
    series = series * f + 6.931_471_8e-1
    series = series * f + 1
    let exponent = Int32(bitPattern: shifted.bitPattern) &- 0x4B40_0000 &+ 127
    return series * Float(bitPattern: UInt32(bitPattern: exponent << 23))
  }

  /// `body` of each lane's pair of values.
  @inline(__always)
  static func zip(
    _ a: Lanes<Float>, _ b: Lanes<Float>, _ body: (Float, Float) -> Float
  ) -> Lanes<Float> {
    var out = Lanes<Float>()
    withUnsafeBytes(of: a) { a in
      withUnsafeBytes(of: b) { b in
        withUnsafeMutableBytes(of: &out) { to in
          let a = a.assumingMemoryBound(to: Float.self)
          let b = b.assumingMemoryBound(to: Float.self)
          let to = to.assumingMemoryBound(to: Float.self)
          for lane in 0..<32 { to[lane] = body(a[lane], b[lane]) }
        }
      }
    }
    return out
  }

  /// The larger; a NaN is ignored where there is a number, as the instruction does.
  @inline(__always)
  static func larger(_ a: Float, _ b: Float) -> Float { b > a || a.isNaN ? b : a }

  /// Gathers a row's values over lanes at these distances.
  static func reduce(
    _ value: Lanes<Float>, over distances: [Int], _ warp: inout Warp,
    _ body: (Float, Float) -> Float
  ) -> Lanes<Float> {
    var value = value
    for distance in distances {
      let other = warp.shuffle(value.asWords, xor: distance).asFloats
      value = zip(value, other, body)
      warp.count(.float, 1)
    }
    return value
  }

  /// Whether a half of any lane is infinite or NaN.
  static func hasNonFinite(_ words: Registers4) -> Bool {
    var found = false
    for register in 0..<4 {
      let word = words[register]
      for lane in 0..<32 {
        let bits = word[lane]
        found = found || bits & 0x7C00 == 0x7C00 || bits & 0x7C00_0000 == 0x7C00_0000
      }
    }
    return found
  }

  /// The words with 0 for what is not finite, and ones where that was.
  static func split(_ words: Registers4) -> (finite: Registers4, marks: Registers4) {
    var finite = words
    var marks = Registers4()
    for register in 0..<4 {
      for (exponent, one) in [(UInt32(0x7C00), UInt32(0x3C00)), (0x7C00_0000, 0x3C00_0000)] {
        for lane in 0..<32 where finite[register][lane] & exponent == exponent {
          finite[register][lane] &= one > 0xFFFF ? 0xFFFF : 0xFFFF_0000
          marks[register][lane] |= one
        }
      }
    }
    return (finite, marks)
  }
}
