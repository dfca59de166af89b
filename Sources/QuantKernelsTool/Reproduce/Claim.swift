/// One published figure or statement beside ours.
struct Claim {
  /// How ours was got.
  enum Kind: String {
    /// Measured on this processor.
    case measured
    /// Counted on simulated hardware.
    case counted
    /// Computed by the timing model.
    case modelled
  }

  enum Verdict: String {
    /// The claim holds, or the figure agrees within its tolerance.
    case holds
    /// The figure is off by more.
    case off
    /// The claim does not hold.
    case fails = "does not hold"
    /// There is no published figure to hold it against.
    case unscored
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
  /// The command that gives ours.
  let command: String

  var json: JSON {
    [
      "paper": .string(paper.title), "claim": .string(claim), "source": .string(source),
      "published": published, "ours": ours, "kind": .string(kind.rawValue),
      "errorPercent": errorPercent.map { JSON($0) } ?? .null,
      "verdict": .string(verdict.rawValue), "command": .string(command),
    ]
  }

  var text: String {
    func value(_ json: JSON) -> String {
      switch json {
      case .number(let number): fixed(number, abs(number) < 10 ? 2 : 1)
      case .string(let text): text
      case .null: "–"
      default: json.text
      }
    }
    /// A cell, two spaces apart where it is longer than its column.
    func cell(_ json: JSON) -> String {
      let text = value(json)
      return text.count < 13 ? padded(text, 14) : "  " + text
    }
    let error = errorPercent.map { padded(fixed($0, 1), 8) } ?? padded("", 8)
    return padded(claim, 62, left: true) + cell(published) + cell(ours)
      + error + "  " + padded(kind.rawValue, 9, left: true) + verdict.rawValue
  }
}
