import Foundation
import XCTest

/// Hugging Face directories on the command line: written by `convert`, taken by `--model`.
final class DirectoryCommandTests: XCTestCase {
  private func json(_ arguments: [String], input: String = "") throws -> [String: Any] {
    let run = try ToolRun(arguments + ["--json"], input: input)
    XCTAssertEqual(run.status, 0, run.error)
    return try run.json
  }

  func testCommandsTakeDirectories() throws {
    let fixture = try ToolFixture()
    let directory = fixture.path("directory")
    let whole = fixture.path("whole.gguf")
    _ = try json(["convert", fixture.model, "--to", "f16", "-o", whole])
    let written = try json(["convert", fixture.model, "--to", "f16", "-o", directory + "/"])
    XCTAssertEqual(written["type"] as? String, "f16")
    XCTAssertEqual(
      try FileManager.default.contentsOfDirectory(atPath: directory).sorted(),
      [
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json",
      ])
    XCTAssertEqual(
      try json(["tokenize", "--model", directory], input: "the river <")["tokens"] as? [Int],
      try json(["tokenize", "--model", whole], input: "the river <")["tokens"] as? [Int])
    func generated(_ model: String) throws -> [Int]? {
      try json(["generate", "--model", model, "--prompt", "the river and", "-n", "8", "--exact"])[
        "tokens"] as? [Int]
    }
    XCTAssertEqual(try generated(directory), try generated(whole))
    let text = fixture.write("text.txt", ToolFixture.text)
    func perplexity(_ model: String) throws -> Double {
      try XCTUnwrap(
        try json([
          "perplexity", "--model", model, "--text", text, "--context", "32", "--chunks", "2",
          "--exact",
        ])["perplexity"] as? Double)
    }
    let expected = try perplexity(whole)
    XCTAssertEqual(try perplexity(directory), expected, accuracy: 1e-3 * expected)
    let inspected = try json(["inspect", directory])
    XCTAssertEqual(inspected["format"] as? String, "Hugging Face directory")
    XCTAssertEqual(inspected["architecture"] as? String, "llama")
    let longText = fixture.write(
      "long.txt", String(repeating: ToolFixture.text, count: 6))
    let factors = try json([
      "calibrate-kv", "--model", directory, "--text", longText, "--ratio", "0.5", "--group", "1",
      "--bits", "4", "--context", "64", "--samples", "24", "--gradient-samples", "8", "-o",
      fixture.path("factors"),
    ])
    XCTAssertFalse(factors.isEmpty)
    // Int4 layers as a directory, and back to blocks.
    let int4 = fixture.path("int4")
    _ = try json(["convert", directory, "--to", "awq", "--group", "32", "-o", int4 + "/"])
    XCTAssertEqual(try generated(int4)?.count, 8)
    _ = try json(["convert", int4, "--to", "q4_0", "-o", fixture.path("blocks.gguf")])
    XCTAssertEqual(try generated(fixture.path("blocks.gguf"))?.count, 8)
  }

  func testExitCodes() throws {
    let fixture = try ToolFixture()
    let directory = fixture.path("directory")
    _ = try json(["convert", fixture.model, "--to", "f16", "-o", directory + "/"])
    func status(_ arguments: [String]) throws -> Int32 {
      let run = try ToolRun(arguments)
      XCTAssertEqual(run.error.split(separator: "\n").count, run.status == 0 ? 0 : 1, run.error)
      return run.status
    }
    XCTAssertEqual(try status(["convert", fixture.model, "--to", "q4_0", "-o", directory]), 69)
    _ = fixture.write("directory/notes.txt", "mine")
    XCTAssertEqual(try status(["convert", fixture.model, "--to", "f32", "-o", directory]), 64)
    _ = fixture.write("directory/config.json", "{")
    XCTAssertEqual(try status(["generate", "--model", directory, "--prompt", "a"]), 65)
    _ = fixture.write("directory/config.json", "{\"architectures\": [\"Other\"]}")
    XCTAssertEqual(try status(["generate", "--model", directory, "--prompt", "a"]), 69)
    try FileManager.default.removeItem(atPath: directory + "/config.json")
    XCTAssertEqual(try status(["generate", "--model", directory, "--prompt", "a"]), 66)
  }
}
