import TestSupport
import XCTest

/// The model that the benchmarks fetch.
enum RealModel {
  /// - Throws: a skip when it is not there.
  static func path() throws -> String {
    guard let path = FetchedModel.path else {
      throw XCTSkip("no model at \(FetchedModel.expectedPath); `make model` fetches it")
    }
    return path
  }
}
