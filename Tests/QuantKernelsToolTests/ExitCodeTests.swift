import Foundation
import XCTest

/// Exit codes and the form of errors: scripts rely on both.
final class ExitCodeTests: XCTestCase {
  nonisolated(unsafe) private static var shared: ToolFixture?

  private func fixture() throws -> ToolFixture {
    if let shared = Self.shared { return shared }
    let made = try ToolFixture()
    Self.shared = made
    return made
  }

  override class func tearDown() { shared = nil }

  /// The tool must exit so, print nothing on standard output and one line that begins with "error:
  /// ".
  private func expect(
    _ status: Int32, _ arguments: [String], mentions: String = "", file: StaticString = #filePath,
    line: UInt = #line
  ) throws {
    let run = try ToolRun(arguments)
    XCTAssertEqual(run.status, status, "\(arguments): \(run.error)", file: file, line: line)
    XCTAssertEqual(run.output, "", file: file, line: line)
    XCTAssertTrue(run.error.hasPrefix("error: "), run.error, file: file, line: line)
    XCTAssertEqual(run.error.filter { $0 == "\n" }.count, 1, run.error, file: file, line: line)
    XCTAssertTrue(
      mentions.isEmpty || run.error.contains(mentions), run.error, file: file, line: line)
  }

  func testBadUsage() throws {
    let model = try fixture().model
    try expect(64, ["frobnicate"], mentions: "quantkernels --help")
    try expect(64, ["generate", "--prompt", "x"], mentions: "--model")
    try expect(64, ["generate", "--model", model], mentions: "--prompt")
    try expect(64, ["generate", "--model", model, "--prompt", "x", "--prompt-file", "y"])
    try expect(64, ["generate", "--model", model, "--prompt", "x", "-n", "many"])
    try expect(64, ["generate", "--model", model, "--prompt", "x", "--temperature", "-1"])
    try expect(64, ["generate", "--model", model, "--prompt", "x", "--top-p", "0"])
    try expect(64, ["generate", "--model", model, "--prompt", "x", "--kv-cache", "q9"])
    try expect(64, ["bench", "machine", "--threads", "0"], mentions: "--threads 0")
    try expect(64, ["bench", "matmul", "--format", "int4", "--m", "1", "--n", "64"])
    try expect(
      64, ["bench", "matmul", "--format", "q9", "--m", "1", "--n", "64", "--k", "64"],
      mentions: "q4_1")
    try expect(
      64,
      [
        "bench", "matmul", "--format", "int4", "--m", "1", "--n", "64", "--k", "96", "--group",
        "64",
      ],
      mentions: "--group 64")
    try expect(
      64, ["bench", "matmul", "--shapes", "x", "--symmetric"], mentions: "--symmetric")
    let simulated = [
      "simulate", "attention", "--query-length", "64", "--kv-length", "64", "--heads", "2",
      "--head-dim", "64",
    ]
    try expect(64, simulated + ["--device", "v100", "--kernel", "two-level"])
    try expect(64, simulated + ["--device", "ascend910a", "--kernel", "volta"])
    try expect(64, simulated + ["--device", "x", "--kernel", "flash"], mentions: "\"x\"")
    try expect(69, simulated + ["--device", "v100", "--kernel", "flash"], mentions: "volta")
    let attention = ["bench", "attention", "--read-megabytes", "4"]
    try expect(64, attention + ["--kv-type", "q9"], mentions: "q9")
    try expect(64, attention + ["--kv-length", "0"], mentions: "--kv-length 0")
    try expect(64, attention + ["--heads", "3", "--kv-heads", "2"], mentions: "heads")
    try expect(64, attention + ["--window", "0"], mentions: "window")
    try expect(69, attention + ["--kv-type", "q8_0", "--page", "8"], mentions: "pages of 8")
    try expect(64, ["convert", model, "--to", "q9", "-o", "x"])
    try expect(64, ["convert", model, "--to", "q8_0", "-o", model], mentions: "source")
    try expect(64, ["convert", model, "--to", "q8_0", "--group", "32", "-o", "x"])
  }

  func testPromptLongerThanTheContext() throws {
    let fixture = try fixture()
    let text = fixture.write("long.txt", ToolFixture.text)
    try expect(
      64, ["generate", "--model", fixture.model, "--prompt-file", text, "-n", "1"],
      mentions: "context")
  }

  func testMissingFiles() throws {
    let missing = try fixture().path("missing")
    let model = try fixture().model
    try expect(66, ["inspect", missing], mentions: missing)
    try expect(66, ["tokenize", "--model", missing])
    try expect(66, ["tokenize", "--model", model, "--text-file", missing])
    try expect(66, ["generate", "--model", missing, "--prompt", "x"])
    try expect(66, ["generate", "--model", model, "--prompt-file", missing])
    try expect(66, ["perplexity", "--model", model, "--text", missing])
    try expect(66, ["bench", "model", "--model", missing])
    try expect(66, ["bench", "matmul", "--shapes", missing])
    try expect(66, ["convert", missing, "--to", "f16", "-o", try fixture().path("x")])
    try expect(66, ["convert", model, "--to", "f16", "-o", missing + "/folder/x"])
  }

  func testBadData() throws {
    let fixture = try fixture()
    let garbage = fixture.write("garbage.gguf", "this is no model at all")
    let empty = fixture.write("empty.gguf", "")
    let whole = try fixture.bytes("tiny.gguf")
    let truncated = fixture.write("truncated.gguf", bytes: Array(whole.prefix(whole.count / 2)))
    for file in [garbage, empty, truncated] {
      try expect(65, ["inspect", file])
      try expect(65, ["generate", "--model", file, "--prompt", "x"])
      try expect(65, ["convert", file, "--to", "f16", "-o", fixture.path("never")])
    }
    let shapes = fixture.write("shapes.txt", "int4 1 2\n")
    try expect(65, ["bench", "matmul", "--shapes", shapes], mentions: "shapes.txt:1")
    XCTAssertFalse(FileManager.default.fileExists(atPath: fixture.path("never")))
  }

  func testWhatIsNotBuiltIn() throws {
    let model = try fixture().model
    let generate = ["generate", "--model", model, "--prompt", "x"]
    try expect(69, generate + ["--ranks", "99"], mentions: "99 ranks")
    try expect(64, generate + ["--ranks", "0"], mentions: "ranks")
    try expect(66, generate + ["--kv-cache", "palu:factors"], mentions: "factors")
    try expect(69, ["convert", model, "--to", "q4_k", "-o", "x"])
    try expect(69, ["convert", model, "--to", "awq", "--calibrate", model, "-o", "x"])
    try expect(64, ["convert", model, "--to", "gptq", "--act-order", "-o", "x"])
    try expect(66, ["convert", model, "--to", "gptq", "--calibrate", "t", "-o", "x"])
    try expect(69, ["bench", "matmul", "--format", "iq1_bn", "--m", "1", "--n", "64", "--k", "65"])
  }

  func testStreamsThatFail() throws {
    let fixture = try fixture()
    let model = fixture.model
    func expect(_ arguments: [String], _ redirection: String, _ subject: String) throws {
      let run = try ToolRun(arguments, redirection: redirection)
      XCTAssertEqual(run.status, 66, "\(arguments) \(redirection): \(run.error)")
      XCTAssertTrue(run.error.hasPrefix("error: standard \(subject): "), run.error)
      XCTAssertEqual(run.error.filter { $0 == "\n" }.count, 1, run.error)
    }
    let generate = ["generate", "--model", model, "--prompt", "x", "-n", "4", "--no-chat-template"]
    for command in [["inspect", model], generate, generate + ["--json"], ["--help"]] {
      #if os(Linux)
        try expect(command, ">/dev/full", "output")
      #endif
      try expect(command, ">&-", "output")
    }
    let tokenize = ["tokenize", "--model", model]
    try expect(tokenize, "<&-", "input")
    try expect(tokenize, "</", "input")
    // A file of ours must not get the number of a closed stream, and then what belongs on that
    // stream.
    let copy = ["convert", model, "--to", "q8_0", "-o", fixture.path("closed.gguf")]
    XCTAssertEqual(try ToolRun(copy, redirection: "<&- >&- 2>&-").status, 66)
    XCTAssertEqual(try ToolRun(["inspect", fixture.path("closed.gguf")]).status, 0)
    XCTAssertEqual(try ToolRun(copy, redirection: "2>&-").status, 0)
  }

  func testWhatMemoryDoesNotHold() throws {
    // 2⁴⁰ weights and more; a terabyte to read.
    let matmul = ["bench", "matmul", "--format"]
    for format in ["int4", "q8_0", "f32"] {
      try expect(
        69, matmul + [format, "--m", "1", "--n", "16777216", "--k", "65536"], mentions: "memory")
      try expect(
        69, matmul + [format, "--m", "16777216", "--n", "32", "--k", "65536"], mentions: "memory")
    }
    let model = try fixture().model
    for command in [["machine"], ["model", "--model", model, "-p", "8", "-n", "0"]] {
      let run = try ToolRun(
        ["bench"] + command + ["--read-megabytes", "65536"],
        // Less than any machine has, so that the test does not depend on it.
        limitKilobytes: 8 << 20)
      XCTAssertEqual(run.status, 69, run.error)
      XCTAssertTrue(run.error.contains("memory"), run.error)
    }
  }

  func testNamesCannotDriveTheTerminal() throws {
    try expect(66, ["inspect", "no\u{1B}[2Jfile"], mentions: "no\\u{1b}[2Jfile")
  }

  /// Nothing is left of a conversion that Ctrl-C ends, nor is anything else than 130 said.
  func testInterruptedConversion() throws {
    let fixture = try fixture()
    let source = fixture.path("large.gguf")
    XCTAssertEqual(try ToolRun(["synthesize", "-o", source]).status, 0)
    let before = fixture.names
    let run = try ToolRun(
      ["convert", source, "--to", "f32", "--threads", "1", "-o", fixture.path("never.gguf")],
      interruptWhen: { fixture.names != before })
    XCTAssertEqual(run.status, 130, run.error)
    XCTAssertEqual(run.output + run.error, "")
    XCTAssertEqual(fixture.names, before)
    let generation = try ToolRun(
      ["generate", "--model", source, "--prompt", "x", "-n", "4000", "--json"], interruptAfter: 1)
    XCTAssertEqual(generation.status, 130, generation.error)
    XCTAssertEqual(generation.output + generation.error, "")
    let text = fixture.write(
      "long.txt", String(repeating: ToolFixture.text, count: 100))
    let perplexity = try ToolRun(
      ["perplexity", "--model", source, "--text", text], interruptAfter: 1)
    XCTAssertEqual(perplexity.status, 130, perplexity.error)
    XCTAssertEqual(perplexity.output + perplexity.error, "")
    try FileManager.default.removeItem(atPath: source)
  }

  func testInterruption() throws {
    // Far more than a second of work, which the signal must end.
    let start = Date()
    let run = try ToolRun(
      ["bench", "machine", "--repetitions", "100000", "--read-megabytes", "8", "--json"],
      interruptAfter: 1)
    XCTAssertEqual(run.status, 130, run.error)
    XCTAssertEqual(run.output, "")
    XCTAssertLessThan(Date().timeIntervalSince(start), 60)
  }

  func testHelpAndVersion() throws {
    for arguments in [
      ["--help"], ["generate", "--help"], ["perplexity", "--help"], ["tokenize", "--help"],
      ["inspect", "--help"], ["convert", "--help"], ["bench", "--help"],
      ["bench", "machine", "--help"],
      ["bench", "model", "--help"], ["bench", "matmul", "--help"],
      ["bench", "attention", "--help"], ["simulate", "attention", "--help"],
    ] {
      let run = try ToolRun(arguments)
      XCTAssertEqual(run.status, 0)
      XCTAssertEqual(run.error, "")
      XCTAssertTrue(run.output.contains("EXAMPLES"), "\(arguments): no examples")
    }
    XCTAssertEqual(try ToolRun(["--version"]).status, 0)
  }
}
