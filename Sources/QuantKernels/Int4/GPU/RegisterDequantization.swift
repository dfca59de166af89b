import DeviceModel

/// ``HalfDequantization`` on a warp's registers: 32 lanes, each with its own word, by the same steps.
///
/// What the steps cost is declared by the kernels through ``count(_:words:zeroWords:normalizes:)``.
enum RegisterDequantization {
  /// The four pairs of halves that a word peels into, those of low nibbles first: logical pairs e0e1,
  /// e4e5, e2e3, e6e7. For QUICK's words the first and third are one n-tile's operand, the second
  /// and fourth the next one's.
  typealias Pairs = Registers4

  private static let magic = pair(0x6400_6400)
  private static let sixteenth = pair(0x2C00_2C00)
  private static let plus960 = pair(0x6380_6380)
  private static let minus64 = pair(0xD400_D400)

  private static let none = Pairs()

  private static func pair(_ bits: UInt32) -> Registers2 {
    Registers2(Lanes(repeating: bits), Lanes(repeating: bits))
  }

  /// Four `lop3` and a shift: low nibbles as 1024 + v, high ones as 1024 + 16v.
  @inline(__always)
  private static func peel(_ words: Lanes<UInt32>) -> (low: Registers2, high: Registers2) {
    var low = Registers2()
    var high = Registers2()
    withUnsafeBytes(of: words) { words in
      withUnsafeMutableBytes(of: &low) { low in
        withUnsafeMutableBytes(of: &high) { high in
          let words = words.assumingMemoryBound(to: UInt32.self)
          let low = low.assumingMemoryBound(to: UInt32.self)
          let high = high.assumingMemoryBound(to: UInt32.self)
          for lane in 0..<32 {
            let word = words[lane]
            low[lane] = word & 0x000F_000F | 0x6400_6400
            low[32 + lane] = word >> 8 & 0x000F_000F | 0x6400_6400
            high[lane] = word & 0x00F0_00F0 | 0x6400_6400
            high[32 + lane] = word >> 8 & 0x00F0_00F0 | 0x6400_6400
          }
        }
      }
    }
    return (low, high)
  }

  /// QUICK's form: every half 1024 + v.
  @inline(__always)
  static func biased(_ words: Lanes<UInt32>) -> Pairs {
    var halves = peel(words)
    Half2.fma(&halves.high, sixteenth, plus960)
    return Pairs(halves.low.r0, halves.low.r1, halves.high.r0, halves.high.r1)
  }

  /// AWQ's form: every half v.
  @inline(__always)
  static func normalized(_ words: Lanes<UInt32>) -> Pairs {
    var halves = peel(words)
    Half2.subtract(magic, from: &halves.low)
    Half2.fma(&halves.high, sixteenth, minus64)
    return Pairs(halves.low.r0, halves.low.r1, halves.high.r0, halves.high.r1)
  }

  /// QUICK's last steps, (v − z) · s, each rounded to binary16.
  @inline(__always)
  static func quickWeights(_ words: Lanes<UInt32>, zeros: Pairs, scales: Pairs) -> Pairs {
    var pairs = biased(words)
    Half2.subtract(zeros, from: &pairs, thenMultiplyBy: scales)
    return pairs
  }

  /// AWQ's last steps, fma(v − z, s, +0).
  @inline(__always)
  static func awqWeights(_ words: Lanes<UInt32>, zeros: Pairs, scales: Pairs) -> Pairs {
    var pairs = normalized(words)
    Half2.subtract(zeros, from: &pairs)
    Half2.fma(&pairs, scales, none)
    return pairs
  }

  /// Registers as they come from a 16-byte load in the order of ``Pairs``, or the reverse: the two in
  /// the middle change places.
  @inline(__always)
  static func reordered(_ registers: Registers4) -> Registers4 {
    Registers4(registers.r0, registers.r2, registers.r1, registers.r3)
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

/// What a warp's eight n-tiles subtract and multiply by in QUICK's form: for each word of two n-tiles
/// the pairs in the words' own order.
struct TileScales: Sendable {
  /// Zero points as 1024 + z, one entry a pair of n-tiles.
  var zeros = (Registers4(), Registers4(), Registers4(), Registers4())
  /// Scales, likewise.
  var scales = (Registers4(), Registers4(), Registers4(), Registers4())

  /// Of n-tiles 0…7, each a register of two equal halves.
  static func pairs(
    _ low: Registers4, _ high: Registers4
  ) -> (Registers4, Registers4, Registers4, Registers4) {
    (
      Registers4(low.r0, low.r1, low.r0, low.r1), Registers4(low.r2, low.r3, low.r2, low.r3),
      Registers4(high.r0, high.r1, high.r0, high.r1), Registers4(high.r2, high.r3, high.r2, high.r3)
    )
  }

  /// The weights of a pair of n-tiles, in the words' order.
  @inline(__always)
  func weights(_ words: Lanes<UInt32>, pair: Int) -> Registers4 {
    switch pair & 3 {
    case 0: RegisterDequantization.quickWeights(words, zeros: zeros.0, scales: scales.0)
    case 1: RegisterDequantization.quickWeights(words, zeros: zeros.1, scales: scales.1)
    case 2: RegisterDequantization.quickWeights(words, zeros: zeros.2, scales: scales.2)
    default: RegisterDequantization.quickWeights(words, zeros: zeros.3, scales: scales.3)
    }
  }
}
