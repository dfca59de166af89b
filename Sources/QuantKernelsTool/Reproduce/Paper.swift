import ArgumentParser

/// A paper whose figures are reproduced, as the command line spells it.
enum Paper: String, ExpressibleByArgument, CaseIterable {
  case quick
  case tpAware = "tp-aware"
  case bitnet
  case palu
  case fastAttention = "fast-attention"

  /// What its authors call their system.
  var title: String {
    switch self {
    case .quick: "QUICK"
    case .tpAware: "TP-aware dequantization"
    case .bitnet: "bitnet.cpp"
    case .palu: "Palu"
    case .fastAttention: "FastAttention"
    }
  }

  /// What gives all its claims.
  var command: String { "quantkernels reproduce --only \(rawValue)" }

  /// One of its claims; `command` is what gives ours, when it is another than the whole reproduction.
  func claim(
    _ text: String, source: String, published: JSON = .null, ours: JSON, kind: Claim.Kind,
    error: Double? = nil, _ verdict: Claim.Verdict = .unscored, command: String? = nil
  ) -> Claim {
    Claim(
      paper: self, claim: text, source: source, published: published, ours: ours, kind: kind,
      errorPercent: error, verdict: verdict, command: command ?? self.command)
  }
}
