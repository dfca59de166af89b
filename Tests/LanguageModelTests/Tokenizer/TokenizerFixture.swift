import LanguageModel
import TestSupport

/// A fixture of `Tests/Fixtures/Tokenizer`: lines of a key and values.
struct TokenizerFixture {
  struct Case {
    let text: [UInt8]
    var plain: [Int32] = []
    var special: [Int32] = []
  }

  var tokens: [[UInt8]] = []
  var types: [TokenizerVocabulary.TokenType] = []
  var scores: [Float] = []
  var merges: [[UInt8]] = []
  var cases: [Case] = []
  var ends: Set<Int32> = []
  /// Checksums by pre-tokenizer, two a text.
  var checksums: [(name: String, values: [UInt32])] = []

  init?(_ name: String, spellsBytes: Bool = false) {
    guard let bytes = fixture("Tokenizer/\(name)") else { return nil }
    for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
      let fields = line.split(separator: " ", omittingEmptySubsequences: false).map(String.init)
      let values = Array(fields.dropFirst())
      switch fields[0] {
      case "token":
        add(
          Self.bytes(values[0]), type: Int(values[1]) ?? 0,
          score: values.count > 2 ? values[2] : "0")
      case "bytes":
        for byte in UInt8.min...UInt8.max {
          if spellsBytes {
            add(Self.spelling(of: byte), type: 1, score: "0")
          } else {
            let digits = String(byte, radix: 16, uppercase: true)
            add(Array("<0x\(byte < 16 ? "0" : "")\(digits)>".utf8), type: 6, score: "0")
          }
        }
      case "merge", "pass":
        merges.append(Array(values.joined(separator: " ").utf8))
        if fields[0] == "merge" { add(Array(values.joined().utf8), type: 1, score: "0") }
      case "text": cases.append(Case(text: Self.bytes(values.first ?? "")))
      case "plain": cases[cases.count - 1].plain = values.compactMap { Int32($0) }
      case "special": cases[cases.count - 1].special = values.compactMap { Int32($0) }
      case "ends": ends = Set(values.compactMap { Int32($0) })
      case "pre":
        checksums.append((values[0], values.dropFirst().compactMap { UInt32($0, radix: 16) }))
      default: break
      }
    }
  }

  func vocabulary(_ model: TokenizerVocabulary.Model, preTokenizer: String = "")
    -> TokenizerVocabulary
  {
    var vocabulary = TokenizerVocabulary(model: model, tokens: tokens)
    vocabulary.tokenTypes = types
    vocabulary.preTokenizer = preTokenizer
    if model == .sentencePiece { vocabulary.scores = scores } else { vocabulary.merges = merges }
    vocabulary.specialTokens.beginningOfSequence = 1
    vocabulary.specialTokens.endOfSequence = 2
    vocabulary.specialTokens.unknown = 0
    return vocabulary
  }

  private mutating func add(_ token: [UInt8], type: Int, score: String) {
    tokens.append(token)
    types.append(TokenizerVocabulary.TokenType(rawValue: type) ?? .undefined)
    scores.append(Float(score) ?? 0)
  }

  private static func bytes(_ hexadecimal: String) -> [UInt8] {
    let digits = Array(hexadecimal)
    return stride(from: 0, to: digits.count - 1, by: 2).compactMap {
      UInt8(String(digits[$0...($0 + 1)]), radix: 16)
    }
  }

  /// GPT-2's printable spelling of a byte: the printable characters of Latin-1 are themselves, the
  /// others follow from U+0100 on.
  static func spelling(of byte: UInt8) -> [UInt8] {
    func isPrintable(_ byte: UInt8) -> Bool {
      (0x21...0x7E).contains(byte) || (0xA1...0xAC).contains(byte) || byte >= 0xAE
    }
    let others = (0..<byte).filter { !isPrintable($0) }.count
    let value = isPrintable(byte) ? UInt32(byte) : 256 + UInt32(others)
    return Unicode.Scalar(value).map { Array(String(Character($0)).utf8) } ?? []
  }

  /// FNV-1a over the ids as little-endian 32-bit integers.
  static func checksum(_ ids: [Int32]) -> UInt32 {
    var value: UInt32 = 0x811C_9DC5
    for id in ids {
      for shift in [0, 8, 16, 24] {
        value = (value ^ (UInt32(bitPattern: id) >> UInt32(shift)) & 0xFF) &* 0x0100_0193
      }
    }
    return value
  }
}
