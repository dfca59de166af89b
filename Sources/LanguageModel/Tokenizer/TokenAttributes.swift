/// How a token takes part in encoding and decoding.
struct TokenAttributes: OptionSet, Sendable {
  let rawValue: UInt8

  static let normal = TokenAttributes(rawValue: 1)
  static let unknown = TokenAttributes(rawValue: 2)
  static let control = TokenAttributes(rawValue: 4)
  static let userDefined = TokenAttributes(rawValue: 8)
  static let byte = TokenAttributes(rawValue: 16)
  /// White space to the left of the token, where it is found in text, goes.
  static let stripsLeft = TokenAttributes(rawValue: 32)
  /// White space to the right of the token goes.
  static let stripsRight = TokenAttributes(rawValue: 64)

  /// Found in text as a whole before anything else, if at all.
  static let special: TokenAttributes = [.control, .unknown, .userDefined]
  /// Found in text only on request, and not shown when decoding.
  static let hidden: TokenAttributes = [.control, .unknown]

  init(rawValue: UInt8) { self.rawValue = rawValue }

  init(_ type: TokenizerVocabulary.TokenType) {
    self =
      switch type {
      case .normal: .normal
      case .unknown: .unknown
      case .control: .control
      case .userDefined: .userDefined
      case .byte: .byte
      case .undefined, .unused: []
      }
  }
}
