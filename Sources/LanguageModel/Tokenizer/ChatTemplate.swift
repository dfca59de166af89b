import QuantKernels

/// How a conversation becomes the text a model was trained on, by family.
///
/// Files carry their template as a program in Jinja. As llama.cpp does, this does not run it: it
/// recognizes the family by what the program contains and formats by hand, with the same result as
/// llama.cpp's. One thing is added: where a ChatML template itself states a system message for
/// conversations without one, that message is used (``defaultSystemMessage``).
///
/// The text holds no beginning-of-sequence token except inside a history; add
/// ``Tokenizer/beginningOfSequence`` where ``Tokenizer/addsBeginningOfSequence`` says so, and encode
/// with `parseSpecial: true`.
public struct ChatTemplate: Sendable, Equatable {
  /// The families, by llama.cpp's names for them.
  public enum Family: String, Sendable, CaseIterable {
    case chatML = "chatml"
    case llama2 = "llama2"
    case llama2System = "llama2-sys"
    case llama2SystemBeginning = "llama2-sys-bos"
    case llama2SystemStrip = "llama2-sys-strip"
    case mistralV1 = "mistral-v1"
    case mistralV3 = "mistral-v3"
    case mistralV3Tekken = "mistral-v3-tekken"
    case mistralV7 = "mistral-v7"
    case mistralV7Tekken = "mistral-v7-tekken"
    case phi3 = "phi3"
    case phi4 = "phi4"
    case falcon3 = "falcon3"
    case zephyr = "zephyr"
    case monarch = "monarch"
    case gemma = "gemma"
    case orion = "orion"
    case openChat = "openchat"
    case vicuna = "vicuna"
    case vicunaOrca = "vicuna-orca"
    case deepSeek = "deepseek"
    case deepSeek2 = "deepseek2"
    case deepSeek3 = "deepseek3"
    case commandR = "command-r"
    case llama3 = "llama3"
    case chatGLM3 = "chatglm3"
    case chatGLM4 = "chatglm4"
    case glmEdge = "glmedge"
    case miniCPM = "minicpm"
    case exaone3 = "exaone3"
    case exaone4 = "exaone4"
    case exaoneMoE = "exaone-moe"
    case rwkvWorld = "rwkv-world"
    case granite = "granite"
    case granite40 = "granite-4.0"
    case granite41 = "granite-4.1"
    case gigaChat = "gigachat"
    case megrez = "megrez"
    case yandex = "yandex"
    case bailing = "bailing"
    case bailingThink = "bailing-think"
    case bailing2 = "bailing2"
    case llama4 = "llama4"
    case smolVLM = "smolvlm"
    case dots1 = "dots1"
    case hunyuanMoE = "hunyuan-moe"
    case gptOSS = "gpt-oss"
    case hunyuanDense = "hunyuan-dense"
    case hunyuanVL = "hunyuan-vl"
    case kimiK2 = "kimi-k2"
    case seedOSS = "seed_oss"
    case grok2 = "grok-2"
    case panguEmbedded = "pangu-embedded"
    case solarOpen = "solar-open"
  }

  public let family: Family
  /// What the template says when a conversation does not begin with a system message.
  public let defaultSystemMessage: String?

  public init(family: Family, defaultSystemMessage: String? = nil) {
    self.family = family
    self.defaultSystemMessage = defaultSystemMessage
  }

  /// Recognizes a template: a program in Jinja, or a family's name.
  ///
  /// - Throws: `unsupported` when it is of no known family.
  public init(template: String) throws(QuantError) {
    guard let family = Family(rawValue: template) ?? Family.recognized(in: template) else {
      throw QuantError(
        .unsupported, "tokenizer.chat_template", "the chat template is of no known family",
        remedy: "format the prompt yourself and switch the chat template off")
    }
    self.family = family
    defaultSystemMessage = family == .chatML ? ChatTemplate.defaultSystem(in: template) : nil
  }

  /// Recognizes a model file's template.
  ///
  /// - Throws: `invalidData` when the file has none, `unsupported` when it is of no known family.
  public init(metadata: some TokenizerMetadata) throws(QuantError) {
    guard let template = metadata.string("tokenizer.chat_template") else {
      throw QuantError(
        .invalidData, "tokenizer.chat_template", "the file has no chat template",
        remedy: "use an instruction-tuned model, or switch the chat template off")
    }
    try self.init(template: template)
  }

  /// The text of a conversation.
  ///
  /// - Parameter addGenerationPrompt: whether the text ends where the assistant is to speak. Some
  ///   families end there anyway.
  public func format(_ messages: [ChatMessage], addGenerationPrompt: Bool) -> String {
    var messages = messages
    if let defaultSystemMessage, let first = messages.first, first.role != "system" {
      messages.insert(.system(defaultSystemMessage), at: 0)
    }
    if let layout = family.layout {
      return layout.format(messages, addGenerationPrompt: addGenerationPrompt)
    }
    return formatByHand(messages, addGenerationPrompt: addGenerationPrompt)
  }

  /// A literal system turn in a ChatML program: `'<|im_start|>system\n … <|im_end|>`, with no end
  /// of the string or the statement inside.
  static func defaultSystem(in template: String) -> String? {
    let text = Array(template.utf8)
    let marker = Array("<|im_start|>system".utf8)
    let end = Array("<|im_end|>".utf8)
    for start in text.indices where text[start...].starts(with: marker) {
      let quote = start > 0 ? text[start - 1] : 0
      let isQuoted = quote == UInt8(ascii: "'") || quote == UInt8(ascii: "\"")
      var content: [UInt8] = []
      var index = start + marker.count
      while index < text.count {
        if text[index...].starts(with: end) {
          // A system turn has a line break before its message.
          guard content.first == 0x0A, content.count > 1 else { break }
          return String(decoding: content.dropFirst(), as: UTF8.self)
        }
        let byte = text[index]
        if isQuoted, byte == UInt8(ascii: "\\"), index + 1 < text.count {
          let escaped = text[index + 1]
          content.append(
            escaped == UInt8(ascii: "n") ? 0x0A : escaped == UInt8(ascii: "t") ? 0x09 : escaped)
          index += 2
          continue
        }
        if isQuoted ? byte == quote : byte == UInt8(ascii: "{") { break }
        content.append(byte)
        index += 1
      }
    }
    return nil
  }
}
