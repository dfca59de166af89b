import Foundation
import XCTest

/// `calibrate-kv` and `bench low-rank` on a tiny model.
final class CalibrateCommandTests: XCTestCase {
  nonisolated(unsafe) private static var shared: ToolFixture?

  private func fixture() throws -> ToolFixture {
    if let shared = Self.shared { return shared }
    let made = try ToolFixture()
    Self.shared = made
    return made
  }

  override class func tearDown() { shared = nil }

  private func arguments(_ output: String, _ more: [String] = []) throws -> [String] {
    let fixture = try fixture()
    let text = fixture.write(
      "calibration.txt", String(repeating: ToolFixture.text, count: 6))
    return [
      "calibrate-kv", "--model", fixture.model, "--text", text, "-o", fixture.path(output),
      "--context", "64", "--samples", "24", "--gradient-samples", "8", "--json",
    ] + more
  }

  func testFactorsAreWritten() throws {
    let fixture = try fixture()
    for (name, more) in [
      ("loss", []), ("uniform", ["--method", "uniform", "--no-rotation"]),
      ("commuting", ["--keys", "commuting", "--group", "2", "--method", "water-fill"]),
      ("hybrid", ["--keys", "rotated", "--group", "2", "--method", "fisher", "--bits", "2"]),
    ] {
      let run = try ToolRun(try arguments(name, more))
      XCTAssertEqual(run.status, 0, run.error)
      XCTAssertEqual(run.error, "", "no progress where standard error is no terminal")
      let object = try run.json
      XCTAssertEqual(try XCTUnwrap(object["achievedRatio"] as? Double), 0.5, accuracy: 0.01)
      XCTAssertEqual(object["resumedSamples"] as? Int, 0)
      XCTAssertTrue(fixture.names.contains(name))
      XCTAssertFalse(fixture.names.contains("\(name).checkpoint"))
      // Any safetensors reader lists it.
      let inspected = try ToolRun(["inspect", fixture.path(name), "--json"])
      XCTAssertEqual(inspected.status, 0, inspected.error)
      XCTAssertTrue(inspected.output.contains("layers.1.value.0.down"), inspected.output)
    }
    // Two layers of two heads of 32: packed codes and four bytes a group.
    let object = try ToolRun(try arguments("uniform", ["--method", "uniform"])).json
    XCTAssertEqual(object["keyValueBytesPerToken"] as? Int, 8 * (16 * 3 / 8 + 4))
    XCTAssertEqual(object["float16BytesPerToken"] as? Int, 8 * 32 * 2)
  }

  /// Killed without a warning, then started again: the same file, bit for bit, and not from the start.
  func testAKilledRunGoesOn() throws {
    let fixture = try fixture()
    let more = ["--checkpoint-seconds", "0", "--threads", "1", "--context", "256"]
    // Seconds of work after the first checkpoint, on the fastest machine too.
    let text = fixture.write("long.txt", String(repeating: ToolFixture.text, count: 240))
    func arguments(_ output: String) -> [String] {
      [
        "calibrate-kv", "--model", fixture.model, "--text", text, "-o", fixture.path(output),
        "--samples", "256", "--gradient-samples", "128", "--json",
      ] + more
    }
    let process = Process()
    process.executableURL = ToolRun.executable
    process.arguments = arguments("killed")
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    try process.run()
    let checkpoint = fixture.path("killed.checkpoint")
    let deadline = Date(timeIntervalSinceNow: 60)
    while !FileManager.default.fileExists(atPath: checkpoint), process.isRunning,
      Date() < deadline
    { usleep(500) }
    kill(process.processIdentifier, SIGKILL)
    process.waitUntilExit()
    try XCTSkipIf(
      fixture.names.contains("killed"), "the run was over before it could be killed")
    XCTAssertTrue(fixture.names.contains("killed.checkpoint"))
    let resumed = try ToolRun(arguments("killed"))
    XCTAssertEqual(resumed.status, 0, resumed.error)
    XCTAssertGreaterThan(try XCTUnwrap(try resumed.json["resumedSamples"] as? Int), 0)
    let straight = try ToolRun(arguments("straight"))
    XCTAssertEqual(straight.status, 0, straight.error)
    XCTAssertEqual(try fixture.bytes("killed"), try fixture.bytes("straight"))
    XCTAssertFalse(fixture.names.contains("killed.checkpoint"))
  }

  func testInterruption() throws {
    let fixture = try fixture()
    let text = fixture.write("endless.txt", String(repeating: ToolFixture.text, count: 4000))
    let run = try ToolRun(
      [
        "calibrate-kv", "--model", fixture.model, "--text", text, "-o",
        fixture.path("interrupted"), "--samples", "100000", "--gradient-samples", "100000",
        "--context", "128",
      ], interruptAfter: 0.5)
    try XCTSkipIf(run.status == 0, "the run was over before it could be interrupted")
    XCTAssertEqual(run.status, 130)
    XCTAssertEqual(run.error, "")
    XCTAssertFalse(fixture.names.contains("interrupted"))
  }

  func testErrors() throws {
    let fixture = try fixture()
    let missing = fixture.path("missing")
    func expect(_ status: Int32, _ arguments: [String], _ mentions: String, line: UInt = #line)
      throws
    {
      let run = try ToolRun(arguments)
      XCTAssertEqual(run.status, status, run.error, line: line)
      XCTAssertEqual(run.output, "", line: line)
      XCTAssertTrue(run.error.hasPrefix("error: "), run.error, line: line)
      XCTAssertTrue(run.error.contains(mentions), run.error, line: line)
      XCTAssertEqual(run.error.filter { $0 == "\n" }.count, 1, line: line)
    }
    for (more, mentions) in [
      (["--ratio", "0"], "ratio"), (["--ratio", "1.5"], "ratio"), (["--ratio", "nan"], "ratio"),
      (["--ratio", "-0.5"], "ratio"), (["--ratio", "0.01"], "ratio"), (["--group", "0"], "group"),
      (["--group", "3"], "group"), (["--bits", "5"], "bits"), (["--method", "best"], "method"),
      (["--keys", "none"], "keys"), (["--step", "0"], "step"), (["--context", "1"], "context"),
      (["--context", "100000"], "context"), (["--samples", "0"], "samples"),
      (["--gradient-samples", "0"], "gradient"), (["--gradient-samples", "-1"], "gradient"),
      (["--samples", "1", "--context", "16"], "width"),
      (["--step", "9223372036854775807"], "step"),
    ] { try expect(64, try arguments("x", more), mentions) }
    try expect(66, try arguments("no/such/folder"), "folder")
    var arguments = try arguments("x")
    arguments[2] = missing
    try expect(66, arguments, "missing")
    arguments[2] = fixture.write("model.txt", "no model")
    try expect(65, arguments, "model.txt")
    arguments = try self.arguments("x")
    arguments[4] = missing
    try expect(66, arguments, "missing")
    arguments[4] = fixture.write("short.txt", "A few words.")
    try expect(64, arguments, "tokens")
    arguments = try self.arguments("x")
    arguments[6] = fixture.model
    try expect(64, arguments, "to be read")
    XCTAssertFalse(fixture.names.contains("x"))
    // A checkpoint that is none.
    _ = fixture.write("y.checkpoint", "not a checkpoint")
    try expect(65, try self.arguments("y"), "y.checkpoint")
  }

  func testBenchLowRank() throws {
    let fixture = try fixture()
    let text = fixture.write("measured.txt", ToolFixture.text)
    let calibration = fixture.write(
      "calibration.txt", String(repeating: ToolFixture.text, count: 6))
    let base = [
      "bench", "low-rank", "--model", fixture.model, "--calibrate", calibration, "--text", text,
      "--context", "64", "--samples", "24", "--gradient-samples", "4", "--chunks", "2",
    ]
    let run = try ToolRun(
      base + [
        "--methods", "uniform,loss", "--bits", "16,2", "--ratios", "0.5", "--json",
      ])
    XCTAssertEqual(run.status, 0, run.error)
    let cases = try XCTUnwrap(try run.json["cases"] as? [[String: Any]])
    // Whole keys and values, and as three types; two groups by two methods by 16 bits and 2 bits
    // rotated or not.
    XCTAssertEqual(cases.count, 1 + 3 + 2 * 2 * 3)
    XCTAssertEqual(
      cases[..<4].map { $0["type"] as? String }, ["unrounded", "f16", "q8_0", "q4_0"])
    XCTAssertEqual(cases[0]["shareOfFloat16"] as? Double, 1)
    for one in cases {
      XCTAssertGreaterThan(try XCTUnwrap(one["perplexity"] as? Double), 1)
      XCTAssertLessThanOrEqual(try XCTUnwrap(one["shareOfFloat16"] as? Double), 1)
    }
    // The engine with halves is the simulation without rounding, nearly.
    let plain = try XCTUnwrap(cases[0]["perplexity"] as? Double)
    XCTAssertEqual(
      try XCTUnwrap(cases[1]["perplexity"] as? Double), plain, accuracy: 0.01 * plain)
    // The best of each size is the least perplexity that fits it.
    for best in try XCTUnwrap(try run.json["best"] as? [[String: Any]]) {
      let limit = try XCTUnwrap(best["atMost"] as? Double)
      let least = cases.filter { ($0["shareOfFloat16"] as? Double ?? 2) <= limit }
        .compactMap { $0["perplexity"] as? Double }.min()
      XCTAssertEqual((best["case"] as? [String: Any])?["perplexity"] as? Double, least)
    }
    for bad in [
      ["--beside", "x"], ["--bits", "5"], ["--bits", "x"], ["--ratios", "2"], ["--ratios", "x"],
      ["--methods", "x"],
      ["--keys", "x"], ["--rotation", "x"], ["--groups", "3"], ["--chunks", "0"],
    ] {
      XCTAssertEqual(try ToolRun(base + bad).status, 64, "\(bad)")
    }
  }
}
