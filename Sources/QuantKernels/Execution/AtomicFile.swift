#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// A file that appears whole or not at all.
///
/// What is written goes to a temporary file in the target's folder (`.quantkernels-*.partial`).
/// Only when everything is written and on the disk does it take the target's name, by `rename`,
/// which readers see as one step. On an error or a cancellation the temporary is removed and a file
/// that was there before is untouched. A process that is killed leaves the temporary behind, and the
/// next file that is written into that folder removes it.
public final class AtomicFile: ByteSink {
  /// Writes of this size or less are gathered; larger ones go out in pieces of this size, and
  /// between pieces the cancellation is looked at. One MiB: a few hundred microseconds of a fast
  /// disk.
  private static let chunk = 1 << 20

  /// The path asked for.
  public let path: String
  /// Bytes written so far.
  public private(set) var position = 0

  private let target: String
  private let temporary: String
  private let isCancelled: () -> Bool
  private var descriptor: Int32
  private let buffer: UnsafeMutableRawBufferPointer
  private var buffered = 0

  /// Makes or replaces the file at `path` by what `body` writes.
  ///
  /// An existing file keeps its permissions, and through a symbolic link the file behind it is
  /// replaced.
  ///
  /// - Parameters:
  ///   - isCancelled: asked before each piece of at most one MiB, and before the rename.
  ///   - body: writes the contents; the sink is of no use after it returns.
  ///   - path: where the file is to appear.
  /// - Throws: what `body` throws; `missingFile` when the folder or the disk does not allow it, or
  ///   the target is no regular file; `cancelled`.
  public static func write(
    to path: String, isCancelled: @escaping () -> Bool = { false },
    _ body: (AtomicFile) throws(QuantError) -> Void
  ) throws(QuantError) {
    let file = try AtomicFile(path, isCancelled)
    do throws(QuantError) {
      try body(file)
      try file.finish()
    } catch {
      file.abandon()
      throw error
    }
  }

  private init(_ path: String, _ isCancelled: @escaping () -> Bool) throws(QuantError) {
    try SystemFailure.checkPath(path)
    guard !path.isEmpty else { throw SystemFailure.error(ENOENT, path, "cannot be written") }
    self.path = path
    self.isCancelled = isCancelled
    var status = stat()
    var mode: mode_t?
    var target = path
    if stat(path, &status) == 0 {
      guard status.st_mode & S_IFMT == S_IFREG else {
        throw SystemFailure.notRegular(status.st_mode, path)
      }
      mode = status.st_mode & 0o777
      if let real = realpath(path, nil) {
        target = String(cString: real)
        free(real)
      }
    }
    self.target = target
    let folder = target.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(target[...$0]) } ?? ""
    Temporary.removeAbandoned(in: folder)
    var failure: Int32 = 0
    let created = Temporary.make(in: folder, failure: &failure) {
      open($0, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
    }
    guard let created else {
      throw SystemFailure.error(failure, path, "cannot be written")
    }
    temporary = created.path
    descriptor = created.descriptor
    if let mode { _ = fchmod(descriptor, mode) }
    buffer = .allocate(byteCount: AtomicFile.chunk, alignment: 64)
  }

  deinit {
    abandon()
    buffer.deallocate()
  }

  public func write(_ bytes: UnsafeRawBufferPointer) throws(QuantError) {
    guard descriptor >= 0 else {
      throw QuantError(
        .invalidArgument, path, "is written to after it was finished",
        remedy: "write within the closure")
    }
    if bytes.count > buffer.count - buffered { try flush() }
    if bytes.count <= buffer.count - buffered {
      if bytes.count > 0 {
        UnsafeMutableRawBufferPointer(rebasing: buffer[buffered...]).copyMemory(from: bytes)
      }
      buffered += bytes.count
    } else {
      try send(bytes)
    }
    position += bytes.count
  }

  private func flush() throws(QuantError) {
    let count = buffered
    buffered = 0
    try send(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
  }

  private func send(_ bytes: UnsafeRawBufferPointer) throws(QuantError) {
    var rest = bytes
    while rest.count > 0 {
      try checkCancelled()
      let written = systemWrite(descriptor, rest.baseAddress, min(rest.count, AtomicFile.chunk))
      if written < 0 {
        let code = errno
        if code == EINTR { continue }
        throw SystemFailure.error(code, path, "cannot be written")
      }
      rest = UnsafeRawBufferPointer(rebasing: rest[written...])
    }
  }

  private func checkCancelled() throws(QuantError) {
    if isCancelled() {
      throw QuantError(
        .cancelled, path, "writing was cancelled", remedy: "the file is as it was before")
    }
  }

  private func finish() throws(QuantError) {
    try flush()
    try checkCancelled()
    // Without it a power failure could leave the new name on a file without its contents.
    guard fsync(descriptor) == 0 else {
      throw SystemFailure.error(errno, path, "cannot be written to the disk")
    }
    // A second descriptor keeps the lock until the file has its name: without one, another process
    // could take it for abandoned.
    let lock = dup(descriptor)
    defer { if lock >= 0 { close(lock) } }
    let closing = descriptor
    descriptor = -1
    guard close(closing) == 0 else {
      let code = errno
      unlink(temporary)
      throw SystemFailure.error(code, path, "cannot be written")
    }
    guard rename(temporary, target) == 0 else {
      let code = errno
      unlink(temporary)
      throw SystemFailure.error(code, path, "cannot take its name")
    }
    syncFolder()
  }

  /// Makes the rename itself last; the file is whole either way, so a folder that cannot be synced
  /// is no error.
  private func syncFolder() {
    let folder = target.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(target[...$0]) } ?? "."
    let descriptor = open(folder, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    fsync(descriptor)
    close(descriptor)
  }

  private func abandon() {
    guard descriptor >= 0 else { return }
    close(descriptor)
    descriptor = -1
    unlink(temporary)
  }
}

/// `write(2)`, whose plain name is a method's inside the class.
private func systemWrite(
  _ descriptor: Int32, _ start: UnsafeRawPointer?, _ count: Int
) -> Int {
  write(descriptor, start, count)
}
