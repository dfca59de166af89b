import LanguageModel
import QuantKernels

/// Text of any bytes through a byte-level and a SentencePiece tokenizer: ids are in the vocabulary, and
/// valid UTF-8 comes back.
func test(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  guard count > 0, let start else { return 0 }
  // The first byte chooses, the rest is the text.
  let tokenizer = tokenizers[Int(start[0] >> 1) % tokenizers.count]
  let text = Array(UnsafeBufferPointer(start: start + 1, count: count - 1))
  let ids = tokenizer.encode(text, parseSpecial: start[0] & 1 != 0)
  precondition(ids.allSatisfy { $0 >= 0 && Int($0) < tokenizer.vocabularySize })
  let decoded = tokenizer.decode(ids, includeSpecial: true)
  let isSentencePiece = tokenizer.addsSpacePrefix
  if start[0] & 1 == 0, !isSentencePiece, String(validating: text, as: UTF8.self) != nil,
    // U+0000 ends a text where the vocabulary has no token for it.
    !text.contains(0)
  {
    precondition(decoded == text, "\(text) came back as \(decoded)")
  }
  return 0
}

private let tokenizers: [Tokenizer] = {
  do {
    var list: [Tokenizer] = []
    for architecture in [ModelConfiguration.Architecture.llama, .qwen2] {
      let file = try GGUFFile(bytes: SyntheticModel(architecture).serialized(), name: "synthetic")
      list.append(try Tokenizer(metadata: file.metadata))
    }
    var pieces =
      ["<unk>", "<s>", "</s>"]
      + (0..<256).map { byte in
        let digits = String(byte, radix: 16, uppercase: true)
        return "<0x" + (byte < 16 ? "0" : "") + digits + ">"
      }
    let words = ["▁", "e", "▁t", "he", "▁the", "in", "er", "▁a", "é", "日", "本", "日本", "🙂"]
    pieces += words
    var writer = GGUFWriter()
    try writer.set("tokenizer.ggml.model", .text("llama"))
    try writer.set("tokenizer.ggml.tokens", .array(.string, pieces.map { .text($0) }))
    try writer.set(
      "tokenizer.ggml.scores", .array(.float32, pieces.indices.map { .float32(-Float($0)) }))
    try writer.set(
      "tokenizer.ggml.token_type",
      // Unknown, control, byte, normal.
      .array(
        .int32, pieces.indices.map { .int32($0 == 0 ? 2 : $0 < 3 ? 3 : $0 < 259 ? 6 : 1) }))
    let file = try GGUFFile(bytes: writer.serialized(), name: "pieces")
    list.append(try Tokenizer(metadata: file.metadata))
    return list
  } catch {
    fatalError("\(error)")
  }
}()
