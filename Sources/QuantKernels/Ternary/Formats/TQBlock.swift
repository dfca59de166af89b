/// The blocks of 256 weights of ggml's TQ1_0 and TQ2_0 as codes 0, 1, 2.
///
///     TQ1_0   54 bytes   48 + 4 bytes of trits, d (binary16)
///             byte j < 32         weights j + 32n, n = 0…4, the first the most significant trit
///             byte 32 + j, j < 16 weights 160 + 16n + j, n = 0…4
///             byte 48 + j, j < 4  weights 240 + 4n + j, n = 0…3, the fifth trit 0
///     TQ2_0   66 bytes   64 bytes of 2-bit codes, d (binary16)
///             byte 32h + m        weights 128h + 32l + m in bits 2l, 2l + 1
///
/// A weight is d · (code − 1).
///
/// Source: ggml-org/llama.cpp `ggml/src/ggml-quants.c`.
enum TQBlock {
  case one
  case two

  static let elements = 256

  var name: String { self == .one ? "TQ1_0" : "TQ2_0" }
  var type: GGMLType { self == .one ? .tq1_0 : .tq2_0 }
  /// Bytes in front of the scale.
  var codeBytes: Int { self == .one ? 52 : 64 }
  var bytes: Int { codeBytes + 2 }

  /// Runs of TQ1_0 bytes: first byte, bytes, first weight, trits.
  private static let runs: [(byte: Int, count: Int, weight: Int, trits: Int)] = [
    (0, 32, 0, 5), (32, 16, 160, 5), (48, 4, 240, 4),
  ]
  private static let pairs = TwoBitRuns(apart: 32, firstIsHigh: false)

  /// Total: any byte gives codes. Code 3 of TQ2_0 stays 3.
  func unpack(_ block: UnsafeRawBufferPointer, into codes: UnsafeMutableBufferPointer<UInt8>) {
    guard self == .one else { return Self.pairs.unpack(block, into: codes) }
    for run in Self.runs {
      for n in 0..<run.trits {
        let power = TritFraction.powers[n]
        for j in 0..<run.count {
          codes[run.weight + n * run.count + j] = TritFraction.trit(
            block[run.byte + j], droppingBy: power)
        }
      }
    }
  }

  /// Packs codes into zeroed bytes.
  func pack(_ codes: UnsafeBufferPointer<UInt8>, into block: UnsafeMutableRawBufferPointer) {
    guard self == .one else { return Self.pairs.pack(codes, into: block) }
    for run in Self.runs {
      for j in 0..<run.count {
        var value = 0
        for n in 0..<5 {
          value = value * 3 + (n < run.trits ? Int(codes[run.weight + n * run.count + j]) : 0)
        }
        block[run.byte + j] = TritFraction.byte(value)
      }
    }
  }

  /// Whether the codes are ones that a quantizer writes: no code 3, no byte that no trits give.
  func isCanonical(_ block: UnsafeRawBufferPointer) -> Bool {
    let codes = block.part(0, codeBytes)
    guard self == .one else { return !ByteScan.hasThree(codes) }
    return !ByteScan.hasNonCanonicalFraction(codes)
      && codes[48...].allSatisfy { TritFraction.value($0) % 3 == 0 }
  }
}
