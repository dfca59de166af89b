/// What attention over a low-rank cache costs, by formula: bytes of a token, and multiply-accumulates
/// (MAC) of a decode step.
///
/// Sources: Palu (arXiv 2407.21118) for the scheme; the counts follow from the shapes of its factors.
public struct LowRankCost: Sendable, Equatable {
  /// Latents of each group.
  public var keyWidths: [Int]
  /// Latents of values of each group.
  public var valueWidths: [Int]
  /// How latents of keys, or whole keys, are stored.
  public var keyType: LatentType
  /// How latents of values are stored.
  public var valueType: LatentType
  /// Query heads.
  public var queryHeads: Int
  /// Key and value heads.
  public var keyValueHeads: Int
  /// Elements of a head.
  public var headDimension: Int
  /// s: key-value heads that share a latent.
  public var headsPerGroup: Int
  /// How keys are cached.
  public var keyMode: LowRankFactors.KeyMode

  /// The cost of latents of these widths; whole keys are as wide as heads and stand alone.
  public init(
    keyWidths: [Int], valueWidths: [Int], keyType: LatentType, valueType: LatentType,
    queryHeads: Int, keyValueHeads: Int, headDimension: Int, headsPerGroup: Int,
    keyMode: LowRankFactors.KeyMode
  ) {
    self.keyWidths = keyWidths
    self.valueWidths = valueWidths
    self.keyType = keyType
    self.valueType = valueType
    self.queryHeads = queryHeads
    self.keyValueHeads = keyValueHeads
    self.headDimension = headDimension
    self.headsPerGroup = headsPerGroup
    self.keyMode = keyMode
  }

  /// The cost of a layer whose latents are stored so.
  public init(_ layer: LowRankLayer, keyType: LatentType, valueType: LatentType) {
    keyWidths = layer.keyWidths
    valueWidths = layer.valueWidths
    self.keyType = keyType
    self.valueType = valueType
    queryHeads = layer.shape.queryHeads
    keyValueHeads = layer.shape.keyValueHeads
    headDimension = layer.shape.headDimension
    headsPerGroup = layer.headsPerGroup
    keyMode = layer.keyMode
  }

  /// Bytes that a cached token takes in a layer: Σ over groups of `⌈r·b/8⌉ + 4`, the half-precision
  /// scale and minimum counted.
  public var bytesPerToken: Int {
    keyWidths.reduce(0) { $0 + keyType.bytes(width: $1) }
      + valueWidths.reduce(0) { $0 + valueType.bytes(width: $1) }
  }

  /// What a dense cache of 16-bit numbers would take.
  public var denseBytesPerToken: Int { 2 * 2 * keyValueHeads * headDimension }

  /// The share of the dense cache's bytes that is saved.
  ///
  /// Without the scales and minima it would be `1 − ρ·b/16`; these add 32 bits a group and token.
  /// Llama-2-7B with 30 % of the ranks removed at 2 bits is the paper's 91.25 % = 1 − 0.7·2/16. The
  /// groups of 4 heads of 128 have 0.7·512 = 358.4 latents, which round to 352 (a multiple of 32, as
  /// the paper's code has it), and 352·2/8 + 4 = 92 bytes of a group's 1024: 91.0 %.
  public var savedShare: Double { 1 - Double(bytesPerToken) / Double(denseBytesPerToken) }

  private var queriesPerUnit: Int { headsPerGroup * queryHeads / keyValueHeads }

  /// MAC of a query and cached token: scores.
  public var scoreMultipliesPerToken: Int {
    switch keyMode {
    case .rotated, .rebuilt: queryHeads * headDimension
    case .commuting: keyWidths.reduce(0) { $0 + queriesPerUnit * $1 }
    }
  }

  /// MAC of a cached token, for all queries of a tile together: `Σ r·s·d_h`.
  public var rebuildMultipliesPerToken: Int {
    keyMode == .rebuilt
      ? keyWidths.reduce(0) { $0 + $1 * headsPerGroup * headDimension } : 0
  }

  /// MAC of a query and cached token: sums of latents of values, s·ρ times what dense values take.
  public var valueMultipliesPerToken: Int {
    valueWidths.reduce(0) { $0 + queriesPerUnit * $1 }
  }

  /// MAC of a query: the late up-projection.
  public var upMultiplies: Int {
    valueWidths.reduce(0) { $0 + queriesPerUnit * $1 * headDimension }
  }

  /// MAC of a query: from queries to what latents of keys are multiplied with. The Hadamard rotation
  /// of whole keys has no multiplications but the scale's.
  public var queryMultiplies: Int {
    keyMode == .commuting
      ? keyWidths.reduce(0) { $0 + queriesPerUnit * $1 * headDimension } : 0
  }

  /// MAC of a decode step over `positions` tokens.
  public func multiplies(positions: Int) -> Int {
    positions
      * (scoreMultipliesPerToken + rebuildMultipliesPerToken + valueMultipliesPerToken)
      + queryMultiplies + upMultiplies
  }

  /// FLOP that rebuilding keys costs for each byte that it saves against keys of 16 bits: what a
  /// machine must offer a byte of bandwidth for rebuilding to win; nil where nothing is saved.
  ///
  /// With 16-bit latents and half the ranks this is `512·(s/4)` for heads of 128.
  public var rebuildBalance: Double? {
    let saved =
      2 * keyValueHeads * headDimension
      - keyWidths.reduce(0) { $0 + keyType.bytes(width: $1) }
    return saved > 0 ? Double(2 * rebuildMultipliesPerToken) / Double(saved) : nil
  }
}
