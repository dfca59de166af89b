import QuantKernels
import TestSupport
import Testing

@testable import LanguageModel

/// Tokenizers of directories: other spellings of the same files, SentencePiece's style, refusals.
@Suite struct HuggingFaceTokenizerTests {
  private static func tokens(_ bench: DirectoryBench, _ name: String) throws -> [Int32] {
    try Tokenizer(metadata: GGUFFile(path: bench.path(name)).metadata)
      .encode(DirectoryBench.torture, parseSpecial: true)
  }

  private func refusal(_ bench: DirectoryBench, _ name: String) -> QuantError? {
    do throws(QuantError) {
      let file = try GGUFFile(path: bench.path(name))
      _ = try Tokenizer(metadata: file.metadata)
      return nil
    } catch { return error }
  }

  @Test func pairsOfMergesAndSequencesOfOne() throws {
    let bench = try DirectoryBench(.llama)
    try bench.convert(bench.source, .gguf(.f16), "model/")
    let expected = try Self.tokens(bench, "source.gguf")
    #expect(try Self.tokens(bench, "model") == expected)
    // Merges as pairs.
    let text = try bench.text("model/tokenizer.json")
    let start = try #require(text.firstRange(of: "\"merges\": [")).upperBound
    let end = try #require(text[start...].firstIndex(of: "]"))
    let pairs = text[start..<end].split(separator: ",").map { line in
      let parts = line.split(separator: "\"")[1].split(separator: " ")
      return "[\"\(parts[0])\", \"\(parts[1])\"]"
    }
    bench.write(
      text[..<start] + pairs.joined(separator: ", ") + text[end...], "model/tokenizer.json")
    #expect(try Self.tokens(bench, "model") == expected)
    // A normalizer that llama.cpp passes over too.
    try bench.replace(
      "\"normalizer\": null", "\"normalizer\": {\"type\": \"NFC\"}", in: "model/tokenizer.json")
    #expect(try Self.tokens(bench, "model") == expected)
    // No settings at all.
    bench.folder.write(Array("{}".utf8), "model/tokenizer_config.json")
    #expect(try Self.tokens(bench, "model") == expected)
  }

  /// Every form is recognized by what it writes, and only by that.
  @Test(arguments: PreTokenizerForm.allCases)
  func formsAreRecognized(_ form: PreTokenizerForm) throws {
    let bytes = form.tree.serialized()
    let tree = try bytes.withUnsafeBytes { bytes in
      var json = JSONCursor(bytes, file: "test")
      return try JSONTree(&json)
    }
    #expect(try PreTokenizerForm(tree, path: "test") == form)
    for ignores in [false, true] {
      guard let name = form.name(ignoringMerges: ignores) else { continue }
      #expect(PreTokenizerForm.form(named: name) == form)
      #expect(PreTokenizerForm.ignoresMerges(name) == ignores)
      // The name's own rules are these.
      #expect(try PreTokenizer(named: name).ignoresMerges == ignores)
    }
  }

  @Test(arguments: [
    ("pre_tokenizer", #""pre_tokenizer": {"type": "Whitespace"}"#),
    ("pre_tokenizer", #""pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": true}"#),
    (
      "pre_tokenizer",
      #""pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": "#
        + #"{"Regex": "\\w+"}, "behavior": "Isolated"}, {"type": "ByteLevel", "use_regex": false}]}"#
    ),
    ("normalizer", #""normalizer": {"type": "Lowercase"}"#),
    ("post_processor", #""post_processor": {"type": "BertProcessing"}"#),
  ])
  func othersAreRefused(key: String, replacement: String) throws {
    let bench = try DirectoryBench(.llama)
    try bench.convert(bench.source, .gguf(.f16), "model/")
    let text = try bench.text("model/tokenizer.json")
    // The first key of that name counts twice: the later one is read last.
    let place = try #require(text.lastIndex(of: "}"))
    bench.write(text[..<place] + ", \(replacement)}", "model/tokenizer.json")
    let error = refusal(bench, "model")
    #expect(error?.code == .unsupported)
    #expect(error?.subject.contains(key) == true, "\(error?.description ?? "read")")
  }

  @Test(arguments: [
    (#""type": "BPE""#, #""type": "Unigram""#), (#""dropout": null"#, #""dropout": 0.1"#),
    (#""continuing_subword_prefix": null"#, #""continuing_subword_prefix": "@@""#),
    (#""ignore_merges": false"#, #""ignore_merges": true"#),
    (#""byte_fallback": false"#, #""byte_fallback": true"#),
    (#""lstrip": false"#, #""lstrip": true"#),
  ])
  func featuresAreRefused(old: String, new: String) throws {
    let bench = try DirectoryBench(.llama)
    try bench.convert(bench.source, .gguf(.f16), "model/")
    try bench.replace(old, new, in: "model/tokenizer.json")
    #expect(refusal(bench, "model")?.code == .unsupported)
  }

  @Test func settingsDecide() throws {
    let bench = try DirectoryBench(.llama)
    try bench.convert(bench.source, .gguf(.f16), "model/")
    func tokenizer() throws -> Tokenizer {
      try Tokenizer(metadata: GGUFFile(path: bench.path("model")).metadata)
    }
    #expect(try tokenizer().endOfSequence == 2 && !tokenizer().addsBeginningOfSequence)
    bench.write(
      #"{"eos_token": {"content": "<|endoftext|>"}, "add_bos_token": true, "#
        + #""bos_token": "<|im_start|>", "chat_template": [{"name": "tools", "template": "no"}, "#
        + #"{"name": "default", "template": "<|im_start|> it is"}]}"#,
      "model/tokenizer_config.json")
    bench.write("{\"eos_token_id\": [2, 9]}", "model/generation_config.json")
    let found = try tokenizer()
    #expect(found.endOfSequence == 0 && found.beginningOfSequence == 1)
    #expect(found.addsBeginningOfSequence)
    #expect(found.endOfGeneration.isSuperset(of: [0, 2, 9]))
    func template() throws -> String? {
      try GGUFFile(path: bench.path("model")).metadata.string("tokenizer.chat_template")
    }
    #expect(try template() == "<|im_start|> it is")
    bench.write("from a file", "model/chat_template.jinja")
    #expect(try template() == "from a file")
  }

  // MARK: SentencePiece

  /// A model with the fixture's SentencePiece vocabulary.
  private static func sentencePiece() throws -> (DirectoryBench, TokenizerFixture) {
    let fixture = try #require(TokenizerFixture("sentencepiece.txt"))
    let bench = try DirectoryBench(.llama) { $0.vocabularySize = fixture.tokens.count }
    let file = try GGUFFile(path: bench.source)
    var writer = GGUFWriter()
    writer.copyMetadata(
      from: file.metadata, except: ["tokenizer.ggml.merges", "tokenizer.ggml.pre"])
    try writer.set("tokenizer.ggml.model", .text("llama"))
    try writer.set("tokenizer.ggml.tokens", .array(.string, fixture.tokens.map { .string($0) }))
    try writer.set("tokenizer.ggml.scores", .array(.float32, fixture.scores.map { .float32($0) }))
    try writer.set(
      "tokenizer.ggml.token_type",
      .array(.int32, fixture.types.map { .int32(Int32($0.rawValue)) }))
    try writer.set("tokenizer.ggml.add_space_prefix", .bool(true))
    try writer.set("tokenizer.ggml.add_bos_token", .bool(true))
    for tensor in file.tensors { try writer.addTensor(copying: tensor, from: file) }
    try writer.write(to: bench.path("pieces.gguf"))
    return (bench, fixture)
  }

  @Test func sentencePieceModels() throws {
    let (bench, fixture) = try Self.sentencePiece()
    try bench.convert(bench.path("pieces.gguf"), .gguf(.f32), "model/")
    func check(_ what: String) throws {
      let tokenizer = try Tokenizer(metadata: GGUFFile(path: bench.path("model")).metadata)
      for expected in fixture.cases {
        #expect(
          tokenizer.encode(expected.text, parseSpecial: false) == expected.plain,
          "\(what): \(String(decoding: expected.text, as: UTF8.self))")
        #expect(tokenizer.encode(expected.text, parseSpecial: true) == expected.special, "\(what)")
      }
      #expect(tokenizer.addsSpacePrefix && tokenizer.addsBeginningOfSequence)
    }
    try check("both files")
    let json = try bench.text("model/tokenizer.json")
    unlink(bench.path("model/tokenizer.json"))
    try check("tokenizer.model alone")
    // Every way to damage its beginning and middle is an error or another model, never a trap.
    let pieces = try #require(readFile(bench.path("model/tokenizer.model")))
    var random = RepeatableRandom(seed: 8)
    for _ in 0..<300 {
      var mutant = pieces
      for _ in 0..<3 {
        mutant[.random(in: 0..<mutant.count, using: &random)] = .random(in: 0...255, using: &random)
      }
      bench.folder.write(
        Bool.random(using: &random)
          ? mutant : Array(mutant.prefix(.random(in: 0..<mutant.count, using: &random))),
        "model/tokenizer.model")
      _ = refusal(bench, "model")
    }
    unlink(bench.path("model/tokenizer.model"))
    bench.write(json, "model/tokenizer.json")
    // Without scores, merges in their order: ties of scores between tokens of one text are cut as
    // the order of merges says, so a fixture with ties may differ, but text stays text.
    let tokenizer = try Tokenizer(metadata: GGUFFile(path: bench.path("model")).metadata)
    var equal = 0
    for expected in fixture.cases {
      let ids = tokenizer.encode(expected.text, parseSpecial: false)
      if ids == expected.plain { equal += 1 }
      if String(validating: expected.text, as: UTF8.self) != nil {
        #expect(tokenizer.decode(ids) == tokenizer.decode(expected.plain))
      }
    }
    print("merges without scores: \(equal) of \(fixture.cases.count) texts as by scores")
    #expect(equal * 2 >= fixture.cases.count)
  }
}

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif
