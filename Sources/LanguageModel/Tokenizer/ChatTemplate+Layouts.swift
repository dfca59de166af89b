extension ChatTemplate.Family {
  /// The family's layout, where its turns depend on their roles only.
  var layout: ChatLayout? {
    typealias Turn = ChatLayout.Turn
    switch self {
    case .chatML:
      return ChatLayout("<|im_start|>{role}\n", "<|im_end|>\n", "<|im_start|>assistant\n")
    case .mistralV7:
      return ChatLayout(
        system: Turn("[SYSTEM_PROMPT] ", "[/SYSTEM_PROMPT]"), user: Turn("[INST] ", "[/INST]"),
        others: Turn(" ", "</s>"), "")
    case .mistralV7Tekken:
      return ChatLayout(
        system: Turn("[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"), user: Turn("[INST]", "[/INST]"),
        others: Turn("", "</s>"), "")
    case .phi3: return ChatLayout("<|{role}|>\n", "<|end|>\n", "<|assistant|>\n")
    case .phi4:
      return ChatLayout(
        "<|im_start|>{role}<|im_sep|>", "<|im_end|>", "<|im_start|>assistant<|im_sep|>")
    case .falcon3: return ChatLayout("<|{role}|>\n", "\n", "<|assistant|>\n")
    case .zephyr: return ChatLayout("<|{role}|>\n", "<|endoftext|>\n", "<|assistant|>\n")
    case .llama3:
      return ChatLayout(
        "<|start_header_id|>{role}<|end_header_id|>\n\n", "<|eot_id|>", trims: true,
        "<|start_header_id|>assistant<|end_header_id|>\n\n")
    case .llama4:
      return ChatLayout(
        "<|header_start|>{role}<|header_end|>\n\n", "<|eot|>", trims: true,
        "<|header_start|>assistant<|header_end|>\n\n")
    case .vicuna, .vicunaOrca:
      return ChatLayout(
        system: self == .vicuna ? Turn("", "\n\n") : Turn("SYSTEM: ", "\n"),
        user: Turn("USER: ", "\n"), assistant: Turn("ASSISTANT: ", "</s>\n"), "ASSISTANT:")
    case .deepSeek:
      return ChatLayout(
        system: Turn(""), user: Turn("### Instruction:\n", "\n"),
        assistant: Turn("### Response:\n", "\n<|EOT|>\n"), "### Response:\n")
    case .deepSeek2:
      return ChatLayout(
        system: Turn("", "\n\n"), user: Turn("User: ", "\n\n"),
        assistant: Turn("Assistant: ", "<｜end▁of▁sentence｜>"), "Assistant:")
    case .deepSeek3:
      return ChatLayout(
        system: Turn("", "\n\n"), user: Turn("<｜User｜>"),
        assistant: Turn("<｜Assistant｜>", "<｜end▁of▁sentence｜>"), "<｜Assistant｜>")
    case .commandR:
      let start = "<|START_OF_TURN_TOKEN|>"
      let end = "<|END_OF_TURN_TOKEN|>"
      return ChatLayout(
        system: Turn(start + "<|SYSTEM_TOKEN|>", end, trims: true),
        user: Turn(start + "<|USER_TOKEN|>", end, trims: true),
        assistant: Turn(start + "<|CHATBOT_TOKEN|>", end, trims: true),
        start + "<|CHATBOT_TOKEN|>")
    case .chatGLM3:
      return ChatLayout(opening: "[gMASK]sop", "<|{role}|>\n ", "", "<|assistant|>")
    case .chatGLM4:
      return ChatLayout(opening: "[gMASK]<sop>", "<|{role}|>\n", "", "<|assistant|>\n")
    case .glmEdge: return ChatLayout("<|{role}|>\n", "", "<|assistant|>")
    case .miniCPM:
      return ChatLayout(
        user: Turn("<用户>", "<AI>", trims: true), others: Turn("", "", trims: true), "")
    case .granite, .granite40, .granite41:
      let name = self == .granite ? "{role}" : "assistant"
      var layout = ChatLayout(
        "<|start_of_role|>{role}<|end_of_role|>", "<|end_of_text|>\n",
        "<|start_of_role|>assistant<|end_of_role|>")
      layout.turns["assistant_tool_call"] = Turn(
        "<|start_of_role|>\(name)<|end_of_role|><|tool_call|>", "<|end_of_text|>\n")
      return layout
    case .seedOSS:
      return ChatLayout(
        assistant: Turn("<seed:bos>{role}\n", "<seed:eos>", trims: true),
        others: Turn("<seed:bos>{role}\n", "<seed:eos>"), "<seed:bos>assistant\n")
    case .gptOSS:
      return ChatLayout(
        assistant: Turn("<|start|>{role}<|message|>", "<|return|>"),
        others: Turn("<|start|>{role}<|message|>", "<|end|>"), "<|start|>assistant")
    default: return rareLayout
    }
  }

  private var rareLayout: ChatLayout? {
    typealias Turn = ChatLayout.Turn
    switch self {
    case .exaone3, .exaone4:
      let end = "[|endofturn|]\n"
      return ChatLayout(
        system: Turn("[|system|]", end, trims: true), user: Turn("[|user|]", "\n", trims: true),
        assistant: Turn("[|assistant|]", end, trims: true),
        tool: self == .exaone4 ? Turn("[|tool|]", end, trims: true) : nil, "[|assistant|]")
    case .exaoneMoE:
      let turn = Turn("<|{role}|>\n", "<|endofturn|>\n", trims: true)
      return ChatLayout(
        system: turn, user: turn, assistant: turn, tool: turn, "<|assistant|>\n")
    case .megrez:
      return ChatLayout(
        "<|role_start|>{role}<|role_end|>", "<|turn_end|>",
        "<|role_start|>assistant<|role_end|>")
    case .yandex:
      return ChatLayout(
        user: Turn(" Пользователь: ", "\n\n"), assistant: Turn(" Ассистент: ", "\n\n"),
        " Ассистент:[SEP]")
    case .smolVLM:
      return ChatLayout(
        opening: "<|im_start|>", system: Turn("", "\n\n"),
        user: Turn("User: ", "<end_of_utterance>\n"),
        others: Turn("Assistant: ", "<end_of_utterance>\n"), "Assistant:")
    case .dots1:
      return ChatLayout(
        system: Turn("<|system|>", "<|endofsystem|>"),
        user: Turn("<|userprompt|>", "<|endofuserprompt|>"),
        others: Turn("<|response|>", "<|endofresponse|>"), "<|response|>")
    case .hunyuanMoE:
      return ChatLayout(
        system: Turn("<|startoftext|>", "<|extra_4|>"), assistant: Turn("", "<|eos|>"),
        others: Turn("<|startoftext|>", "<|extra_0|>"), "")
    case .kimiK2:
      return ChatLayout(
        system: Turn("<|im_system|>system<|im_middle|>", "<|im_end|>"),
        user: Turn("<|im_user|>user<|im_middle|>", "<|im_end|>"),
        assistant: Turn("<|im_assistant|>assistant<|im_middle|>", "<|im_end|>"),
        tool: Turn("<|im_system|>tool<|im_middle|>", "<|im_end|>"), others: Turn("", "<|im_end|>"),
        "<|im_assistant|>assistant<|im_middle|>")
    case .grok2:
      let end = "<|separator|>\n\n"
      return ChatLayout(
        system: Turn("System: ", end, trims: true), user: Turn("Human: ", end, trims: true),
        assistant: Turn("Assistant: ", end), "Assistant:")
    case .solarOpen:
      return ChatLayout("<|begin|>{role}<|content|>", "<|end|>", "<|begin|>assistant")
    default: return nil
    }
  }
}
