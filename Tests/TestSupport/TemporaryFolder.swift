import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// A folder of a test's own, removed with all that is in it when the object goes, or the process: an
/// XCTestCase keeps what it holds to the end.
public final class TemporaryFolder {
  public let path: String

  private static let left: Mutex<Set<String>> = {
    atexit { for path in TemporaryFolder.left.withLock({ $0 }) { TemporaryFolder.remove(path) } }
    return Mutex([])
  }()

  public init() {
    let base = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
    var template = Array("\(base)/quantkernels-test-XXXXXX".utf8CString)
    path = template.withUnsafeMutableBufferPointer { buffer in
      buffer.baseAddress.flatMap { mkdtemp($0) }.map { String(cString: $0) } ?? base
    }
    let made = path
    if made != base { _ = Self.left.withLock { $0.insert(made) } }
  }

  /// The path of a file of that name in the folder.
  public func file(_ name: String) -> String { "\(path)/\(name)" }

  /// Writes a file without any of the package's own means; gives its path.
  @discardableResult
  public func write(_ bytes: [UInt8], _ name: String) -> String {
    let path = file(name)
    if let stream = fopen(path, "wb") {
      fwrite(bytes, 1, bytes.count, stream)
      fclose(stream)
    }
    return path
  }

  /// The names of all that is in the folder, sorted.
  public var names: [String] { TemporaryFolder.names(in: path) }

  private static func names(in path: String) -> [String] {
    guard let folder = opendir(path) else { return [] }
    defer { closedir(folder) }
    var names: [String] = []
    while let entry = readdir(folder) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names.sorted()
  }

  deinit {
    let gone = path
    // Not `base` itself, where no folder could be made.
    if Self.left.withLock({ $0.remove(gone) }) != nil { Self.remove(gone) }
  }

  private static func remove(_ path: String) {
    for name in names(in: path) {
      if unlink("\(path)/\(name)") != 0 { remove("\(path)/\(name)") }
    }
    rmdir(path)
  }
}

/// The bytes of a file under `Tests/Fixtures`, or nil where it is not there.
public func fixture(_ name: String) -> [UInt8]? {
  let here = #filePath
  guard let end = here.range(of: "/TestSupport/") else { return nil }
  return readFile("\(here[..<end.lowerBound])/Fixtures/\(name)")
}

/// A file's bytes, by the C library alone.
public func readFile(_ path: String) -> [UInt8]? {
  guard let stream = fopen(path, "rb") else { return nil }
  defer { fclose(stream) }
  var bytes: [UInt8] = []
  var buffer = [UInt8](repeating: 0, count: 65_536)
  while true {
    let count = fread(&buffer, 1, buffer.count, stream)
    if count == 0 { return bytes }
    bytes += buffer[..<count]
  }
}

extension String {
  /// The first place of `other`; without Foundation.
  fileprivate func range(of other: String) -> Range<Index>? { ranges(of: other).first }
}
