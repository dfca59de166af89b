/// The extents of a feed-forward block: K1, N1 and N2.
public struct TensorParallelShape: Sendable, Hashable {
  /// The name by which it is asked for.
  public var name: String
  /// K1.
  public var inputs: Int
  /// N1.
  public var hidden: Int
  /// N2.
  public var outputs: Int
  /// Inputs that share a scale.
  public var groupSize: Int
  /// Whether there is a gate beside the up projection.
  public var isGated: Bool

  /// A block's extents.
  public init(
    name: String = "block", inputs: Int, hidden: Int, outputs: Int, groupSize: Int = 128,
    isGated: Bool = false
  ) {
    self.name = name
    self.inputs = inputs
    self.hidden = hidden
    self.outputs = outputs
    self.groupSize = groupSize
    self.isGated = isGated
  }

  /// Llama-2-70B: 8192, 28672, 8192 (its configuration file). With one up matrix, as the paper's
  /// triple of extents has it; the model itself is gated.
  public static let llama70B = TensorParallelShape(
    name: "llama-70b", inputs: 8192, hidden: 28672, outputs: 8192)

  /// Granite-20B: 6144, 24576, 6144 (ibm-granite/granite-20b-code, configuration file).
  public static let granite20B = TensorParallelShape(
    name: "granite-20b", inputs: 6144, hidden: 24576, outputs: 6144)

  /// The blocks of the paper.
  public static let all: [TensorParallelShape] = [.llama70B, .granite20B]

  /// A quantized act-order `g_idx` of the down projection, by seed: what calibration of no model in
  /// particular gives.
  ///
  /// - Throws: ``QuantError`` `.unsupported` for groups that do not divide the hidden channels.
  public func shuffledIndices(seed: UInt64) throws(QuantError) -> GroupIndices {
    guard hidden > 0, groupSize > 0, hidden % groupSize == 0 else {
      throw QuantError(
        .unsupported, "hidden channels", "\(hidden) in groups of \(groupSize)",
        remedy: "use a group size that divides them")
    }
    var state = seed
    var indices = (0..<hidden).map { Int32($0 / groupSize) }
    // Fisher and Yates, with SplitMix64.
    for last in stride(from: hidden - 1, to: 0, by: -1) {
      state &+= 0x9E37_79B9_7F4A_7C15
      var z = state
      z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
      z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
      z ^= z >> 31
      indices.swapAt(last, Int(z % UInt64(last + 1)))
    }
    return try GroupIndices(indices, inputs: hidden, groups: hidden / groupSize)
  }
}

/// What a scheme moves, gathers and reads, rank by rank, counted from a layer's order alone: no
/// weights, no products. A real run counts the same (`TensorParallelSchemesTests`).
public struct TensorParallelPlan: Sendable {
  /// One rank's part.
  public struct Rank: Sendable, Hashable {
    /// Bytes that it sends in the exchange of hidden channels.
    public let exchangeBytes: Int
    /// Bytes that it sends in the all-reduce.
    public let reduceBytes: Int
    /// How often the group changes while it streams its part of the down projection.
    public let groupSwitches: Int
    /// Bytes of the scales that it reads for it, binary16, each group once.
    public let scaleBytes: Int

    /// Bytes that it sends.
    public var bytes: Int { exchangeBytes + reduceBytes }
  }

  /// The block.
  public let shape: TensorParallelShape
  /// M.
  public let count: Int
  /// The scheme.
  public let scheme: TensorParallelScheme
  /// Bytes of an element on the way.
  public let bytesPerElement: Int
  /// All ranks.
  public let ranks: [Rank]
  /// Collectives of one call.
  public let collectives: Int
  /// Elements that each rank gathers at run time.
  public let gatheredElements: Int
  /// Elements of a rank's largest buffer of hidden channels.
  public let largestIntermediate: Int

  /// What the busiest rank sends.
  public var bytesPerRank: Int { ranks.reduce(0) { max($0, $1.bytes) } }
  /// What it sends in the exchange.
  public var exchangeBytes: Int { ranks.reduce(0) { max($0, $1.exchangeBytes) } }
  /// The most of any rank.
  public var groupSwitches: Int { ranks.reduce(0) { max($0, $1.groupSwitches) } }
  /// The most of any rank.
  public var scaleBytes: Int { ranks.reduce(0) { max($0, $1.scaleBytes) } }

  /// Counts a call.
  ///
  /// - Parameters:
  ///   - count: M, rows of inputs.
  ///   - order: the groups of the down projection's inputs.
  ///   - hasInputOrder: whether inputs of the block are in act-order too.
  ///   - shape: the block's sizes.
  ///   - scheme: what is moved, and when.
  ///   - ranks: parts in all.
  ///   - bytesPerElement: of what is sent.
  /// - Throws: ``QuantError``: `.invalidArgument` for sizes that are not positive or an order of
  ///   other channels, `.unsupported` for ranks that do not divide the hidden channels into whole
  ///   groups (local sort: at all) and words of 8.
  /// - Complexity: O(hidden).
  public init(
    shape: TensorParallelShape, count: Int, scheme: TensorParallelScheme, ranks: Int,
    order: GroupIndices, hasInputOrder: Bool = true, bytesPerElement: Int = 2
  ) throws(QuantError) {
    for (name, value) in [
      ("rows", count), ("inputs", shape.inputs), ("hidden channels", shape.hidden),
      ("outputs", shape.outputs), ("group size", shape.groupSize),
      ("bytes an element", bytesPerElement),
    ] where !(1...1 << 24).contains(value) {
      throw QuantError(
        .invalidArgument, name, "is \(value)", remedy: "choose 1 to \(1 << 24)")
    }
    let cut = try TensorParallelCut(shape.hidden, by: ranks, "hidden channels")
    try cut.requireMultiple(of: 8, "a word of packed zero points holds 8")
    if scheme != .localSort {
      try cut.requireMultiple(of: shape.groupSize, "a group would lie on two ranks")
    }
    guard order.indices.count == shape.hidden, order.groupSize == shape.groupSize else {
      throw QuantError(
        .invalidArgument, "g_idx",
        "\(order.indices.count) channels in groups of \(order.groupSize) for \(shape.hidden) in "
          + "groups of \(shape.groupSize)", remedy: "pass the down projection's")
    }
    self.shape = shape
    self.count = count
    self.scheme = scheme
    self.bytesPerElement = bytesPerElement
    let part = cut.part
    var list: [Rank] = []
    for rank in 0..<ranks {
      let own = rank * part..<(rank + 1) * part
      let exchanged =
        switch scheme {
        case .naive: (ranks - 1) * part
        case .allToAll:
          // Own channels that stand in another rank's part of the order.
          order.order.order.indices.count {
            !own.contains($0) && own.contains(Int(order.order.order[$0]))
          }
        case .localSort, .tpAware: 0
        }
      let switches =
        scheme == .localSort
        ? GroupIndices.switches(order.indices[own].sorted()) : part / shape.groupSize
      let sums = CollectiveRequest.part(rank, of: ranks, count: count * shape.outputs).count
      list.append(
        Rank(
          exchangeBytes: exchanged * count * bytesPerElement,
          reduceBytes: ranks == 1
            ? 0
            : (count * shape.outputs - sums + (ranks - 1) * sums) * bytesPerElement,
          groupSwitches: switches, scaleBytes: switches * shape.outputs * 2))
    }
    self.ranks = list
    let isExchanging = scheme == .naive || scheme == .allToAll
    collectives = ranks == 1 ? 0 : isExchanging ? 2 : 1
    let gathered =
      switch scheme {
      case .naive: shape.hidden
      case .allToAll: 2 * part
      case .localSort: part
      case .tpAware: 0
      }
    gatheredElements = count * ((hasInputOrder ? shape.inputs : 0) + gathered)
    largestIntermediate = count * (scheme == .naive ? shape.hidden : part)
  }
}
