/// One page of everything that `reproduce` found: claims beside ours, figures, and the command behind
/// each number.
///
/// It loads nothing: style and drawings stand in it. It is XML as well as HTML, so that any parser can
/// check it.
struct ReportPage {
  /// Where and with what the numbers were got.
  struct Machine {
    let processor: String
    let threads: Int
    let instructionSet: String
    /// UTC.
    let date: String
    let version: String
    /// Limits measured in this run, with their spread.
    let limits: [(name: String, value: String)]
    let seconds: Double
  }

  let machine: Machine
  let results: [PaperResult]
  /// Figures of the machine itself.
  let machineFigures: [Figure]
  /// What made the page.
  let command: String

  private var claims: [Claim] { results.flatMap(\.claims) }

  /// The page.
  var html: String {
    let name = "QuantKernels: five papers, their claims beside ours"
    let cells = claims.count { $0.isDetail }
    let title =
      results.count == Paper.allCases.count
      ? name : "QuantKernels: claims beside ours"
    return
      ([
        "<!DOCTYPE html>", "<html lang=\"en\">", "<head>", "<meta charset=\"utf-8\"/>",
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>",
        "<title>\(escapedMarkup(title))</title>", "<style>\(ReportStyle.sheet)</style>", "</head>",
        "<body>", "<header>", "<h1>\(escapedMarkup(title))</h1>",
        "<p>\(escapedMarkup(Claim.summary(claims.filter { !$0.isDetail }))), of "
          + "\(claims.count { !$0.isDetail }) claims"
          + (cells > 0 ? "; \(cells) more cells stand below their tables.</p>" : ".</p>"),
        contents, "</header>", "<main>", summary,
      ] + results.map(section) + [machineSection, "</main>", footer, "</body>", "</html>"])
      .filter { !$0.isEmpty }.joined(separator: "\n") + "\n"
  }

  // MARK: Parts

  private var contents: String {
    var links = [("summary", "Summary")]
    links += results.map { ($0.paper.rawValue, $0.paper.title) }
    if !machineFigures.isEmpty { links.append(("machine", "This machine")) }
    return "<nav aria-label=\"Contents\"><ul>"
      + links.map { "<li><a href=\"#\($0.0)\">\(escapedMarkup($0.1))</a></li>" }.joined()
      + "</ul></nav>"
  }

  private var summary: String {
    let shown = Claim.Verdict.allCases
    let head =
      ["paper"] + shown.map { $0 == .fails ? "does not hold" : $0.rawValue } + ["cells that hold"]
    let rows = results.map { result -> [String] in
      let main = result.claims.filter { !$0.isDetail }
      let cells = result.claims.filter { $0.isDetail && $0.verdict != .unscored }
      return [result.paper.title]
        + shown.map { verdict in "\(main.count { $0.verdict == verdict })" }
        + ["\(cells.count { $0.verdict == .holds }) of \(cells.count)"]
    }
    let machineRows =
      [
        ["processor", machine.processor], ["threads", "\(machine.threads)"],
        ["kernels", machine.instructionSet], ["date", machine.date],
        ["version", "quantkernels \(machine.version)"],
        ["took", "\(fixed(machine.seconds, 0)) s"],
      ] + machine.limits.map { [$0.name, $0.value] }
    return """
      <section id="summary"><h2>Summary</h2>
      <p>Every number was got in this run: <b>measured</b> on this processor, <b>counted</b> on simulated \
      hardware under its documented rules, or <b>modelled</b> from those counters. Modelled times stand \
      beside published ones with the error. A claim that does not hold says why.</p>
      \(Self.table(head, rows, numbersFrom: 1))
      \(Self.table(["machine", ""], machineRows, numbersFrom: 2, isSlim: true))
      <p>This page: \(Self.code(command))</p></section>
      """
  }

  private func section(_ result: PaperResult) -> String {
    let main = result.claims.filter { !$0.isDetail }
    let cells = result.claims.filter(\.isDetail)
    var lines = [
      "<section id=\"\(result.paper.rawValue)\"><h2>\(escapedMarkup(result.paper.title))</h2>",
      "<p>\(escapedMarkup(result.paper.thesis)) <span class=\"soft\">"
        + "\(escapedMarkup(result.paper.reference)). \(escapedMarkup(Claim.summary(main))).</span></p>",
      Self.claims(main),
    ]
    if !cells.isEmpty {
      lines.append(
        "<details><summary>\(cells.count) more cells: \(escapedMarkup(Claim.summary(cells)))</summary>"
          + Self.claims(cells) + "</details>")
    }
    lines.append(Self.figures(result.figures))
    lines.append(
      "<p>All of this section: \(Self.code(result.paper.command + " --report report.html"))</p></section>"
    )
    return lines.filter { !$0.isEmpty }.joined(separator: "\n")
  }

  private var machineSection: String {
    guard !machineFigures.isEmpty else { return "" }
    return "<section id=\"machine\"><h2>This machine</h2>\n"
      + "<p>What the kernels reach of what this processor can do at most; the limits were measured "
      + "between the runs of the cases.</p>\n\(Self.figures(machineFigures))</section>"
  }

  private var footer: String {
    "<footer><p class=\"soft\">Made by quantkernels \(escapedMarkup(machine.version)) on "
      + "\(escapedMarkup(machine.date)) with \(Self.code(command))</p></footer>"
  }

  // MARK: Tables

  private static func code(_ text: String) -> String { "<code>\(escapedMarkup(text))</code>" }

  /// A table in a box of its own that scrolls.
  static func table(
    _ head: [String], _ rows: [[String]], numbersFrom: Int, isSlim: Bool = false
  ) -> String {
    func cell(_ tag: String, _ index: Int, _ text: String) -> String {
      "<\(tag)\(index >= numbersFrom ? " class=\"n\"" : "")>\(escapedMarkup(text))</\(tag)>"
    }
    let top = head.enumerated().map { cell("th", $0.offset, $0.element) }.joined()
    let body = rows.map { row in
      "<tr>"
        + row.enumerated().map { cell($0.offset == 0 ? "th" : "td", $0.offset, $0.element) }
        .joined()
        + "</tr>"
    }
    return
      "<div class=\"box\(isSlim ? " slim" : "")\" tabindex=\"0\"><table><thead><tr>\(top)</tr></thead><tbody>"
      + body.joined(separator: "\n") + "</tbody></table></div>"
  }

  private static func claims(_ claims: [Claim]) -> String {
    guard !claims.isEmpty else { return "" }
    let rows = claims.map { claim -> String in
      func value(_ name: String, _ text: String) -> String {
        let isShort = text.count < 14
        let isVoid = text == "–" || text.isEmpty
        return "<td data-name=\"\(name)\" class=\"\(isShort ? "n" : "")\(isVoid ? " void" : "")\">"
          + "\(escapedMarkup(text))</td>"
      }
      let reason = claim.reason.map { "<small>\(escapedMarkup($0))</small>" } ?? ""
      return "<tr><th scope=\"row\">\(escapedMarkup(claim.claim))"
        + "<small>\(escapedMarkup(claim.source))</small></th>"
        + value("published", Claim.shown(claim.published)) + value("ours", Claim.shown(claim.ours))
        + "<td><span class=\"kind\">\(claim.kind.rawValue)</span></td>"
        + value("error", claim.errorPercent.map { fixed($0, 1) + " %" } ?? "")
        + "<td><span class=\"verdict \(mark(claim.verdict))\">\(claim.verdict.rawValue)</span>\(reason)"
        + "<small>\(code(claim.command))</small></td></tr>"
    }
    let head = ["claim and source", "published", "ours", "kind", "error", "verdict, why, command"]
    return "<div class=\"box\" tabindex=\"0\"><table class=\"claims\"><thead><tr>"
      + head.map { "<th scope=\"col\">\($0)</th>" }.joined() + "</tr></thead><tbody>"
      + rows.joined(separator: "\n") + "</tbody></table></div>"
  }

  private static func mark(_ verdict: Claim.Verdict) -> String {
    switch verdict {
    case .holds: "holds"
    case .partly: "partly"
    case .fails: "fails"
    case .unchecked: "unchecked"
    case .unscored: "unscored"
    }
  }

  // MARK: Figures

  private static func figures(_ figures: [Figure]) -> String {
    guard !figures.isEmpty else { return "" }
    return "<div class=\"figures\">\n" + figures.map(figure).joined(separator: "\n") + "\n</div>"
  }

  private static func figure(_ figure: Figure) -> String {
    let kinds = figure.kinds.map { "<span class=\"kind\">\($0.rawValue)</span>" }.joined(
      separator: " ")
    let drawing: String
    let isWide: Bool
    switch figure.drawing {
    case .plot(let plot):
      drawing = plot.svg + "\n" + plot.legend
      isWide = false
    case .banks(let map):
      drawing = "<div class=\"scroll\" tabindex=\"0\">\(map.svg(.page))</div>"
      isWide = true
    }
    let numbers =
      figure.table.isEmpty
      ? ""
      : "<details><summary>Numbers</summary>"
        + table(figure.table[0], Array(figure.table.dropFirst()), numbersFrom: 1) + "</details>"
    let commands = figure.commands.map { "<pre tabindex=\"0\">\(code($0))</pre>" }.joined()
    return "<figure id=\"\(figure.identifier)\"\(isWide ? " class=\"wide\"" : "")>"
      + "<h3>\(escapedMarkup(figure.title))</h3>\n\(drawing)\n"
      + "<figcaption><p>\(kinds) \(escapedMarkup(figure.note))</p>\(numbers)\(commands)</figcaption>"
      + "</figure>"
  }
}
