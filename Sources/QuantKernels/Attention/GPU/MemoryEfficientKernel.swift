import DeviceModel

/// The memory-efficient attention of xformers and PyTorch as CUTLASS builds it for Volta: FastAttention's
/// baseline there.
///
/// Blocks of 64 queries by 64 keys for heads up to 64, of 32 by 128 up to 128; four warps of 32 × 32. For
/// every block of keys: scores as a product in slices of 32 of the width, queries and keys both fetched
/// anew slice by slice, two slices in shared memory, one barrier a slice; maxima of rows meet in shared
/// memory; P goes to shared memory as the left operand of the second product; values come in slices of 32
/// keys, again with a barrier each. Operands lie in CUTLASS' own orders (`CrosswiseTile`,
/// `CongruousTile`), P too, stored in pairs of halves from the accumulators.
///
/// Kinder than the original in three places: warps write their rows' maxima side by side where it uses
/// atomics, sums stay in registers until the end, and values that are not finite and hidden do not leak
/// (which costs nothing here; ``FlashAttentionKernel`` counts it for itself).
///
/// Source: pytorch/pytorch `aten/src/ATen/native/transformers/cuda/mem_eff_attention/kernel_forward.h`
/// and `gemm/mma_from_smem.h`; retold, not copied.
public struct MemoryEfficientKernel: RepeatingKernel {
  /// What a warp keeps between barriers: 32 × 32 of scores and of output, four blocks of 16 × 16, two
  /// entries each.
  public struct Registers: Sendable {
    var scores = [FloatAccumulator](repeating: FloatAccumulator(), count: 8)
    var output = [FloatAccumulator](repeating: FloatAccumulator(), count: 8)
    /// `[row block · 2 + slot]`.
    var maxima = [Lanes<Float>](repeating: Lanes(repeating: -.infinity), count: 4)
    var sums = [Lanes<Float>](repeating: Lanes(), count: 4)
    var own = [Lanes<Float>](repeating: Lanes(), count: 4)
    var left: [Registers4] = []
    var right: [Registers4] = []
  }

  enum Site: Int, CaseIterable {
    case queryLoad, queryStore, keyLoad, keyStore, queryOperand, keyOperand
    case maximum, maximumLoad, probabilities, probabilityOperand
    case valueLoad, valueStore, valueOperand, stage, stageLoad, output
  }

  public var sites: [String] {
    [
      "Q load", "Q store", "K load", "K store", "Q operand", "K operand", "row maximum",
      "row maximum load", "P store", "P operand", "V load", "V store", "V operand", "O stage",
      "O stage load", "O store",
    ]
  }

  /// The sizes.
  public let shape: DeviceAttentionShape
  let buffers: AttentionBuffers
  let addresses: MemoryEfficientAddresses
  var repeatLimit: Int?
  var weighsRepeats = false

  public var name: String { "xformers" }
  public var blocks: Int { shape.heads * rowTiles }
  public var warpsPerBlock: Int { 4 }
  public var sharedBytesPerBlock: Int { addresses.sharedBytes }

  init(_ shape: DeviceAttentionShape, _ buffers: AttentionBuffers) throws(QuantError) {
    self.shape = shape
    self.buffers = buffers
    addresses = try MemoryEfficientAddresses(shape)
  }

  /// The output after a full run: `[queryLength · heads · headDimension]` binary16 bits.
  public var output: [UInt16] { buffers.result(shape) }

  public func makeRegisters() -> Registers { Registers() }

  /// Query rows and keys of a block.
  var rows: Int { addresses.rows }
  var keys: Int { addresses.keys }
  var rowTiles: Int { (shape.queryLength + rows - 1) / rows }

  struct Place {
    let head: Int
    let firstRow: Int
    /// Rows that there are.
    let rows: Int
    /// Blocks of keys of which some row sees something, and of which all rows see everything.
    let visible: Int
    let full: Int
    /// Blocks that are run: the full ones up to the limit, then the masked ones.
    var order: [Int]
  }

  func keyBlocks(rowTile: Int) -> (visible: Int, full: Int) {
    let first = rowTile * rows
    let last = min(first + rows, shape.queryLength) - 1
    let visible = (shape.visibleKeys(row: last) + keys - 1) / keys
    return (visible, min(visible, shape.visibleKeys(row: first) / keys))
  }

  func place(_ block: Int) -> Place {
    // As the original: the tile of rows is the fastest index, heads the next.
    let rowTile = block % rowTiles
    let (visible, full) = keyBlocks(rowTile: rowTile)
    return Place(
      head: block / rowTiles, firstRow: rowTile * rows,
      rows: min(rows, shape.queryLength - rowTile * rows), visible: visible, full: full,
      order: Array(0..<min(full, repeatLimit ?? .max)) + Array(full..<visible))
  }

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
      let (visible, full) = keyBlocks(rowTile: rowTile)
      let weight = weighsRepeats ? max(0, full - 2) : 1
      for head in heads {
        tally.add(
          Key(
            rows: min(rows, shape.queryLength - rowTile * rows), masked: visible - full,
            full: min(full, 2), lastKeys: min(keys, shape.keyLength - (visible - 1) * keys),
            lines: head.lines),
          representative: head.representative * rowTiles + rowTile, count: weight * head.count)
      }
    }
    return tally.list
  }
}

/// Where CUTLASS' 32 × 32 warp tile has its rows and columns: quad-pair bit 0 is a group of rows, bit 1
/// of columns.
enum CutlassVoltaTile {
  static func seat(_ lane: Int) -> (t: Int, row: Int, column: Int) {
    (lane & 3 | (lane >> 4) << 2, lane >> 2 & 1, lane >> 3 & 1)
  }

  /// Row or column `index` of an instruction's eight, in block 0 or 1 and a group.
  static func spread(_ index: Int, block: Int, group: Int) -> Int {
    index & 3 | block << 2 | group << 3 | (index >> 2) << 4
  }

  static func place(lane: Int, element: Int, rowBlock: Int, columnBlock: Int)
    -> (row: Int, column: Int)
  {
    let at = Fragment.voltaCFloat.coordinate(lane: lane, element: element)
    let seat = seat(lane)
    return (
      spread(at.row, block: rowBlock, group: seat.row),
      spread(at.column, block: columnBlock, group: seat.column)
    )
  }

  /// Distances over which a row's 32 columns are gathered.
  static let rowDistances = [2, 8]
}
