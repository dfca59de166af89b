import QuantKernels
import TestSupport
import Testing

@testable import LanguageModel

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// A tiny GGUF model and the directories that are made of it.
struct DirectoryBench {
  let folder = TemporaryFolder()
  let pool = WorkerPool(threads: 2)
  var source: String { path("source.gguf") }

  init(_ model: SyntheticModel) throws { try model.write(to: folder.file("source.gguf")) }

  /// A model that keeps its weights as they are in a directory of the same type.
  init(
    _ architecture: ModelConfiguration.Architecture, type: GGMLType = .f32,
    edit: (inout SyntheticModel) -> Void = { _ in }
  ) throws {
    var model = SyntheticModel(architecture)
    model.layerCount = architecture == .gemma3 ? 7 : 2
    model.weightType = type
    model.embeddingType = type
    edit(&model)
    try self.init(model)
  }

  func path(_ name: String) -> String { folder.file(name) }

  @discardableResult
  func convert(
    _ from: String, _ target: ConversionTarget, _ name: String,
    _ change: (inout ModelConverter.Options) -> Void = { _ in }
  ) throws -> ModelConverter.Summary {
    var options = ModelConverter.Options()
    change(&options)
    return try ModelConverter(source: from, target: target, options: options, pool: pool)
      .write(to: path(name))
  }

  static func options(_ arithmetic: Arithmetic = .exact) -> LanguageModel.Options {
    var options = LanguageModel.Options()
    options.threads = 2
    options.arithmetic = arithmetic
    options.keyValueType = .f32
    options.contextLength = 64
    return options
  }

  func load(
    _ name: String, _ arithmetic: Arithmetic = .exact, int4: String? = nil
  ) throws -> LanguageModel {
    var options = Self.options(arithmetic)
    options.int4Layers = int4.map { path($0) }
    return try LanguageModel(path: path(name), options: options)
  }

  /// Bits of the logits of a prompt and of steps after it.
  func logits(
    _ name: String, _ arithmetic: Arithmetic = .exact, int4: String? = nil
  ) throws -> [UInt32] {
    try Self.logits(try load(name, arithmetic, int4: int4)).map(\.bitPattern)
  }

  static func logits(_ model: LanguageModel) throws -> [Float] {
    let session = try model.makeSession()
    var random = RepeatableRandom(seed: 3)
    let tokens = (0..<24).map { _ in
      Int32.random(in: 3..<Int32(model.configuration.vocabularySize), using: &random)
    }
    var all: [Float] = []
    try session.forward(Array(tokens[..<21]), logits: 0..<21) { rows, logits in
      all += UnsafeBufferPointer(
        start: logits, count: rows.count * model.configuration.vocabularySize)
    }
    for token in tokens[21...] {
      try session.forward(token: token)
      all += session.logits
    }
    return all
  }

  /// A file of the folder, as text.
  func text(_ name: String) throws -> String {
    String(decoding: try #require(readFile(path(name))), as: UTF8.self)
  }

  /// Writes a file into a folder of the folder.
  func write(_ text: String, _ name: String) { folder.write(Array(text.utf8), name) }

  /// Whether two models' logits are alike.
  ///
  /// Rows of a llama's Q and K stand in another order in a directory, so that attention adds up its
  /// products in another order, and activations near the middle of two int8 codes go the other way.
  /// The other architectures have the same bits.
  func areAlike(
    _ one: String, _ other: String, _ arithmetic: Arithmetic, int4: String? = nil
  ) throws -> Bool {
    let model = try load(one, arithmetic)
    let a = try Self.logits(model)
    let b = try Self.logits(try load(other, arithmetic, int4: int4))
    guard a.count == b.count, a.allSatisfy(\.isFinite) else { return false }
    if model.configuration.architecture != .llama {
      return a.map(\.bitPattern) == b.map(\.bitPattern)
    }
    let bound: Float = arithmetic == .exact ? 1e-4 : 0.1
    return zip(a, b).allSatisfy { abs($0 - $1) <= bound * max(1, abs($1)) }
  }

  /// A directory's tensors and metadata as a GGUF file, rows as they are.
  func gguf(of directory: String, _ name: String) throws {
    let file = try GGUFFile(path: path(directory))
    var writer = GGUFWriter()
    writer.copyMetadata(from: file.metadata)
    for tensor in file.tensors { try writer.addTensor(copying: tensor, from: file) }
    try writer.write(to: path(name))
  }

  func makeFolder(_ name: String) { mkdir(path(name), 0o777) }

  /// Copies a directory's files.
  func copy(_ from: String, _ to: String) throws {
    mkdir(path(to), 0o777)
    let stream = try #require(opendir(path(from)))
    defer { closedir(stream) }
    while let entry = readdir(stream) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      guard let bytes = readFile(path("\(from)/\(name)")), name != ".", name != ".." else {
        continue
      }
      folder.write(bytes, "\(to)/\(name)")
    }
  }

  /// Replaces the first place of a text in a file.
  func replace(_ old: String, _ new: String, in name: String) throws {
    let text = try text(name)
    let range = try #require(text.firstRange(of: old), "\(name) lacks \(old)")
    write(text.replacingCharacters(in: range, with: new), name)
  }

  /// Text of many scripts and oddities.
  static let torture: [UInt8] =
    Array(
      """
      The year 2024, it's 12345.678 don't WE'LL   three   spaces\t\ttabs\r\n\r\nlines\n\n\n  indented
      def f(x): return x**2 # code_with_snake CamelCase "quotes" — dashes… ¿qué? naïve café cafe\u{301}
      Ελληνικά Кириллица עברית العربية हिन्दी ไทย 日本語テスト 中文字符 한국어 👩‍👩‍👧‍👦🏳️‍🌈🇺🇳 e\u{0}x \u{FEFF}bom \u{200B}zwsp
      ½ ² ٣ ⅷ ① Ⅻ ｆｕｌｌ ﬁ ß İ ı K \u{A0}nbsp\u{2028}ls\u{3000}wide <|im_start|>user<|im_end|> <|endoftext|>
      """.utf8) + [0x80, 0xFF, 0xC3, 0x28, 0xF0, 0x9F] + Array(" the end and the rest\n\n".utf8)
}

extension String {
  fileprivate func replacingCharacters(in range: Range<Index>, with new: String) -> String {
    self[..<range.lowerBound] + new + self[range.upperBound...]
  }
}
