import Foundation
import XCTest

/// `simulate attention` on NPUs, and what `reproduce` says of FastAttention there.
final class SimulateAttentionTests: XCTestCase {
  private func run(_ changes: [String: String] = [:], _ rest: [String] = []) throws -> ToolRun {
    var options = [
      "--device": "ascend910b2", "--kernel": "two-level", "--query-length": "512",
      "--kv-length": "2048", "--heads": "4", "--head-dim": "64",
    ]
    options.merge(changes) { $1 }
    return try ToolRun(
      ["simulate", "attention"] + options.sorted { $0.key < $1.key }.flatMap { [$0.key, $0.value] }
        + rest)
  }

  private func value(_ object: [String: Any], _ path: String...) throws -> Any {
    var value: Any = object
    for key in path { value = try XCTUnwrap((value as? [String: Any])?[key], "no \(path)") }
    return value
  }

  func testGPUKeys() throws {
    for (device, kernel) in [
      ("rtx4090", "flash"), ("rtx4090", "unfused"), ("v100", "volta"), ("v100", "xformers"),
    ] {
      let run = try run(["--device": device, "--kernel": kernel], ["--json"])
      XCTAssertEqual(run.status, 0, run.error)
      let object = try run.json
      for path in [["counters"], ["counters", "perWarpStep"]] {
        var part: Any = object
        for key in path { part = try XCTUnwrap((part as? [String: Any])?[key], "no \(path)") }
        let counters = try XCTUnwrap(part as? [String: Any])
        for key in ["wavefronts", "conflicts", "bytes"] {
          XCTAssertNotNil(try value(counters, "sharedMemory", key) as? Double)
        }
        for key in ["requests", "sectors", "bytes"] {
          XCTAssertGreaterThan(try value(counters, "globalMemory", key) as? Double ?? 0, 0)
        }
        XCTAssertGreaterThan(try value(counters, "matrixInstructions") as? Double ?? 0, 0)
      }
      XCTAssertGreaterThan(try value(object, "estimate", "microseconds") as? Double ?? 0, 0)
    }
  }

  func testKernelsAndDevices() throws {
    for device in ["ascend910a", "ascend910b2"] {
      for kernel in ["unfused", "unified", "two-level"] {
        let run = try run(["--device": device, "--kernel": kernel], ["--causal", "--json"])
        XCTAssertEqual(run.status, 0, run.error)
        let object = try run.json
        for key in ["handOvers", "rescales", "bankConflictCycles"] {
          XCTAssertNotNil(try value(object, "counters", "npu", key))
        }
        XCTAssertGreaterThan(
          try value(object, "counters", "npu", "bytes", "gmToL1") as? Int ?? 0, 0)
        XCTAssertGreaterThan(
          try value(object, "counters", "npu", "bufferBytes", "l0a") as? Int ?? 0, 0)
        for key in ["microseconds", "teraflopPerSecond"] {
          XCTAssertGreaterThan(try value(object, "estimate", key) as? Double ?? 0, 0)
        }
        XCTAssertNotNil(try value(object, "estimate", "bound") as? String)
        XCTAssertLessThanOrEqual(try value(object, "occupancy", "l0c") as? Double ?? 2, 1)
      }
    }
    XCTAssertEqual(try run().status, 0)
  }

  func testKernelsOfGPUs() throws {
    for (device, kernels) in [
      ("v100", ["unfused", "volta", "xformers"]), ("a100-80", ["unfused", "flash"]),
    ] {
      for kernel in kernels {
        let run = try run(["--device": device, "--kernel": kernel], ["--causal", "--json"])
        XCTAssertEqual(run.status, 0, run.error)
        let object = try run.json
        XCTAssertGreaterThan(
          try value(object, "counters", "sharedMemory", "wavefronts") as? Int ?? 0, 0)
        XCTAssertGreaterThan(
          try value(object, "counters", "globalMemory", "sectors") as? Int ?? 0, 0)
        XCTAssertGreaterThan(try value(object, "estimate", "microseconds") as? Double ?? 0, 0)
        XCTAssertEqual(
          try value(object, "workspaceBytes") as? Int,
          kernel == "unfused" ? 4 * 512 * 2048 * 2 : 0)
      }
    }
    XCTAssertEqual(try run(["--device": "v100", "--kernel": "volta"]).status, 0)
  }

  func testHandOversOfTheCommandAreTheFormulas() throws {
    // Without a mask: 4 heads of 4 tiles, 2048 keys each.
    let object = try run(["--first-level": "512"], ["--json"]).json
    XCTAssertEqual(try value(object, "counters", "npu", "handOvers") as? Int, 16 * 3 * 4)
    XCTAssertEqual(try value(object, "counters", "npu", "rescales") as? Int, 16 * 3)
    let tiling = try run(["--mask": "tiling"], ["--causal", "--json"]).json
    XCTAssertEqual(
      try value(tiling, "counters", "npu", "readBytes", "mask") as? Int, 16 * 128 * 128)
  }

  func testBadUsage() throws {
    for changes in [
      ["--device": "ascend"], ["--kernel": "flash"], ["--kernel": "none"], ["--heads": "0"],
      ["--kv-heads": "3"], ["--head-dim": "300"], ["--query-length": "-1"],
      ["--first-level": "64"], ["--first-level": "192"], ["--second-level": "8"],
      ["--mask": "none"],
    ] {
      let run = try run(changes)
      XCTAssertEqual(run.status, 64, "\(changes): \(run.error)")
      XCTAssertEqual(run.error.filter { $0 == "\n" }.count, 1, "one line: \(run.error)")
    }
    // A tile that does not fit.
    XCTAssertEqual(try run(["--second-level": "512"]).status, 69)
    XCTAssertEqual(try run(["--device": "v100"]).status, 64)
    XCTAssertEqual(try run(["--device": "v100", "--kernel": "flash"]).status, 69)
    XCTAssertEqual(
      try run(["--device": "v100", "--kernel": "volta", "--second-level": "128"]).status, 64)
  }

  func testReproduce() throws {
    let run = try ToolRun(["reproduce", "--only", "fast-attention", "--json"])
    XCTAssertEqual(run.status, 0, run.error)
    let claims = try XCTUnwrap(try run.json["claims"] as? [[String: Any]])
    func named(_ prefix: String) -> [[String: Any]] {
      claims.filter { ($0["claim"] as? String ?? "").hasPrefix(prefix) }
    }
    let headline = try XCTUnwrap(
      named("910B2, fused against standard attention, up to, causal").first)
    XCTAssertEqual(headline["published"] as? Double, 10.7)
    XCTAssertGreaterThan(headline["ours"] as? Double ?? 0, 1)
    XCTAssertEqual(headline["kind"] as? String, "modelled")
    // Each number without a source at a quarter and four times.
    XCTAssertEqual(named("… fused against standard").count, 20)
    XCTAssertEqual(
      try XCTUnwrap(named("mask bytes stored at 64K, full").first)["ours"] as? Double, 0x1p32)
    XCTAssertEqual(
      try XCTUnwrap(named("mask bytes stored at 64K, computed").first)["ours"] as? Double, 0)
    for claim in claims {
      for key in ["paper", "claim", "source", "kind", "verdict", "command"] {
        XCTAssertFalse((claim[key] as? String ?? "").isEmpty, "\(claim)")
      }
      XCTAssertNotNil(claim["ours"])
    }
  }
}
