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

  /// Where it is published.
  var reference: String {
    switch self {
    case .quick: "arXiv 2402.10076"
    case .tpAware: "arXiv 2402.04925"
    case .bitnet: "arXiv 2410.16144 and 2502.11880"
    case .palu: "arXiv 2407.21118"
    case .fastAttention: "arXiv 2410.16663"
    }
  }

  /// What it says, in a sentence.
  var thesis: String {
    switch self {
    case .quick:
      "Weights interleaved offline in the order of the matrix instruction need no trip through "
        + "shared memory; that trip's bank conflicts are what slows AWQ's kernel at large batches."
    case .tpAware:
      "An act-order's permutation moved offline to the columns of the layer before saves an "
        + "all-gather in every feed-forward block that is spread over devices."
    case .bitnet:
      "Ternary weights packed in 1.6 to 2 bits run several times as fast as float16 ones on a "
        + "processor, with exactly the model's integers."
    case .palu:
      "Keys and values cached as low-rank latents, and quantized, make caches up to eleven times "
        + "smaller and attention over long inputs faster."
    case .fastAttention:
      "Two-level tiles, masks that are computed and an operand layout for old tensor cores bring "
        + "FlashAttention to Ascend NPUs and to V100; cooperation with the host makes room for 256K "
        + "tokens."
    }
  }

  /// One of its claims.
  ///
  /// - Parameters:
  ///   - reason: why it does not hold, or holds partly; kept where the verdict asks for one.
  ///   - command: what gives ours, when it is another than the whole reproduction.
  ///   - isDetail: whether it is one cell of many.
  func claim(
    _ text: String, source: String, published: JSON = .null, ours: JSON, kind: Claim.Kind,
    error: Double? = nil, _ verdict: Claim.Verdict = .unscored, reason: String? = nil,
    command: String? = nil, isDetail: Bool = false
  ) -> Claim {
    Claim(
      paper: self, claim: text, source: source, published: published, ours: ours, kind: kind,
      errorPercent: error, verdict: verdict, reason: verdict.needsReason ? reason : nil,
      command: command ?? self.command, isDetail: isDetail)
  }

  /// A claim that cannot be checked here.
  func unchecked(_ text: String, source: String, published: JSON, reason: String) -> Claim {
    claim(
      text, source: source, published: published, ours: .null, kind: .unchecked, .unchecked,
      reason: reason)
  }
}
