/// A plot of series over one horizontal and one vertical axis, as SVG.
///
/// Drawn small, so that its text can still be read when a phone's width shrinks it. Colors are the
/// page's.
struct LinePlot {
  let title: String
  let x: PlotAxis
  let y: PlotAxis
  let series: [PlotSeries]

  private static let width = 460.0
  private static let height = 312.0
  private static let left = 60.0
  private static let right = 442.0
  private static let top = 14.0
  private static let bottom = 262.0

  private func position(_ point: PlotSeries.Point) -> (x: Double, y: Double)? {
    guard let across = x.fraction(point.x), let up = y.fraction(point.y) else { return nil }
    return (
      Self.left + across * (Self.right - Self.left),
      Self.bottom - up * (Self.bottom - Self.top)
    )
  }

  /// Series that are told apart by a legend.
  private var listed: [PlotSeries] { series.filter { $0.style != .reference } }

  /// The drawing.
  var svg: String {
    var lines = [
      "<svg viewBox=\"0 0 \(coordinate(Self.width)) "
        + "\(coordinate(Self.height))\" role=\"img\" font-size=\"13\">",
      "<title>\(escapedMarkup(title))</title>",
    ]
    lines += grid
    var room = PlotLabels(x: Self.left...Self.width, y: Self.top - 4...Self.bottom)
    for one in listed {
      let places = one.points.compactMap(position)
      if one.style == .line { room.take(line: places) }
      for place in places { room.take(place.x, place.y, radius: 5) }
    }
    for one in series where one.style == .reference {
      room.take(line: one.points.compactMap(position))
    }
    for one in series where one.style == .reference { lines += reference(one, &room) }
    // Under the markers, which a label's halo must not hide.
    for one in listed { lines += labels(one, &room) }
    for (index, one) in listed.enumerated() { lines += curve(one, index) }
    if series.allSatisfy({ $0.points.allSatisfy { position($0) == nil } }) {
      lines.append(
        Self.text((Self.left + Self.right) / 2, Self.top + 110, "no data", anchor: "middle"))
    }
    lines.append("</svg>")
    return lines.joined(separator: "\n")
  }

  /// Names and markers of the series, as a list that wraps.
  var legend: String {
    let items = listed.enumerated().map { index, one in
      let dashes = PlotLook.dashes(index).map { " stroke-dasharray=\"\($0)\"" } ?? ""
      let line =
        one.style == .points
        ? ""
        : "<path d=\"M1 7H33\" stroke=\"\(PlotLook.color(index))\" stroke-width=\"2\"\(dashes) "
          + "fill=\"none\"/>"
      return
        "<li><svg viewBox=\"0 0 34 14\" width=\"34\" height=\"14\" aria-hidden=\"true\">\(line)"
        + "\(PlotLook.marker(index, 17, 7))</svg> \(escapedMarkup(one.name))</li>"
    }
    return "<ul class=\"legend\">\(items.joined())</ul>"
  }

  // MARK: Parts

  private var grid: [String] {
    var lines: [String] = []
    for tick in x.ticks {
      guard let part = x.fraction(tick), part > -0.001, part < 1.001 else { continue }
      let at = Self.left + part * (Self.right - Self.left)
      lines.append(Self.line(at, Self.top, at, Self.bottom))
      lines.append(Self.text(at, Self.bottom + 18, x.name(tick), anchor: "middle"))
    }
    for tick in y.ticks {
      guard let part = y.fraction(tick), part > -0.001, part < 1.001 else { continue }
      let at = Self.bottom - part * (Self.bottom - Self.top)
      lines.append(Self.line(Self.left, at, Self.right, at))
      lines.append(Self.text(Self.left - 6, at + 4.5, y.name(tick), anchor: "end"))
    }
    lines.append(
      "<path d=\"M\(coordinate(Self.left)) \(coordinate(Self.top))V\(coordinate(Self.bottom))"
        + "H\(coordinate(Self.right))\" fill=\"none\" stroke=\"var(--axis)\"/>")
    lines.append(
      Self.text(
        (Self.left + Self.right) / 2, Self.height - 10, x.label, anchor: "middle",
        fill: "var(--soft)"))
    let middle = (Self.top + Self.bottom) / 2
    lines.append(
      "<text x=\"13\" y=\"\(coordinate(middle))\" text-anchor=\"middle\" fill=\"var(--soft)\" "
        + "transform=\"rotate(-90 13 \(coordinate(middle)))\">\(escapedMarkup(y.label))</text>")
    return lines
  }

  private func path(_ points: [(x: Double, y: Double)]) -> String {
    points.enumerated().map {
      "\($0.offset == 0 ? "M" : "L")\(coordinate($0.element.x)) \(coordinate($0.element.y))"
    }.joined()
  }

  private func curve(_ one: PlotSeries, _ index: Int) -> [String] {
    let places = one.points.compactMap { point in position(point).map { (point, $0) } }
    guard !places.isEmpty else { return [] }
    var lines: [String] = []
    if one.style == .line, places.count > 1 {
      let dashes = PlotLook.dashes(index).map { " stroke-dasharray=\"\($0)\"" } ?? ""
      lines.append(
        "<path d=\"\(path(places.map(\.1)))\" fill=\"none\" stroke=\"\(PlotLook.color(index))\" "
          + "stroke-width=\"2\"\(dashes)/>")
    }
    for (point, place) in places {
      let title = "\(one.name): \(x.name(point.x)), \(PlotAxis.short(point.y))"
      lines.append(PlotLook.marker(index, place.x, place.y, title: title))
    }
    return lines
  }

  private func labels(_ one: PlotSeries, _ room: inout PlotLabels) -> [String] {
    one.points.compactMap { point in
      guard let label = point.label, let place = position(point) else { return nil }
      let best = room.place(label, among: PlotLabels.around(place.x, place.y))
      return Self.text(best.x, best.y, label, anchor: best.anchor, halo: true)
    }
  }

  private func reference(_ one: PlotSeries, _ room: inout PlotLabels) -> [String] {
    let places = one.points.compactMap(position)
    guard let first = places.first, let last = places.last, places.count > 1 else { return [] }
    let best = room.place(one.name, among: PlotLabels.along(first, last))
    return [
      "<path d=\"\(path(places))\" fill=\"none\" stroke=\"var(--axis)\" stroke-width=\"1.5\"/>",
      Self.text(best.x, best.y, one.name, anchor: best.anchor, fill: "var(--soft)", halo: true),
    ]
  }

  private static func line(_ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double) -> String {
    "<path d=\"M\(coordinate(x1)) \(coordinate(y1))L\(coordinate(x2)) \(coordinate(y2))\" "
      + "stroke=\"var(--grid)\"/>"
  }

  private static func text(
    _ x: Double, _ y: Double, _ content: String, anchor: String, fill: String = "var(--ink)",
    halo: Bool = false
  ) -> String {
    "<text x=\"\(coordinate(x))\" y=\"\(coordinate(y))\" text-anchor=\"\(anchor)\" "
      + "fill=\"\(fill)\"\(halo ? " class=\"halo\"" : "")>\(escapedMarkup(content))</text>"
  }
}
