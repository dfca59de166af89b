import DeviceModel

/// ``HalfDequantization`` on a warp's registers: 32 lanes, each with its own word, to the same bits.
///
/// Register p holds the halves of nibbles p and p + 4, logical pairs e0e1, e2e3, e4e5, e6e7. The
/// kernels peel high nibbles as 1024 + 16v and map them by an fma, which is exact; here a shift gives
/// the same bits. What the kernels' steps cost they declare through
/// ``count(_:words:zeroWords:normalizes:)``.
enum RegisterDequantization {
  /// QUICK's form: every half 1024 + v, 0x6400 being 1024.
  @inline(__always)
  static func biased(_ words: Lanes<UInt32>) -> Registers4 {
    var halves = Registers4()
    withUnsafeBytes(of: words) { words in
      withUnsafeMutableBytes(of: &halves) { halves in
        let words = words.assumingMemoryBound(to: UInt32.self)
        let halves = halves.assumingMemoryBound(to: UInt32.self)
        for lane in 0..<32 {
          let word = words[lane]
          halves[lane] = word & 0x000F_000F | 0x6400_6400
          halves[32 + lane] = word >> 4 & 0x000F_000F | 0x6400_6400
          halves[64 + lane] = word >> 8 & 0x000F_000F | 0x6400_6400
          halves[96 + lane] = word >> 12 & 0x000F_000F | 0x6400_6400
        }
      }
    }
    return halves
  }

  /// AWQ's form: every half v.
  @inline(__always)
  static func normalized(_ words: Lanes<UInt32>) -> Registers4 {
    var halves = biased(words)
    Half2.subtract(magic, from: &halves)
    return halves
  }

  /// AWQ's last steps, fma(v − z, s, +0).
  @inline(__always)
  static func awqWeights(
    _ words: Lanes<UInt32>, zeros: Registers4, scales: Registers4
  ) -> Registers4 {
    var halves = normalized(words)
    Half2.subtract(zeros, from: &halves)
    Half2.fma(&halves, scales, none)
    return halves
  }

  private static let magic: Registers4 = {
    let pairs = Lanes<UInt32>(repeating: 0x6400_6400)
    return Registers4(pairs, pairs, pairs, pairs)
  }()
  private static let none = Registers4()

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

/// What a warp's eight n-tiles subtract and multiply by in QUICK's form, one entry a word of two
/// n-tiles: registers 0 and 1 are the first tile's, 2 and 3 the second's.
struct TileScales: Sendable {
  /// Zero points as 1024 + z.
  private var zeros = [Registers4](repeating: Registers4(), count: 4)
  private var scales = [Registers4](repeating: Registers4(), count: 4)

  /// Takes those of n-tiles 0…3 and 4…7, each a register of two equal halves; in place, as kernels
  /// do it every step.
  mutating func set(zeros: (Registers4, Registers4), scales: (Registers4, Registers4)) {
    Self.spread(zeros, into: &self.zeros)
    Self.spread(scales, into: &self.scales)
  }

  private static func spread(_ tiles: (Registers4, Registers4), into words: inout [Registers4]) {
    words[0] = Registers4(tiles.0.r0, tiles.0.r0, tiles.0.r1, tiles.0.r1)
    words[1] = Registers4(tiles.0.r2, tiles.0.r2, tiles.0.r3, tiles.0.r3)
    words[2] = Registers4(tiles.1.r0, tiles.1.r0, tiles.1.r1, tiles.1.r1)
    words[3] = Registers4(tiles.1.r2, tiles.1.r2, tiles.1.r3, tiles.1.r3)
  }

  /// The weights of word `pair`, (v − z) · s with each rounded to binary16: B of its two n-tiles.
  @inline(__always)
  func weights(_ words: Lanes<UInt32>, pair: Int) -> Registers4 {
    var b = RegisterDequantization.biased(words)
    Half2.subtract(zeros[pair], from: &b, thenMultiplyBy: scales[pair])
    return b
  }
}
