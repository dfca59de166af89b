/// Finds room for the words of a plot: what is drawn already, and where a label covers least of it.
struct PlotLabels {
  /// Where a label stands, as SVG wants it.
  struct Place {
    let x: Double
    let y: Double
    /// `text-anchor`.
    let anchor: String
  }

  private struct Box {
    let x: ClosedRange<Double>
    let y: ClosedRange<Double>
    /// How bad it is to cover it: least a piece of a line, most another label.
    var weight = 1

    func overlaps(_ other: Box) -> Bool { x.overlaps(other.x) && y.overlaps(other.y) }
  }

  private let area: (x: ClosedRange<Double>, y: ClosedRange<Double>)
  private var taken: [Box] = []

  /// - Parameters:
  ///   - x: from the left to the right of where labels may stand.
  ///   - y: from top to bottom.
  init(x: ClosedRange<Double>, y: ClosedRange<Double>) { area = (x, y) }

  /// Something is drawn around a point.
  mutating func take(_ x: Double, _ y: Double, radius: Double) {
    taken.append(
      Box(x: x - radius...x + radius, y: y - radius...y + radius, weight: radius > 2 ? 4 : 1))
  }

  /// A line is drawn through points.
  mutating func take(line points: [(x: Double, y: Double)]) {
    for (from, to) in zip(points, points.dropFirst()) {
      for step in 0...16 {
        let part = Double(step) / 16
        take(from.x + part * (to.x - from.x), from.y + part * (to.y - from.y), radius: 1.5)
      }
    }
  }

  /// The first of the places that covers least.
  mutating func place(_ text: String, among places: [Place]) -> Place {
    // Letters of 13 pixels are about 7 wide.
    let width = 7.1 * Double(text.count)
    func box(_ place: Place) -> Box {
      let left =
        place.anchor == "end"
        ? place.x - width : place.anchor == "middle" ? place.x - width / 2 : place.x
      return Box(x: left...left + width, y: place.y - 10...place.y + 2.5, weight: 20)
    }
    func cost(_ place: Place) -> Int {
      let box = box(place)
      let isInside =
        area.x.contains(box.x.lowerBound) && area.x.contains(box.x.upperBound)
        && area.y.contains(box.y.lowerBound) && area.y.contains(box.y.upperBound)
      let covered = taken.reduce(0) { $0 + ($1.overlaps(box) ? $1.weight : 0) }
      return covered + (isInside ? 0 : 100)
    }
    let best = places.min { cost($0) < cost($1) } ?? Place(x: 0, y: 0, anchor: "start")
    taken.append(box(best))
    return best
  }

  /// Places around a point.
  static func around(_ x: Double, _ y: Double) -> [Place] {
    [
      Place(x: x + 8, y: y - 5, anchor: "start"), Place(x: x - 8, y: y - 5, anchor: "end"),
      Place(x: x + 8, y: y + 14, anchor: "start"), Place(x: x - 8, y: y + 14, anchor: "end"),
      Place(x: x, y: y - 10, anchor: "middle"), Place(x: x, y: y + 19, anchor: "middle"),
      Place(x: x + 9, y: y + 4.5, anchor: "start"), Place(x: x - 9, y: y + 4.5, anchor: "end"),
    ]
  }

  /// Places above and below a line, near its end, its beginning and between.
  static func along(_ first: (x: Double, y: Double), _ last: (x: Double, y: Double)) -> [Place] {
    [1.0, 0, 0.5, 0.75, 0.25].flatMap { part -> [Place] in
      let x = first.x + part * (last.x - first.x)
      let y = first.y + part * (last.y - first.y)
      let anchor = part == 1 ? "end" : part == 0 ? "start" : "middle"
      let inset = part == 1 ? -4.0 : part == 0 ? 4 : 0
      return [
        Place(x: x + inset, y: y - 5, anchor: anchor),
        Place(x: x + inset, y: y + 14, anchor: anchor),
      ]
    }
  }
}
