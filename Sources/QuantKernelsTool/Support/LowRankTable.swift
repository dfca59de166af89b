import Calibration
import QuantKernels

/// What `bench low-rank` measured, a line a cache, and which of them is the best at each size.
struct LowRankTable {
  /// One cache's line.
  struct Row {
    /// What is cached: low-rank latents of `options`, or whole keys and values of a type.
    enum Cache {
      case lowRank(Calibrator.Options, achievedRatio: Double, bits: Int)
      case whole(name: String)
    }

    let cache: Cache
    let bytes: Int
    let perplexity: Double
    let standardError: Double
  }

  /// Shares of the f16 cache's bytes at which the best is named.
  static let budgets = [0.0625, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.5, 0.75]

  /// The first row is the whole cache of 16 bits that the others are compared with.
  private(set) var rows: [Row] = []

  mutating func append(_ row: Row) { rows.append(row) }

  private func share(_ row: Row) -> Double { Double(row.bytes) / Double(rows[0].bytes) }

  private func excess(_ row: Row) -> Double { row.perplexity / rows[0].perplexity - 1 }

  /// The row of the least perplexity that takes at most this share of the f16 cache's bytes; nil
  /// where none is so small.
  func best(share budget: Double) -> Row? {
    rows.filter { share($0) <= budget }.min { $0.perplexity < $1.perplexity }
  }

  // MARK: Printing

  static let heading =
    padded("keys", 10, left: true) + padded("method", 11, left: true) + padded("group", 6)
    + padded("kept %", 8) + padded("bits", 5) + padded("rotated", 8) + padded("bytes", 8)
    + padded("of f16 %", 9) + padded("perplexity", 12) + padded("±", 8) + padded("over f16 %", 11)

  func line(_ row: Row) -> String {
    let what: String
    switch row.cache {
    case .whole(let name):
      what =
        padded("whole", 10, left: true) + padded(name, 11, left: true) + padded("–", 6)
        + padded("100.00", 8) + padded("–", 5) + padded("–", 8)
    case .lowRank(let options, let ratio, let bits):
      what =
        padded(options.keyMode.rawValue, 10, left: true)
        + padded(options.method.rawValue, 11, left: true) + padded("\(options.headsPerGroup)", 6)
        + padded(fixed(ratio * 100, 2), 8) + padded("\(bits)", 5)
        + padded(options.rotates ? "yes" : "no", 8)
    }
    return what + padded("\(row.bytes)", 8) + padded(fixed(100 * share(row), 2), 9)
      + padded(fixed(row.perplexity, 4), 12) + padded(fixed(row.standardError, 4), 8)
      + padded(fixed(100 * excess(row), 2), 11)
  }

  /// The best at each size, under the table's columns.
  var bestText: String {
    var lines: [String] = []
    for budget in Self.budgets {
      guard let best = best(share: budget) else { continue }
      lines.append(padded("≤ \(fixed(100 * budget, 2)) %", 10, left: true) + line(best))
    }
    return lines.isEmpty ? "" : "best by share of the f16 bytes:\n" + lines.joined(separator: "\n")
  }

  func json(_ row: Row) -> JSON {
    let what: [(key: String, value: JSON)]
    switch row.cache {
    case .whole(let name): what = [("keys", "whole"), ("type", JSON(name))]
    case .lowRank(let options, let ratio, let bits):
      what = [
        ("keys", JSON(options.keyMode.rawValue)), ("method", JSON(options.method.rawValue)),
        ("group", JSON(options.headsPerGroup)), ("targetRatio", JSON(options.ratio)),
        ("achievedRatio", JSON(ratio)), ("bits", JSON(bits)), ("rotated", .bool(options.rotates)),
      ]
    }
    return .object(
      what + [
        ("keyValueBytesPerToken", JSON(row.bytes)), ("shareOfFloat16", JSON(share(row))),
        ("perplexity", JSON(row.perplexity)), ("standardError", JSON(row.standardError)),
        ("overFloat16", JSON(excess(row))),
      ])
  }

  var bestJSON: JSON {
    .array(
      Self.budgets.compactMap { budget in
        best(share: budget).map { ["atMost": JSON(budget), "case": json($0)] }
      })
  }
}
