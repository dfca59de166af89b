#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Zeroed memory of the system's own pages, aligned to 2 MiB so that huge pages fit, freed with the object.
package final class AnonymousMemory: @unchecked Sendable {
  /// The first byte, aligned to 2 MiB.
  package let base: UnsafeMutableRawPointer
  package let byteCount: Int
  private let mapping: UnsafeMutableRawPointer
  private let mappedBytes: Int

  /// - Parameters:
  ///   - bytes: at least 1.
  ///   - hugePages: asks the system for 2 MiB pages, or forbids them; a system without the choice ignores it.
  /// - Throws: ``QuantError`` of code `outOfMemory` when the system refuses.
  package init(bytes: Int, hugePages: Bool) throws(QuantError) {
    let alignment = 2 << 20
    let (size, overflow) = max(bytes, 1).addingReportingOverflow(alignment)
    let anonymous: Int32
    #if canImport(Darwin)
      anonymous = MAP_ANON
    #else
      anonymous = MAP_ANONYMOUS
    #endif
    guard !overflow,
      let mapping = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | anonymous, -1, 0),
      mapping != MAP_FAILED
    else {
      throw QuantError(
        .outOfMemory, "memory", "the system gave no \(bytes) bytes",
        remedy: "close other programs or use a machine with more memory")
    }
    self.mapping = mapping
    mappedBytes = size
    byteCount = bytes
    base = mapping.alignedUp(toMultipleOf: alignment)
    #if canImport(Glibc)
      // MADV_HUGEPAGE and MADV_NOHUGEPAGE of Linux, which Glibc's module does not show.
      madvise(base, bytes, hugePages ? 14 : 15)
    #endif
  }

  deinit { munmap(mapping, mappedBytes) }
}

extension UnsafeMutableRawPointer {
  fileprivate func alignedUp(toMultipleOf alignment: Int) -> UnsafeMutableRawPointer {
    let address = Int(bitPattern: self)
    return self + ((address + alignment - 1) & ~(alignment - 1)) - address
  }
}
