import Foundation
import XCTest

/// `simulate tensor-parallel`, `bench tensor-parallel` and `reproduce --only tp-aware`.
final class TensorParallelCommandTests: XCTestCase {
  private func json(_ arguments: [String]) throws -> [String: Any] {
    let run = try ToolRun(arguments + ["--json"])
    XCTAssertEqual(run.status, 0, run.error)
    return try XCTUnwrap(
      JSONSerialization.jsonObject(with: Data(run.output.utf8)) as? [String: Any])
  }

  private let simulation = [
    "simulate", "tensor-parallel", "--device", "dgx-a100", "--ranks", "8", "--model", "llama-70b",
    "--m", "16", "--scheme",
  ]

  /// The stable keys, with the bytes of a ring.
  func testSimulation() throws {
    let naive = try json(simulation + ["naive"])
    let aware = try json(simulation + ["tp-aware"])
    let local = try json(simulation + ["local-sort"])
    let all = try json(simulation + ["alltoall"])
    XCTAssertEqual(naive["collectives"] as? Int, 2)
    XCTAssertEqual(aware["collectives"] as? Int, 1)
    XCTAssertEqual(naive["bytesPerRank"] as? Int, 1_261_568)
    XCTAssertEqual(aware["bytesPerRank"] as? Int, 458_752)
    XCTAssertEqual(aware["groupSwitches"] as? Int, 28)
    XCTAssertEqual(local["groupSwitches"] as? Int, 224)
    func time(_ object: [String: Any]) throws -> Double {
      let estimate = try XCTUnwrap(object["estimate"] as? [String: Any])
      let time = try XCTUnwrap(estimate["microseconds"] as? Double)
      let steps = try XCTUnwrap(estimate["steps"] as? [[String: Any]])
      let sum = steps.reduce(0) { $0 + ($1["microseconds"] as? Double ?? .nan) }
      XCTAssertEqual(sum, time, accuracy: 1e-9 * time)
      return time
    }
    XCTAssertLessThan(try time(aware), try time(local))
    XCTAssertLessThan(try time(local), try time(all))
    XCTAssertLessThan(try time(all), try time(naive))
    // α and β of the request are those of every protocol.
    let slow = try json(simulation + ["naive", "--alpha", "100", "--beta", "1"])
    XCTAssertGreaterThan(try time(slow), 20 * 100)
    for way in try XCTUnwrap(slow["protocols"] as? [[String: Any]]) {
      XCTAssertEqual(way["alpha"] as? Double, 100)
      XCTAssertEqual(way["beta"] as? Double, 1)
    }
    // One device: nothing to send.
    let one = try json([
      "simulate", "tensor-parallel", "--device", "dgx-h100", "--ranks", "1", "--model",
      "granite-20b", "--scheme", "naive",
    ])
    XCTAssertEqual(one["collectives"] as? Int, 0)
    XCTAssertEqual(one["bytesPerRank"] as? Int, 0)
  }

  func testBadRequests() throws {
    func status(_ changes: [String: String]) throws -> Int32 {
      var arguments = simulation + ["naive"]
      for (option, value) in changes {
        if let index = arguments.firstIndex(of: option) {
          arguments[index + 1] = value
        } else {
          arguments += [option, value]
        }
      }
      let run = try ToolRun(arguments)
      XCTAssertEqual(run.error.isEmpty, run.status == 0)
      return run.status
    }
    XCTAssertEqual(try status([:]), 0)
    for changes in [
      ["--device": "dgx-2"], ["--model": "llama-7b"], ["--scheme": "fast"], ["--ranks": "0"],
      ["--ranks": "-8"], ["--ranks": "16"], ["--m": "0"], ["--m": "-1"], ["--alpha": "-1"],
      ["--beta": "0"], ["--beta": "nan"], ["--algorithm": "star"], ["--weights": "int2"],
    ] { XCTAssertEqual(try status(changes), 64, "\(changes)") }
    // Ranks that cut a group, or do not divide at all; groups that do not divide.
    for changes in [["--ranks": "3"], ["--ranks": "5"], ["--group": "100"]] {
      XCTAssertEqual(try status(changes), 69, "\(changes)")
    }
    func bench(_ arguments: [String]) throws -> Int32 {
      try ToolRun(["bench", "tensor-parallel"] + arguments).status
    }
    for arguments in [
      ["--m", "0"], ["--m", "x"], ["--m", ""], ["--ranks", "0"], ["--k", "0"],
      ["--schemes", "none"], ["--rounds", "0"],
    ] { XCTAssertEqual(try bench(arguments), 64, "\(arguments)") }
    XCTAssertEqual(
      try bench([
        "--k", "128", "--hidden", "13696", "--n", "128", "--ranks", "2", "--schemes", "naive",
      ]), 69)
  }

  /// A small block over 2 and 4 ranks: bits, counters and every key.
  func testBench() throws {
    for ranks in [2, 4] {
      let object = try json([
        "bench", "tensor-parallel", "--ranks", "\(ranks)", "--k", "128", "--hidden", "512", "--n",
        "96", "--group", "32", "--m", "1,3", "--rounds", "2", "--gated", "--plain", "--exact",
      ])
      let cells = try XCTUnwrap(object["cells"] as? [[String: Any]])
      XCTAssertEqual(cells.count, 8)
      for cell in cells {
        let scheme = try XCTUnwrap(cell["scheme"] as? String)
        let count = try XCTUnwrap(cell["m"] as? Int)
        XCTAssertEqual(
          cell["collectives"] as? Int, scheme == "naive" || scheme == "alltoall" ? 2 : 1)
        if scheme != "local-sort" { XCTAssertEqual(cell["equalToFirst"] as? Bool, true, scheme) }
        XCTAssertLessThan(try XCTUnwrap(cell["difference"] as? Double), 1e-5)
        let time = try XCTUnwrap(cell["microseconds"] as? [String: Any])
        XCTAssertEqual(time["runs"] as? Int, 2)
        XCTAssertNotNil((cell["ratioToTPAware"] as? [String: Any])?["median"] as? Double)
        if scheme == "tp-aware" {
          XCTAssertEqual(cell["gatheredElements"] as? Int, count * 128)
        }
      }
      XCTAssertLessThan(try XCTUnwrap(object["plainDifference"] as? Double), 1e-5)
      XCTAssertNotNil((object["offline"] as? [String: Any])?["seconds"] as? Double)
    }
  }

  /// Every cell, the two maxima, and the sensitivities.
  func testReproduction() throws {
    let object = try json(["reproduce", "--only", "tp-aware"])
    let claims = try XCTUnwrap(object["claims"] as? [[String: Any]])
    func ours(_ text: String) throws -> [String: Any] {
      try XCTUnwrap(claims.first { ($0["claim"] as? String)?.contains(text) == true }, text)
    }
    for (model, published, saved) in [
      ("llama-70b", 1.81, "63.6 %"), ("granite-20b", 1.78, "66.7 %"),
    ] {
      let headline = try ours("\(model): largest TP-aware : naive")
      XCTAssertEqual(headline["published"] as? Double, published)
      XCTAssertGreaterThan(try XCTUnwrap(headline["ours"] as? Double), 1)
      XCTAssertEqual(try ours("\(model): collectives 2 → 1")["ours"] as? String, saved)
      XCTAssertEqual(try ours("\(model): collectives 2 → 1")["verdict"] as? String, "holds")
      XCTAssertGreaterThan(
        try XCTUnwrap(try ours("\(model): largest TP-aware : local sort")["ours"] as? Double), 1)
      XCTAssertEqual(
        claims.count { ($0["claim"] as? String)?.hasPrefix("\(model), dgx-") == true }, 40)
    }
    XCTAssertEqual(try ours("have naive's bits")["verdict"] as? String, "holds")
    XCTAssertEqual(claims.count { ($0["claim"] as? String)?.contains("×¼…×4") == true }, 6)
  }
}
