extension ChatTemplate.Family {
  /// The family of a program in Jinja, by the marks it writes. The order decides where marks are
  /// shared.
  static func recognized(in template: String) -> ChatTemplate.Family? {
    let text = Array(template.utf8)
    func has(_ marks: String...) -> Bool { marks.allSatisfy { contains(text, Array($0.utf8)) } }
    if has("<|im_start|>") {
      if has("<|im_sep|>") { return .phi4 }
      // SmolVLM begins with this mark but is no ChatML.
      return has("<end_of_utterance>") ? .smolVLM : .chatML
    }
    if text.starts(with: Array("mistral".utf8)) || has("[INST]") { return instructed(has) }
    if has("<|assistant|>", "<|end|>") { return .phi3 }
    if has("[gMASK]<sop>") { return .chatGLM4 }
    if has("<|assistant|>", "<|user|>") {
      if has("<|tool_declare|>") { return .exaoneMoE }
      return has("</s>") ? .falcon3 : .glmEdge
    }
    if has("<|{{ item['role'] }}|>", "<|begin_of_image|>") { return .glmEdge }
    if has("<|user|>", "<|endoftext|>") { return .zephyr }
    if has("bos_token + message['role']") { return .monarch }
    if has("<start_of_turn>") { return .gemma }
    if has("'\\n\\nAssistant: ' + eos_token") { return .orion }
    if has("GPT4 Correct ") { return .openChat }
    if has("USER: ", "ASSISTANT: ") { return has("SYSTEM: ") ? .vicunaOrca : .vicuna }
    if has("### Instruction:", "<|EOT|>") { return .deepSeek }
    if has("<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>") { return .commandR }
    if has("<|start_header_id|>", "<|end_header_id|>") { return .llama3 }
    if has("[gMASK]sop") { return .chatGLM3 }
    if has("<用户>") { return .miniCPM }
    if has("'Assistant: ' + message['content'] + eos_token") { return .deepSeek2 }
    if has("<｜Assistant｜>", "<｜User｜>", "<｜end▁of▁sentence｜>") { return .deepSeek3 }
    if has("[|system|]", "[|assistant|]", "[|endofturn|]") {
      return has("[|tool|]") ? .exaone4 : .exaone3
    }
    return recognizedRarely(has)
  }

  /// Llama 2 and Mistral share their marks.
  private static func instructed(_ has: (String...) -> Bool) -> ChatTemplate.Family {
    if has("[SYSTEM_PROMPT]") { return .mistralV7 }
    if has("' [INST] ' + system_message") || has("[AVAILABLE_TOOLS]") {
      if has(" [INST]") { return .mistralV1 }
      return has("\"[INST]\"") ? .mistralV3Tekken : .mistralV3
    }
    if has("content.strip()") { return .llama2SystemStrip }
    if has("bos_token + '[INST]") { return .llama2SystemBeginning }
    return has("<<SYS>>") ? .llama2System : .llama2
  }

  private static func recognizedRarely(_ has: (String...) -> Bool) -> ChatTemplate.Family? {
    if has("rwkv-world") || has("{{- 'User: ' + message['content']|trim + '\\n\\n' -}}") {
      return .rwkvWorld
    }
    if has("<|start_of_role|>") {
      if has("<tool_call>") || has("<tools>") {
        return has("g4_default_system_message") ? .granite40 : .granite41
      }
      return .granite
    }
    if has(
      "message['role'] + additional_special_tokens[0] + message['content']"
        + " + additional_special_tokens[1]")
    {
      return .gigaChat
    }
    if has("<|role_start|>") { return .megrez }
    if has(" Ассистент:") { return .yandex }
    if has("<role>ASSISTANT</role>") {
      if has("'HUMAN'") { return .bailing }
      if has("\"HUMAN\"", "<think>") { return .bailingThink }
      if has("<role>HUMAN</role>", "<|role_end|>") { return .bailing2 }
    }
    if has("<|header_start|>", "<|header_end|>") { return .llama4 }
    if has("<|endofuserprompt|>") { return .dots1 }
    if has("<|extra_0|>", "<|extra_4|>") { return .hunyuanMoE }
    if has("<|start|>", "<|channel|>") { return .gptOSS }
    if has("<｜hy_Assistant｜>", "<｜hy_begin▁of▁sentence｜>") { return .hunyuanVL }
    if has("<｜hy_Assistant｜>", "<｜hy_place▁holder▁no▁3｜>") { return .hunyuanDense }
    if has("<|im_assistant|>assistant<|im_middle|>") { return .kimiK2 }
    if has("<seed:bos>") { return .seedOSS }
    if has("'Assistant: '  + message['content'] + '<|separator|>") { return .grok2 }
    if has("[unused9]系统：[unused10]") { return .panguEmbedded }
    if has("<|begin|>", "<|end|>", "<|content|>") { return .solarOpen }
    return nil
  }

  private static func contains(_ text: [UInt8], _ part: [UInt8]) -> Bool {
    guard let first = part.first, part.count <= text.count else { return part.isEmpty }
    return text.withUnsafeBufferPointer { text in
      part.withUnsafeBufferPointer { part in
        for start in 0...(text.count - part.count) where text[start] == first {
          if text[start..<(start + part.count)].elementsEqual(part) { return true }
        }
        return false
      }
    }
  }
}
