/// Points of a plot that belong together.
struct PlotSeries {
  /// How it is drawn.
  enum Style {
    /// Markers joined by lines.
    case line
    /// Markers alone.
    case points
    /// A thin line without markers, of something that others are held against; its name stands
    /// beside it.
    case reference
  }

  struct Point {
    let x: Double
    let y: Double
    /// What stands beside it.
    var label: String?
  }

  let name: String
  let points: [Point]
  var style = Style.line

  init(_ name: String, _ points: [Point], style: Style = .line) {
    self.name = name
    self.points = points
    self.style = style
  }

  init(_ name: String, _ points: [(x: Double, y: Double)], style: Style = .line) {
    self.init(name, points.map { Point(x: $0.x, y: $0.y) }, style: style)
  }
}

/// The look of a plot's series: color, marker and dashes all differ, so that none of them is needed to
/// tell two apart. Colors are the page's variables, which have a value for each scheme.
enum PlotLook {
  /// Colors, markers and dashes that there are.
  static let count = 6

  static func color(_ index: Int) -> String { "var(--s\(index % count))" }

  /// `stroke-dasharray`, or nil for a solid line.
  static func dashes(_ index: Int) -> String? {
    [nil, "7 4", "2 3", "9 3 2 3", "5 2", "1 4"][index % count]
  }

  /// A marker around a point.
  static func marker(_ index: Int, _ x: Double, _ y: Double, title: String? = nil) -> String {
    let fill = "fill=\"\(color(index))\""
    let line = "fill=\"none\" stroke=\"\(color(index))\" stroke-width=\"2\""
    let (cx, cy) = (coordinate(x), coordinate(y))
    func at(_ dx: Double, _ dy: Double) -> String { "\(coordinate(x + dx)) \(coordinate(y + dy))" }
    let (element, attributes) =
      switch index % count {
      case 0: ("circle", "cx=\"\(cx)\" cy=\"\(cy)\" r=\"4\" \(fill)")
      case 1:
        (
          "rect",
          "x=\"\(coordinate(x - 3.6))\" y=\"\(coordinate(y - 3.6))\" width=\"7.2\" height=\"7.2\" "
            + fill
        )
      case 2: ("path", "d=\"M\(at(0, -4.8))L\(at(4.6, 3.6))L\(at(-4.6, 3.6))Z\" \(fill)")
      case 3:
        ("path", "d=\"M\(at(0, -5.2))L\(at(5.2, 0))L\(at(0, 5.2))L\(at(-5.2, 0))Z\" \(fill)")
      case 4:
        ("path", "d=\"M\(at(-4, -4))L\(at(4, 4))M\(at(-4, 4))L\(at(4, -4))\" \(line)")
      default: ("circle", "cx=\"\(cx)\" cy=\"\(cy)\" r=\"3.8\" \(line)")
      }
    guard let title else { return "<\(element) \(attributes)/>" }
    return "<\(element) \(attributes)><title>\(escapedMarkup(title))</title></\(element)>"
  }
}
