import XCTest

@testable import QuantKernelsTool

/// Axes, series and drawings of a report.
final class PlotTests: XCTestCase {
  func testLinearAxesBeginAtZero() {
    let axis = PlotAxis("y", .linear, covering: [3, 87, 41])
    XCTAssertEqual(axis.range.lowerBound, 0)
    XCTAssertGreaterThanOrEqual(axis.range.upperBound, 87)
    XCTAssertEqual(axis.ticks.first, 0)
    XCTAssertEqual(axis.ticks.last, axis.range.upperBound)
    XCTAssertLessThanOrEqual(axis.ticks.count, 7)
    XCTAssertEqual(axis.fraction(0), 0)
    XCTAssertEqual(axis.fraction(axis.range.upperBound), 1)
    // Below zero where a value is.
    XCTAssertLessThanOrEqual(PlotAxis("y", .linear, covering: [-3, 5]).range.lowerBound, -3)
  }

  func testLogarithmicAxes() throws {
    let axis = PlotAxis("x", .logarithmic, covering: [3, 700])
    XCTAssertEqual(axis.range, 2...1000)
    XCTAssertEqual(axis.ticks.count { $0 == 10 || $0 == 100 || $0 == 1000 }, 3)
    let middle = try XCTUnwrap(axis.fraction((2.0 * 1000).squareRoot()))
    XCTAssertEqual(middle, 0.5, accuracy: 1e-12)
    XCTAssertNil(axis.fraction(0))
    XCTAssertNil(axis.fraction(-1))
    XCTAssertNil(axis.fraction(.nan))
    XCTAssertNil(axis.fraction(.infinity))
    // Far apart: powers of ten alone, and not too many.
    let wide = PlotAxis("x", .logarithmic, covering: [1e-9, 1e9])
    XCTAssertLessThanOrEqual(wide.ticks.count, 8)
    XCTAssertGreaterThanOrEqual(wide.ticks.count, 4)
    let batches = [1.0, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    let given = PlotAxis("x", .logarithmic, covering: batches, ticks: batches)
    XCTAssertTrue(given.ticks.allSatisfy { batches.contains($0) })
    XCTAssertLessThanOrEqual(given.ticks.count, PlotAxis.mostGiven)
    for batch in batches {
      let place = try XCTUnwrap(given.fraction(batch))
      XCTAssertTrue((0...1).contains(place), "\(batch)")
    }
  }

  func testAxesOfNothingAndOfOneValue() {
    let cases: [[Double]] = [[], [7], [0, 0], [.nan, .infinity, -.infinity], [1e-300], [1e300]]
    for scale in [PlotAxis.Scale.linear, .logarithmic] {
      for values in cases {
        let axis = PlotAxis("x", scale, covering: values)
        XCTAssertTrue(axis.range.lowerBound.isFinite && axis.range.upperBound.isFinite)
        XCTAssertLessThan(axis.range.lowerBound, axis.range.upperBound, "\(scale) \(values)")
        XCTAssertTrue(axis.ticks.allSatisfy(\.isFinite))
      }
    }
  }

  func testNamesOfValues() {
    let binary = PlotAxis("x", .logarithmic, covering: [1024, 65_536], numbers: .binary)
    XCTAssertEqual(binary.name(65_536), "64K")
    XCTAssertEqual(binary.name(512), "512")
    XCTAssertEqual(PlotAxis.short(20_000), "20k")
    XCTAssertEqual(PlotAxis.short(2_500_000), "2.5M")
    XCTAssertEqual(PlotAxis.short(0), "0")
    XCTAssertEqual(PlotAxis.short(0.05), "0.05")
    XCTAssertEqual(PlotAxis.short(150), "150")
  }

  private func plot(_ series: [PlotSeries]) -> LinePlot {
    LinePlot(
      title: "a < b & \"c\"", x: PlotAxis("x", .logarithmic, covering: [1, 100]),
      y: PlotAxis("y", .linear, covering: [0, 10]), series: series)
  }

  func testDrawings() throws {
    let svg = plot([
      PlotSeries("<one>", [(1, 1), (10, .nan), (0, 3), (-1, 4), (.infinity, 5), (100, 10)]),
      PlotSeries("points", [PlotSeries.Point(x: 50, y: 5, label: "R&D")], style: .points),
      PlotSeries("roof", [(1, 9), (100, 9)], style: .reference),
    ]).svg
    XCTAssertNil(svg.range(of: "nan", options: .caseInsensitive))
    XCTAssertNil(svg.range(of: "inf"))
    XCTAssertTrue(svg.contains("<title>a &lt; b &amp; &quot;c&quot;</title>"))
    XCTAssertTrue(svg.contains("&lt;one&gt;"))
    XCTAssertTrue(svg.contains("R&amp;D"))
    XCTAssertTrue(svg.contains("roof"))
    XCTAssertFalse(svg.contains("no data"))
    try assertWellFormed(svg)
  }

  func testEmptyDrawingsSayIt() throws {
    for series in [
      [], [PlotSeries("none", [PlotSeries.Point]())], [PlotSeries("nan", [(.nan, 1)])],
    ] {
      let plot = plot(series)
      XCTAssertTrue(plot.svg.contains("no data"))
      try assertWellFormed(plot.svg)
      try assertWellFormed(plot.legend)
    }
  }

  func testSeriesDifferInColorMarkerAndDashes() {
    let markers = (0..<PlotLook.count).map { PlotLook.marker($0, 10, 10) }
    XCTAssertEqual(Set(markers).count, PlotLook.count)
    XCTAssertEqual(Set((0..<PlotLook.count).map { PlotLook.color($0) }).count, PlotLook.count)
    XCTAssertEqual(
      Set((0..<PlotLook.count).map { PlotLook.dashes($0) ?? "" }).count, PlotLook.count)
    // Both schemes have every color.
    for index in 0..<PlotLook.count {
      XCTAssertEqual(ReportStyle.sheet.components(separatedBy: "--s\(index):").count, 3)
    }
  }

  func testTablesOfPlots() {
    let table = Figure.table(
      of: plot([
        PlotSeries("a", [(1, 1.5), (10, 1234)]), PlotSeries("b", [(10, 0.25)]),
        PlotSeries("roof", [(1, 9)], style: .reference),
      ]))
    XCTAssertEqual(table, [["x", "a", "b"], ["1", "1.50", ""], ["10", "1234", "0.2500"]])
  }

  func testEscaping() {
    XCTAssertEqual(
      escapedMarkup("<a href='x'>\"&\u{1}</a>"),
      "&lt;a href=&#39;x&#39;&gt;&quot;&amp;\u{FFFD}&lt;/a&gt;")
    XCTAssertEqual(coordinate(.nan), "0")
    XCTAssertEqual(coordinate(.infinity), "0")
    XCTAssertEqual(coordinate(1.25), "1.3")
    XCTAssertFalse(coordinate(1e300).contains("e"))
  }
}
