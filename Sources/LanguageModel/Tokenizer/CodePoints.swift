/// What a code point is to a pre-tokenizer: the Unicode general categories that splitting rules
/// name, and whitespace.
///
/// Code points that Unicode gained after version 15 count as unassigned, because the reference
/// tokenizer's tables end there and token ids must not depend on the machine's Unicode tables.
struct CharacterClass: OptionSet, Sendable {
  let rawValue: UInt8

  /// `\p{L}`
  static let letter = CharacterClass(rawValue: 1)
  /// `\p{N}`
  static let number = CharacterClass(rawValue: 2)
  /// `\p{M}`
  static let mark = CharacterClass(rawValue: 4)
  /// `\p{P}`
  static let punctuation = CharacterClass(rawValue: 8)
  /// `\p{S}`
  static let symbol = CharacterClass(rawValue: 16)
  /// `\s`
  static let whitespace = CharacterClass(rawValue: 32)

  /// The last Unicode version whose code points count as assigned.
  private static let lastVersion = 15

  init(rawValue: UInt8) { self.rawValue = rawValue }

  /// The class of any 32-bit value; surrogates and values past U+10FFFF have none.
  init(codePoint: UInt32) {
    if codePoint < 0x80 {
      self = CharacterClass(ascii: UInt8(truncatingIfNeeded: codePoint))
    } else if let scalar = Unicode.Scalar(codePoint) {
      self = CharacterClass(scalar: scalar)
    } else {
      self = []
    }
  }

  private init(ascii: UInt8) {
    switch ascii {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"):
      self = .letter
    case UInt8(ascii: "0")...UInt8(ascii: "9"): self = .number
    case 0x20, 0x09...0x0D: self = .whitespace
    case UInt8(ascii: "$"), UInt8(ascii: "+"), UInt8(ascii: "<")...UInt8(ascii: ">"),
      UInt8(ascii: "^"), UInt8(ascii: "`"), UInt8(ascii: "|"), UInt8(ascii: "~"):
      self = .symbol
    case 0x21...0x7E: self = .punctuation
    default: self = []
    }
  }

  private init(scalar: Unicode.Scalar) {
    let properties = scalar.properties
    var result: CharacterClass
    switch properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter:
      result = .letter
    case .decimalNumber, .letterNumber, .otherNumber: result = .number
    case .nonspacingMark, .spacingMark, .enclosingMark: result = .mark
    case .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation,
      .initialPunctuation, .finalPunctuation, .otherPunctuation:
      result = .punctuation
    case .mathSymbol, .currencySymbol, .modifierSymbol, .otherSymbol: result = .symbol
    default: result = []
    }
    if properties.isWhitespace { result.insert(.whitespace) }
    if !result.isEmpty, let age = properties.age, age.major > CharacterClass.lastVersion {
      result = []
    }
    self = result
  }
}

/// UTF-8 as tokenizers read it: no input is refused.
enum UTF8Text {
  /// U+FFFD, which stands for each byte that begins no character.
  static let replacement: UInt32 = 0xFFFD

  /// How many bytes a first byte announces, counting stray continuation bytes as one.
  static func length(announcedBy byte: UInt8) -> Int {
    switch byte {
    case 0..<0xC0: 1
    case 0xC0..<0xE0: 2
    case 0xE0..<0xF0: 3
    default: 4
    }
  }

  /// Decodes leniently: overlong forms and surrogates decode to their value, everything else that
  /// is malformed, and values past U+10FFFF, become one U+FFFD a byte. O(bytes).
  static func codePoints(_ bytes: UnsafeBufferPointer<UInt8>) -> [UInt32] {
    var result: [UInt32] = []
    result.reserveCapacity(bytes.count)
    var offset = 0
    while offset < bytes.count {
      let first = bytes[offset]
      if first < 0x80 {
        result.append(UInt32(first))
        offset += 1
        continue
      }
      let (value, length) = multibyte(bytes, at: offset)
      result.append(value)
      offset += length
    }
    return result
  }

  private static func multibyte(
    _ bytes: UnsafeBufferPointer<UInt8>, at offset: Int
  ) -> (value: UInt32, length: Int) {
    let first = bytes[offset]
    let length = length(announcedBy: first)
    guard length > 1, first < 0xF8, offset + length <= bytes.count else { return (replacement, 1) }
    var value = UInt32(first & (0x7F >> UInt8(length)))
    for index in 1..<length {
      let byte = bytes[offset + index]
      guard byte & 0xC0 == 0x80 else { return (replacement, 1) }
      value = value << 6 | UInt32(byte & 0x3F)
    }
    return value <= 0x10FFFF ? (value, length) : (replacement, 1)
  }

  /// Appends a code point's shortest UTF-8 form; surrogates get three bytes.
  static func append(_ codePoint: UInt32, to bytes: inout [UInt8]) {
    switch codePoint {
    case 0..<0x80:
      bytes.append(UInt8(truncatingIfNeeded: codePoint))
    case 0x80..<0x800:
      bytes.append(0xC0 | UInt8(truncatingIfNeeded: codePoint >> 6))
      bytes.append(continuation(codePoint))
    case 0x800..<0x1_0000:
      bytes.append(0xE0 | UInt8(truncatingIfNeeded: codePoint >> 12))
      bytes.append(continuation(codePoint >> 6))
      bytes.append(continuation(codePoint))
    default:
      bytes.append(0xF0 | UInt8(truncatingIfNeeded: (codePoint >> 18) & 7))
      bytes.append(continuation(codePoint >> 12))
      bytes.append(continuation(codePoint >> 6))
      bytes.append(continuation(codePoint))
    }
  }

  private static func continuation(_ value: UInt32) -> UInt8 {
    0x80 | UInt8(truncatingIfNeeded: value & 0x3F)
  }
}
