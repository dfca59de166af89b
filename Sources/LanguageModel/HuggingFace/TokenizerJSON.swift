import QuantKernels

/// `tokenizer.json` of a Hugging Face directory, read once from front to back.
///
/// Format: huggingface/tokenizers, `Tokenizer::from_file`. Byte pair encoding only.
struct TokenizerJSON {
  /// A token that is found in text before anything else.
  struct AddedToken {
    let id: Int
    let content: [UInt8]
    let isSpecial: Bool
  }

  /// Largest published ones have some 35 MB.
  static let maximumFileBytes = 512 << 20

  let path: String
  private(set) var addedTokens: [AddedToken] = []
  private(set) var normalizer: JSONTree = .null
  private(set) var preTokenizer: JSONTree = .null
  private(set) var postProcessor: JSONTree = .null
  private(set) var vocabulary: [(text: [UInt8], id: Int)] = []
  private(set) var merges: [(left: [UInt8], right: [UInt8])] = []
  private(set) var unknownToken: [UInt8]?
  private(set) var fallsBackToBytes = false
  private(set) var ignoresMerges = false

  /// - Throws: ``QuantError`` `.missingFile`; `.invalidData` for a file that is damaged;
  ///   `.unsupported` for a model other than BPE, or a feature of it that is not run.
  /// - Complexity: O(bytes).
  init(path: String) throws(QuantError) {
    self.path = path
    let file = try MappedFile(path: path)
    defer { withExtendedLifetime(file) {} }
    guard file.bytes.count <= Self.maximumFileBytes else {
      throw QuantError(
        .invalidData, path, "has \(file.bytes.count) bytes, too many for a tokenizer",
        remedy: "fetch the file again")
    }
    var json = JSONCursor(file.bytes, file: path)
    var hasModel = false
    try json.expect("{")
    var first = true
    while let key = try json.key(&first) {
      switch key {
      case "added_tokens": try readAddedTokens(&json)
      case "normalizer": normalizer = try JSONTree(&json)
      case "pre_tokenizer": preTokenizer = try JSONTree(&json)
      case "post_processor": postProcessor = try JSONTree(&json)
      case "model":
        guard !hasModel else { throw json.error("'model' appears twice") }
        hasModel = true
        try readModel(&json)
      default: try json.skipValue()
      }
    }
    try json.expectEnd()
    guard hasModel else { throw json.error("there is no 'model'") }
  }

  func unsupported(_ key: String, _ problem: String) -> QuantError {
    QuantError(
      .unsupported, "\(path): \(key)", problem,
      remedy: "use a model whose tokenizer is plain byte pair encoding")
  }

  private mutating func readAddedTokens(_ json: inout JSONCursor) throws(QuantError) {
    try json.expect("[")
    var first = true
    while try json.element(&first) {
      let tree = try JSONTree(&json)
      guard let id = tree["id"]?.integer, id >= 0, let content = tree["content"]?.text else {
        throw json.error("an added token lacks its 'id' or 'content'")
      }
      for key in ["lstrip", "rstrip", "single_word"] where tree[key]?.bool == true {
        throw unsupported("added_tokens", "\(quoted(content)) has '\(key)', which is not run")
      }
      addedTokens.append(
        AddedToken(
          id: id, content: Array(content.utf8), isSpecial: tree["special"]?.bool ?? false))
    }
  }

  private mutating func readModel(_ json: inout JSONCursor) throws(QuantError) {
    var type = "BPE"
    try json.expect("{")
    var first = true
    while let key = try json.key(&first) {
      switch key {
      case "type": type = try json.string()
      case "vocab" where json.peek() == UInt8(ascii: "{"): try readVocabulary(&json)
      case "merges": try readMerges(&json)
      case "unk_token":
        if try !json.takeNull() { unknownToken = Array(try json.string().utf8) }
      case "byte_fallback":
        if try !json.takeNull() { fallsBackToBytes = try json.bool() }
      case "ignore_merges":
        if try !json.takeNull() { ignoresMerges = try json.bool() }
      case "continuing_subword_prefix", "end_of_word_suffix":
        if try !json.takeNull(), try json.string() != "" {
          throw unsupported("model.\(key)", "parts of words are not marked")
        }
      case "dropout":
        let dropout = try JSONTree(&json)
        guard dropout == .null || dropout.double == 0 else {
          throw unsupported("model.dropout", "merges are not dropped at random")
        }
      default: try json.skipValue()
      }
    }
    guard type == "BPE" else {
      throw unsupported("model.type", "\(quoted(type)) is not run")
    }
  }

  private mutating func readVocabulary(_ json: inout JSONCursor) throws(QuantError) {
    guard vocabulary.isEmpty else { throw json.error("'vocab' appears twice") }
    try json.expect("{")
    var first = true
    while let text = try json.key(&first) {
      vocabulary.append((Array(text.utf8), try json.size()))
    }
  }

  private mutating func readMerges(_ json: inout JSONCursor) throws(QuantError) {
    guard merges.isEmpty else { throw json.error("'merges' appears twice") }
    try json.expect("[")
    var first = true
    while try json.element(&first) {
      if json.peek() == UInt8(ascii: "[") {
        try json.expect("[")
        let left = Array(try json.string().utf8)
        try json.expect(",")
        let right = Array(try json.string().utf8)
        try json.expect("]")
        guard !left.contains(0x20), !right.contains(0x20) else {
          throw json.error("a merge's part holds a space")
        }
        merges.append((left, right))
      } else {
        let text = Array(try json.string().utf8)
        let parts = text.split(separator: 0x20, omittingEmptySubsequences: false)
        // The first line of old files.
        if text.starts(with: Array("#version".utf8)) { continue }
        guard parts.count == 2, !parts[0].isEmpty, !parts[1].isEmpty else {
          throw json.error("a merge is not two texts with a space between")
        }
        merges.append((Array(parts[0]), Array(parts[1])))
      }
    }
  }
}
