#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Memory whose last byte lies just before a page that may not be touched, so that reading one byte
/// too many ends the test run instead of passing unseen.
public final class GuardedBytes {
  public let capacity: Int
  private let start: UnsafeMutableRawPointer
  private let mapped: Int
  private let end: Int

  /// - Parameter capacity: the most bytes that will be held.
  public init?(capacity: Int) {
    let page = Int(sysconf(Int32(_SC_PAGESIZE)))
    end = (max(capacity, 1) + page - 1) / page * page
    mapped = end + page
    #if canImport(Darwin)
      let anonymous = MAP_ANON
    #else
      let anonymous = MAP_ANONYMOUS
    #endif
    guard let start = mmap(nil, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | anonymous, -1, 0),
      start != MAP_FAILED, mprotect(start + end, page, PROT_NONE) == 0
    else { return nil }
    self.start = start
    self.capacity = capacity
  }

  /// The last `count` bytes before the guard.
  public func tail(_ count: Int) -> UnsafeMutableRawBufferPointer {
    UnsafeMutableRawBufferPointer(start: start + (end - count), count: count)
  }

  deinit { munmap(start, mapped) }
}
