/// A turn of a conversation.
public struct ChatMessage: Sendable, Equatable {
  /// Who speaks: "system", "user", "assistant", or what else a model's template knows.
  public var role: String
  /// What is said.
  public var content: String

  /// A turn of any role.
  public init(role: String, content: String) {
    self.role = role
    self.content = content
  }

  /// A turn of the system.
  public static func system(_ content: String) -> ChatMessage {
    ChatMessage(role: "system", content: content)
  }

  /// A turn of the user.
  public static func user(_ content: String) -> ChatMessage {
    ChatMessage(role: "user", content: content)
  }

  /// A turn of the model.
  public static func assistant(_ content: String) -> ChatMessage {
    ChatMessage(role: "assistant", content: content)
  }

  /// The content without white space of ASCII around it.
  var trimmed: String {
    func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0D).contains(byte) }
    let bytes = Array(content.utf8)
    guard let first = bytes.firstIndex(where: { !isSpace($0) }),
      let last = bytes.lastIndex(where: { !isSpace($0) })
    else { return "" }
    return String(decoding: bytes[first...last], as: UTF8.self)
  }
}
