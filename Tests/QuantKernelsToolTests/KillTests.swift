import Foundation
import LanguageModel
import TestSupport
import XCTest

/// `convert` and `calibrate-kv` killed at random moments: their output is the old one or the new one,
/// whole, and what a killed process leaves behind is removed by the next one.
final class KillTests: XCTestCase {
  private let folder = TemporaryFolder()
  private var random = RepeatableRandom(seed: 41)

  /// Starts the tool and kills it after some seconds; false when it was done before.
  private func killed(_ arguments: [String], after seconds: Double) throws -> Bool {
    let process = Process()
    process.executableURL = ToolRun.executable
    process.arguments = arguments
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    try process.run()
    usleep(UInt32(seconds * 1e6))
    kill(process.processIdentifier, SIGKILL)
    process.waitUntilExit()
    return process.terminationReason == .uncaughtSignal
  }

  private func run(_ arguments: [String]) throws {
    let run = try ToolRun(arguments)
    XCTAssertEqual(run.status, 0, run.error)
  }

  /// Seconds that the tool takes to its end.
  private func seconds(of arguments: [String]) throws -> Double {
    let start = Date()
    try run(arguments)
    return Date().timeIntervalSince(start)
  }

  /// A file, or all files of a folder by name; nil when there is neither.
  private func contents(_ name: String) -> [String: [UInt8]]? {
    var isFolder: ObjCBool = false
    let path = folder.file(name)
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else { return nil }
    guard isFolder.boolValue else { return readFile(path).map { ["": $0] } }
    let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    return Dictionary(
      uniqueKeysWithValues: names.map { ($0, readFile("\(path)/\($0)") ?? []) })
  }

  private func temporaries() -> [String] { folder.names.filter { $0.hasSuffix(".partial") } }

  /// Turns about between two types, each killed at a random moment of the time that it takes, or
  /// some time later.
  private func killConversions(to types: [String], output: String, times: Int) throws {
    var model = SyntheticModel(.llama)
    model.layerCount = 4
    model.embeddingLength = 256
    model.feedForwardLength = 768
    model.vocabularySize = 8192
    let source = folder.file("source.gguf")
    try model.write(to: source)
    func arguments(_ type: String, _ name: String) -> [String] {
      ["convert", source, "--to", type, "--threads", "2", "-o", folder.file(name)]
    }
    var whole: [[String: [UInt8]]] = []
    var longest = 0.0
    let suffix = output.hasSuffix("/") ? "/" : ""
    for (index, type) in types.enumerated() {
      longest = max(longest, try seconds(of: arguments(type, "whole\(index)\(suffix)")))
      whole.append(try XCTUnwrap(contents("whole\(index)")))
    }
    XCTAssertNotEqual(whole[0], whole[1])
    let name = suffix.isEmpty ? output : String(output.dropLast())
    try run(arguments(types[0], output))
    var (old, kills, olds, news, left) = (0, 0, 0, 0, 0)
    for _ in 0..<times {
      let new = 1 - old
      if try killed(
        arguments(types[new], output), after: .random(in: 0..<1.2 * longest, using: &random))
      {
        kills += 1
      }
      left = max(left, temporaries().count)
      let found = contents(name)
      if found == whole[new] {
        news += 1
        old = new
      } else {
        olds += 1
        XCTAssertTrue(found == whole[old], "\(output) is neither the old nor the new one")
      }
    }
    print(
      "\(output): \(kills) of \(times) runs of \(Int(longest * 1000)) ms killed, "
        + "\(olds) left the old one, \(news) made the new one, at most \(left) temporaries")
    XCTAssertGreaterThan(kills, 0)
    // Each run removes what those before it left, so that it does not gather.
    XCTAssertLessThanOrEqual(left, 2)
    try run(arguments(types[1 - old], output))
    XCTAssertEqual(contents(name), whole[1 - old])
    XCTAssertEqual(temporaries(), [])
  }

  func testConvertToAFile() throws {
    try killConversions(to: ["q8_0", "f32"], output: "model.gguf", times: 25)
  }

  func testConvertToADirectory() throws {
    try killConversions(to: ["f16", "f32"], output: "directory/", times: 25)
  }

  /// Killed again and again, each time going on from the checkpoint of the time before: in the end
  /// the file of a run that was never killed.
  func testCalibration() throws {
    let model = folder.file("tiny.gguf")
    try run(["synthesize", "--tiny", "-o", model])
    let text = folder.write(
      Array(String(repeating: ToolFixture.text, count: 60).utf8), "text.txt")
    func arguments(_ name: String, _ ratio: String) -> [String] {
      [
        "calibrate-kv", "--model", model, "--text", text, "-o", folder.file(name), "--ratio", ratio,
        "--samples", "64", "--gradient-samples", "32", "--context", "256", "--threads", "1",
        "--checkpoint-seconds", "0",
      ]
    }
    let longest = try seconds(of: arguments("whole", "0.5"))
    try run(arguments("factors", "0.75"))
    let (old, new) = (contents("factors"), contents("whole"))
    XCTAssertNotEqual(old, new)
    var (kills, olds, checkpoints) = (0, 0, 0)
    let times = 12
    for _ in 0..<times {
      if try killed(
        arguments("factors", "0.5"), after: .random(in: 0..<0.8 * longest, using: &random))
      {
        kills += 1
      }
      if folder.names.contains("factors.checkpoint") { checkpoints += 1 }
      let found = contents("factors")
      if found == new {
        // Done: begin again.
        try run(arguments("factors", "0.75"))
      } else {
        olds += 1
        XCTAssertTrue(found == old, "the factors are neither the old nor the new ones")
      }
    }
    print(
      "calibrate-kv: \(kills) of \(times) runs of \(Int(longest * 1000)) ms killed, \(olds) left the "
        + "old file, \(checkpoints) a checkpoint")
    XCTAssertGreaterThan(kills, 0)
    try run(arguments("factors", "0.5"))
    XCTAssertEqual(contents("factors"), new)
    XCTAssertEqual(temporaries(), [])
    XCTAssertFalse(folder.names.contains("factors.checkpoint"))
  }
}
