import DeviceModel

/// One core of a fused attention: issues the blocks of its tiles' stacks, the products of one stack
/// behind the scores of later ones.
final class FusedNPUCore {
  let attention: FusedNPUAttention
  let core: NPUCore
  let buffers: FusedNPUBuffers
  /// Which of the slots in global memory are this core's.
  let number: Int
  /// Rows whose output a stack rescaled by another factor than one; only with values.
  var rescaledRows = 0
  private var turns = FusedNPUAttention.Turns()

  init(_ attention: FusedNPUAttention, number: Int) throws(DeviceError) {
    self.attention = attention
    self.number = number
    core = try NPUCore(attention.spec, carriesValues: attention.carriesValues)
    buffers = try FusedNPUBuffers(core, attention.plan, attention.shape)
  }

  var plan: FusedNPUPlan { attention.plan }
  var isSplit: Bool { attention.spec.coupling == .split }
  var width: Int { attention.shape.headDimension }
  /// Floats of a row of products and outputs.
  var outputPitch: Int { (width + 15) / 16 * 16 }

  /// Runs tiles in order, as one pipeline.
  func run(_ tiles: [NPUQueryTile]) throws(DeviceError) {
    var pending: [FusedNPUAttention.Step] = []
    var count = 0
    var entriesOfTiles: [Int] = []
    for (index, tile) in tiles.enumerated() {
      let place = index % plan.slots
      let steps = steps(of: tile, place: place, first: count)
      if steps.isEmpty { try issueEmpty(tile) }
      for step in steps {
        try takeTurn(step, issueScores) {
          turns.keys += $0
          turns.sums += $0
          turns.pieces += pieces(step.tile, 0).count
        }
        pending.append(step)
        if pending.count >= plan.slots { try runProducts(pending.removeFirst()) }
      }
      count += steps.count
      entriesOfTiles.append(2 * steps.count)
    }
    for step in pending { try runProducts(step) }
    // Stacks repeat with the slots and turns; tiles of equal work with both as well.
    let tile = entriesOfTiles.last ?? 0
    core.hintPeriods([4 * plan.slots, 2 * tile * plan.slots])
  }

  private func runProducts(_ step: FusedNPUAttention.Step) throws(DeviceError) {
    try takeTurn(step, issueProducts) {
      turns.values += $0
      turns.sums += 1
    }
  }

  /// Issues a part of a stack with the buffers that are next, then moves on by what its blocks took.
  private func takeTurn(
    _ step: FusedNPUAttention.Step,
    _ issue: (FusedNPUAttention.Step) throws(DeviceError) -> Void, _ advance: (Int) -> Void
  ) throws(DeviceError) {
    var step = step
    step.turns = turns
    try issue(step)
    advance(blocks(of: step).count)
    turns = FusedNPUAttention.Turns(
      keys: turns.keys % 2, values: turns.values % 2, sums: turns.sums % 2,
      pieces: turns.pieces % 2)
  }

  /// What tiles of these kinds count, so many of each.
  func count(_ classes: [(tile: NPUQueryTile, count: Int)]) throws(DeviceError) -> NPUCounters {
    // On a core of its own: its program is no part of the schedule.
    let scratch = try FusedNPUCore(attention, number: number)
    var sum = NPUCounters()
    var uses: [[Int]: Int] = [:]
    /// Whole stacks in the middle of a tile that see all: most of them, and all alike.
    var plain: [Int: (step: FusedNPUAttention.Step, count: Int)] = [:]
    func issue(_ step: FusedNPUAttention.Step, _ count: Int) throws(DeviceError) {
      for key in [scoresKey(step), productsKey(step)] { uses[key, default: 0] += count }
      if scratch.core.counters(ofBlock: scoresKey(step)) == nil { try scratch.issueScores(step) }
      if scratch.core.counters(ofBlock: productsKey(step)) == nil {
        try scratch.issueProducts(step)
      }
    }
    for (tile, count) in classes {
      let steps = steps(of: tile, place: 0, first: 0)
      if steps.isEmpty {
        try scratch.issueEmpty(tile)
        uses[emptyKey(tile), default: 0] += count
      }
      var plainCount = 0
      for var step in steps {
        // What a block counts does not depend on its slot.
        step.slot = 0
        if !step.isFirst, !step.isLast, step.keys.count == plan.firstLevelKeys, !isMasked(step) {
          plainCount += count
          if plainCount == count, plain[tile.rows * 65536 + tile.heads] == nil {
            plain[tile.rows * 65536 + tile.heads] = (step, 0)
          }
        } else {
          try issue(step, count)
        }
      }
      plain[tile.rows * 65536 + tile.heads]?.count += plainCount
    }
    for (step, count) in plain.values where count > 0 { try issue(step, count) }
    for (key, count) in uses {
      if let counters = scratch.core.counters(ofBlock: key) { sum.add(counters, times: count) }
    }
    return sum
  }

  private func steps(
    of tile: NPUQueryTile, place: Int, first: Int
  ) -> [FusedNPUAttention.Step] {
    var list: [FusedNPUAttention.Step] = []
    for start in stride(
      from: tile.keys.lowerBound, to: tile.keys.upperBound, by: plan.firstLevelKeys)
    {
      let end = min(tile.keys.upperBound, start + plan.firstLevelKeys)
      list.append(
        FusedNPUAttention.Step(
          tile: tile, keys: start..<end, isFirst: start == tile.keys.lowerBound,
          isLast: end == tile.keys.upperBound, slot: (first + list.count) % plan.slots,
          place: place))
    }
    return list
  }

  // MARK: Blocks

  private func scoresKey(_ step: FusedNPUAttention.Step) -> [Int] {
    let tile = step.tile
    var key = [
      0, step.turns.bits, step.slot, step.place, tile.positions, tile.heads, step.keys.count,
      step.isFirst ? 1 : 0,
    ]
    if isMasked(step) { key.append(tile.firstPosition - step.keys.lowerBound) }
    return key
  }

  /// Whether a rule masks some of a stack: then what is issued depends on where it lies.
  private func isMasked(_ step: FusedNPUAttention.Step) -> Bool {
    let options = attention.options
    return options.maskMode != .full
      && options.mask.verdict(
        firstRow: step.tile.firstPosition, rows: step.tile.positions,
        firstKey: step.keys.lowerBound, keys: step.keys.count) != .all
  }

  private func productsKey(_ step: FusedNPUAttention.Step) -> [Int] {
    [
      1, step.turns.bits, step.slot, step.place, step.tile.positions, step.tile.heads,
      step.keys.count,
      step.isFirst ? 1 : 0, step.isLast ? 1 : 0,
    ]
  }

  private func emptyKey(_ tile: NPUQueryTile) -> [Int] { [2, tile.positions, tile.heads] }

  private func issueScores(_ step: FusedNPUAttention.Step) throws(DeviceError) {
    try core.block(scoresKey(step)) { () throws(DeviceError) in
      try multiplyScores(step)
      for index in buffers.vectors.indices { try softmax(step, unit: index) }
      try core.handOver(
        flag: Flag.probabilities + step.slot, from: buffers.vectors.map(\.unit), pipe: .store)
    }
  }

  private func issueProducts(_ step: FusedNPUAttention.Step) throws(DeviceError) {
    try core.block(productsKey(step)) { () throws(DeviceError) in
      try multiplyValues(step)
      if !step.isFirst { core.mark("rescales") }
      for index in buffers.vectors.indices {
        try update(step, unit: index)
        if step.isLast { try finish(step.tile, place: step.place, unit: index) }
      }
    }
  }

  private func issueEmpty(_ tile: NPUQueryTile) throws(DeviceError) {
    try core.block(emptyKey(tile)) { () throws(DeviceError) in
      for index in buffers.vectors.indices { try finishEmpty(tile, unit: index) }
    }
  }

  enum Flag {
    static let scores = 0
    static let probabilities = 64
    static let products = 128
  }

  // MARK: Cube

  /// First element of a slot of this core in an array of slots.
  func slotStart(_ slot: Int, elements: Int) -> Int {
    (number * plan.slots + slot) * plan.blockRows * elements
  }

  private func multiplyScores(_ step: FusedNPUAttention.Step) throws(DeviceError) {
    let tile = step.tile
    let shape = attention.shape
    let queries = buffers.queries[step.place]
    if step.isFirst {
      try core.loadFractals(
        attention.arrays.queries,
        GlobalWindow(
          offset: (tile.firstPosition * shape.heads + tile.firstHead) * width, groups: tile.heads,
          groupPitch: width, rows: tile.positions, rowPitch: shape.heads * width, columns: width),
        into: queries)
    }
    for (block, keys) in blocks(of: step).enumerated() {
      let loaded = buffers.keys[(step.turns.keys + block) % 2]
      try core.loadFractals(
        attention.arrays.keys, keyWindow(keys, of: tile), into: loaded)
      let sums =
        isSplit
        ? buffers.sums[(step.turns.sums + block) % 2]
        : buffers.sums[step.slot * (plan.firstLevelKeys / plan.secondLevelKeys) + block]
      // As much of d at a time as half an operand buffer holds of the larger operand.
      let depth = depth(rows: max(tile.rows, keys.count))
      for (part, column) in stride(from: 0, to: width, by: depth).enumerated() {
        let columns = min(depth, width - column)
        let half = (step.turns.keys + block + part) % 2
        try core.loadOperand(
          queries, matrixRows: tile.rows, column: column, rows: tile.rows, columns: columns,
          into: buffers.left[half])
        try core.loadOperand(
          loaded, matrixRows: keys.count, column: column, rows: keys.count, columns: columns,
          into: buffers.right[half])
        try core.multiply(
          buffers.left[half], buffers.right[half], into: sums, m: tile.rows, n: keys.count,
          k: columns, accumulating: part > 0)
      }
      if let exchange = attention.exchange {
        try core.storeSums(
          sums, to: exchange.scores,
          GlobalWindow(
            offset: slotStart(step.slot, elements: plan.firstLevelKeys)
              + keys.lowerBound - step.keys.lowerBound,
            rows: tile.rows, rowPitch: plan.firstLevelKeys, columns: keys.count),
          slot: buffers.scoreSlots[step.slot])
      }
    }
    try core.handOver(flag: Flag.scores + step.slot, from: [0], pipe: isSplit ? .fix : .cube)
  }

  private func multiplyValues(_ step: FusedNPUAttention.Step) throws(DeviceError) {
    let tile = step.tile
    for vector in buffers.vectors {
      try core.wait(
        flag: Flag.probabilities + step.slot, of: vector.unit, unit: 0,
        pipe: isSplit ? .load : .operand)
    }
    // The right operand is d × keys.
    let depth = depth(rows: max(tile.rows, width))
    let product = isSplit ? buffers.sums[step.turns.sums] : buffers.product
    var part = 0
    for (block, keys) in blocks(of: step).enumerated() {
      let first = keys.lowerBound - step.keys.lowerBound
      let probabilities: NPUTile
      if let exchange = attention.exchange {
        probabilities = buffers.probabilities[(step.turns.values + block) % 2]
        try core.loadFractals(
          exchange.probabilities,
          GlobalWindow(
            offset: slotStart(step.slot, elements: plan.firstLevelKeys) + first, rows: tile.rows,
            rowPitch: plan.firstLevelKeys, columns: keys.count),
          into: probabilities, slot: buffers.probabilitySlots[step.slot])
      } else {
        probabilities = buffers.probabilities[step.slot]
      }
      let loaded = buffers.values[(step.turns.values + block) % 2]
      try core.loadFractals(attention.arrays.values, keyWindow(keys, of: tile), into: loaded)
      for key in stride(from: 0, to: keys.count, by: depth) {
        let count = min(depth, keys.count - key)
        let half = (step.turns.values + part) % 2
        try core.loadOperand(
          probabilities, matrixRows: tile.rows, column: (isSplit ? 0 : first) + key,
          rows: tile.rows, columns: count, into: buffers.left[half])
        try core.loadOperand(
          loaded, matrixRows: keys.count, row: key, rows: count, columns: width, transposed: true,
          into: buffers.right[half])
        try core.multiply(
          buffers.left[half], buffers.right[half], into: product, m: tile.rows, n: width, k: count,
          accumulating: part > 0)
        part += 1
      }
    }
    if let exchange = attention.exchange {
      try core.storeSums(
        product, to: exchange.products,
        GlobalWindow(
          offset: slotStart(step.slot, elements: width), rows: tile.rows, rowPitch: width,
          columns: width),
        slot: buffers.productSlots[step.slot])
    }
    try core.handOver(flag: Flag.products + step.slot, from: [0], pipe: isSplit ? .fix : .cube)
  }

  /// Second-level blocks of a stack.
  func blocks(of step: FusedNPUAttention.Step) -> [Range<Int>] {
    stride(from: step.keys.lowerBound, to: step.keys.upperBound, by: plan.secondLevelKeys).map {
      $0..<min(step.keys.upperBound, $0 + plan.secondLevelKeys)
    }
  }

  private func keyWindow(_ keys: Range<Int>, of tile: NPUQueryTile) -> GlobalWindow {
    let pitch = attention.shape.keyValueHeads * width
    return GlobalWindow(
      offset: keys.lowerBound * pitch + tile.keyValueHead * width, rows: keys.count,
      rowPitch: pitch, columns: width)
  }

  /// The most columns, in whole fractals, of an operand with so many rows in half an operand buffer;
  /// 128 at most.
  private func depth(rows: Int) -> Int {
    let half = min(attention.spec.capacity(.l0a), attention.spec.capacity(.l0b)) / 2
    let fitting = half / (FractalLayout.padded(rows) * 2) / 16 * 16
    return max(16, min(128, fitting))
  }
}
