import Foundation
import XCTest

/// Where the model lies that the benchmarks fetch: at `QUANTKERNELS_MODEL`, or in the cache.
enum RealModel {
  /// - Throws: a skip when it is not there.
  static func path() throws -> String {
    let environment = ProcessInfo.processInfo.environment
    let home = environment["XDG_CACHE_HOME"] ?? (environment["HOME"] ?? "/tmp") + "/.cache"
    let cache = environment["QUANTKERNELS_CACHE"] ?? home + "/quantkernels"
    let path =
      environment["QUANTKERNELS_MODEL"] ?? cache + "/SmolLM2-135M-Instruct.Q4_1.gguf"
    guard FileManager.default.fileExists(atPath: path) else {
      throw XCTSkip("no model at \(path); `make model` fetches it")
    }
    return path
  }
}
