import ArgumentParser
import QuantKernels

/// `reproduce`: each paper's headline beside ours.
struct Reproduce: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "The papers' figures beside ours: measured, counted or modelled.",
    discussion: """
      Every line names where its figure was published, how ours was got and the command that gives \
      it. What does not hold is said.

      EXAMPLES
        quantkernels reproduce --only quick
        quantkernels reproduce --only bitnet --json
        quantkernels reproduce --only tp-aware
        quantkernels reproduce --only palu
        quantkernels reproduce --only fast-attention
      """)

  @OptionGroup var common: CommonOptions

  @Option(name: .long, help: "One paper: quick, tp-aware, bitnet, palu or fast-attention.")
  var only: Paper?

  func run() throws {
    let start = MonotonicClock.nanoseconds()
    var claims: [Claim] = []
    if only ?? .quick == .quick {
      claims += try QuickReproduction(threads: common.threadCount).claims
    }
    if only ?? .tpAware == .tpAware {
      claims += try TensorParallelReproduction(threads: common.threadCount).claims
    }
    if only ?? .bitnet == .bitnet {
      claims += try BitNetReproduction(threads: common.threadCount).claims
    }
    if only ?? .palu == .palu {
      claims += try PaluReproduction(threads: common.threadCount).claims
    }
    if only ?? .fastAttention == .fastAttention {
      claims += try CooperationReproduction().claims
      claims += try VoltaReproduction(threads: common.threadCount).claims
      claims += try NPUAttentionReproduction().claims
    }
    Console.clearProgress()
    let seconds = MonotonicClock.seconds(since: start)
    let json: JSON = [
      "claims": .array(claims.map(\.json)), "seconds": JSON(seconds),
      "threads": JSON(common.threadCount),
    ]
    var lines = [
      padded("claim", 62, left: true) + padded("published", 14) + padded("ours", 14)
        + padded("error %", 8) + "  kind     verdict"
    ]
    lines += claims.map(\.text)
    lines.append(
      "\(claims.count { $0.verdict == .holds }) hold, \(claims.count { $0.verdict == .off }) "
        + "off, \(claims.count { $0.verdict == .fails }) do not hold; \(fixed(seconds, 1)) s")
    common.finish(json, text: lines.joined(separator: "\n"))
  }
}
