import QuantKernels

/// The vocabulary of a synthetic model: three control tokens, the 256 bytes, some merges of
/// English, and filler.
struct SyntheticVocabulary {
  let tokens: [String]
  let merges: [String]

  static let controls = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
  static let minimumSize = controls.count + 256 + pairs.count

  /// Each pair joins two tokens that stand before it.
  private static let pairs: [(String, String)] = [
    ("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("i", "n"), ("a", "n"), ("Ġ", "a"), ("e", "r"),
    ("o", "n"),
    ("Ġ", "s"), ("r", "e"), ("Ġa", "n"), ("Ġan", "d"), ("o", "r"), ("e", "n"), ("in", "g"),
    ("Ġ", "o"),
    ("e", "s"), ("Ġ", "w"), ("Ġo", "f"), ("Ġ", "i"), ("Ġi", "s"), ("a", "t"), ("o", "u"),
    ("Ġt", "o"),
  ]

  /// The characters that stand for the 256 bytes in byte-level BPE: printable Latin-1 for itself,
  /// the others from U+0100 on.
  static let byteCharacters: [String] = {
    var next: UInt32 = 0x100
    return (UInt32(0)..<256).map { byte in
      let printable = (0x21...0x7E) ~= byte || (0xA1...0xAC) ~= byte || (0xAE...0xFF) ~= byte
      let scalar = printable ? byte : next
      if !printable { next += 1 }
      return Unicode.Scalar(scalar).map { String(Character($0)) } ?? ""
    }
  }()

  init(size: Int) {
    var tokens = Self.controls + Self.byteCharacters
    tokens += Self.pairs.map { $0.0 + $0.1 }
    merges = Self.pairs.map { "\($0.0) \($0.1)" }
    // Words of syllables, numbered in a base of 70 syllables: distinct, and unlike the byte tokens.
    let consonants = Array("bdfgklmnprstvz")
    let vowels = Array("aeiou")
    var number = 0
    while tokens.count < size {
      var word = ""
      var left = number + consonants.count * vowels.count
      while left > 0 {
        word.append(consonants[left % consonants.count])
        left /= consonants.count
        word.append(vowels[left % vowels.count])
        left /= vowels.count
      }
      tokens.append("Ġ" + word)
      number += 1
    }
    self.tokens = tokens
  }

  func addMetadata(
    to writer: inout GGUFWriter, pre: String, addsBeginningOfSequence: Bool,
    hasBeginningOfSequence: Bool
  ) throws(QuantError) {
    try writer.set("tokenizer.ggml.model", .text("gpt2"))
    try writer.set("tokenizer.ggml.pre", .text(pre))
    try writer.set("tokenizer.ggml.tokens", .array(.string, tokens.map { .text($0) }))
    // 1 is an ordinary token, 3 a control token.
    try writer.set(
      "tokenizer.ggml.token_type",
      .array(.int32, tokens.indices.map { .int32($0 < Self.controls.count ? 3 : 1) }))
    try writer.set("tokenizer.ggml.merges", .array(.string, merges.map { .text($0) }))
    if hasBeginningOfSequence { try writer.set("tokenizer.ggml.bos_token_id", .uint32(1)) }
    try writer.set("tokenizer.ggml.eos_token_id", .uint32(2))
    try writer.set("tokenizer.ggml.unknown_token_id", .uint32(0))
    try writer.set("tokenizer.ggml.add_bos_token", .bool(addsBeginningOfSequence))
    try writer.set("tokenizer.ggml.add_space_prefix", .bool(false))
    try writer.set(
      "tokenizer.chat_template",
      .text(
        "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + "
          + "message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
          + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"))
  }
}
