/// Codes of 2 bits, four a byte, in runs: byte j of a run holds the elements j, j + apart, j + 2 ·
/// apart and j + 3 · apart of its 4 · apart consecutive elements.
///
/// The one order of all ternary formats without packed trits: `apart` is 32 in I2_S for x86 and
/// TQ2_0, 16 in I2_S for arm64 and IQ2_BN, a row in I2_S of four rows, 4 in IQ2_BN_R4 and a quarter
/// of the tensor in Hugging Face's packing. (As an ``InterleavedLayout`` only the orders that start
/// at the low bits can be said, since digits count upwards: see `InterleavedLayout+TernaryFiles`.)
struct TwoBitRuns {
  /// Bytes of a run, and elements between the codes of one byte.
  let apart: Int
  /// Whether element j stands in bits 7–6 and the last in 1–0, or the other way round.
  let firstIsHigh: Bool

  /// Elements of a run.
  var elements: Int { 4 * apart }

  /// Unpacks whole runs.
  func unpack(
    _ bytes: UnsafeRawBufferPointer, into codes: UnsafeMutableBufferPointer<UInt8>
  ) {
    guard let bytes = bytes.assumingMemoryBound(to: UInt8.self).baseAddress,
      let base = codes.baseAddress, apart > 0
    else { return }
    for run in 0..<codes.count / elements {
      let from = bytes + run * apart
      for place in 0..<4 {
        let to = base + run * elements + place * apart
        let shift = UInt8(2 * (firstIsHigh ? 3 - place : place))
        for j in 0..<apart { to[j] = from[j] >> shift & 3 }
      }
    }
  }

  /// Packs whole runs into zeroed bytes.
  func pack(_ codes: UnsafeBufferPointer<UInt8>, into bytes: UnsafeMutableRawBufferPointer) {
    guard let bytes = bytes.assumingMemoryBound(to: UInt8.self).baseAddress,
      let base = codes.baseAddress, apart > 0
    else { return }
    for run in 0..<codes.count / elements {
      let to = bytes + run * apart
      for place in 0..<4 {
        let from = base + run * elements + place * apart
        let shift = UInt8(2 * (firstIsHigh ? 3 - place : place))
        for j in 0..<apart { to[j] |= from[j] << shift }
      }
    }
  }
}

extension UnsafeRawBufferPointer {
  /// `count` bytes from `start`.
  func part(_ start: Int, _ count: Int) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: self[start..<start + count])
  }
}

extension UnsafeMutableRawBufferPointer {
  /// `count` bytes from `start`.
  func part(_ start: Int, _ count: Int) -> UnsafeMutableRawBufferPointer {
    UnsafeMutableRawBufferPointer(rebasing: self[start..<start + count])
  }
}

extension UnsafeBufferPointer {
  /// `count` elements from `start`.
  func part(_ start: Int, _ count: Int) -> UnsafeBufferPointer {
    UnsafeBufferPointer(rebasing: self[start..<start + count])
  }
}

extension UnsafeMutableBufferPointer {
  /// `count` elements from `start`.
  func part(_ start: Int, _ count: Int) -> UnsafeMutableBufferPointer {
    UnsafeMutableBufferPointer(rebasing: self[start..<start + count])
  }
}
