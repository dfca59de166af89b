import ArgumentParser
import QuantKernels

/// What every command takes.
struct CommonOptions: ParsableArguments {
  @Flag(name: .long, help: "Print one JSON object on standard output, and nothing else.")
  var json = false

  @Option(name: .long, help: "Threads to compute with (default: all processors).")
  var threads: Int?

  func validate() throws {
    if let threads, threads < 1 || threads > 256 {
      throw ValidationError("--threads \(threads) must be 1 to 256")
    }
  }

  var threadCount: Int { threads ?? WorkerPool.processorCount }

  /// Prints the result of a command: the JSON object with `--json`, else the text.
  func finish(_ value: JSON, text: @autoclosure () -> String) {
    Console.clearProgress()
    Console.writeLine(json ? value.text : text())
    Console.flush()
  }
}
