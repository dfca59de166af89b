#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Names and locks of temporary files and folders (`.quantkernels-*.partial`), so that what a killed
/// process left behind can be told from what another one is writing.
///
/// Whoever writes holds a lock on the temporary (`flock`), which ends with the process however that
/// ends. On a file system without such locks nothing is ever taken for abandoned.
enum Temporary {
  private static let prefix = ".quantkernels-"
  private static let suffix = ".partial"

  /// Makes a file or folder of a new name in a folder (empty, or a path that ends in a slash), and
  /// locks it.
  ///
  /// A name of its own and not one made from the target's, which may already be as long as names
  /// get.
  ///
  /// - Parameter create: makes it at a path, and returns an open descriptor or -1 with `errno`.
  /// - Returns: nil when none could be made, for the reason in `failure`.
  static func make(
    in folder: String, failure: inout Int32, create: (_ path: String) -> Int32
  ) -> (path: String, descriptor: Int32)? {
    failure = EEXIST
    for _ in 0..<100 where failure == EEXIST {
      let name = String(UInt64.random(in: 0...UInt64.max), radix: 36)
      let path = "\(folder)\(prefix)\(name)\(suffix)"
      let descriptor = create(path)
      failure = errno
      guard descriptor >= 0 else { continue }
      if isLocked(descriptor) { return (path, descriptor) }
      // Between its making and its locking another process took it for abandoned.
      close(descriptor)
      unlink(path)
      rmdir(path)
      failure = EEXIST
    }
    return nil
  }

  /// Locks what has just been made; false when it is another's or gone already.
  private static func isLocked(_ descriptor: Int32) -> Bool {
    if flock(descriptor, LOCK_EX | LOCK_NB) != 0 { return errno != EWOULDBLOCK }
    var status = stat()
    return fstat(descriptor, &status) != 0 || status.st_nlink > 0
  }

  /// Removes what killed processes left in a folder.
  static func removeAbandoned(in folder: String) {
    let place = folder.isEmpty ? "." : folder
    for name in names(in: place) where name.hasPrefix(prefix) && name.hasSuffix(suffix) {
      let path = folder + name
      let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
      guard descriptor >= 0 else { continue }
      if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { remove(path) }
      close(descriptor)
    }
  }

  /// Removes a file, or a folder of files.
  static func remove(_ path: String) {
    if unlink(path) == 0 { return }
    for name in names(in: path) { unlink("\(path)/\(name)") }
    rmdir(path)
  }

  static func names(in folder: String) -> [String] {
    guard let stream = opendir(folder) else { return [] }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names
  }
}
