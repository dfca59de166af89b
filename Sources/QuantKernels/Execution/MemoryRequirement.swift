#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// What a model, a conversion or a measurement takes, compared with the memory of the machine
/// before any of it is allocated.
package enum MemoryRequirement {
  /// Bytes that this process may take: the machine's memory, or less where a container or a
  /// resource limit (`ulimit -v`, `-d`) says so.
  package static var availableBytes: Int {
    let pages = Int(sysconf(Int32(_SC_PHYS_PAGES)))
    let size = Int(sysconf(Int32(_SC_PAGESIZE)))
    let (bytes, overflow) = pages.multipliedReportingOverflow(by: size)
    let physical = pages <= 0 || size <= 0 || overflow ? Int.max : bytes
    return min(physical, containerLimit ?? .max, resourceLimit)
  }

  /// What the control group allows, version 2 or 1.
  private static var containerLimit: Int? {
    for path in ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"] {
      let descriptor = open(path, O_RDONLY | O_CLOEXEC)
      guard descriptor >= 0 else { continue }
      defer { close(descriptor) }
      var text = [UInt8](repeating: 0, count: 32)
      let count = read(descriptor, &text, text.count)
      guard count > 0 else { continue }
      // "max" is no number, and no limit.
      let digits = text[..<count].prefix { (0x30...0x39).contains($0) }
      if let limit = Int(String(decoding: digits, as: UTF8.self)) { return limit }
    }
    return nil
  }

  private static var resourceLimit: Int {
    var least = Int.max
    for resource in [RLIMIT_AS, RLIMIT_DATA] {
      var limit = rlimit()
      #if canImport(Glibc)
        let got = getrlimit(__rlimit_resource_t(resource.rawValue), &limit)
      #else
        let got = getrlimit(resource, &limit)
      #endif
      if got == 0, let bytes = Int(exactly: limit.rlim_cur) { least = min(least, bytes) }
    }
    return least
  }

  /// The sum of products; `Int.max` where it would overflow, which no machine has.
  package static func sum(_ products: [[Int]]) -> Int {
    var total = 0
    for factors in products {
      var product = 1
      for factor in factors {
        let (value, overflow) = product.multipliedReportingOverflow(by: factor)
        if overflow { return Int.max }
        product = value
      }
      let (value, overflow) = total.addingReportingOverflow(product)
      if overflow { return Int.max }
      total = value
    }
    return total
  }

  /// - Throws: ``QuantError`` `.outOfMemory` when `needed` exceeds `limit` bytes.
  package static func check(
    _ needed: Int, limit: Int = availableBytes, subject: String, remedy: String
  ) throws(QuantError) {
    guard needed > limit else { return }
    throw QuantError(
      .outOfMemory, subject,
      "needs \(needed >> 20) MiB where \(limit >> 20) MiB of memory are there", remedy: remedy)
  }
}
