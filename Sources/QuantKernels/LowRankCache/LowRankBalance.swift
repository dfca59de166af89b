/// What a machine can do, against what the ways of caching keys ask for: which of them is fastest
/// there.
public struct LowRankBalance: Sendable, Equatable {
  /// Bytes a second that are read from memory.
  public var bytesPerSecond: Double
  /// Multiply-accumulates a second of float32, and of digits with codes.
  public var floatMultipliesPerSecond: Double
  /// Multiply-accumulates a second of digits with codes.
  public var digitMultipliesPerSecond: Double

  /// A machine by its three rates.
  public init(
    bytesPerSecond: Double, floatMultipliesPerSecond: Double, digitMultipliesPerSecond: Double
  ) {
    self.bytesPerSecond = bytesPerSecond
    self.floatMultipliesPerSecond = floatMultipliesPerSecond
    self.digitMultipliesPerSecond = digitMultipliesPerSecond
  }

  /// Samples this machine with the pool's threads; `limits` may cover less than its usual memory.
  ///
  /// Codes meet two digits, so that half the int8 rate is left.
  public init(measuring limits: MachineLimits, milliseconds: Int = 20) {
    self.init(
      bytesPerSecond: limits.readGigabytesPerSecond(milliseconds: milliseconds) * 1e9,
      floatMultipliesPerSecond: limits.gigaMultiplyAddsPerSecond(
        .float32, milliseconds: milliseconds) * 1e9,
      digitMultipliesPerSecond: limits.gigaMultiplyAddsPerSecond(
        .int8, milliseconds: milliseconds) * 1e9 / 2)
  }

  /// FLOP a byte: what ``LowRankCost/rebuildBalance`` is compared with.
  public var floatsPerByte: Double { 2 * floatMultipliesPerSecond / bytesPerSecond }

  /// The least time of a cached token and decode step: of bytes, and of multiply-accumulates.
  public func secondsPerToken(_ cost: LowRankCost) -> (bytes: Double, multiplies: Double) {
    func rate(_ type: LatentType) -> Double {
      type.bits <= 4 ? digitMultipliesPerSecond : floatMultipliesPerSecond
    }
    let scores =
      cost.keyMode == .rebuilt
      ? Double(cost.scoreMultipliesPerToken + cost.rebuildMultipliesPerToken)
        / floatMultipliesPerSecond
      : Double(cost.scoreMultipliesPerToken) / rate(cost.keyType)
    return (
      Double(cost.bytesPerToken) / bytesPerSecond,
      scores + Double(cost.valueMultipliesPerToken) / rate(cost.valueType)
    )
  }

  /// The way of caching keys that takes the least time here: as the factors say, or whole and
  /// rotated at `wholeKeyType`.
  public func fastestKeyMode(
    _ factors: LowRankFactors, layer: Int, keyType: LatentType, wholeKeyType: LatentType = .fourBit,
    valueType: LatentType
  ) -> LowRankFactors.KeyMode {
    guard factors.keyMode != .rotated, factors.layers.indices.contains(layer) else {
      return .rotated
    }
    func seconds(_ mode: LowRankFactors.KeyMode) -> Double {
      let shape = factors.shape
      let cost = LowRankCost(
        keyWidths: mode == .rotated
          ? [Int](repeating: shape.headDimension, count: shape.keyValueHeads)
          : factors.layers[layer].keys.map(\.rank),
        valueWidths: factors.layers[layer].values.map(\.rank),
        keyType: mode == .rotated ? wholeKeyType : keyType, valueType: valueType,
        queryHeads: shape.queryHeads, keyValueHeads: shape.keyValueHeads,
        headDimension: shape.headDimension, headsPerGroup: factors.headsPerGroup, keyMode: mode)
      let time = secondsPerToken(cost)
      return max(time.bytes, time.multiplies)
    }
    return seconds(factors.keyMode) <= seconds(.rotated) ? factors.keyMode : .rotated
  }
}
