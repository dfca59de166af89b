import ArgumentParser
import QuantKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// The tool's exit codes (those of sysexits.h where there is one).
enum ExitStatus: Int32 {
  case success = 0
  case usage = 64
  case data = 65
  case missingFile = 66
  case unavailable = 69
  case fault = 70
  case interrupted = 130

  init(_ code: QuantError.Code) {
    switch code {
    case .invalidArgument: self = .usage
    case .invalidData: self = .data
    case .missingFile: self = .missingFile
    case .unsupported, .outOfMemory: self = .unavailable
    case .cancelled: self = .interrupted
    }
  }

  /// Prints an error as one line on standard error (or help and version on standard output) and
  /// returns the code to exit with.
  static func report(_ error: any Error) -> ExitStatus {
    Console.flush()
    Console.clearProgress()
    if let error = error as? QuantError {
      let status = ExitStatus(error.code)
      // Whoever interrupted knows it.
      if status != .interrupted { Console.writeError("error: \(oneLine(error.description))") }
      return status
    }
    if QuantKernelsTool.exitCode(for: error).isSuccess {
      Console.write(QuantKernelsTool.fullMessage(for: error))
      Console.write("\n")
      Console.flush()
      do {
        try Console.checkOutput()
        return .success
      } catch {
        return report(error)
      }
    }
    if QuantKernelsTool.exitCode(for: error) == .validationFailure {
      let help = oneLine(helpCommand(for: error))
      Console.writeError("error: \(oneLine(QuantKernelsTool.message(for: error))); see '\(help)'")
      return .usage
    }
    Console.writeError(
      "error: quantkernels: \(oneLine(String(describing: error))); please report it")
    return .fault
  }

  /// The help call that the parser's full message names, such as
  /// `quantkernels bench matmul --help`.
  private static func helpCommand(for error: any Error) -> String {
    let message = QuantKernelsTool.fullMessage(for: error)
    for line in message.split(separator: "\n") {
      guard let start = line.range(of: "See '"), let end = line.lastIndex(of: "'"),
        start.upperBound < end
      else { continue }
      return String(line[start.upperBound..<end])
    }
    return "quantkernels --help"
  }

  /// Names from files and paths may hold anything; a terminal must not obey them.
  private static func oneLine(_ text: String) -> String {
    printable(text.split(whereSeparator: \.isNewline).joined(separator: " "))
  }
}

/// Leaves the process with standard output written out.
func exitTool(_ status: ExitStatus) -> Never {
  Console.flush()
  exit(status.rawValue)
}

extension Substring {
  /// The first place of `text`, without Foundation.
  fileprivate func range(of text: String) -> Range<Index>? {
    var start = startIndex
    while start < endIndex {
      if self[start...].hasPrefix(text) {
        return start..<index(start, offsetBy: text.count)
      }
      formIndex(after: &start)
    }
    return nil
  }
}
