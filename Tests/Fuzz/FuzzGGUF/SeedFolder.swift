#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Where a first corpus is wanted, if it is.
func seedFolder() -> String? {
  getenv("QUANTKERNELS_FUZZ_SEEDS").map { String(cString: $0) }
}
