import Foundation
import LanguageModel
import QuantKernels
import TestSupport
import XCTest

/// The real model as a Hugging Face directory of our own making. Skipped where the model is missing.
final class RealDirectoryTests: XCTestCase {
  private static let text = Array(
    String(
      repeating: """
        The harbor lies at the mouth of the river, where the old road comes down from the hills. In \
        1868 there were 14 houses; by 1901, more than 200. People fished, built boats, and traded \
        salt for cloth.

        "Nobody stays," the keeper said, "unless the wind keeps them." It's not quite true.\n
        """, count: 8
    ).utf8)

  /// Perplexity over two windows, and the tokens, are those of the same weights as GGUF, to the rounding of
  /// sums in another order.
  func testDirectoryOfTheRealModel() throws {
    #if DEBUG
      throw XCTSkip("runs in release builds")
    #else
      let source = try RealModel.path()
      let folder = TemporaryFolder()
      let (gguf, directory) = (folder.file("model.gguf"), folder.file("model"))
      for output in [gguf, directory + "/"] {
        _ = try ModelConverter(source: source, target: .gguf(.f16)).write(to: output)
      }
      var found: [Double] = []
      var tokens: [[Int32]] = []
      for path in [gguf, directory] {
        let model = try LanguageModel(path: path)
        found.append(
          try Perplexity(
            of: Self.text, model: model, options: .init(context: 256, windows: 2)
          ).perplexity)
        tokens.append(model.tokenizer.encode(Self.text, parseSpecial: false))
        var options = GenerationOptions()
        options.maximumTokens = 12
        let text = try model.generate(
          prompt: "The capital of France is", options: options
        ).text
        XCTAssertTrue(text.contains("Paris"), text)
      }
      print("perplexity of two windows: GGUF \(found[0]), directory \(found[1])")
      // Q and K lie in another order in a directory, and attention adds up in it.
      XCTAssertEqual(found[0], found[1], accuracy: 2e-3 * found[0])
      XCTAssertEqual(tokens[0], tokens[1])
    #endif
  }
}
