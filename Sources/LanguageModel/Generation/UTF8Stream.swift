/// Turns the bytes of tokens into text as they come, never splitting a character: bytes of an
/// unfinished UTF-8 sequence wait for the next token.
///
/// Bytes that cannot become UTF-8 give U+FFFD, one for each maximal invalid part, as
/// `String(decoding:as:)` does.
public struct UTF8Stream: Sendable {
  private var pending: [UInt8] = []

  /// A stream that has seen no bytes.
  public init() {}

  /// The text that is complete once `bytes` have come.
  public mutating func append(_ bytes: [UInt8]) -> String {
    pending.append(contentsOf: bytes)
    let complete = pending.count - Self.unfinishedSuffix(of: pending)
    guard complete > 0 else { return "" }
    let text = String(decoding: pending[..<complete], as: UTF8.self)
    pending.removeFirst(complete)
    return text
  }

  /// The text of what still waits, at the end of the stream.
  public mutating func finish() -> String {
    let text = String(decoding: pending, as: UTF8.self)
    pending.removeAll()
    return text
  }

  /// How many of the last bytes are a beginning of a character that could still be completed: 0…3.
  private static func unfinishedSuffix(of bytes: [UInt8]) -> Int {
    for length in 1...3 where length <= bytes.count {
      let lead = bytes[bytes.count - length]
      if lead & 0xC0 == 0x80 { continue }
      let wanted =
        switch lead {
        case 0xC2...0xDF: 2
        case 0xE0...0xEF: 3
        case 0xF0...0xF4: 4
        default: 1
        }
      return wanted > length ? length : 0
    }
    return 0
  }
}
