#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// A folder of files that appears whole or not at all.
///
/// Files go to a temporary folder beside the target (`.quantkernels-*.partial`), which takes the
/// target's name in one step when all are written; one that was there before changes places with it,
/// in one step too where the system can do that, and is removed after. On an error or a cancellation
/// the temporary is removed and the target is untouched. A process that is killed leaves a temporary
/// behind, and the next folder that is written beside it removes that.
public enum AtomicFolder {
  /// Makes or replaces the folder at `path` by what `body` writes into the one whose path it gets.
  ///
  /// - Parameters:
  ///   - path: the folder's name, a slash at its end or not.
  ///   - replaceable: whether a file of that name may be there already, and go: a folder that holds
  ///     anything else is refused.
  ///   - isCancelled: asked before the folder takes its name.
  ///   - body: writes plain files, no folders.
  /// - Throws: what `body` throws; `invalidArgument` for a target that holds other files, or is no
  ///   folder; `missingFile` when the system does not allow it; `cancelled`.
  public static func write(
    to path: String, replaceable: (String) -> Bool, isCancelled: () -> Bool = { false },
    _ body: (_ folder: String) throws(QuantError) -> Void
  ) throws(QuantError) {
    try SystemFailure.checkPath(path)
    var target = path
    while target.utf8.count > 1, target.hasSuffix("/") { target.removeLast() }
    guard !target.isEmpty else { throw SystemFailure.error(ENOENT, path, "cannot be written") }
    if let real = realpath(target, nil) {
      target = String(cString: real)
      free(real)
    }
    try check(target, replaceable)
    let parent = target.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(target[...$0]) } ?? ""
    Temporary.removeAbandoned(in: parent)
    let (temporary, lock) = try make(in: parent, for: path)
    defer { close(lock) }
    do throws(QuantError) {
      try body(temporary)
      if isCancelled() {
        throw QuantError(
          .cancelled, path, "writing was cancelled", remedy: "the folder is as it was before")
      }
      try take(target, temporary, path)
    } catch {
      Temporary.remove(temporary)
      throw error
    }
    sync(parent.isEmpty ? "." : parent)
  }

  private static func check(
    _ target: String, _ replaceable: (String) -> Bool
  ) throws(QuantError) {
    var status = stat()
    guard lstat(target, &status) == 0 else { return }
    guard status.st_mode & S_IFMT == S_IFDIR else {
      throw QuantError(
        .invalidArgument, target, "is there and is no folder", remedy: "name a new folder")
    }
    for name in Temporary.names(in: target) {
      guard replaceable(name), lstat("\(target)/\(name)", &status) == 0,
        status.st_mode & S_IFMT == S_IFREG || status.st_mode & S_IFMT == S_IFLNK
      else {
        throw QuantError(
          .invalidArgument, target, "holds '\(name)', which would be lost",
          remedy: "name a new folder, or an empty one")
      }
    }
  }

  private static func make(
    in parent: String, for path: String
  ) throws(QuantError) -> (path: String, lock: Int32) {
    var failure: Int32 = 0
    let created = Temporary.make(in: parent, failure: &failure) { candidate in
      guard mkdir(candidate, 0o777) == 0 else { return -1 }
      let descriptor = open(candidate, O_RDONLY | O_CLOEXEC)
      if descriptor < 0 {
        // Gone again: another process took it for abandoned.
        let code = errno == ENOENT ? EEXIST : errno
        rmdir(candidate)
        errno = code
      }
      return descriptor
    }
    guard let created else { throw SystemFailure.error(failure, path, "cannot be written") }
    return (created.path, created.descriptor)
  }

  /// Gives the finished folder its name.
  private static func take(
    _ target: String, _ temporary: String, _ path: String
  ) throws(QuantError) {
    sync(temporary)
    // Onto nothing or an empty folder, a rename is one step.
    if rename(temporary, target) == 0 { return }
    let code = errno
    guard code == ENOTEMPTY || code == EEXIST else {
      throw SystemFailure.error(code, path, "cannot take its name")
    }
    if exchange(temporary, target) {
      Temporary.remove(temporary)
      return
    }
    // Two steps: between them there is no folder of that name.
    let old = temporary + ".old"
    guard rename(target, old) == 0 else {
      throw SystemFailure.error(errno, path, "cannot be replaced")
    }
    guard rename(temporary, target) == 0 else {
      let code = errno
      _ = rename(old, target)
      throw SystemFailure.error(code, path, "cannot take its name")
    }
    Temporary.remove(old)
  }

  /// Lets two folders change names in one step; false where the system cannot.
  private static func exchange(_ one: String, _ other: String) -> Bool {
    #if canImport(Glibc)
      // Glibc's module does not show it, being an extension.
      typealias Exchange =
        @convention(c) (
          Int32, UnsafePointer<CChar>, Int32, UnsafePointer<CChar>, UInt32
        ) -> Int32
      guard let symbol = dlsym(nil, "renameat2") else { return false }
      let exchange = unsafeBitCast(symbol, to: Exchange.self)
      return exchange(AT_FDCWD, one, AT_FDCWD, other, 2) == 0
    #elseif canImport(Darwin)
      return renamex_np(one, other, UInt32(RENAME_SWAP)) == 0
    #endif
  }

  private static func sync(_ folder: String) {
    let descriptor = open(folder, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    fsync(descriptor)
    close(descriptor)
  }
}
