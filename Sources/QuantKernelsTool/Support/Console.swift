import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Standard output, errors and progress.
enum Console {
  private static let buffer = Mutex<[UInt8]>([])
  private static let progressShown = Mutex<Bool>(false)
  private static let errorIsTerminal = isatty(STDERR_FILENO) != 0

  /// Appends text to standard output; it is written when the buffer is large, or by ``flush()``.
  static func write(_ text: String) { write(Array(text.utf8)) }

  /// Appends bytes to standard output.
  static func write(_ bytes: [UInt8]) {
    let large = buffer.withLock { buffer in
      buffer += bytes
      return buffer.count > 1 << 16
    }
    if large { flush() }
  }

  static func writeLine(_ text: String = "") { write(text + "\n") }

  /// Writes out what has gathered for standard output.
  static func flush() {
    let bytes = buffer.withLock { buffer in
      defer { buffer = [] }
      return buffer
    }
    writeAll(bytes, to: STDOUT_FILENO)
  }

  /// One line on standard error.
  static func writeError(_ line: String) { writeAll(Array((line + "\n").utf8), to: STDERR_FILENO) }

  /// Shows a line of progress on standard error when that is a terminal; each call replaces the last one's line.
  static func progress(_ text: String) {
    guard errorIsTerminal else { return }
    progressShown.withLock { $0 = true }
    writeAll(Array("\r\u{1B}[K\(text)".utf8), to: STDERR_FILENO)
  }

  /// A closing remark on standard error when that is a terminal.
  static func status(_ line: String) {
    if errorIsTerminal { writeError(line) }
  }

  /// Removes the line of progress.
  static func clearProgress() {
    let shown = progressShown.withLock { shown in
      defer { shown = false }
      return shown
    }
    if shown { writeAll(Array("\r\u{1B}[K".utf8), to: STDERR_FILENO) }
  }

  /// All of standard input.
  static func readStandardInput() -> [UInt8] {
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while !Interruption.isRequested {
      let count = chunk.withUnsafeMutableBytes { read(STDIN_FILENO, $0.baseAddress, $0.count) }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { break }
      bytes += chunk[..<count]
    }
    return bytes
  }

  private static func writeAll(_ bytes: [UInt8], to descriptor: Int32) {
    var written = 0
    while written < bytes.count {
      let count = bytes[written...].withUnsafeBytes {
        #if canImport(Glibc)
          Glibc.write(descriptor, $0.baseAddress, $0.count)
        #else
          Darwin.write(descriptor, $0.baseAddress, $0.count)
        #endif
      }
      if count < 0 {
        if errno == EINTR || errno == EAGAIN { continue }
        return
      }
      written += count
    }
  }
}
