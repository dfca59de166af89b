extension PackedTernary {
  /// The canonical codes, bit for bit as they were packed: `[rows · columns]`, row-major.
  ///
  /// - Throws: ``QuantError`` as the layout of the format; not after a successful packing.
  /// - Complexity: O(rows · columns).
  public func unpackedCodes() throws(QuantError) -> [UInt8] {
    let places = try format.lookup == nil ? vectorPlaces() : []
    var codes: [UInt8] = []
    codes.reserveCapacity(rows * columns)
    for row in 0..<rows {
      let (panel, lane) = row.quotientAndRemainder(dividingBy: PackedTernary.panelRows)
      let bytes = panelBytes(panel)
      for k in 0..<columns {
        switch format {
        case .twoBit, .blockQuantized: codes.append(PackedTernary.bits(bytes, lane, k, places))
        case .fiveTrit: codes.append(PackedTernary.trit(bytes + 64, lane, k, places))
        case .lookupPairs, .lookupRoundedPairs: codes.append(PackedTernary.ofPair(bytes, lane, k))
        case .lookupTriples: codes.append(PackedTernary.ofTriple(bytes, lane, k))
        }
      }
    }
    return codes
  }

  private static func bits(
    _ bytes: UnsafePointer<UInt8>, _ lane: Int, _ k: Int, _ places: [Int]
  ) -> UInt8 {
    let width = places.count / panelRows
    let (vector, column) = k.quotientAndRemainder(dividingBy: width)
    let (byte, field) = places[lane * width + column].quotientAndRemainder(dividingBy: 4)
    return bytes[vector * (places.count / 4) + byte] >> UInt8(2 * field) & 3
  }

  private static func trit(
    _ bytes: UnsafePointer<UInt8>, _ lane: Int, _ k: Int, _ places: [Int]
  ) -> UInt8 {
    let width = places.count / panelRows
    let (vector, column) = k.quotientAndRemainder(dividingBy: width)
    let (byte, digit) = places[lane * width + column].quotientAndRemainder(dividingBy: 5)
    // Multiplying the fraction by 3 drops its first digit; the next is above 256.
    var fraction = Int(bytes[vector * (places.count / 5) + byte] ^ 128)
    for _ in 0..<digit { fraction = fraction * 3 & 255 }
    return UInt8((fraction * 3) >> 8)
  }

  private static func ofPair(_ bytes: UnsafePointer<UInt8>, _ lane: Int, _ k: Int) -> UInt8 {
    let pair = k % 8 / 2
    let byte: UInt8 = bytes[k / 8 * 32 + pair % 2 * 16 + lane]
    let index = pair < 2 ? byte & 15 : byte >> 4
    return k % 2 == 0 ? index / 3 : index % 3
  }

  private static func ofTriple(_ bytes: UnsafePointer<UInt8>, _ lane: Int, _ k: Int) -> UInt8 {
    let unit = bytes + k / 24 * 80
    let triple = k % 24 / 3
    let byte: UInt8 = unit[triple / 4 * 32 + triple % 2 * 16 + lane]
    let size = Int(triple % 4 < 2 ? byte & 15 : byte >> 4)
    let negative = unit[64 + lane] >> UInt8(7 - triple) & 1 != 0
    let number = (negative ? -size : size) + 13  // 9, 3, 1 times the codes
    let power = k % 3 == 0 ? 9 : k % 3 == 1 ? 3 : 1
    return UInt8(number / power % 3)
  }
}
