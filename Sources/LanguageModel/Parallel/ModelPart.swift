import QuantKernels

/// Which part of a model one of several ranks computes: whole heads with their keys and values, a
/// run of each block's hidden channels, a run of the vocabulary.
///
/// Heads need not divide: the first ranks have one head of keys and values more.
struct ModelPart: Sendable, Equatable {
  let rank: Int
  let ranks: Int
  /// Heads of keys and values, and the query heads that read them.
  let keyValueHeads: Range<Int>
  let heads: Range<Int>
  /// Hidden channels of the feed-forward blocks, in whole groups.
  let hidden: Range<Int>
  /// Logits.
  let vocabulary: Range<Int>
  /// The longest of any rank's ``vocabulary``: gathered parts are of one length.
  let longestVocabulary: Int

  /// - Parameter group: hidden channels that lie on one rank together.
  /// - Throws: `QuantError` `.invalidArgument` for a rank that is not there, `.unsupported` for more
  ///   ranks than heads of keys and values or groups of hidden channels, and for architectures that
  ///   normalize across heads.
  init(
    rank: Int, ranks: Int, configuration: ModelConfiguration, group: Int
  ) throws(QuantError) {
    guard ranks >= 1, (0..<ranks).contains(rank) else {
      throw QuantError(
        .invalidArgument, "ranks", "rank \(rank) of \(ranks)",
        remedy: "use at least one rank, numbered from 0")
    }
    guard !configuration.architecture.hasSubNorms || ranks == 1 else {
      throw QuantError(
        .unsupported, "\(ranks) ranks",
        "\(configuration.architecture.rawValue) normalizes across heads and hidden channels",
        remedy: "use one rank")
    }
    let groups = configuration.feedForwardLength / group
    guard ranks <= configuration.keyValueHeadCount, ranks <= groups,
      ranks <= configuration.vocabularySize, configuration.feedForwardLength % group == 0
    else {
      throw QuantError(
        .unsupported, "\(ranks) ranks",
        "there are \(configuration.keyValueHeadCount) heads of keys and values and "
          + "\(configuration.feedForwardLength) hidden channels in groups of \(group)",
        remedy: "use at most \(max(1, min(configuration.keyValueHeadCount, groups))) ranks")
    }
    self.rank = rank
    self.ranks = ranks
    func part(_ count: Int, _ rank: Int) -> Range<Int> {
      let (each, rest) = count.quotientAndRemainder(dividingBy: ranks)
      let start = rank * each + min(rank, rest)
      return start..<start + each + (rank < rest ? 1 : 0)
    }
    let sharing = configuration.headCount / configuration.keyValueHeadCount
    keyValueHeads = part(configuration.keyValueHeadCount, rank)
    heads = keyValueHeads.lowerBound * sharing..<keyValueHeads.upperBound * sharing
    let own = part(groups, rank)
    hidden = own.lowerBound * group..<own.upperBound * group
    vocabulary = part(configuration.vocabularySize, rank)
    longestVocabulary = part(configuration.vocabularySize, 0).count
  }

  /// All parts of a model.
  static func all(
    ranks: Int, configuration: ModelConfiguration, group: Int
  ) throws(QuantError) -> [ModelPart] {
    var parts: [ModelPart] = []
    for rank in 0..<max(ranks, 1) {
      parts.append(
        try ModelPart(rank: rank, ranks: ranks, configuration: configuration, group: group))
    }
    return parts
  }

  /// Where the inputs of attention's output projection (1) and of the down projection (3) are cut.
  func inputs(ofLinear linear: Int, headDimension: Int) -> Range<Int> {
    linear == 1
      ? heads.lowerBound * headDimension..<heads.upperBound * headDimension : hidden
  }
}

extension ModelConfiguration {
  /// What a rank's session is made for.
  func part(_ part: ModelPart) -> ModelConfiguration {
    var copy = self
    copy.headCount = part.heads.count
    copy.keyValueHeadCount = part.keyValueHeads.count
    copy.feedForwardLength = part.hidden.count
    return copy
  }
}
