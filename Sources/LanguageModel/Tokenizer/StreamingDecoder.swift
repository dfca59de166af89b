/// Turns tokens into text as they come, whole characters only.
///
/// Tokens may end in the middle of a character; its bytes wait here until the rest arrives. Bytes that can be no
/// part of a character become U+FFFD.
public struct StreamingDecoder: Sendable {
  private let tokenizer: Tokenizer
  private let includeSpecial: Bool
  private var pending: [UInt8] = []

  /// - Parameter includeSpecial: whether control tokens give their texts, or nothing.
  public init(tokenizer: Tokenizer, includeSpecial: Bool = false) {
    self.tokenizer = tokenizer
    self.includeSpecial = includeSpecial
  }

  /// Takes a token and returns what is complete, maybe nothing.
  public mutating func append(_ token: Int32) -> String {
    tokenizer.appendBytes(of: token, includeSpecial: includeSpecial, to: &pending)
    return take(pending.count - StreamingDecoder.incompleteTail(pending))
  }

  /// Returns what is left; a character that never was completed becomes U+FFFD.
  public mutating func finish() -> String { take(pending.count) }

  private mutating func take(_ count: Int) -> String {
    guard count > 0 else { return "" }
    let text = String(decoding: pending[..<count], as: UTF8.self)
    pending.removeFirst(count)
    return text
  }

  /// How many bytes at the end begin a character that more bytes could complete, at most three.
  static func incompleteTail(_ bytes: [UInt8]) -> Int {
    for length in 1...3 where length <= bytes.count {
      let tail = bytes.suffix(length)
      guard let first = tail.first else { return 0 }
      if first & 0xC0 == 0x80 { continue }
      guard length < UTF8Text.length(announcedBy: first), first >= 0xC2, first <= 0xF4 else {
        return 0
      }
      // The second byte decides about overlong forms, surrogates and values past U+10FFFF.
      guard let second = tail.dropFirst().first else { return length }
      let valid: ClosedRange<UInt8> =
        switch first {
        case 0xE0: 0xA0...0xBF
        case 0xED: 0x80...0x9F
        case 0xF0: 0x90...0xBF
        case 0xF4: 0x80...0x8F
        default: 0x80...0xBF
        }
      return valid.contains(second) ? length : 0
    }
    return 0
  }
}
