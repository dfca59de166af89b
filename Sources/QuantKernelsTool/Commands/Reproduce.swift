import ArgumentParser
import QuantKernels

/// `reproduce`: each paper's headline beside ours.
struct Reproduce: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "The papers' figures beside ours: measured, counted or modelled.",
    discussion: """
      Every line names where its figure was published, how ours was got and the command that gives \
      it. What does not hold, or could not be checked, is said, and why. --report writes all of it \
      as one page with plots, which loads nothing; it takes minutes and appears whole or not at all. \
      --short takes one or two headlines of each paper, and seconds.

      EXAMPLES
        quantkernels reproduce --report report.html
        quantkernels reproduce --short
        quantkernels reproduce --only quick
        quantkernels reproduce --only bitnet --json
        quantkernels reproduce --only fast-attention --report fast-attention.html
      """)

  @OptionGroup var common: CommonOptions

  @Option(name: .long, help: "One paper: quick, tp-aware, bitnet, palu or fast-attention.")
  var only: Paper?

  @Option(
    name: .long, help: ArgumentHelp("Write a page with plots.", valueName: "file.html"))
  var report: String?

  @Flag(name: .long, help: "One or two headlines of each paper.")
  var short = false

  func run() throws {
    let start = MonotonicClock.nanoseconds()
    guard let report else { return finish(try work(), since: start) }
    var found: Reproduction?
    // Opened before the work, so that a path which cannot be written is refused at once.
    let isCancelled = { Interruption.isRequested }
    try AtomicFile.write(to: report, isCancelled: isCancelled) {
      (file) throws(QuantError) in
      let reproduction = try work()
      let page = reproduction.page(
        command: command, threads: common.threadCount,
        seconds: MonotonicClock.seconds(since: start))
      try file.write(Array(page.html.utf8))
      found = reproduction
    }
    if let found { finish(found, since: start) }
  }

  private func work() throws(QuantError) -> Reproduction {
    short
      ? try Reproduction(shortOf: only, threads: common.threadCount)
      : try Reproduction(
        only: only, threads: common.threadCount, drawsFigures: report != nil)
  }

  /// The command that does this again; what its user calls the file is nobody's business.
  private var command: String {
    "quantkernels reproduce" + (only.map { " --only \($0.rawValue)" } ?? "")
      + (short ? " --short" : "") + (report == nil ? "" : " --report report.html")
      + (common.threads.map { " --threads \($0)" } ?? "")
  }

  private func finish(_ reproduction: Reproduction, since start: UInt64) {
    let claims = reproduction.results.flatMap(\.claims)
    let seconds = MonotonicClock.seconds(since: start)
    let json: JSON = [
      "claims": .array(claims.map(\.json)), "seconds": JSON(seconds),
      "threads": JSON(common.threadCount), "report": report.map { .string($0) } ?? .null,
    ]
    var lines = [
      padded("claim", 62, left: true) + padded("published", 14) + padded("ours", 14)
        + padded("error %", 8) + "  kind        verdict"
    ]
    for result in reproduction.results {
      lines.append("\(result.paper.title), \(result.paper.reference)")
      lines += result.claims.map(\.text)
    }
    let cells = claims.filter(\.isDetail)
    lines.append(
      Claim.summary(claims.filter { !$0.isDetail })
        + (cells.isEmpty ? "" : "; \(cells.count) more cells: \(Claim.summary(cells))")
        + "; \(fixed(seconds, 1)) s")
    if let report { lines.append("the page: \(report)") }
    common.finish(json, text: lines.joined(separator: "\n"))
  }
}
