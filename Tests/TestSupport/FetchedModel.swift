#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// The model that the benchmarks fetch (`make model`): at `QUANTKERNELS_MODEL`, or in the cache.
public enum FetchedModel {
  /// Where it should lie.
  public static let expectedPath: String = {
    func variable(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }
    let home = variable("XDG_CACHE_HOME") ?? (variable("HOME") ?? "/tmp") + "/.cache"
    let cache = variable("QUANTKERNELS_CACHE") ?? home + "/quantkernels"
    return variable("QUANTKERNELS_MODEL") ?? cache + "/SmolLM2-135M-Instruct.Q4_1.gguf"
  }()

  /// Where it lies; nil when it is not there.
  public static let path: String? = access(expectedPath, R_OK) == 0 ? expectedPath : nil
}
