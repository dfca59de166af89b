#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Sizes of this machine's caches, as the system tells them.
public enum CacheSizes {
  /// Bytes of the largest cache; 32 MiB, that of a common server part, where the system does not
  /// say.
  public static let lastLevel: Int = {
    #if canImport(Glibc)
      let sizes = [_SC_LEVEL4_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE, _SC_LEVEL2_CACHE_SIZE].map {
        Int(sysconf(Int32($0)))
      }
    #else
      let sizes = ["hw.l3cachesize", "hw.perflevel0.l2cachesize", "hw.l2cachesize"].map { name in
        var value = 0
        var size = MemoryLayout<Int>.size
        return sysctlbyname(name, &value, &size, nil, 0) == 0 ? value : 0
      }
    #endif
    return sizes.first { $0 > 0 } ?? 32 << 20
  }()
}
