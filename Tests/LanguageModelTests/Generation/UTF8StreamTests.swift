import LanguageModel
import Testing

@Suite struct UTF8StreamTests {
  /// However bytes are cut, the pieces join to the text and none ends inside a character.
  @Test(arguments: ["plain", "naïve — “quotes”", "日本語 🙂👩‍👩‍👧 é", ""])
  func piecesAreWholeCharacters(_ text: String) {
    let bytes = Array(text.utf8)
    for size in 1...5 {
      var stream = UTF8Stream()
      var joined = ""
      for start in stride(from: 0, to: bytes.count, by: size) {
        let piece = stream.append(Array(bytes[start..<min(start + size, bytes.count)]))
        #expect(!piece.unicodeScalars.contains("\u{FFFD}"))
        joined += piece
      }
      #expect(stream.finish() == "")
      #expect(joined == text)
    }
  }

  @Test func invalidBytesAreReplacedAndDoNotWait() {
    var stream = UTF8Stream()
    #expect(stream.append([0xFF, 0x41]) == "\u{FFFD}A")
    #expect(stream.append([0x80]) == "\u{FFFD}")
    // E2 82 could become a character; what follows shows that it does not.
    #expect(stream.append([0xE2, 0x82]) == "")
    #expect(stream.append([0x41]) == "\u{FFFD}A")
    #expect(stream.append([0xF0, 0x9F]) == "")
    #expect(stream.finish() == "\u{FFFD}")
  }
}
