import QuantKernels

/// How a byte-level tokenizer cuts text into words before it merges, chosen by the file's
/// `tokenizer.ggml.pre`.
///
/// Names and rules are those of llama.cpp (`llama-vocab.cpp`), whose token ids are the reference,
/// down to what it does differently from the tokenizers' own regular expressions.
struct PreTokenizer: Sendable {
  /// Passes, each over the pieces of the one before.
  var stages: [SplitStage]
  /// A word that is a token as it stands is not merged from bytes.
  var ignoresMerges = false
  /// Whether a beginning-of-sequence token is added where the file does not say.
  var addsBeginningOfSequence = false
  /// Whether the vocabulary has a beginning-of-sequence token where the file does not say.
  var hasDefaultBeginningOfSequence = true
  /// Bytes are written as printable characters (GPT-2); otherwise text is merged as it is.
  var encodesBytes = true
  /// Spaces become U+2581 before anything else.
  var escapesSpaces = false
  /// A run of newlines that is a token is not merged, and a beginning-of-sequence token is always
  /// added.
  var isGemma4 = false

  /// Cuts text into words, as indices of code points where they end. O(code points · stages).
  func wordEnds(of codePoints: [UInt32]) -> [Int] {
    let classes = codePoints.map { CharacterClass(codePoint: $0) }
    var ends = [codePoints.count]
    codePoints.withUnsafeBufferPointer { codePoints in
      classes.withUnsafeBufferPointer { classes in
        var text = ClassifiedText(codePoints: codePoints, classes: classes, end: 0)
        var next: [Int] = []
        for stage in stages {
          next.removeAll(keepingCapacity: true)
          var start = 0
          for end in ends {
            text.end = end
            stage.split(text, from: start, into: &next)
            start = end
          }
          swap(&ends, &next)
        }
      }
    }
    return ends
  }

  /// - Throws: `unsupported` for a name that is not known.
  init(named name: String) throws(QuantError) {
    guard let known = PreTokenizer.known(name) else {
      throw QuantError(
        .unsupported, "tokenizer.ggml.pre", "unknown pre-tokenizer \(quoted(name))",
        remedy: "use a model whose pre-tokenizer is known, or set the key to one that splits alike")
    }
    self = known
  }

  init(_ stages: [SplitStage]) { self.stages = stages }

  private static func known(_ name: String) -> PreTokenizer? {
    switch name {
    case "", "default": return PreTokenizer(defaultStages)
    case "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2",
      "jina-v5-nano":
      var result = PreTokenizer([.words(.llama3)])
      result.ignoresMerges = true
      result.addsBeginningOfSequence = true
      return result
    case "dbrx", "smaug-bpe": return PreTokenizer([.words(.llama3)])
    case "chatglm-bpe", "glm4", "glm5":
      var result = PreTokenizer([.words(.llama3)])
      result.hasDefaultBeginningOfSequence = false
      result.ignoresMerges = name != "chatglm-bpe"
      return result
    case "gpt-2", "phi-2", "jina-es", "jina-de", "gigachat", "jina-v2-es", "jina-v2-de", "a.x-4.0",
      "mellum", "modern-bert", "jina-v1-en", "jina-v2-code", "roberta-bpe", "exaone4", "mpt",
      "olmo",
      "jais", "trillion", "granite-docling":
      return PreTokenizer([.words(.gpt2)])
    case "starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b",
      "mellum2":
      return PreTokenizer([.runs(.numbers, most: 1), .words(.gpt2)])
    case "qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2", "hunyuan",
      "solar-open", "grok-2", "bailingmoe", "bailingmoe2", "llada-moe":
      return PreTokenizer([.words(.qwen2)])
    case "qwen35":
      var words = WordPattern.qwen2
      words.words = .ledWithMarks
      words.signs = .othersWithoutMarks
      return PreTokenizer([.words(words)])
    case "laguna": return PreTokenizer([.lines, .words(.qwen2)])
    case "ufakzeka":
      var words = WordPattern.qwen2
      words.contractions = .none
      return PreTokenizer([.words(words)])
    case "seed-coder":
      var words = WordPattern.qwen2
      words.tail = .none
      return PreTokenizer([.words(words)])
    case "exaone-moe":
      var words = WordPattern.qwen2
      words.words = .phrases
      words.tail = .newlineOrSlash
      return PreTokenizer([.words(words)])
    case "minicpm5":
      var words = WordPattern.llama3
      words.numbers = .upTo(.max)
      var result = PreTokenizer([.runs(.numbers, most: 3), .words(words)])
      result.ignoresMerges = true
      return result
    case "jais-2":
      var words = WordPattern.llama3
      words.space = .halving
      return PreTokenizer([.words(words)])
    default: return knownRarely(name)
    }
  }

  private static func knownRarely(_ name: String) -> PreTokenizer? {
    switch name {
    case "falcon":
      return PreTokenizer([.runs(.falconSeparators), .words(.gpt2), .digitTriples])
    case "deepseek-llm":
      return PreTokenizer([
        .runs(.newlines, most: 1), .runs(.deepSeekLetters, lead: .whitespace),
        .runs(.deepSeekSigns, lead: .whitespace), .trailingWhitespace, .runs(.deepSeekIdeographs),
        .runs(.numbers),
      ])
    case "deepseek-coder":
      return PreTokenizer([
        .runs(.newlines, most: 1), .runs(.letters, lead: .whitespace),
        .runs(.punctuation, lead: .whitespace), .runs(.deepSeekIdeographs),
        .runs(.numbers, most: 1),
      ])
    case "deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4":
      return PreTokenizer([
        .runs(.numbers, most: 3), .runs(.deepSeekEastAsian), .words(.deepSeek3),
      ])
    case "spark2_5":
      var words = WordPattern.deepSeek3
      words.tail = .none
      words.space = .singleNewlines
      return PreTokenizer([
        .runs(.numbers, most: 3), .runs(.deepSeekEastAsian), .words(words),
        .runs(.numbers, most: 1),
      ])
    case "afmoe":
      return PreTokenizer([.numbersFromTheRight, .runs(.asianScripts), .words(.deepSeek3)])
    case "youtu":
      var words = WordPattern.gpt4o
      words.words = .ledWithMarks
      words.numbers = .upTo(1)
      var result = PreTokenizer([.anyRun(CodePointSet.youtuRuns), .words(words)])
      result.ignoresMerges = true
      return result
    case "tekken":
      var words = WordPattern.gpt4o
      words.contractions = .none
      words.numbers = .upTo(1)
      var result = PreTokenizer([.words(words)])
      result.ignoresMerges = true
      result.addsBeginningOfSequence = true
      return result
    case "gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2":
      return PreTokenizer([.words(.gpt4o)])
    case "granite-embed-multi-97m":
      var words = WordPattern.gpt4o
      words.words = .casedWithMarks
      var result = PreTokenizer([.words(words)])
      result.ignoresMerges = true
      return result
    case "tiny_aya", "cohere2moe":
      var words = WordPattern.gpt4o
      words.words = .ledWithMarks
      return PreTokenizer([.numbersFromTheRight, .words(words)])
    case "kimi-k2":
      var words = WordPattern.llama3
      words.words = .apartFromHan
      words.contractions = .suffix
      return PreTokenizer([.words(words)])
    case "poro-chat", "bloom", "gpt3-finnish": return PreTokenizer([.spacedWords])
    case "viking": return PreTokenizer([.spacedWords, .runs(.numbers, most: 1)])
    case "superbpe": return PreTokenizer([.runs(.numbers), .thousands])
    case "chameleon":
      var result = PreTokenizer([
        .sentinels, .imageMarks, .indents, .runs(.numbers, most: 1),
        .runs(.chameleonSeparators, most: 1), .words(.gpt2),
      ])
      result.addsBeginningOfSequence = true
      return result
    case "gemma4", "granite-embed-multi-311m", "sarvam-moe":
      var result = PreTokenizer([.lines])
      result.encodesBytes = false
      result.escapesSpaces = true
      result.isGemma4 = name != "sarvam-moe"
      return result
    default: return nil
    }
  }

  private static let defaultStages: [SplitStage] = [
    .runs(.separators), .words(.gpt2), .runs(.numbers), .digitTriples,
  ]
}

extension WordPattern {
  static let gpt2 = WordPattern(
    contractions: .lowercase, words: .spaced, numbers: .spaced, tail: .none, space: .plain)
  static let llama3 = WordPattern(contractions: .anyCase, words: .led, numbers: .upTo(3))
  static let qwen2 = WordPattern(contractions: .anyCase, words: .led, numbers: .upTo(1))
  static let deepSeek3 = WordPattern(
    contractions: .none, words: .signed, numbers: .unmatched, signs: .named)
  static let gpt4o = WordPattern(
    contractions: .suffix, words: .cased, numbers: .upTo(3), tail: .newlinesAndSlashes)
}
