import ArgumentParser
import QuantKernels

@testable import QuantKernelsTool

/// Arguments of any bytes, one a line, are read or refused.
///
/// Read, not run: running would open what the arguments name.
func test(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  let bytes = UnsafeBufferPointer(start: start, count: count)
  let arguments = bytes.split(separator: 10, omittingEmptySubsequences: false).map {
    String(decoding: $0, as: UTF8.self)
  }
  do {
    _ = try QuantKernelsTool.parseAsRoot(arguments)
  } catch {
    // What would be printed, with the exit code that scripts rely on.
    if let error = error as? QuantError {
      precondition(error.code == .invalidArgument, "\(arguments): \(error)")
    } else {
      let code = QuantKernelsTool.exitCode(for: error)
      precondition(code.isSuccess || code == .validationFailure, "\(arguments): \(error)")
      _ = QuantKernelsTool.fullMessage(for: error)
    }
  }
  return 0
}
