import DeviceModel

/// Weighted sums of a decode step, `P · H`: the query heads of a unit as rows of one product over what
/// they share, positions cut into splits whose float32 sums are added by ``SplitSums``.
///
/// With a unit a head and whole values it is the plain P · V of a decode step. Latents are read once a
/// unit (once for each 64 of its rows); scales and minima once for each tile of its columns, of which
/// there is one up to a width of 256.
struct LatentSumsKernel: WarpKernel {
  struct Registers: Sendable {
    var sums: [FloatAccumulator]
    var words: [LatentTile.Words] = []
  }

  enum Site: Int, CaseIterable {
    case latentLoad, latentStore, scaleLoad, scaleStore, scaleRead, weightLoad, weightOperand
    case latentOperand, sumStore
  }

  var sites: [String] {
    [
      "latent load", "latent store", "scale load", "scale store", "scale read", "P load",
      "P operand", "latent operand", "sum store",
    ]
  }

  let latents: DeviceLatents
  let scores: UnfusedScores
  /// Query heads of a unit.
  let rows: Int
  /// Positions of a split, a multiple of 64.
  let splitPositions: Int
  /// `[split][unit][row][padded width]` float32.
  let partials: GlobalBuffer
  let loader: LatentTile
  private let product = WarpProduct(family: .ampere)
  private let weightTile: OperandTile
  private let operands: [[Lanes<UInt32>]]
  private let valueOperands: [[Lanes<UInt32>]]

  static let step = 64
  static let stages = 2
  static let mostRows = 64

  var name: String { "latent sums" }
  var splits: Int { (latents.positions + splitPositions - 1) / splitPositions }
  var paddedWidth: Int { Self.padded(latents.width) }
  /// Columns of a block: what wastes the fewest, then the most.
  private let columns: Int
  private var columnTiles: Int { (latents.width + columns - 1) / columns }
  private var panels: Int { columns / 64 }
  private var rowTiles: Int { (rows + Self.mostRows - 1) / Self.mostRows }
  private var rowBlocks: Int { (min(rows, Self.mostRows) + 15) / 16 }
  var warpsPerBlock: Int { min(8, columns / 16) }
  private var columnBlocks: Int { columns / 16 / warpsPerBlock }
  private var stageBytes: Int { weightTile.byteCount + panels * loader.byteCount }
  private var scaleStart: Int { Self.stages * stageBytes }
  var sharedBytesPerBlock: Int { scaleStart + Self.stages * loader.scaleBytes }
  var blocks: Int { latents.units * splits * columnTiles * rowTiles }

  /// What its launch states.
  var panelCount: Int { panels }
  var sumFloats: Int { 8 * rowBlocks * columnBlocks }
  var matrixInstructionsPerStep: Int { 2 * rowBlocks * columnBlocks * Self.step / 16 }

  static func padded(_ width: Int) -> Int { (width + 3) / 4 * 4 }
  static func columns(_ width: Int) -> Int {
    var best = 64
    for columns in [64, 128, 256]
    where (width + columns - 1) / columns * columns
      <= (width + best - 1) / best * best
    { best = columns }
    return best
  }

  /// Splits that give each multiprocessor some four blocks, of at least four steps.
  static func splitPositions(
    _ latents: DeviceLatents, rows: Int, multiprocessors: Int
  ) -> Int {
    let columns = columns(latents.width)
    let others =
      latents.units * ((latents.width + columns - 1) / columns)
      * ((rows + mostRows - 1) / mostRows)
    let splits = max(1, 4 * multiprocessors / max(1, others))
    let positions = (latents.positions + splits - 1) / splits
    return max(4 * step, (positions + step - 1) / step * step)
  }

  init(
    _ latents: DeviceLatents, scores: UnfusedScores, rows: Int, multiprocessors: Int
  ) throws(QuantError) {
    self.latents = latents
    self.scores = scores
    self.rows = rows
    splitPositions = Self.splitPositions(latents, rows: rows, multiprocessors: multiprocessors)
    columns = Self.columns(latents.width)
    let warps = min(8, columns / 16)
    loader = try LatentTile(
      latents, positions: Self.step, columns: 64, warps: warps,
      sites: LatentTile.Sites(
        load: Site.latentLoad.rawValue, store: Site.latentStore.rawValue,
        scales: Site.scaleLoad.rawValue, scaleStore: Site.scaleStore.rawValue,
        scaleLoad: Site.scaleRead.rawValue))
    weightTile = try OperandTile(
      rows: (min(rows, Self.mostRows) + 15) / 16 * 16, columns: Self.step, order: .swizzled)
    let splits = (latents.positions + splitPositions - 1) / splitPositions
    let bytes = 4 * splits * latents.units * rows * Self.padded(latents.width)
    partials = try QuantError.translating { try GlobalBuffer("partial sums", byteCount: bytes) }
    let product = product
    let weights = weightTile
    operands = (0..<weights.rows / 16).map { block in
      (0..<Self.step / 16).map { depth in
        TileAddresses.lanes(weights) { lane in
          let at = product.leftSource(lane: lane)
          return (block * 16 + at.row, depth * 16 + at.column)
        }
      }
    }
    let panel = loader.tile
    valueOperands = (0..<4).map { column in
      (0..<Self.step / 16).map { depth in
        TileAddresses.lanes(panel) { lane in
          let at = product.valueSource(lane: lane, load: column)
          return (depth * 16 + at.row, at.column)
        }
      }
    }
  }

  func makeRegisters() -> Registers {
    Registers(sums: Array(repeating: FloatAccumulator(), count: 2 * rowBlocks * columnBlocks))
  }

  // MARK: The grid

  private struct Place {
    let unit: Int
    let split: Int
    let column: Int
    let firstRow: Int
    let first: Int
    let steps: Int
  }

  private func place(_ block: Int) -> Place {
    let column = block % columnTiles
    let rowTile = block / columnTiles % rowTiles
    let unit = block / columnTiles / rowTiles % latents.units
    let split = block / columnTiles / rowTiles / latents.units
    let first = split * splitPositions
    let count = min(splitPositions, latents.positions - first)
    return Place(
      unit: unit, split: split, column: column, firstRow: rowTile * Self.mostRows, first: first,
      steps: (count + Self.step - 1) / Self.step)
  }

  /// Blocks differ by their columns and rows, by where in a line their codes and sums start, and in the
  /// last split.
  var blockClasses: [BlockClass] {
    struct Key: Hashable {
      let column: Int
      let row: Int
      let lines: [Int]
      let isLast: Bool
    }
    var tally = ClassTally<Key>()
    for block in 0..<blocks {
      let place = place(block)
      tally.add(
        Key(
          column: place.column, row: place.firstRow,
          lines: [
            latents.offset(unit: 0, position: place.first) % 128, sumOffset(place, row: 0) % 128,
          ], isLast: place.split == splits - 1),
        representative: block, count: 1)
    }
    return tally.list
  }

  private func sumOffset(_ place: Place, row: Int) -> Int {
    4 * paddedWidth * ((place.split * latents.units + place.unit) * rows + place.firstRow + row)
  }

  // MARK: The text

  func run(_ block: inout Block<Registers>, pass: Int) throws(DeviceError) {
    let place = place(block.index)
    try block.eachWarp(barrier: latents.isPacked) { (warp, _) throws(DeviceError) in
      try loadScales(0, place, &warp)
    }
    try block.eachWarp(barrier: latents.isPacked) { (warp, registers) throws(DeviceError) in
      try fetch(0, place, &warp, &registers)
      try settle(0, place, &warp, registers)
      if place.steps > 1 { try loadScales(1, place, &warp) }
    }
    for step in 0..<place.steps {
      try block.eachWarp { (warp, _) throws(DeviceError) in
        warp.waitForCopies()
        warp.count(.control, 1)
      }
      try block.eachWarp(barrier: false) { (warp, registers) throws(DeviceError) in
        if step + 1 < place.steps { try fetch(step + 1, place, &warp, &registers) }
        try multiply(step, &warp, &registers)
        if step + 1 < place.steps { try settle(step + 1, place, &warp, registers) }
        // Scales of the step after: its buffer was read last before the barrier.
        if step + 2 < place.steps { try loadScales(step + 2, place, &warp) }
      }
    }
    try block.eachWarp(barrier: false) { (warp, registers) throws(DeviceError) in
      try store(place, &warp, registers)
    }
  }

  private func lanes(_ value: (Int) -> Int) -> Lanes<UInt32> {
    .each { UInt32(truncatingIfNeeded: value(Int($0))) }
  }

  private func scales(_ step: Int) -> Int { scaleStart + step % Self.stages * loader.scaleBytes }

  private func loadScales(
    _ step: Int, _ place: Place, _ warp: inout Warp
  ) throws(DeviceError) {
    try loader.loadScales(
      unit: place.unit, first: place.first + step * Self.step, to: scales(step), &warp)
  }

  private func fetch(
    _ step: Int, _ place: Place, _ warp: inout Warp, _ registers: inout Registers
  ) throws(DeviceError) {
    let start = step % Self.stages * stageBytes
    let first = place.first + step * Self.step
    let rows = min(rows - place.firstRow, Self.mostRows)
    let units = Self.step / 8
    for round in 0..<(weightTile.rows * units + 32 * warpsPerBlock - 1) / (32 * warpsPerBlock) {
      func unit(_ lane: Int) -> Int { (round * warpsPerBlock + warp.index) * 32 + lane }
      let mask = LaneMask { unit($0) < rows * units }
      let to = lanes {
        start
          + weightTile.byteOffset(
            row: min(unit($0) / units, weightTile.rows - 1), column: unit($0) % units * 8)
      }
      try warp.copyAsync(
        bytes: 16, from: scores.buffer,
        at: lanes {
          scores.offset(
            head: place.unit * self.rows + place.firstRow + unit($0) / units, row: 0)
            + 2 * first + unit($0) % units * 16
        }, toShared: to, mask: mask, site: Site.weightLoad.rawValue)
      let there = LaneMask { unit($0) < weightTile.rows * units }
      try warp.storeShared(
        Registers4(), at: to, mask: there.subtracting(mask), site: Site.latentStore.rawValue)
    }
    registers.words = []
    for panel in 0..<panels {
      registers.words.append(
        try loader.fetch(
          unit: place.unit, chunk: place.column * panels + panel, first: first,
          to: start + weightTile.byteCount + panel * loader.byteCount, &warp))
    }
    warp.commitCopies()
  }

  private func settle(
    _ step: Int, _ place: Place, _ warp: inout Warp, _ registers: Registers
  ) throws(DeviceError) {
    let start = step % Self.stages * stageBytes + weightTile.byteCount
    for (panel, words) in registers.words.enumerated() {
      try loader.settle(
        words, chunk: place.column * panels + panel, first: place.first + step * Self.step,
        to: start + panel * loader.byteCount, scales: scales(step), &warp)
    }
  }

  private func multiply(
    _ step: Int, _ warp: inout Warp, _ registers: inout Registers
  ) throws(DeviceError) {
    let start = step % Self.stages * stageBytes
    for depth in 0..<Self.step / 16 {
      var left: [[Lanes<UInt32>]] = []
      for block in 0..<rowBlocks {
        let words = try product.load(
          &warp, at: operands[block][depth].moved(by: start), site: Site.weightOperand.rawValue)
        left.append([words.r0, words.r1, words.r2, words.r3])
      }
      for column in 0..<columnBlocks {
        let number = warp.index * columnBlocks + column
        let values = try product.loadValues(
          &warp,
          at: valueOperands[number % 4][depth].moved(
            by: start + weightTile.byteCount + number / 4 * loader.byteCount),
          site: Site.latentOperand.rawValue)
        for block in 0..<rowBlocks {
          try product.multiplyValues(
            &warp, left[block], step: 0, values, into: &registers.sums,
            block: block * columnBlocks + column)
        }
      }
    }
    warp.count(.control, 1)
  }

  /// Float32 sums, two neighbors a lane.
  private func store(
    _ place: Place, _ warp: inout Warp, _ registers: Registers
  ) throws(DeviceError) {
    for block in 0..<rowBlocks {
      for column in 0..<columnBlocks {
        let first = place.column * columns + (warp.index * columnBlocks + column) * 16
        for pair in 0..<4 {
          let at = (0..<32).map { product.place(lane: $0, element: 2 * pair) }
          let mask = LaneMask {
            place.firstRow + block * 16 + at[$0].row < rows
              && first + at[$0].column < paddedWidth
          }
          let sums = registers.sums[2 * (block * columnBlocks + column) + pair / 2]
          try warp.storeGlobal(
            Registers2(sums[pair % 2 * 2].asWords, sums[pair % 2 * 2 + 1].asWords), to: partials,
            at: lanes {
              sumOffset(place, row: block * 16 + at[$0].row) + 4 * (first + at[$0].column)
            }, mask: mask, site: Site.sumStore.rawValue)
        }
      }
    }
  }
}

/// Adds the splits of ``LatentSumsKernel`` in order and rounds once: `[unit][row][pitch]` binary16.
struct SplitSums: WarpKernel {
  struct Registers: Sendable {}

  let sums: LatentSumsKernel
  /// Elements from row to row: the width up to 8.
  let pitch: Int
  let output: GlobalBuffer
  private static let warps = 4

  init(_ sums: LatentSumsKernel) throws(QuantError) {
    self.sums = sums
    let pitch = (sums.latents.width + 7) / 8 * 8
    self.pitch = pitch
    let rows = sums.latents.units * sums.rows
    output = try QuantError.translating {
      try GlobalBuffer("sums of latents", byteCount: 2 * rows * pitch)
    }
  }

  var name: String { "split sums" }
  var sites: [String] { ["partial load", "sum store"] }
  /// Four columns a lane.
  private var quads: Int { sums.latents.units * sums.rows * sums.paddedWidth / 4 }
  var blocks: Int { (quads + 32 * Self.warps - 1) / (32 * Self.warps) }
  var warpsPerBlock: Int { Self.warps }
  var sharedBytesPerBlock: Int { 0 }
  func makeRegisters() -> Registers { Registers() }

  func run(_ block: inout Block<Registers>, pass: Int) throws(DeviceError) {
    let index = block.index
    let perRow = sums.paddedWidth / 4
    let stride = 16 * quads
    try block.eachWarp(barrier: false) { (warp, _) throws(DeviceError) in
      let first = (index * Self.warps + warp.index) * 32
      let mask = LaneMask.first(quads - first)
      guard mask.rawValue != 0 else { return }
      var total = FloatAccumulator()
      for split in 0..<sums.splits {
        let words: Registers4 = try warp.loadGlobal(
          from: sums.partials,
          at: .each { UInt32(truncatingIfNeeded: split * stride + 16 * (first + Int($0))) },
          mask: mask, site: 0)
        for element in 0..<4 { total[element] = total[element].plus(words[element].asFloats) }
      }
      try warp.storeGlobal(
        Registers2(
          Half2.pack(low: total.c0, high: total.c1), Half2.pack(low: total.c2, high: total.c3)),
        to: output,
        at: .each { lane in
          let quad = first + Int(lane)
          return UInt32(truncatingIfNeeded: 2 * (quad / perRow * pitch + quad % perRow * 4))
        }, mask: mask, site: 1)
      warp.count(.float, 4 * sums.splits)
      warp.count(.conversion, 2)
    }
  }
}
