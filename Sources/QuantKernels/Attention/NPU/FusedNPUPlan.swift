import DeviceModel

/// The sizes of a fused attention on an NPU: what is asked for, completed by rules.
struct FusedNPUPlan: Hashable {
  /// Keys of a first- and a second-level block.
  var firstLevelKeys: Int
  var secondLevelKeys: Int
  /// Rows of a tile.
  var blockRows: Int
  /// First-level blocks in flight; the products of one run `slots − 1` blocks after its scores.
  var slots: Int

  /// Elements of a piece of scores that a vector unit works on at a time, two of them in flight.
  static let pieceElements = 8192
  /// The longest block that is chosen unasked: four rows of it make a piece.
  static let longestChoice = 2048
  /// Floats of a piece of products.
  static let productElements = 4096

  /// Rows of a piece of scores: whole blocks of eight where eight rows fit, since row statistics
  /// start at 32 bytes, else a part of eight.
  var pieceRows: Int { Self.pieceRows(columns: firstLevelKeys) }

  static func pieceRows(columns: Int) -> Int {
    let rows = pieceElements / ((columns + 31) / 32 * 32)
    return rows >= 8 ? rows / 8 * 8 : rows >= 4 ? 4 : rows >= 2 ? 2 : 1
  }

  /// - Throws: ``QuantError`` when a row of a first-level block is no piece, or (by ``DeviceError``,
  ///   later) a tile does not fit its buffer.
  init(
    _ shape: NPUAttentionShape, _ options: NPUAttentionOptions, on spec: NPUSpec
  ) throws(QuantError) {
    let isSplit = spec.coupling == .split
    let isWide = shape.headDimension > 128
    // On a coupled core half the rows make room for two blocks of twice the keys in L0C.
    let rows =
      options.blockRows ?? (isWide || (!isSplit && options.kernel == .twoLevel) ? 64 : 128)
    blockRows = rows
    secondLevelKeys = options.secondLevelKeys
    let width = (shape.headDimension + 15) / 16 * 16
    let padded = (rows + 15) / 16 * 16
    // A coupled core keeps a block's scores in L0C, beside the product of the values.
    let sumRoom = max(0, spec.l0cBytes.wholeNumber - padded * width * 4)
    if options.kernel == .unified {
      firstLevelKeys = options.secondLevelKeys
    } else if let asked = options.firstLevelKeys {
      firstLevelKeys = asked
    } else if isSplit {
      let cores = spec.cores.wholeNumber
      let tiles = NPUAttentionTiles(
        shape, blockRows: rows, mask: options.maskMode == .full ? nil : options.mask,
        blockKeys: options.secondLevelKeys)
      let cost = FirstLevelCost(
        blockRows: rows, headDimension: shape.headDimension, slots: options.slots ?? 3,
        liveKeyValueBytes: tiles.liveHeads(cores: cores) * shape.keyLength * shape.headDimension
          * 4)
      let chunks = tiles.headChunks.count
      firstLevelKeys = cost.best(
        for: tiles.ranges.map { ($0.keys.count, chunks) },
        secondLevelKeys: options.secondLevelKeys,
        largest: min(
          cost.cacheBound(cores: cores, cacheBytes: spec.l2Bytes.wholeNumber), Self.longestChoice),
        on: spec)
    } else {
      // As many as leave room for two blocks: while one's softmax runs, the other's scores are made.
      let room = sumRoom / ((options.slots ?? 2) * padded * 4)
      var keys = options.secondLevelKeys
      while 2 * keys <= room { keys *= 2 }
      firstLevelKeys = keys
    }
    if let asked = options.slots {
      slots = asked
    } else if isSplit {
      slots = 3
    } else {
      slots = max(1, min(2, sumRoom / (padded * firstLevelKeys * 4)))
    }
    guard firstLevelKeys <= Self.pieceElements else {
      throw QuantError(
        .unsupported, "NPU attention",
        "first-level blocks of \(firstLevelKeys) keys: a row passes a piece of the unified buffer",
        remedy: "use at most \(Self.pieceElements)")
    }
  }
}
