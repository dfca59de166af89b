/// The 64-bit xxHash of a stream, with seed 0: a checksum against damage, not against forgery.
///
/// Source: Cyan4973/xxHash, `doc/xxhash_spec.md`; `xxh64sum` prints the same number.
package struct XXH64 {
  private static let primes: (UInt64, UInt64, UInt64, UInt64, UInt64) = (
    0x9E37_79B1_85EB_CA87, 0xC2B2_AE3D_27D4_EB4F, 0x1656_67B1_9E37_79F9, 0x85EB_CA77_C2B2_AE63,
    0x27D4_EB2F_1656_67C5
  )

  private var lanes: (UInt64, UInt64, UInt64, UInt64) = (
    primes.0 &+ primes.1, primes.1, 0, 0 &- primes.0
  )
  private var length: UInt64 = 0
  /// Bytes that do not fill a stripe of 32 yet.
  private var rest: [UInt8] = []

  package init() {}

  package mutating func update(_ bytes: UnsafeRawBufferPointer) {
    length &+= UInt64(bytes.count)
    var start = 0
    if !rest.isEmpty {
      start = min(32 - rest.count, bytes.count)
      rest += bytes[..<start]
      guard rest.count == 32 else { return }
      rest.withUnsafeBytes { stripes($0) }
      rest.removeAll(keepingCapacity: true)
    }
    let whole = start + (bytes.count - start) / 32 * 32
    stripes(UnsafeRawBufferPointer(rebasing: bytes[start..<whole]))
    rest += bytes[whole...]
  }

  private mutating func stripes(_ bytes: UnsafeRawBufferPointer) {
    var lanes = lanes
    for offset in stride(from: 0, to: bytes.count, by: 32) {
      func word(_ index: Int) -> UInt64 {
        UInt64(
          littleEndian: bytes.loadUnaligned(fromByteOffset: offset + 8 * index, as: UInt64.self))
      }
      lanes.0 = Self.round(lanes.0, word(0))
      lanes.1 = Self.round(lanes.1, word(1))
      lanes.2 = Self.round(lanes.2, word(2))
      lanes.3 = Self.round(lanes.3, word(3))
    }
    self.lanes = lanes
  }

  private static func round(_ lane: UInt64, _ word: UInt64) -> UInt64 {
    rotate(lane &+ word &* primes.1, 31) &* primes.0
  }

  private static func rotate(_ value: UInt64, _ count: UInt64) -> UInt64 {
    value << count | value >> (64 - count)
  }

  /// The hash of all that was given.
  package func finish() -> UInt64 {
    let primes = Self.primes
    var hash: UInt64
    if length >= 32 {
      hash =
        Self.rotate(lanes.0, 1) &+ Self.rotate(lanes.1, 7) &+ Self.rotate(lanes.2, 12)
        &+ Self.rotate(lanes.3, 18)
      for lane in [lanes.0, lanes.1, lanes.2, lanes.3] {
        hash = (hash ^ Self.round(0, lane)) &* primes.0 &+ primes.3
      }
    } else {
      hash = primes.4
    }
    hash &+= length
    rest.withUnsafeBytes { rest in
      var offset = 0
      while offset + 8 <= rest.count {
        let word = UInt64(littleEndian: rest.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
        hash = Self.rotate(hash ^ Self.round(0, word), 27) &* primes.0 &+ primes.3
        offset += 8
      }
      if offset + 4 <= rest.count {
        let word = UInt32(littleEndian: rest.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
        hash = Self.rotate(hash ^ UInt64(word) &* primes.0, 23) &* primes.1 &+ primes.2
        offset += 4
      }
      for byte in rest[offset...] {
        hash = Self.rotate(hash ^ UInt64(byte) &* primes.4, 11) &* primes.0
      }
    }
    hash = (hash ^ hash >> 33) &* primes.1
    hash = (hash ^ hash >> 29) &* primes.2
    return hash ^ hash >> 32
  }
}
