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

  /// The accesses as one SVG document, one panel for each place in the kernel's text that touches
  /// shared memory.
  var svg: String {
    let panels = sites.compactMap { site in site.example.map { (site, $0) } }
    let width = Self.left + 32 * Self.cell + 24
    var body: [String] = []
    var y = 56
    for (site, access) in panels {
      let (lines, height) = panel(site, access, y: y)
      body += lines
      y += height
    }
    if panels.isEmpty {
      body.append(Self.text(24, y + 20, "The kernel does not touch shared memory.", size: 13))
      y += 40
    }
    let head =
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"\(width)\" height=\"\(y)\" "
      + "viewBox=\"0 0 \(width) \(y)\" font-family=\"sans-serif\">"
    return
      ([head, "<title>\(Self.escaped(title))</title>"]
      + ["<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>"]
      + [Self.text(24, 32, title, size: 17)] + body + ["</svg>"]).joined(separator: "\n") + "\n"
  }

  private func panel(
    _ site: Counters.Site, _ access: Access, y: Int
  ) -> (lines: [String], height: Int) {
    let load = access.bankLoad()
    let cost = bankCost(access, policy: policy)
    let what =
      "\(site.name): \(access.operation.rawValue), \(access.width) bytes a lane: "
      + "\(cost.wavefronts) wavefronts where \(cost.ideal) would do"
    var lines = [Self.text(24, y + 16, what, size: 13)]
    lines.append(
      Self.text(
        24, y + 32,
        "whole grid: \(site.shared.instructions) instructions, \(site.shared.wavefronts) wavefronts, "
          + "\(site.shared.conflicts) of them conflicts", size: 11))
    for (phase, banks) in load.enumerated() {
      let row = y + Self.top + phase * Self.cell
      lines.append(Self.text(24, row + 13, "phase \(phase)", size: 11))
      for (bank, words) in banks.enumerated() {
        lines.append(
          "<rect x=\"\(Self.left + bank * Self.cell)\" y=\"\(row)\" width=\"\(Self.cell - 1)\" "
            + "height=\"\(Self.cell - 1)\" fill=\"\(Self.color(words))\"><title>bank \(bank): "
            + "\(words) word\(words == 1 ? "" : "s")</title></rect>")
        if words > 1 {
          lines.append(
            Self.text(
              Self.left + bank * Self.cell + 5, row + 13, "\(words)", size: 11, fill: "#ffffff"))
        }
      }
    }
    let below = y + Self.top + load.count * Self.cell
    for bank in stride(from: 0, to: 32, by: 4) {
      lines.append(Self.text(Self.left + bank * Self.cell + 2, below + 12, "\(bank)", size: 10))
    }
    lines.append(Self.text(24, below + 12, "bank", size: 10))
    return (lines, Self.top + load.count * Self.cell + 34)
  }

  /// White for an idle bank, blue for one word, then from orange to dark red.
  private static func color(_ words: Int) -> String {
    switch words {
    case 0: "#eef1f4"
    case 1: "#7fb2e5"
    case 2: "#f0953f"
    case 3...4: "#dd5a32"
    case 5...8: "#b92d2d"
    default: "#7a1026"
    }
  }

  private static func text(
    _ x: Int, _ y: Int, _ content: String, size: Int, fill: String = "#20262d"
  ) -> String {
    "<text x=\"\(x)\" y=\"\(y)\" font-size=\"\(size)\" fill=\"\(fill)\">\(escaped(content))</text>"
  }

  private static func escaped(_ text: String) -> String {
    text.reduce(into: "") { result, character in
      switch character {
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      case "\"": result += "&quot;"
      default: result.append(character)
      }
    }
  }
}
