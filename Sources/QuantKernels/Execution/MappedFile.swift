#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// The whole of a regular file, mapped read-only into memory.
///
/// Opening costs well under a millisecond whatever the size; pages are read when they are touched
/// and shared with every other process that maps the file. The first byte lies on a page boundary,
/// so the file's own alignment decides the alignment of what is in it.
///
/// What is mapped is the file as it is, not a copy: a program that shortens the file while it is
/// mapped makes the next touch of the lost pages end this process (SIGBUS), and one that writes
/// into it changes the bytes. Replace model files by renaming (``AtomicFile`` does), never in
/// place.
public final class MappedFile: Sendable {
  /// What to tell the system about the order in which pages will be touched.
  public enum Advice: Sendable {
    /// Nothing: the system reads ahead as it finds best.
    case normal
    /// Everything is wanted soon: read ahead now, in the background.
    case willNeed
    /// Pages are wanted in no order: no read-ahead.
    case random
  }

  /// The path that was opened, or the name given to bytes in memory; errors name it.
  public let path: String

  private let address: UnsafeSendablePointer
  private let owner: Owner

  private enum Owner: Sendable {
    case mapping, allocation, caller
    case whole(MappedFile)
  }

  /// Pointers are not `Sendable`; this one points at memory that nobody writes while the object
  /// lives.
  private struct UnsafeSendablePointer: @unchecked Sendable {
    let buffer: UnsafeRawBufferPointer
  }

  /// The file's bytes; valid while this object lives. Empty for an empty file.
  ///
  /// An object may go right after its last use in the source, and a pointer is none: keep the
  /// object in a property, or use ``withBytes(_:)``.
  public var bytes: UnsafeRawBufferPointer { address.buffer }

  /// Calls `body` with the file's bytes, and keeps them mapped until it returns.
  ///
  /// - Throws: what `body` throws.
  public func withBytes<R, E: Error>(
    _ body: (UnsafeRawBufferPointer) throws(E) -> R
  ) throws(E) -> R {
    try withExtendedLifetime(self) { () throws(E) -> R in try body(address.buffer) }
  }

  /// Maps the file at `path`.
  ///
  /// - Throws: `missingFile` when there is no such file, it may not be read, or it is not a regular
  ///   file (a directory, a pipe, a device); `outOfMemory` when the address space cannot hold it;
  ///   `invalidArgument` for a path that holds a zero byte.
  public init(path: String, advice: Advice = .normal) throws(QuantError) {
    try SystemFailure.checkPath(path)
    // O_NONBLOCK: opening a pipe would otherwise wait for a writer, before it can be refused.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else {
      throw SystemFailure.error(errno, path, "cannot be opened")
    }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else {
      throw SystemFailure.error(errno, path, "cannot be examined")
    }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw SystemFailure.notRegular(status.st_mode, path)
    }
    self.path = path
    guard let size = Int(exactly: status.st_size), size > 0 else {
      address = .init(buffer: UnsafeRawBufferPointer(start: nil, count: 0))
      owner = .caller
      return
    }
    guard let start = mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor, 0), start != MAP_FAILED
    else {
      throw SystemFailure.error(errno, path, "its \(size) bytes cannot be mapped into memory")
    }
    switch advice {
    case .normal: break
    // Advice is a wish; a system that does not grant it still maps the file.
    case .willNeed: _ = madvise(start, size, MADV_WILLNEED)
    case .random: _ = madvise(start, size, MADV_RANDOM)
    }
    address = .init(buffer: UnsafeRawBufferPointer(start: start, count: size))
    owner = .mapping
  }

  /// A file's image that is already in memory, copied; `name` stands for the path in errors.
  ///
  /// The copy lies on a 64-byte boundary.
  public init(copying bytes: UnsafeRawBufferPointer, name: String) {
    path = name
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 64)
    copy.copyMemory(from: bytes)
    address = .init(buffer: UnsafeRawBufferPointer(copy))
    owner = .allocation
  }

  /// Bytes that the caller owns and leaves alone for as long as this object lives.
  package init(borrowing bytes: UnsafeRawBufferPointer, name: String) {
    path = name
    address = .init(buffer: bytes)
    owner = .caller
  }

  /// Part of a file, which stays mapped as long as the part lives.
  package init(partOf whole: MappedFile, _ range: Range<Int>) {
    path = whole.path
    address = .init(buffer: UnsafeRawBufferPointer(rebasing: whole.bytes[range]))
    owner = .whole(whole)
  }

  deinit {
    switch owner {
    case .mapping:
      if let start = address.buffer.baseAddress {
        munmap(UnsafeMutableRawPointer(mutating: start), address.buffer.count)
      }
    case .allocation: address.buffer.deallocate()
    case .caller, .whole: break
    }
  }
}
