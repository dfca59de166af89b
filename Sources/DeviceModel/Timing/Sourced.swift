/// Where a number comes from.
public enum Provenance: Sendable, Hashable {
  /// A vendor's sheet or guide, or a paper.
  case published(String)
  /// A published microbenchmark or profile.
  case measured(String)
  /// Computed from other sourced numbers by the formula.
  case derived(String)
  /// What a compiler printed or emitted for the kernel.
  case compilerReport(String)
  /// Chosen, for the reason given; nobody has measured it.
  case assumed(String)
  /// Known to the writer and not found again: to be verified before anyone rests on it.
  case recalled(String)

  /// The text of the source, formula or reason.
  public var source: String {
    switch self {
    case .published(let text), .measured(let text), .derived(let text),
      .compilerReport(let text), .assumed(let text), .recalled(let text):
      text
    }
  }

  /// One word: `published`, `measured`, `derived`, `compiler report`, `assumed`, `recalled`.
  public var kind: String {
    switch self {
    case .published: "published"
    case .measured: "measured"
    case .derived: "derived"
    case .compilerReport: "compiler report"
    case .assumed: "assumed"
    case .recalled: "recalled"
    }
  }

  /// Whether reports must point the number out: assumed or only recalled.
  public var isUncertain: Bool {
    switch self {
    case .assumed, .recalled: true
    default: false
    }
  }
}

/// A number and where it comes from. Printing marks what is assumed or only recalled.
public struct Sourced: Sendable, Hashable, CustomStringConvertible {
  /// The number, in the unit of the property that holds it.
  public let value: Double
  /// Where it comes from.
  public let provenance: Provenance

  /// A number with its source.
  public init(_ value: Double, _ provenance: Provenance) {
    self.value = value
    self.provenance = provenance
  }

  /// The number as a count: its whole part, 0 where it is negative or no number.
  var count: Int { value.isFinite && value > 0 ? Int(min(value, 1e15)) : 0 }

  /// The number scaled, with the same source: for sensitivities.
  public func scaled(by factor: Double) -> Sourced { Sourced(value * factor, provenance) }

  /// The number, without a fraction where it has none, and `[assumed]` or `[recalled]` behind it.
  public var description: String {
    let whole = value.rounded() == value && value.magnitude < 1e15
    let number = whole ? "\(Int(value))" : "\(value)"
    return provenance.isUncertain ? "\(number) [\(provenance.kind)]" : number
  }
}
