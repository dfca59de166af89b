import DeviceModel

/// AutoAWQ's int4 product on simulated warps: `partials[z] = A · Wᵀ` over split z of K, 16 × 128
/// outputs a block of two warps, 32 inputs a step.
///
/// Every step a warp dequantizes words in registers, writes the halves back to shared memory and
/// reads them as tensor-core operands: what QUICK does without. Rows past M are neither read nor
/// written; their part of the tile is stored as zeros.
///
/// Source: casper-hansen/AutoAWQ_kernels `awq_ext/quantization/gemm_cuda_gen.cu`, kernel
/// m16n128k32.
public struct AWQGemm: WarpKernel {
  /// A warp's sums, one an n-tile of 8 columns.
  public struct Registers: Sendable {
    var sums = [FloatAccumulator](repeating: FloatAccumulator(), count: 8)
  }

  /// The activations, `[M × K]`.
  public let activations: HalfActivations
  /// The weights, in AWQ's order.
  public let weights: Int4DeviceWeights
  /// The result, binary16 `[splits × M, paddedRows]`.
  public let partials: PartialSums
  let grid: SplitKGrid
  /// The shared tile of activations: rows of 32 + 8 halves.
  public let activationTile: RowMajor
  /// The shared tile of dequantized weights: 32 inputs × 128 + 8 outputs.
  public let weightTile: RowMajor

  private let activationOffsets: ActivationOffsets
  private let codeOffsets: [LaneOffsets]
  private let zeroOffsets: LaneOffsets
  private let scaleOffsets: LaneOffsets
  private let activationStores: [[Lanes<UInt32>]]
  private let activationLoads: [[Lanes<UInt32>]]
  /// `[warp][store]`.
  private let weightStores: [[Lanes<UInt32>]]
  /// `[warp][k16][pair of n-tiles]`.
  private let weightLoads: [[[Lanes<UInt32>]]]

  /// Accesses of the kernel's text, in order.
  enum Site: Int, CaseIterable {
    case loadA, storeA, loadZeros, loadScales, loadB, storeB, matrixA, matrixB, storeC
    var name: String {
      switch self {
      case .loadA: "load A"
      case .storeA: "store A"
      case .loadZeros: "load zero points"
      case .loadScales: "load scales"
      case .loadB: "load B"
      case .storeB: "write back B"
      case .matrixA: "ldmatrix A"
      case .matrixB: "ldmatrix.trans B"
      case .storeC: "store C"
      }
    }
  }

  /// A launch.
  ///
  /// - Parameters:
  ///   - splits: blocks that share an output along K, 1…1024; AutoAWQ uses 8.
  ///   - activations: `[M × K]` in binary16.
  ///   - weights: in this kernel's order.
  /// - Throws: ``QuantError`` when the weights are not in AWQ's order, the operands' inputs differ,
  ///   the splits are out of range, or the result passes 4 GiB.
  public init(
    _ activations: HalfActivations, _ weights: Int4DeviceWeights, splits: Int = 8
  ) throws(QuantError) {
    try weights.require(.awq, activations, kernel: "AWQ GEMM")
    self.activations = activations
    self.weights = weights
    grid = try SplitKGrid(
      rows: activations.rows, tileRows: 16, outputs: weights.paddedRows,
      inputs: weights.paddedColumns, splits: splits, kernel: "AWQ GEMM")
    partials = try PartialSums(
      rows: activations.rows, outputs: weights.rows, paddedOutputs: weights.paddedRows,
      splits: splits)
    do {
      activationTile = try RowMajor(rows: 16, columns: 32, elementBits: 16, pitch: 40)
      weightTile = try RowMajor(rows: 32, columns: 128, elementBits: 16, pitch: 136)
    } catch {
      throw QuantError(.invalidArgument, "AWQ GEMM", error.problem, remedy: "report this")
    }
    activationOffsets = ActivationOffsets(activations.layout)
    activationStores = TileAddresses.activationStores(activationTile)
    activationLoads = TileAddresses.activationLoads(activationTile)
    // A lane's word: eight columns from 8·(lane mod 16), of input 4·access + 2·warp + lane div 16.
    func input(_ access: Int, _ warp: Int, _ lane: Int) -> Int { 4 * access + 2 * warp + lane / 16 }
    codeOffsets = (0..<2).map { warp in
      LaneOffsets(weights.codes, stepColumns: 32, accesses: 8) { access, lane in
        (8 * (lane % 16), input(access, warp, lane))
      }
    }
    zeroOffsets = LaneOffsets(weights.zeroPoints, stepColumns: 1, accesses: 1) { _, lane in
      (8 * (lane % 16), 0)
    }
    scaleOffsets = LaneOffsets(weights.scales, stepColumns: 1, accesses: 1) { _, lane in
      (8 * (lane % 16), 0)
    }
    // The tile of weights stands behind that of activations.
    let start = activationTile.byteCount
    let tile = weightTile
    weightStores = (0..<2).map { warp in
      (0..<8).map { access in
        TileAddresses.lanes(tile) { (input(access, warp, $0), 8 * ($0 % 16)) }.moved(by: start)
      }
    }
    weightLoads = (0..<2).map { warp in
      (0..<2).map { half in
        (0..<4).map { pair in
          TileAddresses.lanes(tile) {
            (16 * half + $0 % 16, 64 * warp + 16 * pair + 8 * ($0 / 16))
          }.moved(by: start)
        }
      }
    }
  }

  public var name: String { "AWQ GEMM" }
  public var sites: [String] { Site.allCases.map(\.name) }
  public var blocks: Int { grid.blocks }
  public var warpsPerBlock: Int { 2 }
  public var sharedBytesPerBlock: Int { activationTile.byteCount + weightTile.byteCount }
  public var blockClasses: [BlockClass] { grid.blockClasses() }
  public func makeRegisters() -> Registers { Registers() }

  public func run(_ block: inout Block<Registers>, pass: Int) throws(DeviceError) {
    let place = grid.place(block.index)
    for round in 0..<grid.steps(of: place.split) {
      let step = round * grid.splits + place.split
      try block.eachWarp { (warp, _) throws(DeviceError) in
        try fill(&warp, place, step: step)
      }
      try block.eachWarp { (warp, registers) throws(DeviceError) in
        try multiply(&warp, &registers)
      }
    }
    try block.eachWarp(barrier: false) { (warp, registers) throws(DeviceError) in
      try partials.storeHalves(
        registers.sums, &warp, place, rowBlock: 0, site: Site.storeC.rawValue)
    }
  }

  private func fill(
    _ warp: inout Warp, _ place: SplitKGrid.Place, step: Int
  ) throws(DeviceError) {
    let number = warp.index
    let mask = ActivationOffsets.mask(rows: place.rows, block: 0, warp: number)
    // Inactive lanes hold zeros, and every lane stores.
    let a: Registers4 = try warp.loadGlobal(
      from: activations.buffer, at: activationOffsets(warp: number, row: place.row, step: step),
      mask: mask, site: Site.loadA.rawValue)
    try warp.storeShared(a, at: activationStores[0][number], site: Site.storeA.rawValue)

    let group = step * SplitKGrid.inputs / weights.groupSize
    let zeroWords: Lanes<UInt32> = try warp.loadGlobal(
      from: weights.zeroPointBuffer,
      at: zeroOffsets[0, zeroOffsets.base(tile: place.outputTile, step: group)],
      site: Site.loadZeros.rawValue)
    let zeros = RegisterDequantization.normalized(zeroWords)
    let scales: Registers4 = try warp.loadGlobal(
      from: weights.scaleBuffer,
      at: scaleOffsets[0, scaleOffsets.base(tile: place.outputTile, step: group)],
      site: Site.loadScales.rawValue)
    let base = codeOffsets[number].base(tile: place.outputTile, step: step)
    for access in 0..<8 {
      let words: Lanes<UInt32> = try warp.loadGlobal(
        from: weights.codeBuffer, at: codeOffsets[number][access, base],
        site: Site.loadB.rawValue)
      let values = RegisterDequantization.awqWeights(words, zeros: zeros, scales: scales)
      try warp.storeShared(values, at: weightStores[number][access], site: Site.storeB.rawValue)
    }
    RegisterDequantization.count(&warp, words: 8, zeroWords: 1, normalizes: true)
  }

  private func multiply(
    _ warp: inout Warp, _ registers: inout Registers
  ) throws(DeviceError) {
    let number = warp.index
    for half in 0..<2 {
      let a = try warp.loadMatrix(.x4, at: activationLoads[0][half], site: Site.matrixA.rawValue)
      for pair in 0..<4 {
        let b = try warp.loadMatrix(
          .x4, transposed: true, at: weightLoads[number][half][pair],
          site: Site.matrixB.rawValue)
        try warp.multiply(a, b, addingTo: &registers.sums, at: 2 * pair)
      }
    }
  }
}

extension Int4DeviceWeights {
  /// - Throws: ``QuantError`` when these are not in `order` or the activations have other inputs.
  func require(
    _ order: Order, _ activations: HalfActivations, kernel: String
  ) throws(QuantError) {
    guard self.order == order else {
      throw QuantError(
        .invalidArgument, kernel, "weights in the order of \(self.order.rawValue)",
        remedy: "pack them for \(order.rawValue)")
    }
    guard activations.columns == columns else {
      throw QuantError(
        .invalidArgument, kernel,
        "activations of \(activations.columns) inputs, weights of \(columns)",
        remedy: "pass operands of one layer")
    }
  }
}
