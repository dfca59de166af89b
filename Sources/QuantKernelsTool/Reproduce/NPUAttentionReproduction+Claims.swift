import DeviceModel
import QuantKernels

extension NPUAttentionReproduction {
  private static let paper = Paper.fastAttention
  private static let abstract = "abstract (arXiv 2410.16663)"

  /// "up to" of the abstract.
  static let publishedRatio = 10.7

  /// The paper's claims beside ours: headlines, whether they survive, then every length.
  var claims: [Claim] { headlines + survivals + masks + lengths + times }

  private func command(_ kernel: String, _ length: Int, _ rest: String) -> String {
    "quantkernels simulate attention --device ascend910b2 --kernel \(kernel) --query-length "
      + "\(length) --kv-length \(length) --heads \(Self.heads) --head-dim \(Self.width)\(rest)"
  }

  /// A ratio of "up to" holds when ours reaches it, is off down to half of it.
  private static func verdict(_ ratio: Double) -> Claim.Verdict {
    ratio >= publishedRatio ? .holds : 2 * ratio >= publishedRatio ? .partly : .fails
  }

  /// The first claim: the largest gain, causal.
  static func headline(_ ratio: Double) -> Claim {
    paper.claim(
      "910B2, fused against standard attention, up to, causal", source: abstract,
      published: JSON(publishedRatio), ours: JSON(ratio), kind: .modelled,
      error: 100 * (ratio / publishedRatio - 1), verdict(ratio),
      reason: "the modelled gain stays below the published one")
  }

  private func largest(_ isCausal: Bool, _ ratio: (Row) -> Double) -> Double {
    rows.filter { $0.isCausal == isCausal }.map(ratio).max() ?? 0
  }

  private var headlines: [Claim] {
    return [
      Self.headline(largest(true, \.fusedRatio)),
      // The abstract does not say under which mask.
      Self.paper.claim(
        "910B2, fused against standard attention, up to, no mask",
        source: "\(Self.abstract), which does not say under which mask its 10.7 was",
        ours: JSON(largest(false, \.fusedRatio)), kind: .modelled),
      Self.paper.claim(
        "910B2, two-level against unified tiling, up to, causal", source: "not published",
        ours: JSON(largest(true, \.levelRatio)), kind: .modelled),
    ]
  }

  /// The headlines with each number without a source at a quarter and four times its value.
  private var survivals: [Claim] {
    let isFaster = variations.allSatisfy { $0.levelRatios.least > 1 }
    let ratios = variations.flatMap { [$0.levelRatios.least, $0.levelRatios.largest] }
    return variations.map {
      Self.paper.claim(
        "… fused against standard, causal, \($0.parameter.rawValue)"
          + ($0.parameter.isSourced ? " (sourced)" : "") + " × \(fixed($0.factor, 2))",
        source: Self.abstract, published: JSON(Self.publishedRatio), ours: JSON($0.fusedRatio),
        kind: .modelled, error: 100 * ($0.fusedRatio / Self.publishedRatio - 1),
        Self.verdict($0.fusedRatio),
        reason: "with this number so, the modelled gain stays below the published one",
        isDetail: true)
    } + [
      Self.paper.claim(
        "two-level is faster than unified from 4K on, every number × ¼ … × 4",
        source: "summaries of the paper", published: "faster",
        ours: .string(
          "\(fixed(ratios.min() ?? 0, 2)) – \(fixed(ratios.max() ?? 0, 2))"),
        kind: .modelled, isFaster ? .holds : .fails,
        reason: "some number without a source decides which of the two is faster")
    ]
  }

  private var masks: [Claim] {
    maskBytes.flatMap { entry -> [Claim] in
      let command = command(
        "two-level", 65536, " --causal --mask \(entry.mode.rawValue)"
      ).replacingHeads(Self.heads, by: 1)
      return [
        Self.paper.claim(
          "mask bytes stored at 64K, \(entry.mode.rawValue)", source: "derived",
          ours: JSON(Double(entry.stored)), kind: .counted, command: command),
        Self.paper.claim(
          "mask bytes read at 64K, one head, \(entry.mode.rawValue)", source: "derived",
          ours: JSON(Double(entry.read)), kind: .counted, command: command),
      ]
    }
  }

  private var lengths: [Claim] {
    rows.flatMap { row -> [Claim] in
      let mask = row.isCausal ? "causal" : "no mask"
      // 64 GiB of memory: what standard attention stores of all heads at once may not fit.
      let fits = row.scoreBytes <= NPUSpec.ascend910b2.memoryBytes.value
      return [
        Self.paper.claim(
          "fused against standard, \(row.length), \(mask)"
            + (fits ? "" : ", which \(fixed(row.scoreBytes / 0x1p30, 0)) GiB of scores forbid"),
          source: "table not published", ours: JSON(row.fusedRatio), kind: .modelled,
          command: command("two-level", row.length, row.isCausal ? " --causal" : ""), isDetail: true
        ),
        Self.paper.claim(
          "two-level (\(row.firstLevelKeys)) against unified, \(row.length), \(mask)",
          source: "not published", ours: JSON(row.levelRatio), kind: .modelled,
          command: command("unified", row.length, row.isCausal ? " --causal" : ""), isDetail: true),
      ]
    }
  }

  private var times: [Claim] {
    calibrations.map {
      Self.paper.claim(
        "910B2 µs, \($0.label)", source: $0.source, published: JSON($0.published),
        ours: JSON($0.modelled), kind: .modelled, error: 100 * ($0.modelled / $0.published - 1),
        abs($0.modelled / $0.published - 1) <= 0.5 ? .holds : .partly,
        reason:
          "the model is of a kernel that keeps its units busy; these times are of a library's "
          + "call, whose kernel is not public")
    }
  }
}

extension String {
  /// A command line with another number of heads.
  fileprivate func replacingHeads(_ heads: Int, by other: Int) -> String {
    split(separator: "--heads \(heads) ", maxSplits: 1).joined(separator: "--heads \(other) ")
  }
}
