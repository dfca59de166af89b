import QuantKernels
import XCTest

@testable import QuantKernelsTool

/// What launchers of ranks say, and what follows from it. Processes themselves: `Tests/MPI/run.sh`.
final class RankLaunchTests: XCTestCase {
  private func launch(_ environment: [String: String]) -> RankLaunch? {
    RankLaunch { environment[$0] }
  }

  func testEnvironments() {
    XCTAssertNil(launch([:]))
    XCTAssertNil(launch(["OMPI_COMM_WORLD_RANK": "1"]))
    XCTAssertEqual(
      launch(["OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "4"]),
      RankLaunch(rank: 1, ranks: 4))
    XCTAssertEqual(launch(["PMI_RANK": "2", "PMI_SIZE": "3"]), RankLaunch(rank: 2, ranks: 3))
    for size in ["", "x", "0", "-1", "99999999999999999999"] {
      XCTAssertNil(launch(["OMPI_COMM_WORLD_SIZE": size]), size)
    }
    XCTAssertEqual(
      launch(["OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "x"]),
      RankLaunch(rank: 0, ranks: 2))
  }

  /// Several processes of a tool without MPI would each do all of the work.
  func testRefusals() throws {
    let one = RankLaunch(rank: 0, ranks: 1)
    let four = RankLaunch(rank: 3, ranks: 4)
    XCTAssertNil(one.refusal(isBuiltIn: false))
    XCTAssertNil(four.refusal(isBuiltIn: true))
    let refusal = try XCTUnwrap(four.refusal(isBuiltIn: false))
    XCTAssertEqual(ExitStatus(refusal.code), .unavailable)
    XCTAssertTrue(refusal.description.contains("4 ranks"))
    XCTAssertTrue(refusal.description.contains("--traits MPI"))
    // Another MPI's launcher: each process sees itself alone.
    XCTAssertNil(four.refusal(connected: 4))
    XCTAssertEqual(four.refusal(connected: 1).map { ExitStatus($0.code) }, .unavailable)
  }

  #if !MPI
    func testToolWithoutMPI() throws {
      for rank in 0...1 {
        let run = try ToolRun(
          ["devices"],
          environment: ["OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "\(rank)"])
        XCTAssertEqual(run.status, 69)
        XCTAssertEqual(run.output, "")
        XCTAssertEqual(run.error.contains("build with --traits MPI"), rank == 0, run.error)
      }
    }
  #endif
}
