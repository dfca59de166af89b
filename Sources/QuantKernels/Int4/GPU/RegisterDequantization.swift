import DeviceModel

/// ``HalfDequantization`` on a warp's registers: 32 lanes, each with its own word, by the same steps.
///
/// What the steps cost is declared by the kernels through ``count(_:words:order:)``.
enum RegisterDequantization {
  /// Four pairs of halves a lane.
  typealias Pairs = Registers4

  private static let magic = Lanes<UInt32>(repeating: 0x6400_6400)
  private static let sixteenth = Lanes<UInt32>(repeating: 0x2C00_2C00)
  private static let plus960 = Lanes<UInt32>(repeating: 0x6380_6380)
  private static let minus64 = Lanes<UInt32>(repeating: 0xD400_D400)

  /// Four `lop3` and a shift: low nibbles as 1024 + v, high ones as 1024 + 16v.
  @inline(__always)
  private static func peel(_ words: Lanes<UInt32>) -> Pairs {
    var out = Pairs()
    withUnsafeBytes(of: words) { from in
      withUnsafeMutableBytes(of: &out) { to in
        let from = from.assumingMemoryBound(to: UInt32.self)
        let to = to.assumingMemoryBound(to: UInt32.self)
        for lane in 0..<32 {
          let word = from[lane]
          to[lane] = word & 0x000F_000F | 0x6400_6400
          to[32 + lane] = word & 0x00F0_00F0 | 0x6400_6400
          to[64 + lane] = word >> 8 & 0x000F_000F | 0x6400_6400
          to[96 + lane] = word >> 8 & 0x00F0_00F0 | 0x6400_6400
        }
      }
    }
    return out
  }

  /// QUICK's form: every half 1024 + v.
  @inline(__always)
  static func biased(_ words: Lanes<UInt32>) -> Pairs {
    var pairs = peel(words)
    pairs.r1 = Half2.fma(pairs.r1, sixteenth, plus960)
    pairs.r3 = Half2.fma(pairs.r3, sixteenth, plus960)
    return pairs
  }

  /// AWQ's form: every half v.
  @inline(__always)
  static func normalized(_ words: Lanes<UInt32>) -> Pairs {
    var pairs = peel(words)
    pairs.r0 = Half2.subtract(pairs.r0, magic)
    pairs.r1 = Half2.fma(pairs.r1, sixteenth, minus64)
    pairs.r2 = Half2.subtract(pairs.r2, magic)
    pairs.r3 = Half2.fma(pairs.r3, sixteenth, minus64)
    return pairs
  }

  /// QUICK's last steps for a word of two n-tiles: the first two pairs are of one column, the last
  /// two of another.
  @inline(__always)
  static func quickWeights(
    _ words: Lanes<UInt32>, zeros: (Lanes<UInt32>, Lanes<UInt32>),
    scales: (Lanes<UInt32>, Lanes<UInt32>)
  ) -> Pairs {
    let pairs = biased(words)
    return Pairs(
      Half2.multiply(Half2.subtract(pairs.r0, zeros.0), scales.0),
      Half2.multiply(Half2.subtract(pairs.r1, zeros.0), scales.0),
      Half2.multiply(Half2.subtract(pairs.r2, zeros.1), scales.1),
      Half2.multiply(Half2.subtract(pairs.r3, zeros.1), scales.1))
  }

  /// AWQ's last steps for a word of eight columns: fma(v − z, s, +0).
  @inline(__always)
  static func awqWeights(_ words: Lanes<UInt32>, zeros: Pairs, scales: Pairs) -> Pairs {
    let zero = Lanes<UInt32>()
    let pairs = normalized(words)
    return Pairs(
      Half2.fma(Half2.subtract(pairs.r0, zeros.r0), scales.r0, zero),
      Half2.fma(Half2.subtract(pairs.r1, zeros.r1), scales.r1, zero),
      Half2.fma(Half2.subtract(pairs.r2, zeros.r2), scales.r2, zero),
      Half2.fma(Half2.subtract(pairs.r3, zeros.r3), scales.r3, zero))
  }

  /// Declares the instructions of `words` weight words and `zeroWords` words of zero points: 17 and
  /// 9 in AWQ's form, 15 and 7 in QUICK's. Source: AutoAWQ_kernels `dequantize.cuh`, QUICK
  /// `csrc/dequantize_quick.cuh`.
  @inline(__always)
  static func count(
    _ warp: inout Warp, words: Int, zeroWords: Int, normalizes: Bool
  ) {
    warp.count(.integer, 5 * (words + zeroWords))
    warp.count(.half2, (normalizes ? 12 : 10) * words + (normalizes ? 4 : 2) * zeroWords)
  }
}
