#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Turns what the operating system says (`errno`, a file's mode) into a ``QuantError``.
package enum SystemFailure {
  /// - Parameter code: the value of `errno`, read at once after the call that failed.
  package static func error(_ code: Int32, _ path: String, _ problem: String) -> QuantError {
    let reason = strerror(code).map { String(cString: $0) } ?? "error \(code)"
    let detail = "\(problem) (\(reason))"
    switch code {
    case ENOMEM:
      return QuantError(
        .outOfMemory, path, detail, remedy: "use a smaller model or a machine with more memory")
    case ENOENT, ENOTDIR:
      return QuantError(.missingFile, path, detail, remedy: "check the path")
    case EACCES, EPERM, EROFS:
      return QuantError(.missingFile, path, detail, remedy: "check the permissions")
    case ENOSPC, EDQUOT, EFBIG:
      return QuantError(.missingFile, path, detail, remedy: "make room on that disk")
    default:
      return QuantError(.missingFile, path, detail, remedy: "check the path and the disk")
    }
  }

  static func notRegular(_ mode: mode_t, _ path: String) -> QuantError {
    let kind =
      switch mode & S_IFMT {
      case S_IFDIR: "a directory"
      case S_IFIFO: "a pipe"
      case S_IFSOCK: "a socket"
      default: "a device"
      }
    return QuantError(.missingFile, path, "is \(kind), not a file", remedy: "name a regular file")
  }

  /// A zero byte would end the path early and open another file than the one named.
  static func checkPath(_ path: String) throws(QuantError) {
    if path.utf8.contains(0) {
      throw QuantError(
        .invalidArgument, "path", "holds a zero byte", remedy: "remove everything from it on")
    }
  }
}
