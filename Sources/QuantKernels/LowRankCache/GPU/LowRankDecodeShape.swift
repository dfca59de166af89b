/// The sizes of one decode step of attention over low-rank keys and values on a simulated GPU, checked
/// once.
public struct LowRankDecodeShape: Sendable, Hashable {
  /// Positions that the query sees, itself among them.
  public let positions: Int
  /// The first one's number: a window need not begin at 0.
  public let firstPosition: Int
  /// Query heads, a multiple of the next.
  public let queryHeads: Int
  /// Heads of keys and values.
  public let keyValueHeads: Int
  /// Elements of a head.
  public let headDimension: Int
  /// s.
  public let headsPerGroup: Int
  /// Latents of a group, the same in all.
  public let keyRank: Int
  /// The same of values.
  public let valueRank: Int
  /// How keys and values are stored: binary16, or 4, 3 or 2 bits.
  public let keyType: LatentType
  /// The same of values.
  public let valueType: LatentType
  /// Elements of a head that turn; 0 without a rotary embedding, where keys are not rebuilt.
  public let rotaryDimension: Int

  /// A decode step's sizes.
  ///
  /// - Parameters:
  ///   - positions: cached ones, 1 to 2²⁴.
  ///   - firstPosition: the number of the first.
  ///   - queryHeads: a multiple of the key-value heads.
  ///   - keyValueHeads: as many as query heads when not given.
  ///   - headDimension: elements of a head.
  ///   - headsPerGroup: key-value heads that share latents.
  ///   - keyRank: of a group, 1 to `headsPerGroup · headDimension`.
  ///   - valueRank: likewise.
  ///   - keyType: how latents are stored; dense keys and values are binary16 always.
  ///   - valueType: that of keys when not given.
  ///   - rotaryDimension: even; the whole head when not given.
  /// - Throws: ``QuantError`` `.invalidArgument` for sizes that cannot be; `.unsupported` for heads wider
  ///   than 128, more than 128 query heads a group, and types that the kernels do not read.
  public init(
    positions: Int, firstPosition: Int = 0, queryHeads: Int, keyValueHeads: Int? = nil,
    headDimension: Int, headsPerGroup: Int, keyRank: Int, valueRank: Int,
    keyType: LatentType = .f16, valueType: LatentType? = nil, rotaryDimension: Int? = nil
  ) throws(QuantError) {
    let keyValueHeads = keyValueHeads ?? queryHeads
    let rotary = rotaryDimension ?? headDimension
    let valueType = valueType ?? keyType
    func refuse(
      _ what: String, _ problem: String, _ remedy: String,
      _ code: QuantError.Code = .invalidArgument
    ) -> QuantError {
      QuantError(code, "low-rank decode step: \(what)", problem, remedy: remedy)
    }
    guard 1...1 << 24 ~= positions, 0...1 << 24 ~= firstPosition else {
      throw refuse(
        "positions", "\(positions) from \(firstPosition) on", "use 1 to 2²⁴, from 0 to 2²⁴ on")
    }
    guard 1...4096 ~= queryHeads, 1...4096 ~= keyValueHeads, queryHeads % keyValueHeads == 0 else {
      throw refuse(
        "heads", "\(queryHeads) query heads for \(keyValueHeads) of keys and values",
        "use 1 to 4096, a multiple of the key-value heads")
    }
    guard headDimension >= 1, 0...headDimension ~= rotary, rotary % 2 == 0 else {
      throw refuse(
        "head width", "\(headDimension), of which \(rotary) turn",
        "use a positive width and an even part of it")
    }
    guard headsPerGroup >= 1, keyValueHeads % headsPerGroup == 0 else {
      throw refuse(
        "heads per group", "\(headsPerGroup) do not divide \(keyValueHeads) key-value heads",
        "choose a divisor, such as 1 or \(keyValueHeads)")
    }
    guard headDimension <= 128, headsPerGroup * (queryHeads / keyValueHeads) <= 128 else {
      throw refuse(
        "head width and group",
        "\(headDimension) and \(headsPerGroup * (queryHeads / keyValueHeads)) query heads",
        "the simulated kernels hold up to 128 of each", .unsupported)
    }
    for (name, rank) in [("key rank", keyRank), ("value rank", valueRank)]
    where !(1...headsPerGroup * headDimension ~= rank) {
      throw refuse(
        name, "\(rank) is outside 1…\(headsPerGroup * headDimension)",
        "use at most the width of a group's heads")
    }
    for type in [keyType, valueType] where ![.f16, .fourBit, .threeBit, .twoBit].contains(type) {
      throw refuse(
        "latents", "\(type.bits) bits", "the simulated kernels read 16, 4, 3 and 2", .unsupported)
    }
    self.positions = positions
    self.firstPosition = firstPosition
    self.queryHeads = queryHeads
    self.keyValueHeads = keyValueHeads
    self.headDimension = headDimension
    self.headsPerGroup = headsPerGroup
    self.keyRank = keyRank
    self.valueRank = valueRank
    self.keyType = keyType
    self.valueType = valueType
    self.rotaryDimension = rotary
  }

  /// Groups of key-value heads.
  public var groups: Int { keyValueHeads / headsPerGroup }
  /// Query heads of a key-value head.
  public var queriesPerHead: Int { queryHeads / keyValueHeads }
  /// Query heads of a group.
  public var queriesPerGroup: Int { headsPerGroup * queriesPerHead }
  /// Whether keys turn with their position, and are rebuilt for it.
  public var hasRotary: Bool { rotaryDimension > 0 }

  /// The costs by formula.
  public var cost: LowRankCost {
    LowRankCost(
      keyWidths: Array(repeating: keyRank, count: groups),
      valueWidths: Array(repeating: valueRank, count: groups), keyType: keyType,
      valueType: valueType, queryHeads: queryHeads, keyValueHeads: keyValueHeads,
      headDimension: headDimension, headsPerGroup: headsPerGroup,
      keyMode: hasRotary ? .rebuilt : .commuting)
  }
}
