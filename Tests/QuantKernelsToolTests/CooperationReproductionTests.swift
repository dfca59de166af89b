import Foundation
import XCTest

/// `reproduce --only fast-attention`: what it claims of several devices.
final class CooperationReproductionTests: XCTestCase {
  func testClaims() throws {
    let run = try ToolRun(["reproduce", "--only", "fast-attention", "--json"])
    XCTAssertEqual(run.status, 0, run.error)
    let all = try XCTUnwrap(try run.json["claims"] as? [[String: Any]])
    func claims(_ prefix: String) -> [[String: Any]] {
      all.filter { ($0["claim"] as? String)?.hasPrefix(prefix) == true }
    }
    for claim in all {
      for key in ["paper", "claim", "source", "kind", "verdict", "command"] {
        XCTAssertNotNil(claim[key] as? String, key)
      }
    }
    XCTAssertEqual(claims("tiled all-reduce").count, 6)
    for claim in claims("tiled all-reduce") + claims("outputs equal bit for bit") {
      XCTAssertEqual(claim["verdict"] as? String, "holds", "\(claim)")
    }
    // Two models on V100 of two sizes reach 256K tokens, Pangu-38B only with the host.
    XCTAssertEqual(claims("longest input").count, 4)
    for claim in claims("longest input") {
      XCTAssertEqual(claim["verdict"] as? String, "holds", "\(claim)")
    }
    XCTAssertEqual(claims("the same at 8K").count, 6)
    XCTAssertEqual(claims("the same, ").count, 10)
    for claim in claims("the same") {
      let survives = (claim["ours"] as? String)?.hasSuffix(", survives") == true
      XCTAssertEqual(
        claim["verdict"] as? String,
        survives ? "holds" : "does not hold under the documented rules",
        "\(claim)")
    }
    XCTAssertEqual(
      claims("Pangu-38B end to end").first?["verdict"] as? String, "could not be checked")
    // Whatever does not hold says why.
    for claim in all
    where !["holds", "no published figure"].contains(claim["verdict"] as? String ?? "") {
      XCTAssertFalse((claim["reason"] as? String ?? "").isEmpty, "\(claim)")
    }
  }
}
