import DeviceModel

/// One of the two products of attention as it is without fusion, a batch over heads: scores
/// S = scale · Q·Kᵀ or output O = P·V, with S and P in device memory.
///
/// A plain tensor-core product: blocks of 128 rows by 128 columns (64 for narrow heads), 32 × 64 a
/// warp, steps of 64; on Volta through registers into one buffer, on Ampere by asynchronous copies into
/// two; operands swizzled, results through shared memory to whole lines. Sums are float32; S is rounded
/// to binary16. All of S is computed, causal or not, as the standard implementation does.
struct UnfusedProduct: RepeatingKernel {
  enum Side: String, Sendable, Hashable {
    case scores
    case output
  }

  struct Registers: Sendable {
    var sums: [FloatAccumulator]
    var left: [Registers4] = []
    var right: [Registers4] = []
  }

  enum Site: Int, CaseIterable {
    case leftLoad, leftStore, rightLoad, rightStore, leftOperand, rightOperand
    case stage, stageLoad, store
  }

  var sites: [String] {
    [
      "A load", "A store", "B load", "B store", "A operand", "B operand", "C stage",
      "C stage load", "C store",
    ]
  }

  let side: Side
  let shape: DeviceAttentionShape
  let buffers: AttentionBuffers
  let scores: UnfusedScores
  let product: WarpProduct
  private let leftTile: OperandTile
  private let rightTile: OperandTile
  private let resultTile: OperandTile
  var repeatLimit: Int?
  var weighsRepeats = false

  var name: String { "unfused \(side.rawValue)" }
  var blocks: Int { shape.heads * rowTiles * columnTiles }
  var warpsPerBlock: Int { 4 * columns / 64 }
  var sharedBytesPerBlock: Int { max(stages * stageBytes, resultTile.byteCount) }

  init(
    _ side: Side, _ shape: DeviceAttentionShape, _ buffers: AttentionBuffers,
    _ scores: UnfusedScores, isVolta: Bool
  ) throws(QuantError) {
    self.side = side
    self.shape = shape
    self.buffers = buffers
    self.scores = scores
    product = WarpProduct(family: isVolta ? .square : .ampere)
    let columns = side == .scores ? 128 : shape.tileWidth
    leftTile = try OperandTile(rows: 128, columns: 64, order: .swizzled)
    rightTile = try OperandTile(
      rows: side == .scores ? 128 : 64, columns: side == .scores ? 64 : columns,
      order: .swizzled)
    resultTile = try OperandTile(rows: 128, columns: columns, order: .swizzled)
  }

  private var columns: Int { side == .scores ? 128 : shape.tileWidth }
  private var stages: Int { product.family == .ampere ? 2 : 1 }
  private var stageBytes: Int { leftTile.byteCount + rightTile.byteCount }
  private var rowTiles: Int { (shape.queryLength + 127) / 128 }
  private var columnTiles: Int { side == .scores ? (shape.keyLength + 127) / 128 : 1 }
  /// k that there is, and steps of it.
  private var depth: Int { side == .scores ? shape.pitch : shape.keyLength }
  private var steps: Int { (depth + 63) / 64 }
  private var rowBlocks: Int { 32 / product.rows }
  private var columnBlocks: Int { 64 / product.columns }

  func makeRegisters() -> Registers {
    Registers(
      sums: Array(repeating: FloatAccumulator(), count: 2 * rowBlocks * columnBlocks))
  }

  private struct Place {
    let head: Int
    let firstRow: Int
    let firstColumn: Int
    let rows: Int
  }

  private func place(_ block: Int) -> Place {
    let rowTile = block / shape.heads % rowTiles
    return Place(
      head: block % shape.heads, firstRow: rowTile * 128,
      firstColumn: block / shape.heads / rowTiles * 128,
      rows: min(128, shape.queryLength - rowTile * 128))
  }

  var blockClasses: [BlockClass] {
    let repeats = max(0, steps - 2)
    var list: [BlockClass] = []
    for head in HeadClass.all(shape) {
      // Inside, last rows, last columns, both.
      for (row, rowCount) in [(0, rowTiles - 1), (rowTiles - 1, 1)] where rowCount > 0 {
        for (column, columnCount) in [(0, columnTiles - 1), (columnTiles - 1, 1)]
        where columnCount > 0 {
          let count = head.count * rowCount * columnCount * (weighsRepeats ? repeats : 1)
          guard count > 0 else { continue }
          list.append(
            BlockClass(
              representative: (column * rowTiles + row) * shape.heads + head.representative,
              count: count))
        }
      }
    }
    return list
  }

  // MARK: The text

  func run(_ block: inout Block<Registers>, pass: Int) throws(DeviceError) {
    let place = place(block.index)
    // The last steps: the very last may be narrower.
    let order = Array(max(0, steps - min(steps, (repeatLimit ?? steps)))..<steps)
    try block.eachWarp { (warp, registers) throws(DeviceError) in
      try fetch(order[0], stage: 0, place, &warp, &registers)
      try settle(&warp, registers)
    }
    for (number, step) in order.enumerated() {
      let next = number + 1 < order.count ? order[number + 1] : nil
      try block.eachWarp { (warp, registers) throws(DeviceError) in
        if let next {
          try fetch(next, stage: (number + 1) % stages, place, &warp, &registers)
        }
        try multiply(step, stage: number % stages, place, &warp, &registers)
        warp.count(.control, 1)
      }
      guard next != nil else { continue }
      try block.eachWarp { (warp, registers) throws(DeviceError) in
        try settle(&warp, registers)
      }
    }
    try block.eachWarp { (warp, registers) throws(DeviceError) in
      try stage(&warp, registers)
    }
    try block.eachWarp(barrier: false) { (warp, _) throws(DeviceError) in
      try writeResult(place, &warp)
    }
  }

  private func lanes(_ value: (Int) -> Int) -> Lanes<UInt32> {
    .each { UInt32(truncatingIfNeeded: value(Int($0))) }
  }

  /// 16-byte units of a tile over all lanes.
  private func move(
    _ layout: OperandTile, at start: Int, rows: Int, columns: Int, rowBytes: Int, base: Int,
    from buffer: GlobalBuffer, _ warp: inout Warp, load: Site, store: Site,
    transform: (Registers4) -> Registers4
  ) throws(DeviceError) -> [(words: Registers4, to: Lanes<UInt32>)] {
    let units = layout.columns / 8
    var waiting: [(words: Registers4, to: Lanes<UInt32>)] = []
    for round in 0..<layout.rows * units / (32 * warpsPerBlock) {
      func unit(_ lane: Int) -> Int { (round * warpsPerBlock + warp.index) * 32 + lane }
      let mask = LaneMask { unit($0) / units < rows && unit($0) % units * 8 < columns }
      let from = lanes { base + unit($0) / units * rowBytes + unit($0) % units * 16 }
      let to = lanes {
        start + layout.byteOffset(row: unit($0) / units, column: unit($0) % units * 8)
      }
      guard product.family == .ampere else {
        let words: Registers4 = try warp.loadGlobal(
          from: buffer, at: from, mask: mask, site: load.rawValue)
        waiting.append((transform(words), to))
        continue
      }
      try warp.copyAsync(
        bytes: 16, from: buffer, at: from, toShared: to, mask: mask, site: load.rawValue)
      try warp.storeShared(
        Registers4(), at: to, mask: LaneMask.all.subtracting(mask), site: store.rawValue)
    }
    warp.count(.integer, 2)
    return waiting
  }

  private func fetch(
    _ step: Int, stage: Int, _ place: Place, _ warp: inout Warp, _ registers: inout Registers
  ) throws(DeviceError) {
    let queryRow = shape.heads * shape.pitch * 2
    let keyRow = shape.keyValueHeads * shape.pitch * 2
    let keyHead = place.head / shape.group * shape.pitch * 2
    let start = stage * stageBytes
    let left = depth - step * 64
    let isScores = side == .scores
    let a = try move(
      leftTile, at: start, rows: place.rows, columns: isScores ? left : scores.pitch - step * 64,
      rowBytes: isScores ? queryRow : scores.pitch * 2,
      base: isScores
        ? place.firstRow * queryRow + place.head * shape.pitch * 2 + step * 128
        : scores.offset(head: place.head, row: place.firstRow) + step * 128,
      from: isScores ? buffers.queries : scores.buffer, &warp, load: .leftLoad, store: .leftStore
    ) { isScores ? buffers.query($0) : $0 }
    let b = try move(
      rightTile, at: start + leftTile.byteCount,
      rows: isScores ? shape.keyLength - place.firstColumn : left,
      columns: isScores ? left : shape.pitch, rowBytes: keyRow,
      base: isScores
        ? place.firstColumn * keyRow + keyHead + step * 128 : step * 64 * keyRow + keyHead,
      from: isScores ? buffers.keys : buffers.values, &warp, load: .rightLoad,
      store: .rightStore
    ) { $0 }
    warp.commitCopies()
    registers.left = a.map(\.words)
    registers.right = b.map(\.words)
    // The addresses are the same every step: kept with the words.
    registers.left += a.map { Registers4($0.to, Lanes(), Lanes(), Lanes()) }
    registers.right += b.map { Registers4($0.to, Lanes(), Lanes(), Lanes()) }
  }

  private func settle(_ warp: inout Warp, _ registers: Registers) throws(DeviceError) {
    for (words, site) in [(registers.left, Site.leftStore), (registers.right, .rightStore)] {
      let count = words.count / 2
      for index in 0..<count {
        try warp.storeShared(
          words[index], at: words[count + index].r0, site: site.rawValue)
      }
    }
    warp.waitForCopies()
  }

  private func multiply(
    _ step: Int, stage: Int, _ place: Place, _ warp: inout Warp, _ registers: inout Registers
  ) throws(DeviceError) {
    let start = stage * stageBytes
    let firstRow = warp.index % 4 * 32
    let firstColumn = warp.index / 4 * 64
    func left(_ block: Int, _ k: Int, _ warp: inout Warp) throws(DeviceError) -> Registers4 {
      let address = TileAddresses.lanes(leftTile) { lane in
        let at = product.leftSource(lane: lane)
        return (firstRow + block * product.rows + at.row, k + at.column)
      }
      return try product.load(&warp, at: address.moved(by: start), site: Site.leftOperand.rawValue)
    }
    let rightStart = start + leftTile.byteCount
    if side == .scores {
      for k in stride(from: 0, to: 64, by: product.depth) {
        var a: [Registers4] = []
        for block in 0..<rowBlocks { a.append(try left(block, k, &warp)) }
        for column in 0..<columnBlocks {
          let address = TileAddresses.lanes(rightTile) { lane in
            let at = product.rightSource(lane: lane)
            return (firstColumn + column * product.columns + at.row, k + at.column)
          }
          let b = try product.load(
            &warp, at: address.moved(by: rightStart), site: Site.rightOperand.rawValue)
          for row in 0..<rowBlocks {
            try product.multiply(
              &warp, a[row], b, into: &registers.sums, block: row * columnBlocks + column)
          }
        }
      }
      return
    }
    // A load of the left operand serves `depth` keys in steps of `valueKeys`.
    let masks = shape.isCausal
    for k in stride(from: 0, to: 64, by: product.depth) {
      var a: [Registers4] = []
      for block in 0..<rowBlocks { a.append(try left(block, k, &warp)) }
      for part in 0..<product.depth / product.valueKeys {
        for load in 0..<64 / product.valueColumns {
          let address = TileAddresses.lanes(rightTile) { lane in
            let at = product.valueSource(lane: lane, load: load)
            return (k + part * product.valueKeys + at.row, firstColumn + at.column)
          }
          var values = try product.loadValues(
            &warp, at: address.moved(by: rightStart), site: Site.rightOperand.rawValue)
          let block0 = load * product.blocksPerValueLoad
          if masks, LaneMath.hasNonFinite(values) {
            let split = LaneMath.split(values)
            values = split.finite
            try mark(
              split.marks, firstKey: step * 64 + k, part: part, block0: block0, place, firstRow,
              &warp, &registers)
          }
          for row in 0..<rowBlocks {
            try product.multiplyValues(
              &warp, [a[row].r0, a[row].r1, a[row].r2, a[row].r3], step: part, values,
              into: &registers.sums, block: row * columnBlocks + block0)
          }
        }
      }
    }
  }

  /// As ``FlashAttentionKernel`` does it; here it is not counted, the standard implementation lets
  /// hidden values leak.
  private func mark(
    _ marks: Registers4, firstKey: Int, part: Int, block0: Int, _ place: Place, _ firstRow: Int,
    _ warp: inout Warp, _ registers: inout Registers
  ) throws(DeviceError) {
    for row in 0..<rowBlocks {
      let ones = (0..<4).map { word in
        Lanes<UInt32>.each { lane in
          let at = product.leftPlace(lane: Int(lane), word: word)
          let visible =
            shape.visibleKeys(
              row: place.firstRow + firstRow + row * product.rows + at.row)
            - firstKey - at.column
          return (visible > 0 ? 0x3C00 : 0) | (visible > 1 ? 0x3C00_0000 : 0)
        }
      }
      var counts = Array(
        repeating: FloatAccumulator(), count: 2 * product.blocksPerValueLoad)
      try product.multiplyValues(&warp, ones, step: part, marks, into: &counts, block: 0)
      for (offset, count) in counts.enumerated() {
        for element in 0..<4 {
          let at = 2 * (row * columnBlocks + block0) + offset
          registers.sums[at][element] = LaneMath.zip(
            registers.sums[at][element], count[element]
          ) { $1 > 0 ? .nan : $0 }
        }
      }
    }
  }

  // MARK: The result

  private func stage(_ warp: inout Warp, _ registers: Registers) throws(DeviceError) {
    let firstRow = warp.index % 4 * 32
    let firstColumn = warp.index / 4 * 64
    let factor = side == .scores ? buffers.scale : 1
    func words(_ index: Int) -> [Lanes<UInt32>] {
      (0..<4).map { word in
        let sums = registers.sums[2 * index + word / 2]
        return Half2.pack(
          low: sums[word % 2 * 2] * factor, high: sums[word % 2 * 2 + 1] * factor)
      }
    }
    func store<R: LaneRegisters>(
      _ value: R, _ warp: inout Warp, _ place: (Int) -> (row: Int, column: Int)
    ) throws(DeviceError) {
      let address = TileAddresses.lanes(resultTile) { lane in
        let at = place(lane)
        return (firstRow + at.row, firstColumn + at.column)
      }
      try warp.storeShared(value, at: address, site: Site.stage.rawValue)
    }
    for row in 0..<rowBlocks {
      let down = row * product.rows
      for column in 0..<columnBlocks {
        let index = row * columnBlocks + column
        if product.family == .ampere {
          for (pair, word) in words(index).enumerated() {
            try store(word, &warp) { lane in
              let at = product.place(lane: lane, element: 2 * pair)
              return (down + at.row, column * 16 + at.column)
            }
          }
        } else if side == .scores {
          // A row a lane: columns 0…3 and 4…7 of its quad-pair's eight.
          let rows = WarpProduct.rowExchange(words(index), &warp)
          for half in 0..<2 {
            try store(Registers2(rows[2 * half], rows[2 * half + 1]), &warp) { lane in
              let at = product.halfPlace(lane: lane, element: 4 * half)
              return (down + at.row, column * 16 + at.column)
            }
          }
        } else if column % 2 == 0 {
          let first = WarpProduct.rowExchange(words(index), &warp)
          let second = WarpProduct.rowExchange(words(index + 1), &warp)
          for half in 0..<2 {
            try store(
              Registers4(
                first[2 * half], first[2 * half + 1], second[2 * half], second[2 * half + 1]),
              &warp
            ) { lane in
              let at = product.outputUnit(load: column / 2, half: half, lane: lane)
              return (down + at.row, at.column)
            }
          }
        }
      }
    }
    warp.count(.float, side == .scores ? 8 * rowBlocks * columnBlocks : 0)
    warp.count(.conversion, 8 * rowBlocks * columnBlocks)
  }

  private func writeResult(_ place: Place, _ warp: inout Warp) throws(DeviceError) {
    let units = resultTile.columns / 8
    let isScores = side == .scores
    let rowBytes = isScores ? scores.pitch * 2 : shape.heads * shape.pitch * 2
    let base =
      isScores
      ? scores.offset(head: place.head, row: place.firstRow) + place.firstColumn * 2
      : place.firstRow * rowBytes + place.head * shape.pitch * 2
    let width = isScores ? scores.pitch - place.firstColumn : shape.pitch
    for round in 0..<128 * units / (32 * warpsPerBlock) {
      func unit(_ lane: Int) -> Int { (round * warpsPerBlock + warp.index) * 32 + lane }
      let mask = LaneMask { unit($0) / units < place.rows && unit($0) % units * 8 < width }
      let words: Registers4 = try warp.loadShared(
        at: lanes {
          resultTile.byteOffset(row: unit($0) / units, column: unit($0) % units * 8)
        }, mask: mask, site: Site.stageLoad.rawValue)
      try warp.storeGlobal(
        words, to: isScores ? scores.buffer : buffers.output,
        at: lanes { base + unit($0) / units * rowBytes + unit($0) % units * 16 }, mask: mask,
        site: Site.store.rawValue)
    }
  }
}

extension UnfusedProduct: AttentionKernel {
  func launch(on device: DeviceSpec) -> Launch {
    let accumulators = 8 * rowBlocks * columnBlocks
    let instructions =
      product.instructionsPerLoad * rowBlocks * columnBlocks * 64 / product.depth
    let staged =
      product.family == .ampere ? 0 : stageBytes / (32 * warpsPerBlock) / 4
    let sharers = side == .scores ? rowTiles * shape.group : 1
    // S and P come from memory unless half of L2 holds them.
    let scoreBytes = shape.heads * shape.queryLength * scores.pitch * 2
    let missShare =
      side == .scores
      ? 1 / Double(max(1, sharers))
      : Double(scoreBytes) < 0.5 * device.l2Bytes.value ? 1 / Double(max(1, rowTiles)) : 1
    // Queries and keys, or values and output.
    let others =
      2 * shape.pitch * (shape.heads * shape.queryLength + shape.keyValueHeads * shape.keyLength)
    return Launch(
      name: name, blocks: blocks, warpsPerBlock: warpsPerBlock,
      registersPerThread: Sourced(
        Double(min(255, accumulators + staged + 64)),
        .assumed(
          "\(accumulators) of sums, \(staged) under way, 64 for operands and addresses")),
      sharedBytesPerBlock: sharedBytesPerBlock, stepsPerBlock: max(1, steps),
      chain: [
        device.exposedLoad(behind: instructions, product.shape, missShare: missShare),
        .barrier(2), .sharedLoad(1), .matrix(product.shape, instructions),
      ],
      blockOverheadCycles: Sourced(
        500, .assumed("result through shared memory; as other compiled kernels, 300 to 600")),
      pipelineStages: stages, distinctBytes: scoreBytes + others, missShare: missShare)
  }
}
