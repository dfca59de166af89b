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
      // On virtual machines the C library multiplies what one core sees by cores of the host.
      if let kernel = ["4", "3", "2"].lazy.compactMap({ kernelSize(index: $0) }).first {
        return kernel
      }
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

  #if canImport(Glibc)
    /// What Linux says of the first processor's cache, such as "32768K".
    private static func kernelSize(index: String) -> Int? {
      guard let file = fopen("/sys/devices/system/cpu/cpu0/cache/index\(index)/size", "r") else {
        return nil
      }
      defer { fclose(file) }
      var kibibytes = 0
      var digits = 0
      while digits < 12 {
        let character = fgetc(file)
        guard character >= 0x30, character <= 0x39 else {
          return digits > 0 && character == 0x4B ? kibibytes << 10 : nil
        }
        kibibytes = kibibytes * 10 + Int(character - 0x30)
        digits += 1
      }
      return nil
    }
  #endif
}
