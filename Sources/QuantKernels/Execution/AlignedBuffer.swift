#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Zeroed memory of a fixed size, aligned to a cache line; large ones are asked to lie on huge
/// pages, which spares a streaming kernel the page walks.
package final class AlignedBuffer: @unchecked Sendable {
  package let base: UnsafeMutableRawPointer
  package let count: Int
  private let mapped: Int
  /// The buffer that a slice lies in and keeps alive.
  private let owner: AlignedBuffer?

  /// - Parameter hugePages: whether large ones are asked onto huge pages or kept off them.
  /// - Throws: ``QuantError`` (`outOfMemory`) when the system refuses.
  package init(count: Int, for subject: String, hugePages: Bool = true) throws(QuantError) {
    self.count = count
    owner = nil
    let hugePage = 2 << 20
    func refuse() -> QuantError {
      QuantError(
        .outOfMemory, subject, "the system refused \(count) bytes",
        remedy: "close other programs or use a smaller model, context or batch")
    }
    guard count >= 0, count < Int.max / 2 else { throw refuse() }
    if count >= hugePage {
      mapped = count + hugePage
      guard
        let raw = mmap(nil, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0),
        raw != MAP_FAILED
      else { throw refuse() }
      // The kernel backs aligned 2 MiB stretches with huge pages; the slack before them stays
      // untouched.
      let skip = (hugePage - Int(bitPattern: raw) % hugePage) % hugePage
      base = raw + skip
      slack = skip
      #if os(Linux)
        madvise(base, count, hugePages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE)
      #endif
    } else {
      mapped = 0
      slack = 0
      var raw: UnsafeMutableRawPointer?
      guard posix_memalign(&raw, 64, max(count, 64)) == 0, let raw else { throw refuse() }
      memset(raw, 0, max(count, 64))
      base = raw
    }
  }

  private let slack: Int

  /// `count` bytes of `owner` from `offset` on.
  init(sliceOf owner: AlignedBuffer, offset: Int, count: Int) {
    base = owner.base + offset
    self.count = count
    self.owner = owner
    mapped = 0
    slack = 0
  }

  deinit {
    if owner != nil { return }
    if mapped > 0 { munmap(base - slack, mapped) } else { free(base) }
  }
}
