/// A chat format in which each turn depends on its role only: something before the content and
/// something after.
struct ChatLayout: Sendable {
  struct Turn: Sendable {
    /// `{role}` in it stands for the role's name.
    let before: String
    let after: String
    let trims: Bool

    init(_ before: String, _ after: String = "", trims: Bool = false) {
      self.before = before
      self.after = after
      self.trims = trims
    }
  }

  /// What a conversation begins with.
  var opening = ""
  /// Turns by role.
  var turns: [String: Turn] = [:]
  /// Turns of all other roles; without it they are left out.
  var others: Turn?
  /// What the assistant's turn begins with.
  var generation = ""

  func format(_ messages: [ChatMessage], addGenerationPrompt: Bool) -> String {
    var text = opening
    for message in messages {
      guard let turn = turns[message.role] ?? others else { continue }
      let parts = turn.before.split(separator: "{role}", omittingEmptySubsequences: false)
      text += parts.joined(separator: message.role)
      text += turn.trims ? message.trimmed : message.content
      text += turn.after
    }
    return addGenerationPrompt ? text + generation : text
  }

  /// The same turn for every role.
  init(
    opening: String = "", _ before: String, _ after: String, trims: Bool = false,
    _ generation: String
  ) {
    self.opening = opening
    others = Turn(before, after, trims: trims)
    self.generation = generation
  }

  init(
    opening: String = "", system: Turn? = nil, user: Turn? = nil, assistant: Turn? = nil,
    tool: Turn? = nil, others: Turn? = nil, _ generation: String
  ) {
    self.opening = opening
    turns["system"] = system
    turns["user"] = user
    turns["assistant"] = assistant
    turns["tool"] = tool
    self.others = others
    self.generation = generation
  }
}
