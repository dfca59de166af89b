import QuantKernels

/// What becomes of a file's linear layers before they are packed: int4 layers take their place,
/// their orders are moved for ranks, and a rank keeps its part.
struct ModelCut {
  /// All ranks' parts; one where the model is whole.
  let parts: [ModelPart]
  /// This rank's part; nil: the whole.
  let own: ModelPart?
  /// Parts over whose inputs one rank adds up; empty: all at once.
  private let reduction: [ModelPart]
  private let overlay: Int4Overlay?
  private let headDimension: Int

  /// - Throws: `QuantError` as ``ModelPart`` and ``Int4Overlay``; `.invalidArgument` for parts of
  ///   sums on several ranks.
  init(
    file: GGUFFile, configuration: ModelConfiguration, options: LanguageModel.Options
  ) throws(QuantError) {
    if let path = options.int4Layers {
      overlay = try Int4Overlay(path: path, file: file)
    } else {
      overlay = try Int4Overlay(of: file)
    }
    headDimension = configuration.headDimension
    guard options.reductionParts >= 1, options.reductionParts == 1 || options.ranks == 1 else {
      throw QuantError(
        .invalidArgument, "parts of sums", "\(options.reductionParts) on \(options.ranks) ranks",
        remedy: "use one rank, or one part")
    }
    let count = max(options.ranks, options.reductionParts)
    guard options.ranks >= 1, (0..<options.ranks).contains(options.rank) else {
      throw QuantError(
        .invalidArgument, "ranks", "rank \(options.rank) of \(options.ranks)",
        remedy: "use at least one rank, numbered from 0")
    }
    var group = 1
    if count > 1 {
      let down = try ModelTensors(file: file).matrix(
        "blk.0.ffn_down.weight", rows: configuration.embeddingLength,
        columns: configuration.feedForwardLength)
      let covering = overlay.flatMap { $0.covers(down) ? $0 : nil }
      group =
        try covering?.matrix(for: down).groupSize ?? down.type?.blockElements ?? 1
    }
    let all = try ModelPart.all(ranks: count, configuration: configuration, group: group)
    parts = options.ranks > 1 ? all : Array(all.prefix(1))
    own = options.ranks > 1 ? all[options.rank] : nil
    reduction = options.reductionParts > 1 ? all : []
  }

  /// The head, with the logits of this rank.
  func head(_ linear: WeightPlan.Linear) -> [WeightPlan.Linear] {
    guard let own else { return [linear] }
    var linear = linear
    for index in linear.members.indices { linear.members[index].outputs = own.vocabulary }
    return [linear]
  }

  /// Takes the overlay's biases where their outputs stand in another order than the file's.
  private func takeMovedBiases(
    of overlay: Int4Overlay, _ linears: inout [WeightPlan.Linear]
  ) throws(QuantError) {
    func take(_ linear: Int, _ member: Int) throws(QuantError) {
      guard linears[linear].members[member].bias != nil else { return }
      linears[linear].members[member].bias = try overlay.bias(
        beside: linears[linear].members[member].tensor)
    }
    // Of values by the attention output's inputs, of gate and up by those of down.
    if overlay.movedOrder(ofInputsOf: linears[1].members[0].tensor) != nil { try take(0, 2) }
    if overlay.movedOrder(ofInputsOf: linears[3].members[0].tensor) != nil {
      for member in linears[2].members.indices { try take(2, member) }
    }
  }

  /// A block's linear layers: Q+K+V, attention output, gate+up, down.
  ///
  /// - Throws: `QuantError` as ``Int4Overlay/matrix(for:)`` and ``ActOrderMLP``.
  func block(_ linears: [WeightPlan.Linear]) throws(QuantError) -> [WeightPlan.Linear] {
    var linears = linears
    if let overlay {
      for linear in linears.indices {
        for member in linears[linear].members.indices
        where overlay.covers(linears[linear].members[member].tensor) {
          linears[linear].members[member].int4 = try overlay.matrix(
            for: linears[linear].members[member].tensor)
        }
      }
      // A directory's own biases moved with its layers.
      if !overlay.isOwn { try takeMovedBiases(of: overlay, &linears) }
      if own != nil || !reduction.isEmpty { try moveOrder(&linears) }
    }
    guard let own else { return linears }
    let outputs = [
      [own.heads, own.keyValueHeads, own.keyValueHeads].map {
        $0.lowerBound * headDimension..<$0.upperBound * headDimension
      }, [own.hidden, own.hidden],
    ]
    for (linear, ranges) in zip([0, 2], outputs) {
      for (member, range) in ranges.enumerated() {
        linears[linear].members[member].outputs = range
      }
    }
    return linears
  }

  /// The ranges of inputs over which a block's linear layer adds up.
  func inputRanges(ofLinear linear: Int) -> [Range<Int>] {
    guard linear == 1 || linear == 3 else { return [] }
    return (own.map { [$0] } ?? reduction).map {
      $0.inputs(ofLinear: linear, headDimension: headDimension)
    }
  }

  /// The TP-aware pass: the order of the down projection's inputs becomes that of gate's and up's
  /// outputs. The attention's output projection keeps its order where that crosses heads: ranks sort
  /// their own inputs. One that stays inside heads was moved into the values by `convert`.
  private func moveOrder(_ linears: inout [WeightPlan.Linear]) throws(QuantError) {
    guard let gate = linears[2].members[0].int4, let up = linears[2].members[1].int4,
      let down = linears[3].members[0].int4
    else { return }
    let found = try ActOrderMLP(
      gate: gate, up: up, down: down, gateBias: linears[2].members[0].bias,
      upBias: linears[2].members[1].bias, activation: .identity,
      movedOrder: overlay?.movedOrder(ofInputsOf: linears[3].members[0].tensor))
    // A file may come with its order moved; a second pass would be another model.
    let block = found.movedOrder == nil ? try found.movingInputOrder() : found
    linears[2].members[0].int4 = block.gate
    linears[2].members[1].int4 = block.up
    linears[2].members[0].bias = block.gateBias
    linears[2].members[1].bias = block.upBias
    linears[3].members[0].int4 = block.down
  }
}
