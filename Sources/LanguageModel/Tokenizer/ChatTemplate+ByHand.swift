extension ChatTemplate {
  /// Families whose turns depend on their neighbors or spell roles in their own way.
  func formatByHand(_ messages: [ChatMessage], addGenerationPrompt: Bool) -> String {
    let prompts = addGenerationPrompt
    switch family {
    case .llama2, .llama2System, .llama2SystemBeginning, .llama2SystemStrip: return llama2(messages)
    case .mistralV1, .mistralV3, .mistralV3Tekken: return mistral(messages)
    case .gemma: return gemma(messages) + (prompts ? "<start_of_turn>model\n" : "")
    case .monarch:
      let turns = messages.enumerated().map { index, message in
        (index == 0 ? "" : "<s>") + "\(message.role)\n\(message.content)</s>\n"
      }
      return turns.joined() + (prompts ? "<s>assistant\n" : "")
    case .orion: return orion(messages)
    case .openChat:
      let turns = messages.map { message in
        if message.role == "system" { return message.content + "<|end_of_turn|>" }
        let role = message.role.prefix(1).uppercased() + message.role.dropFirst()
        return "GPT4 Correct \(role): \(message.content)<|end_of_turn|>"
      }
      return turns.joined() + (prompts ? "GPT4 Correct Assistant:" : "")
    case .rwkvWorld: return rwkvWorld(messages)
    case .gigaChat: return gigaChat(messages) + (prompts ? "assistant<|role_sep|>" : "")
    case .bailing, .bailingThink:
      let turns = messages.map { "<role>\(ChatTemplate.loud($0.role))</role>\($0.content)" }
      let thinks = family == .bailingThink ? "<think>" : ""
      return turns.joined() + (prompts ? "<role>ASSISTANT</role>" + thinks : "")
    case .bailing2:
      let hasSystem = messages.first?.role == "system"
      let turns = messages.map {
        "<role>\(ChatTemplate.loud($0.role))</role>\($0.content)<|role_end|>"
      }
      return (hasSystem ? "" : "<role>SYSTEM</role>detailed thinking off<|role_end|>")
        + turns.joined() + (prompts ? "<role>ASSISTANT</role>" : "")
    case .hunyuanDense: return hunyuanDense(messages)
    case .hunyuanVL: return hunyuanVL(messages)
    case .panguEmbedded: return panguEmbedded(messages) + (prompts ? "[unused9]助手：" : "")
    default: return ""
    }
  }

  /// A role's name in capitals, users being "HUMAN".
  private static func loud(_ role: String) -> String {
    role == "user" ? "HUMAN" : role.uppercased()
  }

  private func llama2(_ messages: [ChatMessage]) -> String {
    var text = "[INST] "
    var isInside = true
    for message in messages {
      let content = family == .llama2SystemStrip ? message.trimmed : message.content
      if !isInside {
        isInside = true
        text += family == .llama2SystemBeginning ? "<s>[INST] " : "[INST] "
      }
      switch message.role {
      case "system":
        text += family == .llama2 ? content + "\n" : "<<SYS>>\n\(content)\n<</SYS>>\n\n"
      case "user": text += content + " [/INST]"
      default:
        text += content + "</s>"
        isInside = false
      }
    }
    return text
  }

  private func mistral(_ messages: [ChatMessage]) -> String {
    let leading = family == .mistralV1 ? " " : ""
    let trailing = family == .mistralV3Tekken ? "" : " "
    var text = ""
    var isInside = false
    for message in messages {
      if !isInside {
        text += leading + "[INST]" + trailing
        isInside = true
      }
      switch message.role {
      case "system": text += message.content + "\n\n"
      case "user": text += message.content + leading + "[/INST]"
      default:
        text += trailing + (family == .mistralV3 ? message.trimmed : message.content) + "</s>"
        isInside = false
      }
    }
    return text
  }

  /// Gemma has no system role: its message begins the next turn of the user.
  private func gemma(_ messages: [ChatMessage]) -> String {
    var text = ""
    var system = ""
    for message in messages {
      if message.role == "system" {
        system += message.trimmed
        continue
      }
      let role = message.role == "assistant" ? "model" : message.role
      text += "<start_of_turn>\(role)\n"
      if !system.isEmpty, role != "model" {
        text += system + "\n\n"
        system = ""
      }
      text += message.trimmed + "<end_of_turn>\n"
    }
    return text
  }

  private func orion(_ messages: [ChatMessage]) -> String {
    var text = ""
    var system = ""
    for message in messages {
      switch message.role {
      case "system": system += message.content
      case "user":
        text += "Human: " + (system.isEmpty ? "" : system + "\n\n")
        system = ""
        text += message.content + "\n\nAssistant: </s>"
      default: text += message.content + "</s>"
      }
    }
    return text
  }

  private func rwkvWorld(_ messages: [ChatMessage]) -> String {
    var text = ""
    for (index, message) in messages.enumerated() {
      switch message.role {
      case "system": text += "System: \(message.trimmed)\n\n"
      case "user":
        text += "User: \(message.trimmed)\n\n"
        if index == messages.count - 1 { text += "Assistant:" }
      case "assistant": text += "Assistant: \(message.trimmed)\n\n"
      default: break
      }
    }
    return text
  }

  private func gigaChat(_ messages: [ChatMessage]) -> String {
    var text = "<s>"
    var rest = messages[...]
    if let first = rest.first, first.role == "system" {
      text += first.content + "<|message_sep|>"
      rest.removeFirst()
    }
    for message in rest {
      switch message.role {
      case "user":
        text += "user<|role_sep|>\(message.content)<|message_sep|>"
        text += "available functions<|role_sep|>[]<|message_sep|>"
      case "assistant": text += "assistant<|role_sep|>\(message.content)<|message_sep|>"
      default: break
      }
    }
    return text
  }

  private func hunyuanDense(_ messages: [ChatMessage]) -> String {
    var text = ""
    for (index, message) in messages.enumerated() {
      switch message.role {
      case "system": if index == 0 { text += message.content + "<｜hy_place▁holder▁no▁3｜>" }
      case "assistant": text += "<｜hy_Assistant｜>\(message.content)<｜hy_place▁holder▁no▁2｜>"
      case "user": text += "<｜hy_User｜>\(message.content)<｜hy_Assistant｜>"
      default: break
      }
    }
    return text
  }

  private func hunyuanVL(_ messages: [ChatMessage]) -> String {
    var text = "<｜hy_begin▁of▁sentence｜>"
    for (index, message) in messages.enumerated() {
      switch message.role {
      case "system": if index == 0 { text += message.content + "<｜hy_place▁holder▁no▁3｜>" }
      case "user": text += message.content + "<｜hy_User｜>"
      case "assistant": text += message.content + "<｜hy_Assistant｜>"
      default: break
      }
    }
    return text
  }

  private func panguEmbedded(_ messages: [ChatMessage]) -> String {
    let names = ["system": "系统", "user": "用户", "assistant": "助手", "tool": "工具", "function": "方法"]
    var text = ""
    if let first = messages.first, first.role != "system" { text += "[unused9]系统：[unused10]" }
    for message in messages {
      guard let name = names[message.role] else { continue }
      text += "[unused9]\(name)：\(message.content)[unused10]"
    }
    return text
  }
}
