/// One rank's part of an act-order feed-forward block, packed for one scheme.
public final class MLPShard: @unchecked Sendable {
  /// The scheme that it is made for.
  public let scheme: TensorParallelScheme
  /// Whose part.
  public let rank: Int
  /// Parts.
  public let ranks: Int
  /// K1, N1 and N2 of the whole block.
  public let inputs: Int
  /// N1 of the whole block.
  public let hidden: Int
  /// N2 of the whole block.
  public let outputs: Int
  /// Whether gate and up are one matrix.
  public let isFused: Bool
  /// How often the group changes while this part of the down projection streams by.
  public let groupSwitches: Int
  /// Bytes of its scales in binary16.
  public let scaleBytes: Int
  /// What all ranks must agree on: block, scheme and order.
  public let fingerprint: UInt64

  /// N1 / T.
  public var ownHidden: Int { hidden / ranks }
  /// Bytes of packed weights, scales included.
  public var weightBytes: Int {
    (gate?.byteCount ?? 0) + first.byteCount + down.byteCount
  }

  /// Gate and up as one, or up.
  let first: PackedWeights
  /// The gate where it is not in `first`.
  let gate: PackedWeights?
  let down: PackedWeights
  /// P1 of `first` and of `gate`; nil where inputs are taken as they are.
  let inputOrder: [Int32]?
  let gateOrder: [Int32]?
  let exchange: HiddenExchange
  let gateBias: [Float]?
  let upBias: [Float]?
  let downBias: [Float]?
  let hiddenScale: [Float]?
  let activation: ActOrderMLP.Activation

  var isGated: Bool { isFused || gate != nil }

  /// The part of `rank` of `ranks`.
  ///
  /// - Parameters:
  ///   - block: the whole block; for ``TensorParallelScheme/tpAware`` after
  ///     ``ActOrderMLP/movingInputOrder(consumers:)``, for the others before it.
  ///   - fusesGate: whether gate and up become one matrix, each half cut first.
  ///   - scheme: what is moved, and when.
  ///   - rank: this part's number, from 0.
  ///   - ranks: parts in all.
  ///   - instructionSet: the kernels' instruction set; the best of this processor unless stated.
  /// - Throws: ``QuantError``: `.invalidArgument` for a rank that is not there, a block that has (or
  ///   has not) gone through the offline pass, gate and up of different orders or groups in one
  ///   matrix; `.unsupported` for ranks that do not divide the hidden channels into whole groups and
  ///   words of 8; `.outOfMemory`.
  /// - Complexity: O(weights of the part).
  public init(
    _ block: ActOrderMLP, scheme: TensorParallelScheme, rank: Int, ranks: Int,
    fusesGate: Bool = true, instructionSet: InstructionSet = .best
  ) throws(QuantError) {
    guard (block.movedOrder != nil) == (scheme == .tpAware) else {
      throw QuantError(
        .invalidArgument, "scheme \(scheme.rawValue)",
        scheme == .tpAware
          ? "the block has not gone through the offline pass"
          : "the block has gone through the TP-aware pass",
        remedy: scheme == .tpAware ? "call movingInputOrder first" : "load the original weights")
    }
    let cut = try TensorParallelCut(block.hidden, by: ranks, "hidden channels of a block")
    let own = try cut.range(of: rank)
    self.scheme = scheme
    self.rank = rank
    self.ranks = ranks
    (inputs, hidden, outputs) = (block.inputs, block.hidden, block.outputs)

    func pack(_ matrix: Int4Matrix, _ name: String) throws(QuantError) -> PackedWeights {
      try PackedWeights(
        matrix.withoutInputPermutation(), name: "\(name) of rank \(rank)",
        instructionSet: instructionSet)
    }
    let upPart = try block.up.outputShard(rank: rank, ranks: ranks)
    if let whole = block.gate {
      let gatePart = try whole.outputShard(rank: rank, ranks: ranks)
      isFused = fusesGate
      if fusesGate {
        // Halves were cut apart: a cut of the joined matrix would give one rank all of the gate.
        first = try pack(try Int4Matrix.joined([gatePart, upPart]), "gate and up")
        gate = nil
      } else {
        first = try pack(upPart, "up")
        gate = try pack(gatePart, "gate")
      }
      gateOrder = whole.inputPermutation
    } else {
      isFused = false
      first = try pack(upPart, "up")
      gate = nil
      gateOrder = nil
    }
    inputOrder = block.up.inputPermutation

    let part: Int4Matrix
    if scheme == .localSort {
      let (sorted, taken) = try block.down.locallySortedShard(rank: rank, ranks: ranks)
      part = sorted
      exchange = .gather(taken)
      groupSwitches = GroupIndices.switches(GroupIndices(block.down).indices[own].sorted())
    } else {
      part = try block.down.inputShard(rank: rank, ranks: ranks)
      exchange = HiddenExchange(scheme, order: block.hiddenOrder, rank: rank, ranks: ranks)
      groupSwitches = part.groups
    }
    down = try pack(part, "down")
    scaleBytes = groupSwitches * block.outputs * 2
    gateBias = block.gateBias.map { Array($0[own]) }
    upBias = block.upBias.map { Array($0[own]) }
    hiddenScale = block.hiddenScale.map { Array($0[own]) }
    downBias = block.downBias
    activation = block.activation

    var hash = XXH64()
    let order = block.movedOrder ?? block.hiddenOrder.checksum
    [
      block.checksum, order, UInt64(TensorParallelScheme.allCases.firstIndex(of: scheme) ?? 0),
      UInt64(ranks), fusesGate ? 1 : 0,
    ].withUnsafeBytes { hash.update($0) }
    fingerprint = hash.finish()
  }
}

extension Int4Matrix {
  /// The matrix for inputs that come in its own order.
  func withoutInputPermutation() throws(QuantError) -> Int4Matrix {
    inputPermutation == nil ? self : try storedColumns(0..<columns)
  }
}

/// What a rank does with its hidden channels before the down projection.
enum HiddenExchange: Sendable {
  /// They are what it needs.
  case none
  /// All channels are gathered and put into this order, of which the rank takes its part.
  case allGather(order: [Int32])
  /// Own channels to send, by destination; how many come from each rank; and the place of each of
  /// these among those the rank needs.
  case allToAll(send: [Int32], sendCounts: [Int], receiveCounts: [Int], places: [Int32])
  /// Own channels, in the order of the down projection's columns; −1 is padding.
  case gather([Int32])

  init(_ scheme: TensorParallelScheme, order: Permutation, rank: Int, ranks: Int) {
    let part = order.count / ranks
    switch scheme {
    case .naive: self = .allGather(order: order.order)
    case .tpAware, .localSort: self = .none
    case .allToAll:
      var send: [Int32] = []
      var sendCounts: [Int] = []
      for destination in 0..<ranks {
        let wanted = order.order[destination * part..<(destination + 1) * part]
        let own = wanted.filter { Int($0) / part == rank }.map { $0 - Int32(rank * part) }
        send += own
        sendCounts.append(own.count)
      }
      var places: [Int32] = []
      var receiveCounts: [Int] = []
      for source in 0..<ranks {
        let from = (0..<part).filter { Int(order.order[rank * part + $0]) / part == source }
        places += from.map { Int32($0) }
        receiveCounts.append(from.count)
      }
      self = .allToAll(
        send: send, sendCounts: sendCounts, receiveCounts: receiveCounts, places: places)
    }
  }
}
