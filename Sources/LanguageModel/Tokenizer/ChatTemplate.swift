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
    /// llama.cpp's `chatml`.
    case chatML = "chatml"
    /// llama.cpp's `llama2`.
    case llama2 = "llama2"
    /// llama.cpp's `llama2-sys`.
    case llama2System = "llama2-sys"
    /// llama.cpp's `llama2-sys-bos`.
    case llama2SystemBeginning = "llama2-sys-bos"
    /// llama.cpp's `llama2-sys-strip`.
    case llama2SystemStrip = "llama2-sys-strip"
    /// llama.cpp's `mistral-v1`.
    case mistralV1 = "mistral-v1"
    /// llama.cpp's `mistral-v3`.
    case mistralV3 = "mistral-v3"
    /// llama.cpp's `mistral-v3-tekken`.
    case mistralV3Tekken = "mistral-v3-tekken"
    /// llama.cpp's `mistral-v7`.
    case mistralV7 = "mistral-v7"
    /// llama.cpp's `mistral-v7-tekken`.
    case mistralV7Tekken = "mistral-v7-tekken"
    /// llama.cpp's `phi3`.
    case phi3 = "phi3"
    /// llama.cpp's `phi4`.
    case phi4 = "phi4"
    /// llama.cpp's `falcon3`.
    case falcon3 = "falcon3"
    /// llama.cpp's `zephyr`.
    case zephyr = "zephyr"
    /// llama.cpp's `monarch`.
    case monarch = "monarch"
    /// llama.cpp's `gemma`.
    case gemma = "gemma"
    /// llama.cpp's `orion`.
    case orion = "orion"
    /// llama.cpp's `openchat`.
    case openChat = "openchat"
    /// llama.cpp's `vicuna`.
    case vicuna = "vicuna"
    /// llama.cpp's `vicuna-orca`.
    case vicunaOrca = "vicuna-orca"
    /// llama.cpp's `deepseek`.
    case deepSeek = "deepseek"
    /// llama.cpp's `deepseek2`.
    case deepSeek2 = "deepseek2"
    /// llama.cpp's `deepseek3`.
    case deepSeek3 = "deepseek3"
    /// llama.cpp's `command-r`.
    case commandR = "command-r"
    /// llama.cpp's `llama3`.
    case llama3 = "llama3"
    /// llama.cpp's `chatglm3`.
    case chatGLM3 = "chatglm3"
    /// llama.cpp's `chatglm4`.
    case chatGLM4 = "chatglm4"
    /// llama.cpp's `glmedge`.
    case glmEdge = "glmedge"
    /// llama.cpp's `minicpm`.
    case miniCPM = "minicpm"
    /// llama.cpp's `exaone3`.
    case exaone3 = "exaone3"
    /// llama.cpp's `exaone4`.
    case exaone4 = "exaone4"
    /// llama.cpp's `exaone-moe`.
    case exaoneMoE = "exaone-moe"
    /// llama.cpp's `rwkv-world`.
    case rwkvWorld = "rwkv-world"
    /// llama.cpp's `granite`.
    case granite = "granite"
    /// llama.cpp's `granite-4.0`.
    case granite40 = "granite-4.0"
    /// llama.cpp's `granite-4.1`.
    case granite41 = "granite-4.1"
    /// llama.cpp's `gigachat`.
    case gigaChat = "gigachat"
    /// llama.cpp's `megrez`.
    case megrez = "megrez"
    /// llama.cpp's `yandex`.
    case yandex = "yandex"
    /// llama.cpp's `bailing`.
    case bailing = "bailing"
    /// llama.cpp's `bailing-think`.
    case bailingThink = "bailing-think"
    /// llama.cpp's `bailing2`.
    case bailing2 = "bailing2"
    /// llama.cpp's `llama4`.
    case llama4 = "llama4"
    /// llama.cpp's `smolvlm`.
    case smolVLM = "smolvlm"
    /// llama.cpp's `dots1`.
    case dots1 = "dots1"
    /// llama.cpp's `hunyuan-moe`.
    case hunyuanMoE = "hunyuan-moe"
    /// llama.cpp's `gpt-oss`.
    case gptOSS = "gpt-oss"
    /// llama.cpp's `hunyuan-dense`.
    case hunyuanDense = "hunyuan-dense"
    /// llama.cpp's `hunyuan-vl`.
    case hunyuanVL = "hunyuan-vl"
    /// llama.cpp's `kimi-k2`.
    case kimiK2 = "kimi-k2"
    /// llama.cpp's `seed_oss`.
    case seedOSS = "seed_oss"
    /// llama.cpp's `grok-2`.
    case grok2 = "grok-2"
    /// llama.cpp's `pangu-embedded`.
    case panguEmbedded = "pangu-embedded"
    /// llama.cpp's `solar-open`.
    case solarOpen = "solar-open"
  }

  /// How turns are marked.
  public let family: Family
  /// What the template says when a conversation does not begin with a system message.
  public let defaultSystemMessage: String?

  /// A template of a known family.
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
  /// - Parameters:
  ///   - addGenerationPrompt: whether the text ends where the assistant is to speak. Some families
  ///     end there anyway.
  ///   - messages: the turns, the first one first.
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
