import QuantKernels
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
  /// `errno` of the first write to standard output that failed, or 0.
  private static let outputFailure = Atomic<Int32>(0)

  private static let silence = Atomic<Bool>(false)

  /// Whether nothing is shown: of several processes that do one work, one speaks.
  static var isSilent: Bool {
    get { silence.load(ordering: .relaxed) }
    set { silence.store(newValue, ordering: .relaxed) }
  }

  /// Opens /dev/null for the standard streams that the caller closed, so that no file of ours gets
  /// their numbers; the wrong way round, so that reading or writing them still fails.
  static func reserveStandardStreams() {
    for (stream, mode) in [
      (STDIN_FILENO, O_WRONLY), (STDOUT_FILENO, O_RDONLY), (STDERR_FILENO, O_RDONLY),
    ] where fcntl(stream, F_GETFD) < 0 {
      // The lowest free number, which is this one.
      _ = open("/dev/null", mode)
    }
  }

  /// Whether standard output still takes what is written; what reads it may have gone, or its disk
  /// be full.
  static var outputWorks: Bool { outputFailure.load(ordering: .relaxed) == 0 }

  /// - Throws: ``QuantError`` (66) when something for standard output could not be written.
  static func checkOutput() throws(QuantError) {
    let code = outputFailure.load(ordering: .relaxed)
    if code != 0 { throw SystemFailure.error(code, "standard output", "cannot be written") }
  }

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
    let code = writeAll(bytes, to: STDOUT_FILENO)
    if code != 0 {
      _ = outputFailure.compareExchange(expected: 0, desired: code, ordering: .relaxed)
    }
  }

  /// One line on standard error.
  static func writeError(_ line: String) { writeAll(Array((line + "\n").utf8), to: STDERR_FILENO) }

  /// Shows a line of progress on standard error when that is a terminal; each call replaces the
  /// last one's line.
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
  ///
  /// - Throws: ``QuantError`` (66) when it cannot be read, as when it is closed or a folder.
  static func readStandardInput() throws(QuantError) -> [UInt8] {
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while !Interruption.isRequested {
      let count = chunk.withUnsafeMutableBytes { read(STDIN_FILENO, $0.baseAddress, $0.count) }
      if count < 0 {
        let code = errno
        if code == EINTR { continue }
        if code == EAGAIN {
          wait(for: STDIN_FILENO, POLLIN)
          continue
        }
        throw SystemFailure.error(code, "standard input", "cannot be read")
      }
      if count == 0 { break }
      bytes += chunk[..<count]
    }
    return bytes
  }

  /// Waits until a stream that another program made non-blocking is ready.
  private static func wait(for descriptor: Int32, _ events: Int32) {
    var request = pollfd(fd: descriptor, events: Int16(truncatingIfNeeded: events), revents: 0)
    _ = poll(&request, 1, 1000)
  }

  /// Gives `errno` where it fails, else 0.
  @discardableResult
  private static func writeAll(_ bytes: [UInt8], to descriptor: Int32) -> Int32 {
    if isSilent { return 0 }
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
        let code = errno
        if code == EAGAIN { wait(for: descriptor, POLLOUT) }
        if code == EINTR || code == EAGAIN { continue }
        return code
      }
      written += count
    }
    return 0
  }
}
