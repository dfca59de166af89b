import DeviceModel

/// A picture of a kernel's shared-memory accesses: banks across, phases down, darker where a bank
/// serves more words, so that a conflict is seen where it is.
struct BankHeatMap {
  let title: String
  let sites: [Counters.Site]
  let policy: BankPolicy

  private static let cell = 18
  private static let left = 76
  private static let top = 44

  /// Colors of a drawing: of a file, which stands alone, or the variables of a page that has them for
  /// each scheme.
  struct Palette {
    /// What a file's first tag says and a page's need not.
    let namespace: String
    let page: String
    let ink: String
    /// Of the number in a cell with two words or more.
    let number: String
    /// Of cells with 0, 1, 2, up to 4, up to 8 and more words.
    let cells: [String]

    /// White for an idle bank, blue for one word, then from orange to dark red.
    static let file = Palette(
      namespace: "xmlns=\"http://www.w3.org/2000/svg\" ", page: "#ffffff", ink: "#20262d",
      number: "#ffffff",
      cells: ["#eef1f4", "#7fb2e5", "#f0953f", "#dd5a32", "#b92d2d", "#7a1026"])
    static let page = Palette(
      namespace: "", page: "var(--bank-page)", ink: "var(--ink)", number: "var(--bank-text)",
      cells: [0, 1, 2, 4, 8, 9].map { "var(--bank\($0))" })
  }

  /// The numbers of the drawing, a header first.
  var table: [[String]] {
    [
      [
        "access", "wavefronts", "at least", "instructions of the grid", "their wavefronts",
        "conflicts",
      ]
    ]
      + sites.compactMap { site in
        site.example.map { access in
          let cost = bankCost(access, policy: policy)
          return [
            site.name, "\(cost.wavefronts)", "\(cost.ideal)", "\(site.shared.instructions)",
            "\(site.shared.wavefronts)", "\(site.shared.conflicts)",
          ]
        }
      }
  }

  /// The accesses as one SVG document, one panel for each place in the kernel's text that touches
  /// shared memory.
  var svg: String { svg(.file) }

  /// The accesses in a page's colors, or a file's.
  func svg(_ palette: Palette) -> String {
    let panels = sites.compactMap { site in site.example.map { (site, $0) } }
    let width = Self.left + 32 * Self.cell + 24
    var body: [String] = []
    var y = 56
    for (site, access) in panels {
      let (lines, height) = panel(site, access, palette, y: y)
      body += lines
      y += height
    }
    if panels.isEmpty {
      body.append(
        Self.text(
          24, y + 20, "The kernel does not touch shared memory.", size: 13, fill: palette.ink))
      y += 40
    }
    let head =
      "<svg \(palette.namespace)width=\"\(width)\" height=\"\(y)\" "
      + "viewBox=\"0 0 \(width) \(y)\" role=\"img\" font-family=\"sans-serif\">"
    return
      ([head, "<title>\(escapedMarkup(title))</title>"]
      + ["<rect width=\"100%\" height=\"100%\" fill=\"\(palette.page)\"/>"]
      + [Self.text(24, 32, title, size: 17, fill: palette.ink)] + body + ["</svg>"]).joined(
        separator: "\n") + "\n"
  }

  private func panel(
    _ site: Counters.Site, _ access: Access, _ palette: Palette, y: Int
  ) -> (lines: [String], height: Int) {
    let load = access.bankLoad()
    let cost = bankCost(access, policy: policy)
    let what =
      "\(site.name): \(access.operation.rawValue), \(access.width) bytes a lane: "
      + "\(cost.wavefronts) wavefronts where \(cost.ideal) would do"
    var lines = [Self.text(24, y + 16, what, size: 13, fill: palette.ink)]
    lines.append(
      Self.text(
        24, y + 32,
        "whole grid: \(site.shared.instructions) instructions, \(site.shared.wavefronts) wavefronts, "
          + "\(site.shared.conflicts) of them conflicts", size: 11, fill: palette.ink))
    for (phase, banks) in load.enumerated() {
      let row = y + Self.top + phase * Self.cell
      lines.append(Self.text(24, row + 13, "phase \(phase)", size: 11, fill: palette.ink))
      for (bank, words) in banks.enumerated() {
        lines.append(
          "<rect x=\"\(Self.left + bank * Self.cell)\" y=\"\(row)\" width=\"\(Self.cell - 1)\" "
            + "height=\"\(Self.cell - 1)\" fill=\"\(Self.color(words, palette))\"><title>bank \(bank): "
            + "\(words) word\(words == 1 ? "" : "s")</title></rect>")
        if words > 1 {
          lines.append(
            Self.text(
              Self.left + bank * Self.cell + 5, row + 13, "\(words)", size: 11,
              fill: palette.number))
        }
      }
    }
    let below = y + Self.top + load.count * Self.cell
    for bank in stride(from: 0, to: 32, by: 4) {
      lines.append(
        Self.text(
          Self.left + bank * Self.cell + 2, below + 12, "\(bank)", size: 10, fill: palette.ink))
    }
    lines.append(Self.text(24, below + 12, "bank", size: 10, fill: palette.ink))
    return (lines, Self.top + load.count * Self.cell + 34)
  }

  private static func color(_ words: Int, _ palette: Palette) -> String {
    switch words {
    case 0...2: palette.cells[max(0, words)]
    case 3...4: palette.cells[3]
    case 5...8: palette.cells[4]
    default: palette.cells[5]
    }
  }

  private static func text(
    _ x: Int, _ y: Int, _ content: String, size: Int, fill: String
  ) -> String {
    "<text x=\"\(x)\" y=\"\(y)\" font-size=\"\(size)\" fill=\"\(fill)\">\(escapedMarkup(content))</text>"
  }
}
