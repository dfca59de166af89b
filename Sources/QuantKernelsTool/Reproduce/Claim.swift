/// One published figure or statement beside ours.
struct Claim {
  /// How ours was got.
  enum Kind: String, CaseIterable {
    /// Measured on this processor.
    case measured
    /// Counted on simulated hardware.
    case counted
    /// Computed by the timing model.
    case modelled
    /// Not got: what it takes is not here.
    case unchecked = "not checked"
  }

  enum Verdict: String, CaseIterable {
    /// The claim holds, or the figure agrees within its tolerance.
    case holds
    /// The figure is off by more.
    case partly = "holds partly"
    /// The claim does not hold.
    case fails = "does not hold under the documented rules"
    /// What it takes to check it is not here.
    case unchecked = "could not be checked"
    /// There is no published figure to hold it against.
    case unscored = "no published figure"

    /// Whether a reader is owed a reason.
    var needsReason: Bool { self == .partly || self == .fails || self == .unchecked }
  }

  let paper: Paper
  let claim: String
  /// Where it is published.
  let source: String
  let published: JSON
  let ours: JSON
  let kind: Kind
  let errorPercent: Double?
  let verdict: Verdict
  /// Why it does not hold, holds partly or could not be checked.
  let reason: String?
  /// The command that gives ours.
  let command: String
  /// Whether it is one cell of a table whose headline is another claim.
  let isDetail: Bool

  var json: JSON {
    [
      "paper": .string(paper.title), "claim": .string(claim), "source": .string(source),
      "published": published, "ours": ours, "kind": .string(kind.rawValue),
      "errorPercent": errorPercent.map { JSON($0) } ?? .null,
      "verdict": .string(verdict.rawValue), "reason": reason.map { .string($0) } ?? .null,
      "command": .string(command), "isDetail": .bool(isDetail),
    ]
  }

  /// A published figure or one of ours, as a reader is shown it.
  static func shown(_ value: JSON) -> String {
    switch value {
    case .number(let number): fixed(number, abs(number) < 10 ? 2 : 1)
    case .string(let text): text
    case .null: "–"
    default: value.text
    }
  }

  /// A line of the table, and below it the reason of a headline.
  var text: String {
    /// A cell, two spaces apart where it is longer than its column.
    func cell(_ json: JSON) -> String {
      let text = Self.shown(json)
      return text.count < 13 ? padded(text, 14) : "  " + text
    }
    let error = errorPercent.map { padded(fixed($0, 1), 8) } ?? padded("", 8)
    let line =
      padded(claim, 62, left: true) + cell(published) + cell(ours)
      + error + "  " + padded(kind.rawValue, 12, left: true) + verdict.rawValue
    guard let reason, !isDetail else { return line }
    return line + "\n    why: " + reason
  }

  /// Claims of a list by verdict, such as "5 hold, 1 holds partly"; in the order of the verdicts.
  static func summary(_ claims: [Claim]) -> String {
    let parts: [String] = Verdict.allCases.compactMap { verdict in
      let count = claims.count { $0.verdict == verdict }
      guard count > 0 else { return nil }
      let words =
        switch verdict {
        case .holds: count == 1 ? "holds" : "hold"
        case .partly: count == 1 ? "holds partly" : "hold partly"
        case .fails:
          (count == 1 ? "does" : "do") + " not hold under the documented rules"
        case .unchecked: "could not be checked"
        case .unscored: "without a published figure"
        }
      return "\(count) \(words)"
    }
    return parts.joined(separator: ", ")
  }
}
