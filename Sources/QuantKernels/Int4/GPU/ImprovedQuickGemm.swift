import DeviceModel

/// Our own int4 product on simulated warps, QUICK's idea without what its kernels leave on the table:
///
/// - the tile of activations is swizzled, so that its stores have no bank conflict;
/// - each word is dequantized once for up to 64 rows;
/// - words stand in Marlin's sequence, so that a warp's load covers 16 whole sectors;
/// - scales and zero points stand once, one 16-byte and one 4-byte load a lane, and are reloaded only
///   when the group changes;
/// - activations come by `cp.async` in a ring of shared buffers, words by loads that run as many
///   steps ahead, and one barrier a step suffices.
///
/// The sums are those of QUICK, in the same order: its results are equal bit for bit.
public struct ImprovedQuickGemm: WarpKernel {
  /// What a warp keeps: sums, and the operands of the steps that are under way.
  public struct Registers: Sendable {
    var sums: [FloatAccumulator]
    /// The A operand, a fragment for every 16 rows.
    var left: [Registers4]
    /// Codes, `[stage][k16]`.
    var words: [Registers4]
    /// Scales of eight n-tiles, one record a stage.
    var scales: [Registers4]
    var zeros: [Lanes<UInt32>]
    /// Of the group at work.
    var tiles = TileScales()
  }

  /// The activations, `[M × K]`.
  public let activations: HalfActivations
  /// The weights, in ``Int4DeviceWeights/Order/quickImproved``.
  public let weights: Int4DeviceWeights
  /// The result, binary16 `[splits × M, paddedRows]`.
  public let partials: PartialSums
  /// Rows of a block's tile: 16, 32 or 64.
  public let tileRows: Int
  /// Shared buffers in the ring, 2…4.
  public let stages: Int
  let grid: SplitKGrid
  /// One shared tile of activations: rows of 64 bytes, 16-byte columns swizzled.
  public let activationTile: Swizzled<RowMajor>

  private let activationOffsets: ActivationOffsets
  private let codeOffsets: [LaneOffsets]
  private let zeroOffsets: [LaneOffsets]
  private let scaleOffsets: [LaneOffsets]
  private let activationStores: [[Lanes<UInt32>]]
  private let activationLoads: [[Lanes<UInt32>]]

  /// Accesses of the kernel's text, in order.
  enum Site: Int, CaseIterable {
    case clearA, copyA, loadZeros, loadScales, loadLowB, loadHighB, matrixA, storeC
    var name: String {
      switch self {
      case .clearA: "clear A"
      case .copyA: "copy A"
      case .loadZeros: "load zero points"
      case .loadScales: "load scales"
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
  ///   - tileRows: rows of a block's tile, 16, 32 or 64; nil for the smallest that holds M, 64 at
  ///     most.
  ///   - stages: shared buffers in the ring, 2…4.
  ///   - splits: blocks that share an output along K, 1…1024; nil for QUICK's rule.
  ///   - activations: `[M × K]` in binary16.
  ///   - weights: in this kernel's order.
  /// - Throws: ``QuantError`` when the weights are in another order, the operands' inputs differ, a
  ///   parameter is out of range, or the result passes 4 GiB.
  public init(
    _ activations: HalfActivations, _ weights: Int4DeviceWeights, tileRows: Int? = nil,
    stages: Int = 4, splits: Int? = nil
  ) throws(QuantError) {
    let subject = "improved QUICK GEMM"
    try weights.require(.quickImproved, activations, kernel: subject)
    let tileRows = tileRows ?? QuickGemm.Tile.published(rows: activations.rows).rows
    guard [16, 32, 64].contains(tileRows), (2...4).contains(stages) else {
      throw QuantError(
        .invalidArgument, subject, "a tile of \(tileRows) rows in \(stages) stages",
        remedy: "use 16, 32 or 64 rows and 2…4 stages")
    }
    let splits = splits ?? (weights.rows <= weights.columns ? 8 : 2)
    self.activations = activations
    self.weights = weights
    self.tileRows = tileRows
    self.stages = stages
    grid = try SplitKGrid(
      rows: activations.rows, tileRows: tileRows, outputs: weights.paddedRows,
      inputs: weights.paddedColumns, splits: splits, kernel: subject)
    partials = try PartialSums(
      rows: activations.rows, outputs: weights.rows, paddedOutputs: weights.paddedRows,
      splits: splits)
    do {
      activationTile = try Swizzled(
        RowMajor(rows: tileRows, columns: 32, elementBits: 16), Swizzle(2, 3, 3))
    } catch {
      throw QuantError(.invalidArgument, subject, error.problem, remedy: "report this")
    }
    activationOffsets = ActivationOffsets(activations.layout)
    activationStores = TileAddresses.activationStores(activationTile)
    activationLoads = TileAddresses.activationLoads(activationTile)
    let fragment = Fragment.mmaM16N8K16B
    codeOffsets = (0..<2).map { warp in
      LaneOffsets(weights.codes, stepColumns: 32, accesses: 2) { half, lane in
        let at = fragment.coordinate(lane: lane, element: 0)
        return (64 * warp + at.column, 16 * half + at.row)
      }
    }
    func records(_ layout: InterleavedLayout) -> [LaneOffsets] {
      (0..<2).map { warp in
        LaneOffsets(layout, stepColumns: 1, accesses: 1) { _, lane in
          (64 * warp + fragment.coordinate(lane: lane, element: 0).column, 0)
        }
      }
    }
    zeroOffsets = records(weights.zeroPoints)
    scaleOffsets = records(weights.scales)
  }

  public var name: String { "improved QUICK GEMM, \(tileRows) rows" }
  public var sites: [String] { Site.allCases.map(\.name) }
  public var blocks: Int { grid.blocks }
  public var warpsPerBlock: Int { 2 }
  public var sharedBytesPerBlock: Int { activationTile.byteCount * stages }
  public var blockClasses: [BlockClass] { grid.blockClasses(groupSteps: groupSteps) }
  public func makeRegisters() -> Registers {
    Registers(
      sums: Array(repeating: FloatAccumulator(), count: tileRows / 2),
      left: Array(repeating: Registers4(), count: tileRows / 16),
      words: Array(repeating: Registers4(), count: 2 * stages),
      scales: Array(repeating: Registers4(), count: stages),
      zeros: Array(repeating: Lanes<UInt32>(), count: stages))
  }

  /// Steps that share scales.
  private var groupSteps: Int { max(1, weights.groupSize / SplitKGrid.inputs) }

  public func run(_ block: inout Block<Registers>, pass: Int) throws(DeviceError) {
    let place = grid.place(block.index)
    let rounds = grid.steps(of: place.split)
    let ahead = stages - 1
    if rounds > 0 {
      try block.eachWarp { (warp, registers) throws(DeviceError) in
        try clear(&warp, place)
        for round in 0..<ahead { try fetch(&warp, &registers, place, round: round, of: rounds) }
        warp.waitForCopies(pending: ahead - 1)
      }
    }
    for round in 0..<rounds {
      // The buffer that is filled here was read before the last barrier.
      try block.eachWarp(barrier: round + 1 < rounds) { (warp, registers) throws(DeviceError) in
        try fetch(&warp, &registers, place, round: round + ahead, of: rounds)
        try multiply(&warp, &registers, place, round: round)
        warp.waitForCopies(pending: ahead - 1)
      }
    }
    try block.eachWarp(barrier: false) { (warp, registers) throws(DeviceError) in
      for rowBlock in 0..<tileRows / 16 {
        try partials.storePairs(
          registers.sums[8 * rowBlock..<8 * rowBlock + 8], &warp, place, rowBlock: rowBlock,
          site: Site.storeC.rawValue)
      }
    }
  }

  private func buffer(_ round: Int) -> Int {
    round % stages * activationTile.byteCount
  }

  private func step(_ round: Int, _ place: SplitKGrid.Place) -> Int {
    round * grid.splits + place.split
  }

  /// Whether a round's scales are not those of the round before.
  private func changesGroup(_ round: Int, _ place: SplitKGrid.Place) -> Bool {
    round == 0 || step(round, place) / groupSteps != step(round - 1, place) / groupSteps
  }

  /// Rows past M are zero in every buffer of the ring.
  private func clear(_ warp: inout Warp, _ place: SplitKGrid.Place) throws(DeviceError) {
    guard place.rows < tileRows else { return }
    for stage in 0..<stages {
      for rowBlock in 0..<tileRows / 16 {
        let mask = ActivationOffsets.mask(rows: place.rows, block: rowBlock, warp: warp.index)
        try warp.storeShared(
          Registers4(), at: activationStores[rowBlock][warp.index].moved(by: buffer(stage)),
          mask: LaneMask.all.subtracting(mask), site: Site.clearA.rawValue)
      }
    }
  }

  /// Starts the loads of a round, if there is one.
  private func fetch(
    _ warp: inout Warp, _ registers: inout Registers, _ place: SplitKGrid.Place, round: Int,
    of rounds: Int
  ) throws(DeviceError) {
    // A group is committed either way, so that waiting can count groups.
    defer { warp.commitCopies() }
    guard round < rounds else { return }
    let number = warp.index
    let step = step(round, place)
    let stage = round % stages
    for rowBlock in 0..<tileRows / 16 {
      let mask = ActivationOffsets.mask(rows: place.rows, block: rowBlock, warp: number)
      guard mask.rawValue != 0 else { continue }
      try warp.copyAsync(
        bytes: 16, from: activations.buffer,
        at: activationOffsets(warp: number, row: place.row + 16 * rowBlock, step: step),
        toShared: activationStores[rowBlock][number].moved(by: buffer(stage)), mask: mask,
        site: Site.copyA.rawValue)
    }
    let codeBase = codeOffsets[number].base(tile: place.outputTile, step: step)
    for half in 0..<2 {
      registers.words[2 * stage + half] = try warp.loadGlobal(
        from: weights.codeBuffer, at: codeOffsets[number][half, codeBase],
        site: (half == 0 ? Site.loadLowB : .loadHighB).rawValue)
    }
    guard changesGroup(round, place) else { return }
    let group = step / groupSteps
    registers.zeros[stage] = try warp.loadGlobal(
      from: weights.zeroPointBuffer,
      at: zeroOffsets[number][0, zeroOffsets[number].base(tile: place.outputTile, step: group)],
      site: Site.loadZeros.rawValue)
    registers.scales[stage] = try warp.loadGlobal(
      from: weights.scaleBuffer,
      at: scaleOffsets[number][0, scaleOffsets[number].base(tile: place.outputTile, step: group)],
      site: Site.loadScales.rawValue)
  }

  private func multiply(
    _ warp: inout Warp, _ registers: inout Registers, _ place: SplitKGrid.Place, round: Int
  ) throws(DeviceError) {
    let stage = round % stages
    if changesGroup(round, place) {
      // A word's pairs are tiles (0, 4), (1, 5), …; a record of scales (0, 1), (2, 3), ….
      let zeros = RegisterDequantization.biased(registers.zeros[stage])
      let scales = registers.scales[stage]
      registers.tiles.set(
        zeros: (
          Registers4(
            Self.low(zeros.r0), Self.low(zeros.r1), Self.low(zeros.r2), Self.low(zeros.r3)),
          Registers4(
            Self.high(zeros.r0), Self.high(zeros.r1), Self.high(zeros.r2), Self.high(zeros.r3))
        ),
        scales: (
          Registers4(
            Self.low(scales.r0), Self.high(scales.r0), Self.low(scales.r1), Self.high(scales.r1)),
          Registers4(
            Self.low(scales.r2), Self.high(scales.r2), Self.low(scales.r3), Self.high(scales.r3))
        ))
      RegisterDequantization.count(&warp, words: 0, zeroWords: 1, normalizes: false)
      warp.count(.integer, 16)
    }
    let base = buffer(round)
    let rowBlocks = tileRows / 16
    for half in 0..<2 {
      for rowBlock in 0..<rowBlocks {
        registers.left[rowBlock] = try load(&warp, rowBlock, half, base)
      }
      for pair in 0..<4 {
        let b = registers.tiles.weights(registers.words[2 * stage + half][pair], pair: pair)
        for rowBlock in 0..<rowBlocks {
          try warp.multiply(
            registers.left[rowBlock], b, addingTo: &registers.sums, at: 8 * rowBlock + 2 * pair)
        }
      }
    }
    RegisterDequantization.count(&warp, words: 8, zeroWords: 0, normalizes: false)
  }

  @inline(__always)
  private func load(
    _ warp: inout Warp, _ rowBlock: Int, _ half: Int, _ base: Int
  ) throws(DeviceError) -> Registers4 {
    try warp.loadMatrix(
      .x4, at: activationLoads[rowBlock][half].moved(by: base), site: Site.matrixA.rawValue)
  }

  /// `prmt`: the low half twice.
  @inline(__always)
  private static func low(_ pairs: Lanes<UInt32>) -> Lanes<UInt32> {
    pairs.mapWords { $0 & 0xFFFF | $0 << 16 }
  }

  /// `prmt`: the high half twice.
  @inline(__always)
  private static func high(_ pairs: Lanes<UInt32>) -> Lanes<UInt32> {
    pairs.mapWords { $0 >> 16 | $0 & 0xFFFF_0000 }
  }
}
