/// How byte-level vocabularies spell bytes: GPT-2's map to printable characters.
///
/// Bytes that are printable in Latin-1 stand for themselves; the 68 others are the code points from
/// U+0100 on, in order (Radford et al., "Language Models are Unsupervised Multitask Learners",
/// 2019, and its code).
enum ByteSpelling {
  /// The code point that spells each byte.
  static let codePoints: [UInt32] = {
    var next: UInt32 = 256
    return (0..<256).map { (byte: UInt32) -> UInt32 in
      switch byte {
      case 0x21...0x7E, 0xA1...0xAC, 0xAE...0xFF: return byte
      default:
        defer { next += 1 }
        return next
      }
    }
  }()

  /// The byte that each code point below U+0144 spells; -1 for none.
  private static let bytes: [Int16] = {
    var result = [Int16](repeating: -1, count: 256 + 68)
    for (byte, codePoint) in codePoints.enumerated() { result[Int(codePoint)] = Int16(byte) }
    return result
  }()

  /// The UTF-8 spelling of a byte, one or two bytes.
  static func spelling(of byte: UInt8) -> [UInt8] {
    var result: [UInt8] = []
    UTF8Text.append(codePoints[Int(byte)], to: &result)
    return result
  }

  /// Appends what a spelled text means. Characters that spell nothing stand for themselves.
  static func appendMeaning(of text: ArraySlice<UInt8>, to result: inout [UInt8]) {
    text.withUnsafeBufferPointer { text in
      for codePoint in UTF8Text.codePoints(text) {
        if codePoint < 324, bytes[Int(codePoint)] >= 0 {
          result.append(UInt8(truncatingIfNeeded: bytes[Int(codePoint)]))
        } else {
          UTF8Text.append(codePoint, to: &result)
        }
      }
    }
  }
}

/// How SentencePiece vocabularies name bytes: `<0x0A>`.
enum ByteName {
  private static let digits = Array("0123456789ABCDEF".utf8)

  static func name(of byte: UInt8) -> [UInt8] {
    Array("<0x".utf8) + [digits[Int(byte >> 4)], digits[Int(byte & 15)]] + Array(">".utf8)
  }

  /// The byte a text names, its digits in either case, or nil.
  static func byte(namedBy text: ArraySlice<UInt8>) -> UInt8? {
    guard text.count == 6, text.starts(with: Array("<0x".utf8)), text.last == 0x3E else {
      return nil
    }
    return UInt8(String(decoding: text.dropFirst(3).prefix(2), as: UTF8.self), radix: 16)
  }
}

/// U+2581, which stands for a space in SentencePiece vocabularies.
enum EscapedSpace {
  static let bytes: [UInt8] = [0xE2, 0x96, 0x81]

  static func escape(_ text: UnsafeBufferPointer<UInt8>, prefix: Bool) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(text.count + text.count / 4 + 3)
    if prefix { result.append(contentsOf: bytes) }
    for byte in text {
      if byte == 0x20 { result.append(contentsOf: bytes) } else { result.append(byte) }
    }
    return result
  }

  static func appendUnescaped(_ text: ArraySlice<UInt8>, to result: inout [UInt8]) {
    var index = text.startIndex
    while index < text.endIndex {
      if text[index] == 0xE2, text.endIndex - index >= 3, text[index + 1] == 0x96,
        text[index + 2] == 0x81
      {
        result.append(0x20)
        index += 3
      } else {
        result.append(text[index])
        index += 1
      }
    }
  }
}
