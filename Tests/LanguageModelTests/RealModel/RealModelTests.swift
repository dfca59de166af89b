import Foundation
import LanguageModel
import QuantKernels
import XCTest

/// Ground truth on the model that the benchmarks fetch. Skipped, saying why, where the model or
/// python are missing.
///
/// - `QUANTKERNELS_MODEL`: another place of SmolLM2-135M-Instruct.Q4_1.gguf.
/// - `QUANTKERNELS_PYTHON`: a python with numpy and gguf, `python3` by default.
/// - `QUANTKERNELS_TEXT`: the evaluation text that llama.cpp's perplexity was measured on.
final class RealModelTests: XCTestCase {
  private let environment = ProcessInfo.processInfo.environment

  /// Unoptimized Swift packs and samples too slowly for real sizes.
  private func model(_ change: (inout LanguageModel.Options) -> Void) throws -> LanguageModel {
    #if DEBUG
      throw XCTSkip("runs in release builds")
    #else
      let path = try RealModel.path()
      var options = LanguageModel.Options()
      change(&options)
      return try LanguageModel(path: path, options: options)
    #endif
  }

  private static let prose = """
    A package manager keeps a list of what is installed, where each file came from, and which other packages it
    needs. When a new version appears, it compares the two lists and works out a plan: what to remove, what to
    fetch, and in which order to unpack it, so that at no moment is a program left without the libraries it calls.
    Most of this happens without anybody watching, at night, on machines that nobody has logged into for months.
    """

  /// Mean KL divergence of next-token distributions against numpy's float32 logits.
  func testExactDistributionsEqualNumpys() throws {
    let exact = try model {
      $0.arithmetic = .exact
      $0.keyValueType = .f32
    }
    let tokens = exact.tokenizer.encode(Self.prose, parseSpecial: false)
    let reference = try referenceLogits(tokens)
    let found = try divergence(exact, tokens, reference)
    print("mean KL to numpy: exact \(found)")
    XCTAssertLessThanOrEqual(found, 1e-4)
    let fast = try divergence(try model { $0.arithmetic = .fast }, tokens, reference)
    print("mean KL to numpy: fast \(fast)")
    XCTAssertLessThanOrEqual(fast, 2e-2)
  }

  /// llama.cpp's perplexity (llama-cpp-python 0.3.36): 25.7743 at context 512 over the first 20
  /// windows.
  func testPerplexityEqualsLlamaCpps() throws {
    guard let path = environment["QUANTKERNELS_TEXT"],
      let text = FileManager.default.contents(atPath: path)
    else { throw XCTSkip("QUANTKERNELS_TEXT names no text") }
    let found = try Perplexity(
      of: [UInt8](text), model: try model { _ in }, options: .init(context: 512, windows: 20))
    print("perplexity \(found.perplexity) ± \(found.standardError)")
    XCTAssertEqual(found.perplexity, 25.7743, accuracy: 0.003 * 25.7743)
  }

  func testGreedyTextMakesSense() throws {
    var options = GenerationOptions()
    options.maximumTokens = 12
    let result = try model { _ in }.generate(
      prompt: "The capital of France is", options: options)
    XCTAssertTrue(result.text.contains("Paris"), result.text)
  }

  /// Runs Benchmarks/reference_logits.py and reads its file.
  private func referenceLogits(_ tokens: [Int32]) throws -> [Float] {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
      "quantkernels-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let ids = folder.appendingPathComponent("ids.txt")
    let output = folder.appendingPathComponent("logits.bin")
    try tokens.map { "\($0)" }.joined(separator: " ").write(
      to: ids, atomically: true, encoding: .utf8)
    let python = environment["QUANTKERNELS_PYTHON"] ?? "python3"
    let check = try run([python, "-c", "import numpy, gguf"])
    try XCTSkipUnless(check == 0, "\(python) lacks numpy or gguf")
    let status = try run([
      python, root.appendingPathComponent("Benchmarks/reference_logits.py").path, "--model",
      try RealModel.path(), "--tokens", ids.path, "--count", "\(tokens.count)", "-o", output.path,
    ])
    XCTAssertEqual(status, 0)
    let data = try Data(contentsOf: output)
    let header = 16 + 4 * tokens.count
    XCTAssertEqual(data.prefix(8), Data("QKLOGITS".utf8))
    return data.withUnsafeBytes { bytes in
      stride(from: header, to: bytes.count, by: 4).map {
        Float(
          bitPattern: UInt32(
            littleEndian: bytes.loadUnaligned(fromByteOffset: $0, as: UInt32.self)))
      }
    }
  }

  private func run(_ command: [String]) throws -> Int32 {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = command
    process.standardError = FileHandle.nullDevice
    try process.run()
    process.waitUntilExit()
    return process.terminationStatus
  }

  /// Mean over rows of Σ p ln(p / q), p the reference's and q the model's, in double.
  private func divergence(_ model: LanguageModel, _ tokens: [Int32], _ reference: [Float]) throws
    -> Double
  {
    let vocabulary = model.configuration.vocabularySize
    XCTAssertEqual(reference.count, tokens.count * vocabulary)
    func logSum(_ row: UnsafeBufferPointer<Float>) -> Double {
      let top = Double(row.max() ?? 0)
      return top + log(row.reduce(0) { $0 + exp(Double($1) - top) })
    }
    var total = 0.0
    try model.makeSession(contextLength: tokens.count).forward(
      tokens, logits: 0..<tokens.count
    ) { rows, logits in
      reference.withUnsafeBufferPointer { reference in
        for row in rows {
          let p = UnsafeBufferPointer(
            rebasing: reference[row * vocabulary..<(row + 1) * vocabulary])
          let q = UnsafeBufferPointer(
            start: logits + (row - rows.lowerBound) * vocabulary, count: vocabulary)
          let (sumP, sumQ) = (logSum(p), logSum(q))
          for token in 0..<vocabulary {
            let (a, b) = (Double(p[token]) - sumP, Double(q[token]) - sumQ)
            total += exp(a) * (a - b)
          }
        }
      }
    }
    return total / Double(tokens.count)
  }
}
