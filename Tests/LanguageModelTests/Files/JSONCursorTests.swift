import LanguageModel
import QuantKernels
import Testing

@Suite struct JSONCursorTests {
  /// Whether a text is one JSON value and nothing else.
  private func isValid(_ text: String) -> Bool {
    Array(text.utf8).withUnsafeBytes { bytes in
      var json = JSONCursor(bytes, file: "text")
      do throws(QuantError) {
        try json.skipValue()
        try json.expectEnd()
        return true
      } catch {
        return false
      }
    }
  }

  @Test(arguments: [
    "0", "-0", "10", "-1.5", "1e5", "1E+5", "1.25e-05", "true", "false", "null", "\"\"", "[]", "{}",
    " [ 1 , [ ] , { \"a\" : \"b\" } ] \r\n", "\"\\u0000\\\\\\/\\b\"", "[[[[[[]]]]]]",
  ])
  func accepts(_ text: String) { #expect(isValid(text)) }

  @Test(arguments: [
    "", " ", "01", "-", "+1", ".5", "1.", "1e", "1e+", "0x1", "tru", "True", "nul", "NaN",
    "Infinity",
    "\"", "\"\\\"", "\"\t\"", "[", "[1", "[1,", "[1,]", "[,]", "[1 2]", "{\"a\":1,}", "{\"a\" 1}",
    "{1:2}", "{a:1}", "1 1", "]", "// x\n1", "\u{feff}1", "'a'",
  ])
  func refuses(_ text: String) { #expect(!isValid(text)) }

  @Test func nestsToItsLimitAndNoDeeper() {
    let depth = JSONCursor.maximumDepth
    let open = String(repeating: "[", count: depth)
    let close = String(repeating: "]", count: depth)
    #expect(isValid(open + close))
    #expect(!isValid("[" + open + close + "]"))
  }

  @Test(arguments: [
    ("\"plain ☃\"", "plain ☃"), ("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\u{8}\u{c}\n\r\t"),
    ("\"\\u0041\\u00e9\\u2603\"", "Aé☃"), ("\"\\uD83D\\uDE00!\"", "😀!"), ("\"\\u0000\"", "\0"),
  ])
  func decodesStrings(_ text: String, _ wanted: String) throws {
    try Array(text.utf8).withUnsafeBytes { bytes in
      var json = JSONCursor(bytes, file: "text")
      #expect(try json.string().unicodeScalars.elementsEqual(wanted.unicodeScalars))
      try json.expectEnd()
    }
  }

  @Test func writtenStringsReadBack() throws {
    let text = String(String.UnicodeScalarView((0..<0x250).compactMap { Unicode.Scalar($0) })) + "😀"
    try jsonString(text).withUnsafeBytes { bytes in
      #expect(!bytes.contains { $0 < 0x20 })
      var json = JSONCursor(bytes, file: "text")
      #expect(try json.string().unicodeScalars.elementsEqual(text.unicodeScalars))
      try json.expectEnd()
    }
  }
}
