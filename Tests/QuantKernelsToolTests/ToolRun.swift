import Foundation
import TestSupport
import XCTest

/// One run of the built command line: its exit status and what it printed.
struct ToolRun {
  let status: Int32
  let output: String
  let error: String

  /// The object that `--json` printed.
  var json: [String: Any] {
    get throws {
      let object = try JSONSerialization.jsonObject(with: Data(output.utf8))
      return try XCTUnwrap(object as? [String: Any])
    }
  }

  /// The built `quantkernels`, which stands beside the test bundle.
  static var executable: URL {
    #if os(macOS)
      for bundle in Bundle.allBundles where bundle.bundlePath.hasSuffix(".xctest") {
        return bundle.bundleURL.deletingLastPathComponent().appendingPathComponent("quantkernels")
      }
    #endif
    return URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
      .appendingPathComponent("quantkernels")
  }

  /// Runs the tool to its end.
  ///
  /// - Parameters:
  ///   - interruptAfter: seconds after which SIGINT is sent.
  ///   - interruptWhen: after which SIGINT is sent, or after a minute.
  ///   - redirection: what a shell does to the tool's streams, such as `>/dev/full` or `<&-`.
  ///   - limitKilobytes: the address space that the tool may take.
  ///   - environment: what is set beside this process's variables.
  init(
    _ arguments: [String], input: String = "", interruptAfter: Double? = nil,
    interruptWhen: (() -> Bool)? = nil, redirection: String? = nil, limitKilobytes: Int? = nil,
    environment: [String: String] = [:]
  ) throws {
    let process = Process()
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    process.executableURL = Self.executable
    process.arguments = arguments
    if redirection != nil || limitKilobytes != nil {
      let limit = limitKilobytes.map { "ulimit -v \($0) && " } ?? ""
      process.executableURL = URL(fileURLWithPath: "/bin/sh")
      process.arguments =
        ["-c", "\(limit)exec \"$@\" \(redirection ?? "")", "sh", Self.executable.path] + arguments
    }
    let (standardInput, standardOutput, standardError) = (Pipe(), Pipe(), Pipe())
    process.standardInput = standardInput
    process.standardOutput = standardOutput
    process.standardError = standardError
    // Read as it comes: a full pipe would stop the tool.
    let collected = Collected()
    let group = DispatchGroup()
    for (pipe, isError) in [(standardOutput, false), (standardError, true)] {
      group.enter()
      DispatchQueue.global().async {
        collected.set(pipe.fileHandleForReading.readDataToEndOfFile(), isError: isError)
        group.leave()
      }
    }
    try process.run()
    try standardInput.fileHandleForWriting.write(contentsOf: Data(input.utf8))
    try standardInput.fileHandleForWriting.close()
    if let interruptAfter {
      Thread.sleep(forTimeInterval: interruptAfter)
      process.interrupt()
    }
    if let interruptWhen {
      let deadline = Date(timeIntervalSinceNow: 60)
      while !interruptWhen(), process.isRunning, Date() < deadline {
        Thread.sleep(forTimeInterval: 0.002)
      }
      process.interrupt()
    }
    process.waitUntilExit()
    group.wait()
    status = process.terminationStatus
    output = String(decoding: collected.output, as: UTF8.self)
    error = String(decoding: collected.error, as: UTF8.self)
  }

  private final class Collected: @unchecked Sendable {
    private let lock = NSLock()
    private(set) var output = Data()
    private(set) var error = Data()

    func set(_ data: Data, isError: Bool) {
      lock.lock()
      if isError { error = data } else { output = data }
      lock.unlock()
    }
  }
}

/// A folder with a tiny model, made once for a test case.
final class ToolFixture {
  private let folder = TemporaryFolder()
  var model: String { path("tiny.gguf") }

  init() throws {
    let run = try ToolRun(["synthesize", "--tiny", "-o", model])
    XCTAssertEqual(run.status, 0, run.error)
  }

  func path(_ name: String) -> String { folder.file(name) }

  /// Writes a file and returns its path.
  func write(_ name: String, _ text: String) -> String { write(name, bytes: Array(text.utf8)) }

  func write(_ name: String, bytes: [UInt8]) -> String { folder.write(bytes, name) }

  var names: [String] { folder.names }

  func bytes(_ name: String) throws -> [UInt8] { try XCTUnwrap(readFile(path(name))) }

  static let text = String(
    repeating: "The quick brown fox jumps over the lazy dog, and the river runs on. ", count: 20)
}
