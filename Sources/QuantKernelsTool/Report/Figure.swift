/// A drawing of the report, with its numbers and the commands that remake them.
struct Figure {
  enum Drawing {
    case plot(LinePlot)
    case banks(BankHeatMap)
  }

  /// Its name in links.
  let identifier: String
  let title: String
  /// How its numbers were got; most drawings have numbers of one kind.
  let kinds: [Claim.Kind]
  /// What is seen, with the settings.
  let note: String
  let drawing: Drawing
  /// The numbers, a header first; made of the plot's series where it is left out.
  var table: [[String]]
  /// What remakes its numbers.
  let commands: [String]

  init(
    _ identifier: String, _ title: String, kinds: [Claim.Kind], note: String, plot: LinePlot,
    table: [[String]]? = nil, commands: [String]
  ) {
    self.identifier = identifier
    self.title = title
    self.kinds = kinds
    self.note = note
    drawing = .plot(plot)
    self.table = table ?? Self.table(of: plot)
    self.commands = commands
  }

  init(
    _ identifier: String, _ title: String, note: String, banks: BankHeatMap, commands: [String]
  ) {
    self.identifier = identifier
    self.title = title
    kinds = [.counted]
    self.note = note
    drawing = .banks(banks)
    table = banks.table
    self.commands = commands
  }

  /// A row for each value across, a column for each series.
  static func table(of plot: LinePlot) -> [[String]] {
    let shown = plot.series.filter { $0.style != .reference }
    var values: [Double] = []
    for point in shown.flatMap(\.points) where !values.contains(point.x) { values.append(point.x) }
    let rows = values.sorted().map { value in
      [plot.x.name(value)]
        + shown.map { series in
          let points = series.points.filter { $0.x == value }
          return points.map { number($0.y) }.joined(separator: ", ")
        }
    }
    return [[plot.x.label] + shown.map(\.name)] + rows
  }

  /// A number of a table, to about four digits.
  static func number(_ value: Double) -> String {
    fixed(value, abs(value) >= 1000 ? 0 : abs(value) >= 100 ? 1 : abs(value) >= 1 ? 2 : 4)
  }
}
