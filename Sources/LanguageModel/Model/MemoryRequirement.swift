import QuantKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// What a model and a conversation take, compared with the memory of the machine before any of it
/// is allocated.
enum MemoryRequirement {
  /// Bytes of physical memory.
  static var physicalBytes: Int {
    let pages = Int(sysconf(Int32(_SC_PHYS_PAGES)))
    let size = Int(sysconf(Int32(_SC_PAGESIZE)))
    let (bytes, overflow) = pages.multipliedReportingOverflow(by: size)
    return pages <= 0 || size <= 0 || overflow ? Int.max : bytes
  }

  /// The sum of products; `Int.max` where it would overflow, which no machine has.
  static func sum(_ products: [[Int]]) -> Int {
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
  static func check(_ needed: Int, limit: Int, subject: String, remedy: String)
    throws(QuantError)
  {
    guard needed > limit else { return }
    throw QuantError(
      .outOfMemory, subject,
      "needs \(needed >> 20) MiB where \(limit >> 20) MiB of memory are there", remedy: remedy)
  }
}
