import DeviceModel

/// QUICK's int4 product on simulated warps: `partials[z] = A · Wᵀ` over split z of K, 16, 32 or 64 ×
/// 128 outputs a block of two warps, 32 inputs a step.
///
/// A lane's words come by two 16-byte loads straight into the registers that the tensor core reads;
/// no weight passes through shared memory. Faithful to the published kernels: activations stored at
/// a pitch of 40 halves with its two-way conflict, scales and zero points stored twice and loaded
/// every step, one buffer, two barriers a step, and in the 64-row kernel each word loaded and
/// dequantized twice, once for every 32 rows.
///
/// One thing differs. The published kernels leave the tile's rows past M undefined and never use
/// what comes of them; here they are zeroed once, before the first step, so that a run repeats.
///
/// Source: SqueezeBits/QUICK `csrc/gemm_cuda_quick.cu`.
public struct QuickGemm: WarpKernel {
  /// The published kernels.
  public enum Tile: Sendable, Hashable, CaseIterable {
    /// One row of activations, stored 16 times; one row written.
    case single
    /// 16 × 128 × 32.
    case rows16
    /// 32 × 128 × 32.
    case rows32
    /// 64 × 128 × 32.
    case rows64

    /// The kernel that QUICK launches for M rows.
    public static func published(rows: Int) -> Tile {
      switch rows {
      case ...1: .single
      case ...16: .rows16
      case ...32: .rows32
      default: .rows64
      }
    }

    /// Rows of the tile of activations.
    public var rows: Int {
      switch self {
      case .single, .rows16: 16
      case .rows32: 32
      case .rows64: 64
      }
    }
  }

  /// A warp's sums, eight n-tiles for every 16 rows.
  public struct Registers: Sendable {
    var sums: [FloatAccumulator]
    /// Scales and zero points of the step.
    var tiles = TileScales()
  }

  /// The activations, `[M × K]`.
  public let activations: HalfActivations
  /// The weights, in QUICK's order.
  public let weights: Int4DeviceWeights
  /// The result, binary16 `[splits × M, paddedRows]`.
  public let partials: PartialSums
  /// Which of the published kernels this is.
  public let tile: Tile
  let grid: SplitKGrid
  /// The shared tile of activations: rows of 32 + 8 halves.
  public let activationTile: RowMajor

  private let activationOffsets: ActivationOffsets
  private let codeOffsets: [LaneOffsets]
  private let zeroOffsets: [LaneOffsets]
  private let scaleOffsets: [LaneOffsets]
  private let activationStores: [[Lanes<UInt32>]]
  private let activationLoads: [[Lanes<UInt32>]]

  /// Accesses of the kernel's text, in order.
  enum Site: Int, CaseIterable {
    case clearA, loadA, storeA, loadZeros, loadLowScales, loadHighScales, loadLowB, loadHighB
    case matrixA, storeC
    var name: String {
      switch self {
      case .clearA: "clear A"
      case .loadA: "load A"
      case .storeA: "store A"
      case .loadZeros: "load zero points"
      case .loadLowScales: "load scales, first half"
      case .loadHighScales: "load scales, second half"
      case .loadLowB: "load B, k 0–15"
      case .loadHighB: "load B, k 16–31"
      case .matrixA: "ldmatrix A"
      case .storeC: "store C"
      }
    }
  }

  /// A launch.
  ///
  /// - Parameters:
  ///   - tile: which of the published kernels; nil for the one that QUICK launches for M rows.
  ///   - splits: blocks that share an output along K, 1…1024; nil for QUICK's rule, 8 when N ≤ K and
  ///     2 otherwise (16 on an A100).
  ///   - activations: `[M × K]` in binary16.
  ///   - weights: in this kernel's order.
  /// - Throws: ``QuantError`` when the weights are not in QUICK's order, the operands' inputs
  ///   differ, the one-row kernel gets more rows, the splits are out of range, or the result passes
  ///   4 GiB.
  public init(
    _ activations: HalfActivations, _ weights: Int4DeviceWeights, tile: Tile? = nil,
    splits: Int? = nil
  ) throws(QuantError) {
    try weights.require(.quick, activations, kernel: "QUICK GEMM")
    let tile = tile ?? .published(rows: activations.rows)
    guard tile != .single || activations.rows == 1 else {
      throw QuantError(
        .invalidArgument, "QUICK GEMM", "\(activations.rows) rows for the kernel of one row",
        remedy: "use another tile")
    }
    let splits = splits ?? (weights.rows <= weights.columns ? 8 : 2)
    self.activations = activations
    self.weights = weights
    self.tile = tile
    grid = try SplitKGrid(
      rows: activations.rows, tileRows: tile.rows, outputs: weights.paddedRows,
      inputs: weights.paddedColumns, splits: splits, kernel: "QUICK GEMM")
    partials = try PartialSums(
      rows: activations.rows, outputs: weights.rows, paddedOutputs: weights.paddedRows,
      splits: splits)
    do {
      activationTile = try RowMajor(rows: tile.rows, columns: 32, elementBits: 16, pitch: 40)
    } catch {
      throw QuantError(.invalidArgument, "QUICK GEMM", error.problem, remedy: "report this")
    }
    activationOffsets = ActivationOffsets(
      activations.layout, replicatesRow: tile == .single)
    activationStores = TileAddresses.activationStores(activationTile)
    activationLoads = TileAddresses.activationLoads(activationTile)
    // A lane's four words of a k16 step begin with its first weight of the warp's first n-tile.
    let fragment = Fragment.mmaM16N8K16B
    codeOffsets = (0..<2).map { warp in
      LaneOffsets(weights.codes, stepColumns: 32, accesses: 2) { half, lane in
        let at = fragment.coordinate(lane: lane, element: 0)
        return (64 * warp + at.column, 16 * half + at.row)
      }
    }
    // A quad's record: the eight n-tiles of its column.
    zeroOffsets = (0..<2).map { warp in
      LaneOffsets(weights.zeroPoints, stepColumns: 1, accesses: 1) { _, lane in
        (64 * warp + fragment.coordinate(lane: lane, element: 0).column, 0)
      }
    }
    scaleOffsets = (0..<2).map { warp in
      LaneOffsets(weights.scales, stepColumns: 1, accesses: 2) { access, lane in
        (64 * warp + 32 * access + fragment.coordinate(lane: lane, element: 0).column, 0)
      }
    }
  }

  public var name: String {
    tile == .single ? "QUICK GEMM, 1 row" : "QUICK GEMM, \(tile.rows) rows"
  }
  public var sites: [String] { Site.allCases.map(\.name) }
  public var blocks: Int { grid.blocks }
  public var warpsPerBlock: Int { 2 }
  public var sharedBytesPerBlock: Int { activationTile.byteCount }
  public var blockClasses: [BlockClass] { grid.blockClasses() }
  public func makeRegisters() -> Registers {
    Registers(sums: Array(repeating: FloatAccumulator(), count: tile.rows / 2))
  }

  public func run(_ block: inout Block<Registers>, pass: Int) throws(DeviceError) {
    let place = grid.place(block.index)
    if place.rows < tile.rows, tile != .single {
      try block.eachWarp(barrier: false) { (warp, _) throws(DeviceError) in
        for rowBlock in 0..<tile.rows / 16 {
          let mask = mask(place, rowBlock: rowBlock, warp: warp.index)
          try warp.storeShared(
            Registers4(), at: activationStores[rowBlock][warp.index],
            mask: LaneMask.all.subtracting(mask), site: Site.clearA.rawValue)
        }
      }
    }
    for round in 0..<grid.steps(of: place.split) {
      let step = round * grid.splits + place.split
      try block.eachWarp { (warp, _) throws(DeviceError) in
        try fill(&warp, place, step: step)
      }
      try block.eachWarp { (warp, registers) throws(DeviceError) in
        try multiply(&warp, &registers, place, step: step)
      }
    }
    try block.eachWarp(barrier: false) { (warp, registers) throws(DeviceError) in
      for rowBlock in 0..<tile.rows / 16 {
        try partials.storePairs(
          registers.sums[8 * rowBlock..<8 * rowBlock + 8], &warp, place, rowBlock: rowBlock,
          onlyRow: tile == .single, site: Site.storeC.rawValue)
      }
    }
  }

  private func mask(_ place: SplitKGrid.Place, rowBlock: Int, warp: Int) -> LaneMask {
    tile == .single ? .all : ActivationOffsets.mask(rows: place.rows, block: rowBlock, warp: warp)
  }

  private func fill(
    _ warp: inout Warp, _ place: SplitKGrid.Place, step: Int
  ) throws(DeviceError) {
    let number = warp.index
    for rowBlock in 0..<tile.rows / 16 {
      let mask = mask(place, rowBlock: rowBlock, warp: number)
      let a: Registers4 = try warp.loadGlobal(
        from: activations.buffer,
        at: activationOffsets(warp: number, row: place.row + 16 * rowBlock, step: step),
        mask: mask, site: Site.loadA.rawValue)
      try warp.storeShared(
        a, at: activationStores[rowBlock][number], mask: mask, site: Site.storeA.rawValue)
    }
  }

  private func multiply(
    _ warp: inout Warp, _ registers: inout Registers, _ place: SplitKGrid.Place, step: Int
  ) throws(DeviceError) {
    let number = warp.index
    let group = step * SplitKGrid.inputs / weights.groupSize
    let zeroWords: Registers2 = try warp.loadGlobal(
      from: weights.zeroPointBuffer,
      at: zeroOffsets[number][0, zeroOffsets[number].base(tile: place.outputTile, step: group)],
      site: Site.loadZeros.rawValue)
    let scaleBase = scaleOffsets[number].base(tile: place.outputTile, step: group)
    let scales = (
      try warp.loadGlobal(
        Registers4.self, from: weights.scaleBuffer, at: scaleOffsets[number][0, scaleBase],
        site: Site.loadLowScales.rawValue),
      try warp.loadGlobal(
        Registers4.self, from: weights.scaleBuffer, at: scaleOffsets[number][1, scaleBase],
        site: Site.loadHighScales.rawValue)
    )
    // A word of zero points holds four n-tiles twice, so that each register is a pair of equals.
    let zeros = (
      RegisterDequantization.biased(zeroWords.r0), RegisterDequantization.biased(zeroWords.r1)
    )
    registers.tiles.set(zeros: zeros, scales: scales)
    RegisterDequantization.count(&warp, words: 0, zeroWords: 2, normalizes: false)
    let codeBase = codeOffsets[number].base(tile: place.outputTile, step: step)
    // The 32-row body, once or twice; with 16 rows half of it.
    let bodyBlocks = min(2, tile.rows / 16)
    for body in stride(from: 0, to: tile.rows / 16, by: bodyBlocks) {
      for half in 0..<2 {
        let words: Registers4 = try warp.loadGlobal(
          from: weights.codeBuffer, at: codeOffsets[number][half, codeBase],
          site: (half == 0 ? Site.loadLowB : .loadHighB).rawValue)
        let a0 = try warp.loadMatrix(
          .x4, at: activationLoads[body][half], site: Site.matrixA.rawValue)
        var a1 = Registers4()
        if bodyBlocks == 2 {
          a1 = try warp.loadMatrix(
            .x4, at: activationLoads[body + 1][half], site: Site.matrixA.rawValue)
        }
        for pair in 0..<4 {
          let b = registers.tiles.weights(words[pair], pair: pair)
          let sum = 8 * body + 2 * pair
          try warp.multiply(a0, b, addingTo: &registers.sums, at: sum)
          if bodyBlocks == 2 {
            try warp.multiply(a1, b, addingTo: &registers.sums, at: sum + 8)
          }
        }
      }
      RegisterDequantization.count(&warp, words: 8, zeroWords: 0, normalizes: false)
    }
  }
}
