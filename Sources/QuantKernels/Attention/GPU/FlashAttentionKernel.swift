import DeviceModel

/// FlashAttention-2's forward pass on simulated warps: a block has 32 query rows a warp, walks the key
/// tiles that they see from the last to the first, and keeps scores, maxima, sums and output in
/// registers. Nothing of size S_q · S_k is stored anywhere.
///
/// On Volta (`volta`) there is neither `cp.async` nor `ldmatrix`: keys and values go from device memory
/// to registers, from there to shared memory in the order of ``OperandTile``, and to the operands of
/// `mma.m8n8k4` by 16-byte loads. Scores come out as accumulators; to be the left operand of P·V they
/// change lanes by shuffles (`LaneExchange`: six a 16 × 16 block, two a 32 × 8 block, none where
/// sums are binary16 and quad-pairs stand one below the other) and never go through shared memory. On
/// Ampere and later (`flash`) the accumulator already is that operand.
///
/// Two barriers a tile: behind the keys' arrival, behind the values'. Loads of the next operand are
/// issued before the products with the present one.
///
/// **Sums.** Scores, maxima, sums and output are float32 (``ScoreSums/float16`` changes the scores
/// alone and is never the default); P is rounded to binary16 for its product, its sum is that of the
/// unrounded. Rows that see a value that is not finite get a result that is not; rows that do not see
/// it are not touched by it: in tiles with hidden keys every value operand is looked at, and where one
/// is not finite it counts as 0 and marks the rows that see it by a second product of ones.
///
/// Source: Dao, FlashAttention-2 (arXiv 2307.08691); FastAttention (arXiv 2410.16663) for Volta, whose
/// own layout is not published.
public struct FlashAttentionKernel: RepeatingKernel {
  /// The format of the scores' sums.
  public enum ScoreSums: String, Sendable, Hashable {
    /// float32.
    case float32
    /// binary16: no exchange of lanes, less exact, infinite past 65,504.
    case float16
  }

  /// How Volta's quad-pairs stand.
  public enum QuadPairs: String, Sendable, Hashable, CaseIterable {
    /// Two by two: 16 × 16.
    case square
    /// One below the other: 32 × 8.
    case rows
  }

  /// What a block works on at a time.
  public struct Tile: Sendable, Hashable {
    /// Warps, each with 32 query rows.
    public let warps: Int
    /// Keys of a step: 32, 64 or 128.
    public let keys: Int

    /// - Throws: ``QuantError`` for other numbers of keys, and warps outside 1…8.
    public init(warps: Int, keys: Int) throws(QuantError) {
      guard (1...8).contains(warps), [32, 64, 128].contains(keys) else {
        throw QuantError(
          .invalidArgument, "attention tile", "\(warps) warps and \(keys) keys",
          remedy: "use 1 to 8 warps and 32, 64 or 128 keys")
      }
      self.init(unchecked: warps, keys)
    }

    init(unchecked warps: Int, _ keys: Int) {
      self.warps = warps
      self.keys = keys
    }

    /// Query rows.
    public var rows: Int { 32 * warps }
  }

  /// What can be chosen.
  public struct Options: Sendable, Hashable {
    /// The tile; nil for the one of the device's generation and the head's width.
    public var tile: Tile?
    /// The order of operands in shared memory.
    public var order = OperandOrder.swizzled
    /// Volta: how quad-pairs stand.
    public var quadPairs = QuadPairs.square
    /// Volta: the format of the scores' sums.
    public var scoreSums = ScoreSums.float32

    /// The defaults.
    public init() {}
  }

  /// What a warp keeps between barriers.
  public struct Registers: Sendable {
    /// `[row block][key block]`, two entries each; after the softmax P.
    var scores: [FloatAccumulator]
    var halfScores: [Registers4]
    /// `[row block][output block]`, two entries each.
    var output: [FloatAccumulator]
    /// `[row block][slot]`: running maxima, and each lane's share of the sums.
    var maxima: [Lanes<Float>]
    var sums: [Lanes<Float>]
    /// By how much the output shrinks before the next product.
    var factors: [Lanes<Float>]
  }

  enum Site: Int, CaseIterable {
    case queryLoad, queryStore, keyLoad, keyStore, valueLoad, valueStore
    case queryOperand, keyOperand, valueOperand, stage, stageLoad, output
  }

  public var sites: [String] {
    [
      "Q load", "Q store", "K load", "K store", "V load", "V store", "Q operand", "K operand",
      "V operand", "O stage", "O stage load", "O store",
    ]
  }

  /// The sizes.
  public let shape: DeviceAttentionShape
  /// What was chosen, the tile filled in.
  public let options: Options
  let tile: Tile
  let product: WarpProduct
  let buffers: AttentionBuffers
  let addresses: FlashAttentionAddresses
  let exchange: LaneExchange
  var repeatLimit: Int?
  var weighsRepeats = false

  public var name: String { product.family == .ampere ? "flash" : "volta" }
  public var blocks: Int { shape.heads * rowTiles }
  public var warpsPerBlock: Int { tile.warps }
  public var sharedBytesPerBlock: Int { addresses.sharedBytes }

  /// A kernel over the buffers.
  ///
  /// - Throws: ``QuantError`` when binary16 sums are asked for where the instruction has none, or the
  ///   tile takes more shared memory than any device has.
  init(
    _ shape: DeviceAttentionShape, _ buffers: AttentionBuffers, options: Options, isVolta: Bool
  ) throws(QuantError) {
    let product = WarpProduct(
      family: !isVolta ? .ampere : options.quadPairs == .square ? .square : .rows)
    guard isVolta || options.scoreSums == .float32 else {
      throw QuantError(
        .unsupported, "flash attention", "binary16 sums of scores",
        remedy: "they are Volta's; use float32")
    }
    self.shape = shape
    self.buffers = buffers
    self.product = product
    let tile = options.tile ?? Self.standardTile(width: shape.tileWidth, isVolta: isVolta)
    self.tile = tile
    var filled = options
    filled.tile = tile
    self.options = filled
    addresses = try FlashAttentionAddresses(shape, tile, product, options.order)
    exchange = product.leftExchange(halfSums: options.scoreSums == .float16)
  }

  /// 128 rows; keys as many as leave a thread's registers room for the output: on Volta 64 at a width
  /// of 64 and 32 at 128, on Ampere FlashAttention-2's own 128 and 64.
  static func standardTile(width: Int, isVolta: Bool) -> Tile {
    Tile(unchecked: 4, isVolta ? (width == 64 ? 64 : 32) : (width == 64 ? 128 : 64))
  }

  /// The output after a full run: `[queryLength · heads · headDimension]` binary16 bits.
  public var output: [UInt16] { buffers.result(shape) }

  var isHalf: Bool { options.scoreSums == .float16 }
  var rowBlocks: Int { 32 / product.rows }
  var keyBlocks: Int { tile.keys / product.columns }
  var outputBlocks: Int { shape.tileWidth / product.columns }
  /// Rows that a lane has of a row block, while they are scores.
  var slots: Int { isHalf ? 1 : 2 }

  public func makeRegisters() -> Registers {
    let rows = rowBlocks * slots
    return Registers(
      scores: Array(repeating: FloatAccumulator(), count: 2 * rowBlocks * keyBlocks),
      halfScores: Array(repeating: Registers4(), count: isHalf ? rowBlocks * keyBlocks : 0),
      output: Array(repeating: FloatAccumulator(), count: 2 * rowBlocks * outputBlocks),
      maxima: Array(repeating: Lanes(repeating: -.infinity), count: rows),
      sums: Array(repeating: Lanes(), count: rows),
      factors: Array(repeating: Lanes(repeating: 1), count: rows))
  }

  // MARK: The grid

  var rowTiles: Int { (shape.queryLength + tile.rows - 1) / tile.rows }

  /// Key tiles that a tile of rows sees.
  struct KeyTiles: Hashable {
    /// Rows that there are.
    let rows: Int
    /// Tiles of which some row sees something: the first ones.
    let visible: Int
    /// Tiles of which every row sees everything: the first ones of those.
    let full: Int

    var masked: Int { visible - full }
  }

  func keyTiles(rowTile: Int) -> KeyTiles {
    let first = rowTile * tile.rows
    let rows = min(tile.rows, shape.queryLength - first)
    let visible = (shape.visibleKeys(row: first + rows - 1) + tile.keys - 1) / tile.keys
    return KeyTiles(
      rows: rows, visible: visible,
      full: min(visible, shape.visibleKeys(row: first) / tile.keys))
  }

  /// Where a block stands: heads of one tile of rows side by side, the longest tiles first.
  struct Place {
    let head: Int
    let firstRow: Int
    let tiles: KeyTiles
    /// Full tiles that are run, the last ones.
    let fullRun: Int
  }

  func place(_ block: Int) -> Place {
    let rowTile = rowTiles - 1 - block / shape.heads
    let tiles = keyTiles(rowTile: rowTile)
    return Place(
      head: block % shape.heads, firstRow: rowTile * tile.rows, tiles: tiles,
      fullRun: min(tiles.full, repeatLimit ?? .max))
  }

  /// Blocks differ by their rows, their numbers of full and masked tiles, the keys of the last tile,
  /// and where in a 128-byte line their heads start.
  public var blockClasses: [BlockClass] {
    struct Key: Hashable {
      let rows: Int
      let masked: Int
      let full: Int
      let lastKeys: Int
      let lines: [Int]
    }
    let heads = HeadClass.all(shape)
    var tally = ClassTally<Key>()
    for rowTile in 0..<rowTiles {
      let tiles = keyTiles(rowTile: rowTile)
      let weight = weighsRepeats ? max(0, tiles.full - 2) : 1
      for head in heads {
        tally.add(
          Key(
            rows: tiles.rows, masked: tiles.masked, full: min(tiles.full, 2),
            lastKeys: min(tile.keys, shape.keyLength - (tiles.visible - 1) * tile.keys),
            lines: head.lines),
          representative: (rowTiles - 1 - rowTile) * shape.heads + head.representative,
          count: weight * head.count)
      }
    }
    return tally.list
  }
}

/// Heads that start at the same place of a 128-byte line, queries' and keys' alike.
struct HeadClass: Sendable {
  let lines: [Int]
  let representative: Int
  var count: Int

  static func all(_ shape: DeviceAttentionShape) -> [HeadClass] {
    var classes: [HeadClass] = []
    var known: [[Int]: Int] = [:]
    for head in 0..<shape.heads {
      let lines = [head, head / shape.group].map { $0 * shape.pitch * 2 % 128 }
      if let index = known[lines] {
        classes[index].count += 1
      } else {
        known[lines] = classes.count
        classes.append(HeadClass(lines: lines, representative: head, count: 1))
      }
    }
    return classes
  }
}
