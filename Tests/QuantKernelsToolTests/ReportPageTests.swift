import Foundation
import XCTest

@testable import QuantKernelsTool

#if canImport(FoundationXML)
  import FoundationXML
#endif

/// Fails where a text is no well-formed XML.
func assertWellFormed(
  _ text: String, file: StaticString = #filePath, line: UInt = #line
) throws {
  let parser = XMLParser(data: Data(text.utf8))
  XCTAssertTrue(
    parser.parse(),
    "\(parser.parserError.map { "\($0)" } ?? "") at \(parser.lineNumber):\(parser.columnNumber)",
    file: file, line: line)
}

/// The page of `reproduce --report`, of claims and figures that are made up.
final class ReportPageTests: XCTestCase {
  private func page(hostile: String = "<script>alert('&')</script>") -> ReportPage {
    let results = Paper.allCases.map { paper in
      PaperResult(
        paper: paper,
        claims: [
          paper.claim(
            "speed \(hostile)", source: "arXiv \(hostile)", published: 1.5, ours: 1.25,
            kind: .modelled, error: -16.7, .partly, reason: "because \(hostile)"),
          paper.claim(
            "conflicts", source: "abstract", published: "conflicts", ours: "0 of 4", kind: .counted,
            .fails, reason: "rows are padded", command: "quantkernels simulate matmul --m 16"),
          paper.unchecked(
            "energy", source: "table 6", published: "70 %", reason: "it needs a power meter"),
          paper.claim("a cell", source: "table", ours: .null, kind: .measured, isDetail: true),
        ],
        figures: [figure(paper.rawValue, hostile)])
    }
    return ReportPage(
      machine: ReportPage.Machine(
        processor: "A processor \(hostile)", threads: 2, instructionSet: "avx2",
        date: "2026-11-27 18:00 UTC", version: "0.1.0", limits: [("read bandwidth", "19.0 GB/s")],
        seconds: 12),
      results: results,
      machineFigures: [figure("roofline", hostile), banks],
      command: "quantkernels reproduce --report report.html")
  }

  private func figure(_ name: String, _ hostile: String) -> Figure {
    Figure(
      "figure-\(name)", "Speed \(hostile)", kinds: [.measured, .modelled], note: "note \(hostile)",
      plot: LinePlot(
        title: "title \(hostile)", x: PlotAxis("M", .logarithmic, covering: [1, 512]),
        y: PlotAxis("GMAC/s", .linear, covering: [1, 200]),
        series: [PlotSeries("int4 \(hostile)", [(1, 10), (512, 180)])]),
      commands: ["for m in 1 512; do quantkernels bench matmul --m $m; done && true"])
  }

  private var banks: Figure {
    Figure(
      "banks", "Banks", note: "none",
      banks: BankHeatMap(title: "none", sites: [], policy: SimulateBanks.Policy.m1.rule),
      commands: ["quantkernels simulate matmul --visualize awq.svg"])
  }

  func testPageIsWellFormedAndWhole() throws {
    let html = page().html
    XCTAssertTrue(html.hasPrefix("<!DOCTYPE html>\n<html lang=\"en\">"))
    try assertWellFormed(html)
    for paper in Paper.allCases {
      XCTAssertTrue(html.contains("<section id=\"\(paper.rawValue)\">"), paper.title)
      XCTAssertTrue(html.contains("<a href=\"#\(paper.rawValue)\">"), paper.title)
      XCTAssertTrue(html.contains(escapedMarkup(paper.reference)))
      XCTAssertTrue(html.contains("figure-\(paper.rawValue)"))
    }
    for verdict in [Claim.Verdict.partly, .fails, .unchecked] {
      XCTAssertEqual(
        html.components(separatedBy: ">\(verdict.rawValue)</span>").count, 6, verdict.rawValue)
    }
    for text in [
      "rows are padded", "it needs a power meter", "quantkernels simulate matmul --m 16",
      "name=\"viewport\"", "prefers-color-scheme:dark", "A processor", "2026-11-27 18:00 UTC",
      "read bandwidth", "5 hold partly",
    ] {
      XCTAssertTrue(html.contains(text), text)
    }
  }

  func testNothingIsLoadedOrRun() {
    let html = page().html
    for text in [
      "http://", "https://", "<script", "<link", "<img", "<iframe", "@import", "url(", "src=",
    ] {
      XCTAssertFalse(html.contains(text), text)
    }
  }

  func testEveryFigureHasATitleNumbersAndItsCommand() {
    let html = page().html
    let figures = html.components(separatedBy: "<figure ").dropFirst()
    XCTAssertEqual(figures.count, Paper.allCases.count + 2)
    for figure in figures {
      XCTAssertTrue(figure.contains("<title>"))
      XCTAssertTrue(figure.contains("<summary>Numbers</summary>"))
      XCTAssertTrue(figure.contains("<pre tabindex=\"0\"><code>"))
    }
  }

  func testReasonsAreKeptWhereTheyAreOwed() {
    for verdict in Claim.Verdict.allCases {
      let claim = Paper.quick.claim(
        "x", source: "y", ours: 1, kind: .counted, verdict, reason: "because")
      XCTAssertEqual(claim.reason, verdict.needsReason ? "because" : nil)
    }
    XCTAssertEqual(
      Claim.Verdict.allCases.map(\.rawValue),
      [
        "holds", "holds partly", "does not hold under the documented rules", "could not be checked",
        "no published figure",
      ])
  }

  // MARK: The command

  func testUnwritablePathsAreRefusedAtOnce() throws {
    let folder = FileManager.default.temporaryDirectory.path
    for path in ["/no/such/folder/report.html", folder, ""] {
      let run = try ToolRun(["reproduce", "--report", path])
      XCTAssertEqual(run.status, 66, run.error)
      XCTAssertEqual(run.output, "")
      XCTAssertEqual(run.error.filter { $0 == "\n" }.count, 1, run.error)
    }
  }

  func testShortReport() throws {
    let path = FileManager.default.temporaryDirectory
      .appendingPathComponent("report-\(UUID().uuidString).html")
    addTeardownBlock { try? FileManager.default.removeItem(at: path) }
    let run = try ToolRun([
      "reproduce", "--short", "--only", "bitnet", "--report", path.path, "--json",
    ])
    XCTAssertEqual(run.status, 0, run.error)
    let claims = try XCTUnwrap(try run.json["claims"] as? [[String: Any]])
    // Sizes of two formats, and a row of one of them.
    XCTAssertEqual(claims.count, 3)
    let html = try String(contentsOf: path, encoding: .utf8)
    try assertWellFormed(html)
    XCTAssertTrue(
      html.contains("quantkernels reproduce --only bitnet --short --report report.html"))
  }
}
