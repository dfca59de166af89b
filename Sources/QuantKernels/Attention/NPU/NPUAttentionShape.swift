import DeviceModel

/// Sizes of an attention: queries `queryLength × heads × headDimension`, keys and values
/// `keyLength × keyValueHeads × headDimension`, all row-major.
public struct NPUAttentionShape: Sendable, Hashable {
  /// Query positions.
  public var queryLength: Int
  /// Key positions.
  public var keyLength: Int
  /// Query heads; heads of a batch may stand beside each other.
  public var heads: Int
  /// Heads of keys and values, of which each serves heads / keyValueHeads query heads.
  public var keyValueHeads: Int
  /// Width of queries, keys and values.
  public var headDimension: Int

  /// A shape.
  public init(
    queryLength: Int, keyLength: Int, heads: Int, keyValueHeads: Int? = nil, headDimension: Int
  ) {
    self.queryLength = queryLength
    self.keyLength = keyLength
    self.heads = heads
    self.keyValueHeads = keyValueHeads ?? heads
    self.headDimension = headDimension
  }

  /// Query heads of a key-value head.
  public var group: Int { heads / keyValueHeads }

  /// Floats of the queries, and of the output.
  public var queryCount: Int { queryLength * heads * headDimension }
  /// Floats of the keys, and of the values.
  public var keyCount: Int { keyLength * keyValueHeads * headDimension }

  /// Bytes of the scores and probabilities that a standard attention stores at once.
  public var scoreBytes: Double {
    Double(queryLength) * Double(keyLength) * Double(heads) * 6
  }

  /// The largest length: 16 Mi positions.
  public static let longest = 1 << 24

  /// - Throws: ``QuantError`` `.invalidArgument` for a size out of range or heads that are no
  ///   multiple.
  public func check() throws(QuantError) {
    for (name, value, range) in [
      ("query length", queryLength, 0...Self.longest), ("key length", keyLength, 0...Self.longest),
      ("heads", heads, 1...65536), ("key-value heads", keyValueHeads, 1...65536),
      ("head dimension", headDimension, 1...256),
    ] where !range.contains(value) {
      throw QuantError(
        .invalidArgument, "NPU attention", "\(name) \(value)",
        remedy: "use \(range.lowerBound) to \(range.upperBound)")
    }
    guard heads % keyValueHeads == 0 else {
      throw QuantError(
        .invalidArgument, "NPU attention",
        "\(heads) query heads for \(keyValueHeads) of keys and values", remedy: "use a multiple")
    }
  }

  /// Useful work under a mask: 4 · d for each visible score, multiplications and additions.
  ///
  /// - Complexity: O(queryLength).
  public func flop(_ mask: TileMask) -> Double {
    var scores = 0.0
    for row in 0..<queryLength {
      scores += Double(mask.visibleKeys(firstRow: row, rows: 1, of: keyLength).count)
    }
    return 4 * scores * Double(headDimension) * Double(heads)
  }
}

/// Kernels of attention on a simulated NPU, as the command line spells them.
public enum NPUAttentionKernel: String, Sendable, Hashable, CaseIterable {
  /// Standard attention: scores to global memory, a softmax over them, their product with the
  /// values; three kernels.
  case unfused
  /// Fused, with one block size for cube and vector units: a hand-over for each small block.
  case unified
  /// Fused, with large first-level blocks between cube and vector units, which the cube cuts into
  /// second-level ones.
  case twoLevel = "two-level"
}

/// Where a kernel on a simulated NPU gets its mask from.
public enum NPUMaskMode: String, Sendable, Hashable, CaseIterable {
  /// A byte for each query and key in global memory; nothing is skipped.
  case full
  /// Views into one triangle of (rows + keys of a tile)² bytes; masked tiles are skipped.
  case tiling
  /// Positions compared in registers, no bytes; masked tiles are skipped.
  case computed
}

/// How attention runs on a simulated NPU.
public struct NPUAttentionOptions: Sendable, Hashable {
  /// The kernel.
  public var kernel: NPUAttentionKernel
  /// Which keys are visible; no chunks and no prefix.
  public var mask: TileMask
  /// Where the mask comes from.
  public var maskMode: NPUMaskMode
  /// Keys of a first-level block; nil for the choice of ``FirstLevelCost``. The unified kernel takes
  /// `secondLevelKeys`.
  public var firstLevelKeys: Int?
  /// Keys of a second-level block, a multiple of 16.
  public var secondLevelKeys: Int
  /// Query rows of a tile, all packed heads together; nil for 128, or 64 when d > 128.
  public var blockRows: Int?
  /// First-level blocks in flight between cube and vector units; nil for 3 on a split part and as
  /// many of 2 as L0C holds on a coupled one.
  public var slots: Int?
  /// Scores are scale · q·k; nil for 1/√d.
  public var scale: Float?
  /// Maxima rounded up to powers of two, so that rescaling adds integers to exponents (AMLA,
  /// arXiv 2509.25224); fused kernels.
  public var powerOfTwoMaxima: Bool
  /// The unfused kernel scales, masks and normalizes in kernels of their own with binary16 scores, as
  /// a framework without fusion does; else in one pass over float32 scores.
  public var separatePasses: Bool

  /// Options; without arguments the two-level kernel without a mask.
  public init(
    kernel: NPUAttentionKernel = .twoLevel, mask: TileMask = .none,
    maskMode: NPUMaskMode = .computed, firstLevelKeys: Int? = nil, secondLevelKeys: Int = 128,
    blockRows: Int? = nil, slots: Int? = nil, scale: Float? = nil, powerOfTwoMaxima: Bool = false,
    separatePasses: Bool = false
  ) {
    self.kernel = kernel
    self.mask = mask
    self.maskMode = maskMode
    self.firstLevelKeys = firstLevelKeys
    self.secondLevelKeys = secondLevelKeys
    self.blockRows = blockRows
    self.slots = slots
    self.scale = scale
    self.powerOfTwoMaxima = powerOfTwoMaxima
    self.separatePasses = separatePasses
  }

  /// - Throws: ``QuantError`` `.invalidArgument` or `.unsupported` for what no kernel takes.
  func check() throws(QuantError) {
    func refuse(_ problem: String, _ remedy: String) -> QuantError {
      QuantError(.invalidArgument, "NPU attention", problem, remedy: remedy)
    }
    guard mask.chunk == nil, mask.prefix == 0 else {
      throw QuantError(
        .unsupported, "NPU attention", "masks with chunks or a prefix",
        remedy: "use causal masks and windows")
    }
    guard (16...4096).contains(secondLevelKeys), secondLevelKeys % 16 == 0 else {
      throw refuse(
        "second-level blocks of \(secondLevelKeys) keys", "use a multiple of 16, 16 to 4096")
    }
    if let firstLevelKeys {
      guard firstLevelKeys >= secondLevelKeys else {
        throw refuse(
          "first-level blocks of \(firstLevelKeys) keys are smaller than the second level's "
            + "\(secondLevelKeys)", "use a multiple of the second level's")
      }
      guard firstLevelKeys % secondLevelKeys == 0, firstLevelKeys <= 1 << 20 else {
        throw refuse(
          "first-level blocks of \(firstLevelKeys) keys are no multiple of the second level's "
            + "\(secondLevelKeys)", "use a multiple, at most \(1 << 20)")
      }
    }
    if let blockRows, !(1...1024).contains(blockRows) {
      throw refuse("tiles of \(blockRows) rows", "use 1 to 1024")
    }
    if let slots, !(1...8).contains(slots) { throw refuse("\(slots) slots", "use 1 to 8") }
    if let scale, !scale.isFinite { throw refuse("scale \(scale)", "use 1/√headDimension") }
  }
}
