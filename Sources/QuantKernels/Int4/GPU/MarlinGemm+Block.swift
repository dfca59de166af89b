import DeviceModel

/// The text of a block: the pipeline over a slice's tiles.
extension MarlinGemm {
  public func run(_ block: inout Block<Registers>, pass: Int) throws(DeviceError) {
    // A block's first slice is at the end of its column, or all that the block has; the ones behind
    // it start their columns. So only the last slice ever waits for others.
    for slice in stripes.slices(of: block.index) where slice.turn == pass {
      let place = Place(slice, self)
      try multiply(place, &block)
      if !isGrouped, slice.isLast { try fetchResultScales(place, &block) }
      try sumInBlock(&block)
      if !isGrouped, slice.isLast { try loadResultScales(&block) }
      if slice.sharers > 1 { try sumInMemory(place, &block) }
      if slice.isLast { try writeResult(place, &block) }
    }
  }

  /// Where a slice's data start.
  struct Place {
    let slice: MarlinStripes.Slice
    let panel: MarlinAddresses.Panel
    let input: Int
    let weights: Int
    let scales: Int
    let output: Int

    init(_ slice: MarlinStripes.Slice, _ kernel: MarlinGemm) {
      let addresses = kernel.addresses
      let perPanel = kernel.layout.paddedRows / kernel.tile.columns
      let panel = slice.column / perPanel
      let column = slice.column % perPanel
      let group = slice.firstTile * kernel.tile.inputs / kernel.groupSize
      self.slice = slice
      self.panel = kernel.panel(of: slice)
      input =
        panel * addresses.inputPanelStride + slice.firstTile * addresses.inputTileStride
      weights =
        column * addresses.weightColumnStride + slice.firstTile * addresses.weightTileStride
      scales = column * addresses.scaleColumnStride + group * addresses.scaleGroupStride
      output = panel * addresses.outputPanelStride + column * addresses.outputColumnStride
    }
  }

  /// Tiles that share a row of scales; 0 without groups.
  private var tilesPerGroup: Int { isGrouped ? groupSize / tile.inputs : 0 }

  private func multiply(_ place: Place, _ block: inout Block<Registers>) throws(DeviceError) {
    let tiles = place.slice.tiles
    try block.eachWarp { (warp, registers) throws(DeviceError) in
      for tile in 0..<Self.stages - 1 { try fetch(tile, place, &warp) }
      for index in registers.sums.indices { registers.sums[index] = FloatAccumulator() }
      warp.waitForCopies(pending: Self.stages - 2)
    }
    try block.eachWarp { (warp, registers) throws(DeviceError) in
      try loadFragments(0, of: 0, place, &warp, &registers)
      try advance(0, place, &warp, &registers)
    }
    for tile in 0..<tiles {
      let hasNext = tile + 1 < tiles
      try block.eachWarp(barrier: hasNext) { (warp, registers) throws(DeviceError) in
        try multiply(half: 0, &warp, &registers)
        if hasNext { try loadFragments(0, of: tile + 1, place, &warp, &registers) }
        try multiply(half: 1, &warp, &registers)
        if hasNext { try advance(tile + 1, place, &warp, &registers) }
        warp.count(.control, 1)
      }
    }
  }

  /// Loads the tile's second half and starts the copies of the tile three ahead, into the stage
  /// that the last barrier freed.
  private func advance(
    _ tile: Int, _ place: Place, _ warp: inout Warp, _ registers: inout Registers
  ) throws(DeviceError) {
    try loadFragments(1, of: tile, place, &warp, &registers)
    try fetch(tile + Self.stages - 1, place, &warp)
    warp.waitForCopies(pending: Self.stages - 2)
  }

  private func fetch(_ tile: Int, _ place: Place, _ warp: inout Warp) throws(DeviceError) {
    if tile < place.slice.tiles {
      let stage = tile % Self.stages
      let from = place.input + tile * addresses.inputTileStride
      let to = stage * addresses.inputStageBytes
      for (round, copy) in addresses.inputCopies[warp.index].enumerated() {
        try warp.copyAsync(
          bytes: 16, from: input, at: copy.from.moved(by: from), toShared: copy.to.moved(by: to),
          mask: place.panel.copyMasks[warp.index][round], site: Site.inputCopy.rawValue)
      }
      let words = place.weights + tile * addresses.weightTileStride
      let wordStage = addresses.weightsBase + stage * addresses.weightStageBytes
      for copy in addresses.weightCopies[warp.index] {
        try warp.copyAsync(
          bytes: 16, from: weights, at: copy.from.moved(by: words),
          toShared: copy.to.moved(by: wordStage),
          site: Site.weightCopy.rawValue)
      }
      // Two 64-bit pointers step on.
      warp.count(.integer, 4)
      if isGrouped, warp.index == 0, stage % tilesPerGroup == 0 {
        let group = place.scales + tile / tilesPerGroup * addresses.scaleGroupStride
        try copyScales(from: group, stage: stage, &warp)
      }
    }
    warp.commitCopies()
  }

  private func copyScales(
    from offset: Int, stage: Int, _ warp: inout Warp
  ) throws(DeviceError) {
    let to = addresses.scalesBase + stage * addresses.scaleStageBytes
    try warp.copyAsync(
      bytes: 16, from: scales, at: addresses.scaleCopy.from.moved(by: offset),
      toShared: addresses.scaleCopy.to.moved(by: to), mask: addresses.scaleMask,
      site: Site.scaleCopy.rawValue)
  }

  private func loadFragments(
    _ half: Int, of tile: Int, _ place: Place, _ warp: inout Warp, _ registers: inout Registers
  ) throws(DeviceError) {
    let stage = tile % Self.stages
    if isGrouped {
      let from = stage / tilesPerGroup * tilesPerGroup
      let base = addresses.scalesBase + from * addresses.scaleStageBytes
      let loaded = try warp.loadShared(
        Registers4.self, at: addresses.scaleReads[warp.index][0].moved(by: base),
        site: Site.scaleLoad.rawValue)
      if half == 0 { registers.scales.0 = loaded } else { registers.scales.1 = loaded }
    }
    let base = stage * addresses.inputStageBytes
    let blocks = tile16Rows
    for (index, rows) in place.panel.matrices[warp.index][half].enumerated() {
      registers.inputs[half * blocks + index] = try warp.loadMatrix(
        .x4, at: rows.moved(by: base), site: Site.inputMatrix.rawValue)
    }
    let words = addresses.weightsBase + stage * addresses.weightStageBytes
    let loaded = try warp.loadShared(
      Registers4.self, at: addresses.weightCopies[warp.index][half].to.moved(by: words),
      site: Site.weightLoad.rawValue)
    if half == 0 { registers.words.0 = loaded } else { registers.words.1 = loaded }
  }

  /// Blocks of 16 rows in the tile.
  var tile16Rows: Int { tile.rows / 16 }

  /// Four words a lane, each two n-tiles of B, against all blocks of rows.
  private func multiply(
    half: Int, _ warp: inout Warp, _ registers: inout Registers
  ) throws(DeviceError) {
    let words = half == 0 ? registers.words.0 : registers.words.1
    let scales = half == 0 ? registers.scales.0 : registers.scales.1
    let blocks = tile16Rows
    for pair in 0..<4 {
      let b = Self.dequantize(words[pair], scales: isGrouped ? scales[pair] : nil)
      for block in 0..<blocks {
        let sum = 8 * block + 2 * pair
        try warp.multiply(
          registers.inputs[half * blocks + block], b, addingTo: &registers.sums, at: sum)
      }
    }
    // A word: two lop3 a fragment and the shift; subtract and fused multiply-add a fragment; two
    // products a fragment, whose scales are doubled by one prmt.
    warp.count(.integer, 4 * (5 + (isGrouped ? 2 : 0)))
    warp.count(.half2, 4 * (4 + (isGrouped ? 4 : 0)))
  }

  /// A word as B of two n-tiles: pairs of halves q − 8, exactly, times the scales, whose low and high
  /// halves are the two tiles'. The kernel maps high nibbles by fma, (1024 + 16q)/16 − 72; the bits
  /// are those of 1024 + q − 1032.
  private static func dequantize(_ word: Lanes<UInt32>, scales: Lanes<UInt32>?) -> Registers4 {
    var b = RegisterDequantization.biased(word)
    guard let scales else {
      Half2.subtract(bias, from: &b)
      return b
    }
    let even = scales.mapWords { $0 & 0xFFFF | $0 &<< 16 }
    let odd = scales.mapWords { $0 &>> 16 | $0 & 0xFFFF_0000 }
    Half2.subtract(bias, from: &b, thenMultiplyBy: Registers4(even, even, odd, odd))
    return b
  }

  /// 1032 in every half.
  private static let bias: Registers4 = {
    let pairs = Lanes<UInt32>(repeating: 0x6408_6408)
    return Registers4(pairs, pairs, pairs, pairs)
  }()

  // MARK: One group: scales of the result

  private func fetchResultScales(
    _ place: Place, _ block: inout Block<Registers>
  ) throws(DeviceError) {
    try block.eachWarp(0..<1, barrier: false) { (warp, _) throws(DeviceError) in
      try copyScales(from: place.scales, stage: 0, &warp)
      warp.commitCopies()
    }
  }

  private func loadResultScales(_ block: inout Block<Registers>) throws(DeviceError) {
    try block.eachWarp { (warp, _) throws(DeviceError) in warp.waitForCopies() }
    let base = addresses.scalesBase
    try block.eachWarp(0..<tile.columns / 64, barrier: false) {
      (warp, registers) throws(DeviceError) in
      let reads = addresses.scaleReads[warp.index]
      registers.scales.0 = try warp.loadShared(
        at: reads[0].moved(by: base), site: Site.scaleLoad.rawValue)
      registers.scales.1 = try warp.loadShared(
        at: reads[1].moved(by: base), site: Site.scaleLoad.rawValue)
    }
  }
}
