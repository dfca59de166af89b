import QuantKernels

/// Reads JSON (RFC 8259) in place, token by token, as strictly as the standard is written.
///
/// It builds no tree, so a hostile text cannot make it allocate more than the strings that are
/// asked for; values that are skipped may nest ``maximumDepth`` deep. Errors are `invalidData` and
/// name the byte.
package struct JSONCursor {
  package static let maximumDepth = 64

  private let bytes: UnsafeRawBufferPointer
  private let file: String
  /// Where `bytes` begin in the file, for messages.
  private let base: Int
  private(set) var offset = 0

  package init(_ bytes: UnsafeRawBufferPointer, file: String, base: Int = 0) {
    self.bytes = bytes
    self.file = file
    self.base = base
  }

  func error(_ problem: String) -> QuantError {
    QuantError(
      .invalidData, file, "JSON at byte \(base + offset): \(problem)",
      remedy: "fetch the file again")
  }

  private var current: UInt8? { offset < bytes.count ? bytes[offset] : nil }

  private mutating func skipSpace() {
    while let byte = current, byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 {
      offset += 1
    }
  }

  /// The first byte of the next token, not consumed.
  mutating func peek() -> UInt8? {
    skipSpace()
    return current
  }

  /// Consumes the next token where it is `character`.
  package mutating func take(_ character: Character) -> Bool {
    guard let wanted = character.asciiValue, peek() == wanted else { return false }
    offset += 1
    return true
  }

  package mutating func expect(_ character: Character) throws(QuantError) {
    guard take(character) else {
      throw error("'\(character)' is expected")
    }
  }

  /// Only space may follow.
  package mutating func expectEnd() throws(QuantError) {
    if peek() != nil { throw error("nothing more is expected") }
  }

  // MARK: Objects and arrays

  /// The next key of an object, its colon consumed, or nil at the object's end. `first` begins as
  /// true.
  ///
  /// ```swift
  /// try json.expect("{")
  /// var first = true
  /// while let key = try json.key(&first) { try json.skipValue() }
  /// ```
  package mutating func key(_ first: inout Bool) throws(QuantError) -> String? {
    guard try next(&first, end: "}") else { return nil }
    let key = try string()
    try expect(":")
    return key
  }

  /// Whether an array has one more element; consumes the comma before it, or the array's end.
  package mutating func element(_ first: inout Bool) throws(QuantError) -> Bool {
    try next(&first, end: "]")
  }

  private mutating func next(_ first: inout Bool, end: Character) throws(QuantError) -> Bool {
    if first {
      first = false
      return !take(end)
    }
    if take(end) { return false }
    try expect(",")
    return true
  }

  // MARK: Values

  /// A string, its escapes resolved.
  package mutating func string() throws(QuantError) -> String {
    let (content, escaped) = try rawString()
    guard escaped else {
      guard let string = String(validating: content, as: UTF8.self) else {
        throw error("the string before it is no valid UTF-8")
      }
      return string
    }
    var decoded: [UInt8] = []
    decoded.reserveCapacity(content.count)
    var index = 0
    while index < content.count {
      if content[index] == UInt8(ascii: "\\") {
        try decodeEscape(content, &index, &decoded)
      } else {
        decoded.append(content[index])
        index += 1
      }
    }
    guard let string = String(validating: decoded, as: UTF8.self) else {
      throw error("the string before it is no valid UTF-8")
    }
    return string
  }

  /// Consumes a string; gives what is between its quotes and whether there are escapes in it.
  private mutating func rawString() throws(QuantError) -> (UnsafeRawBufferPointer, escaped: Bool) {
    guard take("\"") else { throw error("a string is expected") }
    let start = offset
    var escaped = false
    while let byte = current {
      switch byte {
      case UInt8(ascii: "\""):
        let content = UnsafeRawBufferPointer(rebasing: bytes[start..<offset])
        offset += 1
        return (content, escaped)
      case UInt8(ascii: "\\"):
        escaped = true
        // Whatever is escaped, it is not the end; what it is, is looked at when it is decoded.
        offset += 2
      case 0..<0x20: throw error("a control character stands unescaped in a string")
      default: offset += 1
      }
    }
    offset = bytes.count
    throw error("a string has no end")
  }

  private func decodeEscape(
    _ content: UnsafeRawBufferPointer, _ index: inout Int, _ decoded: inout [UInt8]
  ) throws(QuantError) {
    // The scan has seen a byte after every backslash, within the quotes.
    let escape = content[index + 1]
    index += 2
    switch escape {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): decoded.append(escape)
    case UInt8(ascii: "b"): decoded.append(0x08)
    case UInt8(ascii: "f"): decoded.append(0x0c)
    case UInt8(ascii: "n"): decoded.append(0x0a)
    case UInt8(ascii: "r"): decoded.append(0x0d)
    case UInt8(ascii: "t"): decoded.append(0x09)
    case UInt8(ascii: "u"):
      var code = try codeUnit(content, &index)
      if (0xd800..<0xdc00).contains(code) {
        // A character beyond the 16-bit plane comes as two escapes, high surrogate first.
        guard index + 1 < content.count, content[index] == UInt8(ascii: "\\"),
          content[index + 1] == UInt8(ascii: "u")
        else { throw error("half a surrogate pair stands in the string before it") }
        index += 2
        let low = try codeUnit(content, &index)
        guard (0xdc00..<0xe000).contains(low) else {
          throw error("half a surrogate pair stands in the string before it")
        }
        code = 0x10000 + (code - 0xd800) << 10 + (low - 0xdc00)
      }
      guard let scalar = Unicode.Scalar(code) else {
        throw error("half a surrogate pair stands in the string before it")
      }
      decoded.append(contentsOf: Array(String(scalar).utf8))
    default: throw error("an unknown escape stands in the string before it")
    }
  }

  private func codeUnit(
    _ content: UnsafeRawBufferPointer, _ index: inout Int
  ) throws(QuantError) -> UInt32 {
    var code: UInt32 = 0
    for _ in 0..<4 {
      guard index < content.count,
        let digit = Character(Unicode.Scalar(content[index])).hexDigitValue
      else { throw error("a \\u escape has fewer than four hexadecimal digits") }
      code = code << 4 | UInt32(digit)
      index += 1
    }
    return code
  }

  /// A whole number from 0 to 2⁶³ − 1, written without fraction and exponent.
  package mutating func size() throws(QuantError) -> Int {
    guard let first = peek(), isDigit(first) else {
      throw error("a whole number, not negative, is expected")
    }
    let start = offset
    var value = 0
    while let byte = current, isDigit(byte) {
      let (scaled, overflow) = value.multipliedReportingOverflow(by: 10)
      let (sum, carry) = scaled.addingReportingOverflow(Int(byte - UInt8(ascii: "0")))
      if overflow || carry { throw error("a number exceeds 2⁶³ − 1") }
      value = sum
      offset += 1
    }
    if first == UInt8(ascii: "0"), offset - start > 1 { throw error("a number begins with 0") }
    if let byte = current, [UInt8(ascii: "."), UInt8(ascii: "e"), UInt8(ascii: "E")].contains(byte)
    {
      throw error("a whole number is expected")
    }
    return value
  }

  /// A number's text, as it stands.
  mutating func numberText() throws(QuantError) -> String {
    _ = peek()
    let start = offset
    try skipNumber()
    return String(decoding: bytes[start..<offset], as: UTF8.self)
  }

  /// Consumes `null` where it is next.
  mutating func takeNull() throws(QuantError) -> Bool {
    guard peek() == UInt8(ascii: "n") else { return false }
    try skipWord("null")
    return true
  }

  /// `true` or `false`.
  package mutating func bool() throws(QuantError) -> Bool {
    if peek() == UInt8(ascii: "t") {
      try skipWord("true")
      return true
    }
    guard current == UInt8(ascii: "f") else { throw error("true or false is expected") }
    try skipWord("false")
    return false
  }

  /// A number of any kind as a whole one, or nil where it is negative, has a fraction or is past
  /// 2⁶³ − 1, and for any value that is no number.
  package mutating func sizeOrNil() throws(QuantError) -> Int? {
    _ = peek()
    var ahead = self
    if let size = try? ahead.size() {
      self = ahead
      return size
    }
    try skipValue()
    return nil
  }

  /// Consumes a value of any kind and checks its syntax (not the UTF-8 of its strings, nor whether
  /// keys repeat).
  package mutating func skipValue() throws(QuantError) { try skipValue(depth: 0) }

  private mutating func skipValue(depth: Int) throws(QuantError) {
    guard depth < JSONCursor.maximumDepth else {
      throw error("values nest deeper than \(JSONCursor.maximumDepth)")
    }
    switch peek() {
    case UInt8(ascii: "{"):
      try expect("{")
      var first = true
      while try next(&first, end: "}") {
        _ = try rawString()
        try expect(":")
        try skipValue(depth: depth + 1)
      }
    case UInt8(ascii: "["):
      try expect("[")
      var first = true
      while try next(&first, end: "]") { try skipValue(depth: depth + 1) }
    case UInt8(ascii: "\""): _ = try rawString()
    case UInt8(ascii: "t"): try skipWord("true")
    case UInt8(ascii: "f"): try skipWord("false")
    case UInt8(ascii: "n"): try skipWord("null")
    default: try skipNumber()
    }
  }

  private mutating func skipWord(_ word: StaticString) throws(QuantError) {
    for index in 0..<word.utf8CodeUnitCount {
      guard current == word.utf8Start[index] else { throw error("'\(word)' is expected") }
      offset += 1
    }
  }

  private mutating func skipNumber() throws(QuantError) {
    if current == UInt8(ascii: "-") { offset += 1 }
    let leading = current
    let digits = skipDigits()
    guard digits > 0, digits == 1 || leading != UInt8(ascii: "0") else {
      throw error("a value is expected")
    }
    if current == UInt8(ascii: ".") {
      offset += 1
      guard skipDigits() > 0 else { throw error("a digit is expected") }
    }
    if current == UInt8(ascii: "e") || current == UInt8(ascii: "E") {
      offset += 1
      if current == UInt8(ascii: "+") || current == UInt8(ascii: "-") { offset += 1 }
      guard skipDigits() > 0 else { throw error("a digit is expected") }
    }
  }

  private mutating func skipDigits() -> Int {
    let start = offset
    while let byte = current, isDigit(byte) { offset += 1 }
    return offset - start
  }

  private func isDigit(_ byte: UInt8) -> Bool {
    byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9")
  }
}

/// Text as a JSON string, quotes included; only what must be escaped is.
package func jsonString(_ text: String) -> [UInt8] {
  var bytes: [UInt8] = [UInt8(ascii: "\"")]
  for byte in text.utf8 {
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"): bytes += [UInt8(ascii: "\\"), byte]
    case 0x08: bytes += Array("\\b".utf8)
    case 0x09: bytes += Array("\\t".utf8)
    case 0x0a: bytes += Array("\\n".utf8)
    case 0x0c: bytes += Array("\\f".utf8)
    case 0x0d: bytes += Array("\\r".utf8)
    case 0..<0x20:
      bytes += Array("\\u00".utf8) + [hexDigit(byte >> 4), hexDigit(byte & 15)]
    default: bytes.append(byte)
    }
  }
  bytes.append(UInt8(ascii: "\""))
  return bytes
}

private func hexDigit(_ value: UInt8) -> UInt8 {
  value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") + value - 10
}
