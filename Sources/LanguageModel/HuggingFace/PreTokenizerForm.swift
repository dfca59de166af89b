import QuantKernels

/// How a byte-level `tokenizer.json` cuts text into words, and the names that ``PreTokenizer`` has for
/// the same.
///
/// The regular expressions are those of the published tokenizers; one that is not listed is refused by
/// its text, since no other rule would give the same ids.
enum PreTokenizerForm: CaseIterable {
  case gpt2
  case digitsThenGPT2
  case llama3
  case qwen2
  case gpt4o
  case tekken
  case deepSeek3

  /// The names of ``PreTokenizer`` that cut alike, the first one for files that are made here.
  private var names: [String] {
    switch self {
    case .gpt2:
      [
        "gpt-2", "phi-2", "jina-es", "jina-de", "gigachat", "jina-v2-es", "jina-v2-de", "a.x-4.0",
        "mellum", "modern-bert", "jina-v1-en", "jina-v2-code", "roberta-bpe", "exaone4", "mpt",
        "olmo", "jais", "trillion", "granite-docling",
      ]
    case .digitsThenGPT2:
      [
        "smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b",
        "mellum2",
      ]
    case .llama3:
      [
        "llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2",
        "jina-v5-nano", "dbrx", "smaug-bpe",
      ]
    case .qwen2:
      [
        "qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2", "hunyuan",
        "solar-open", "grok-2", "bailingmoe", "bailingmoe2", "llada-moe",
      ]
    case .gpt4o: ["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"]
    case .tekken: ["tekken"]
    case .deepSeek3: ["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"]
    }
  }

  /// Names that merge words although they are tokens, unlike others of their form.
  private static let merging: Set<String> = ["dbrx", "smaug-bpe"]

  /// Whether a word that is a token is not merged, in files of this name.
  static func ignoresMerges(_ name: String) -> Bool {
    form(named: name).map { $0.ignoresMergesByDefault && !merging.contains(name) } ?? false
  }

  private var ignoresMergesByDefault: Bool { self == .llama3 || self == .tekken }

  static func form(named name: String) -> PreTokenizerForm? {
    allCases.first { $0.names.contains(name) }
  }

  /// The name for this form, or nil where none has it with this treatment of merges.
  func name(ignoringMerges: Bool) -> String? {
    if ignoringMerges == ignoresMergesByDefault { return names[0] }
    return self == .llama3 ? "dbrx" : nil
  }

  // MARK: In tokenizer.json

  /// Stages before the bytes are spelled: a regular expression, or nil for single digits.
  private var splits: [String?] {
    switch self {
    case .gpt2: []
    case .digitsThenGPT2: [nil]
    case .llama3:
      [
        #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"#
          + #" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
      ]
    case .qwen2:
      [
        #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"#
          + #" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
      ]
    case .gpt4o:
      [
        #"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"#
          + #"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"#
          + #"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"#
          + #"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|"#
          + #"\s*[\r\n]+|\s+(?!\S)|\s+"#
      ]
    case .tekken:
      [
        #"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"#
          + #"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"#
          + #"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
      ]
    case .deepSeek3:
      [
        #"\p{N}{1,3}"#, "[一-龥぀-ゟ゠-ヿ]+",
        ##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|"##
          + "[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|"
          + #"\s*[\r\n]+|\s+(?!\S)|\s+"#,
      ]
    }
  }

  /// Whether GPT-2's own expression cuts, which ByteLevel does by itself.
  private var usesOwnExpression: Bool { self == .gpt2 || self == .digitsThenGPT2 }

  /// The `pre_tokenizer` of a `tokenizer.json`.
  var tree: JSONTree {
    var stages: [JSONTree] = splits.map { expression in
      guard let expression else {
        return .object([("type", .string("Digits")), ("individual_digits", .bool(true))])
      }
      return .object([
        ("type", .string("Split")),
        ("pattern", .object([("Regex", .string(expression))])),
        ("behavior", .string("Isolated")), ("invert", .bool(false)),
      ])
    }
    stages.append(
      .object([
        ("type", .string("ByteLevel")), ("add_prefix_space", .bool(false)),
        ("trim_offsets", .bool(true)), ("use_regex", .bool(usesOwnExpression)),
      ]))
    if stages.count == 1 { return stages[0] }
    return .object([
      ("type", .string("Sequence")), ("pretokenizers", .array(stages)),
    ])
  }

  /// The form of a `pre_tokenizer`.
  ///
  /// - Throws: ``QuantError`` `.unsupported`, with the expression or the stage that is not known.
  init(_ tree: JSONTree, path: String) throws(QuantError) {
    func refused(_ what: String) -> QuantError {
      QuantError(
        .unsupported, "\(path): pre_tokenizer", what,
        remedy: "use a model whose tokenizer cuts words as GPT-2, Llama 3, Qwen 2 or a later GPT")
    }
    var found: [String?] = []
    var usesOwn: Bool?
    for stage in Self.stages(of: tree) {
      guard usesOwn == nil else { throw refused("stages behind ByteLevel are not known") }
      switch stage["type"]?.text {
      case "ByteLevel":
        guard stage["add_prefix_space"]?.bool != true else {
          throw refused("a space before texts (add_prefix_space) is not added")
        }
        usesOwn = stage["use_regex"]?.bool ?? true
      case "Digits":
        guard stage["individual_digits"]?.bool == true else {
          throw refused("Digits of more than one digit are not known")
        }
        found.append(nil)
      case "Split":
        guard stage["behavior"]?.text == "Isolated", stage["invert"]?.bool != true,
          let expression = stage["pattern"]?["Regex"]?.text
        else { throw refused("a Split that is not Isolated by a Regex is not known") }
        found.append(expression)
      case let other: throw refused("the stage \(quoted(other ?? "")) is not known")
      }
    }
    guard let usesOwn else { throw refused("there is no ByteLevel stage") }
    let form = Self.allCases.first { $0.splits == found && $0.usesOwnExpression == usesOwn }
    guard let form else {
      let expressions = found.map { $0 ?? "Digits" }.joined(separator: ", ")
      throw refused("the expressions \(quoted(expressions)) are not known")
    }
    self = form
  }

  /// The stages in order, sequences flattened.
  static func stages(of tree: JSONTree) -> [JSONTree] {
    guard tree["type"]?.text == "Sequence" else { return [tree] }
    let members = tree["pretokenizers"] ?? tree["normalizers"] ?? tree["processors"]
    return (members?.elements ?? []).flatMap { stages(of: $0) }
  }
}
