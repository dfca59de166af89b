import DeviceModel

/// Standard attention on a simulated NPU: every score goes to global memory. Kernels one after
/// another: scores, softmax (or scale, mask and softmax apart), product with the values.
///
/// Nothing is skipped; a mask is a byte for each query and key, read for every head.
struct UnfusedNPUAttention {
  let spec: NPUSpec
  let shape: NPUAttentionShape
  let options: NPUAttentionOptions
  let carriesValues: Bool
  let arrays: NPUAttentionArrays
  let scores: NPUGlobal
  let probabilities: NPUGlobal
  let tiles: NPUAttentionTiles
  /// Keys of a block of the cube's loops that is issued at once.
  let stackKeys: Int
  let blockKeys: Int
  let blockRows: Int

  var isSplit: Bool { spec.coupling == .split }
  /// Rows of scores: those of all heads.
  var rowCount: Int { shape.heads * shape.queryLength }
  var scale: Float { options.scale ?? 1 / Float(shape.headDimension).squareRoot() }

  init(
    _ shape: NPUAttentionShape, _ options: NPUAttentionOptions, on spec: NPUSpec,
    carriesValues: Bool
  ) throws {
    guard options.maskMode == .full || options.mask == .none else {
      throw QuantError(
        .unsupported, "unfused NPU attention", "mask mode \(options.maskMode.rawValue)",
        remedy: "standard attention reads a stored mask: use full")
    }
    self.spec = spec
    self.shape = shape
    self.options = options
    self.carriesValues = carriesValues
    blockRows = options.blockRows ?? (shape.headDimension <= 128 ? 128 : 64)
    blockKeys = options.secondLevelKeys
    stackKeys = options.firstLevelKeys ?? 4 * options.secondLevelKeys
    tiles = NPUAttentionTiles(shape, blockRows: blockRows, mask: nil, blockKeys: blockKeys)
    let cores = spec.cores.wholeNumber
    arrays = try NPUAttentionArrays(
      shape, options, liveHeads: tiles.liveHeads(cores: cores), tileExtents: (1, 1),
      rowSumCount: 0, carriesValues: carriesValues)
    let count = shape.heads * shape.queryLength * shape.keyLength
    func array(_ name: String, _ bytes: Int) throws(DeviceError) -> NPUGlobal {
      try NPUGlobal(
        NPURegion(name, .workspace, distinctBytes: count * bytes), count: count,
        elementBytes: bytes, carriesValues: carriesValues)
    }
    scores = try array(NPUAttentionArrays.Name.scores, options.separatePasses ? 2 : 4)
    probabilities = try array(NPUAttentionArrays.Name.probabilities, 2)
  }

  /// Runs all cores with values, or counts all tiles and records the core with the most work.
  func run() throws(DeviceError) -> [NPULaunch] {
    var launches = [try cubeLaunch("scores", isScores: true)]
    let masked = options.mask != .none
    if shape.keyLength > 0 {
      if options.separatePasses {
        launches.append(
          try rowLaunch(UnfusedRowPass(name: "scale", scales: true, from: scores, to: scores)))
        if masked {
          launches.append(
            try rowLaunch(UnfusedRowPass(name: "mask", masks: true, from: scores, to: scores)))
        }
      }
      launches.append(
        try rowLaunch(
          UnfusedRowPass(
            name: "softmax", scales: !options.separatePasses,
            masks: masked && !options.separatePasses, normalizes: true, from: scores,
            to: probabilities)))
    }
    launches.append(try cubeLaunch("product", isScores: false))
    return launches
  }

  private func launch(
    _ name: String, _ programs: [NPUProgram], _ counters: NPUCounters, _ peaks: [NPUMemory: Int],
    coresUsed: Int
  ) -> NPULaunch {
    NPULaunch(
      name: name, programs: programs, coresUsed: coresUsed, counters: counters, peakBytes: peaks,
      workspaceBytes: scores.region.distinctBytes + probabilities.region.distinctBytes,
      regions: arrays.regions + [scores.region, probabilities.region])
  }

  private func cubeLaunch(_ name: String, isScores: Bool) throws(DeviceError) -> NPULaunch {
    let used = min(spec.cores.wholeNumber, tiles.count)
    var programs: [NPUProgram] = []
    var peaks: [NPUMemory: Int] = [:]
    var counters = NPUCounters()
    let lists = tiles.assigned(to: max(1, used))
    // All tiles have the same keys: the first core has the most of them, or as many.
    let most = lists.indices.max { (lists[$0].count, $1) < (lists[$1].count, $0) } ?? 0
    for (number, list) in lists.enumerated()
    where !list.isEmpty && (carriesValues || number == most) {
      let core = try UnfusedNPUCube(self, isScores: isScores)
      try core.run(list)
      programs.append(core.core.program)
      peaks.merge(core.core.peakBytes, uniquingKeysWith: max)
      if carriesValues {
        counters.add(core.core.program.counters)
      } else {
        for (tile, count) in tiles.classes {
          counters.add(try core.counters(of: tile), times: count)
        }
      }
    }
    return launch(name, programs, counters, peaks, coresUsed: used)
  }

  private func rowLaunch(_ pass: UnfusedRowPass) throws(DeviceError) -> NPULaunch {
    let units = isSplit ? spec.vectorUnits.wholeNumber : 1
    let rows = UnfusedNPURows.rows(of: shape)
    // Both pieces of a unit, so that its two buffers take turns inside a block.
    let perTask = 2 * rows * units
    let tasks = (rowCount + perTask - 1) / perTask
    let used = min(spec.cores.wholeNumber, tasks)
    var programs: [NPUProgram] = []
    var peaks: [NPUMemory: Int] = [:]
    var counters = NPUCounters()
    func range(_ task: Int) -> Range<Int> { task * perTask..<min(rowCount, (task + 1) * perTask) }
    for number in 0..<used where carriesValues || number == 0 {
      let core = try UnfusedNPURows(self, pass)
      if !carriesValues, !pass.masks, tasks > used {
        // Alike but for the last task of all.
        let own = (tasks - number - 1) / used + 1
        let last = number + (own - 1) * used
        try core.run(range(number), times: own - 1)
        try core.run(range(last))
      } else {
        for task in stride(from: number, to: tasks, by: used) { try core.run(range(task)) }
      }
      programs.append(core.core.program)
      peaks.merge(core.core.peakBytes, uniquingKeysWith: max)
      if carriesValues {
        counters.add(core.core.program.counters)
      } else {
        // Tasks are alike but for the last, and, where a mask is read, for those that two heads
        // share.
        var kinds: [[Int]: (task: Int, count: Int)] = [:]
        for task in pass.masks ? Array(0..<tasks) : [0, tasks - 1] {
          kinds[core.key(range(task)), default: (task, 0)].count += 1
        }
        if !pass.masks { kinds[core.key(range(0)), default: (0, 0)].count += tasks - 2 }
        for kind in kinds.values where kind.count > 0 {
          counters.add(try core.counters(of: range(kind.task)), times: kind.count)
        }
      }
    }
    return launch(pass.name, programs, counters, peaks, coresUsed: used)
  }
}

/// One core of a standard attention's products: queries by keys, or probabilities by values.
final class UnfusedNPUCube {
  let attention: UnfusedNPUAttention
  let core: NPUCore
  private let isScores: Bool
  private var left: [NPUTile] = []
  private var right: [NPUTile] = []
  private var leftOperands: [NPUTile] = []
  private var rightOperands: [NPUTile] = []
  private var sums: [NPUTile] = []
  /// On a coupled part sums leave through the unified buffer.
  private var floats: [NPUTile] = []
  private var halves: [NPUTile] = []

  init(_ attention: UnfusedNPUAttention, isScores: Bool) throws(DeviceError) {
    self.attention = attention
    self.isScores = isScores
    core = try NPUCore(attention.spec, carriesValues: attention.carriesValues)
    let width = attention.shape.headDimension
    let (rows, keys) = (attention.blockRows, attention.blockKeys)
    for half in 0..<2 {
      left.append(
        try core.allocate(
          .l1,
          bytes: FractalLayout.bytes(rows: rows, columns: isScores ? width : keys, elementBytes: 2),
          "left \(half)"))
      right.append(
        try core.allocate(
          .l1, bytes: FractalLayout.bytes(rows: keys, columns: width, elementBytes: 2),
          "right \(half)"))
      leftOperands.append(
        try core.allocate(.l0a, bytes: core.spec.capacity(.l0a) / 2, "left operand \(half)"))
      rightOperands.append(
        try core.allocate(.l0b, bytes: core.spec.capacity(.l0b) / 2, "right operand \(half)"))
      sums.append(
        try core.allocate(
          .l0c,
          bytes: FractalLayout.bytes(rows: rows, columns: isScores ? keys : width, elementBytes: 4),
          "sums \(half)"))
      if !attention.isSplit {
        floats.append(
          try core.allocate(.ub, bytes: FusedNPUPlan.pieceElements * 4, "floats \(half)"))
        halves.append(
          try core.allocate(.ub, bytes: FusedNPUPlan.pieceElements * 2, "halves \(half)"))
      }
    }
  }

  private var width: Int { attention.shape.headDimension }

  func run(_ tiles: [NPUQueryTile]) throws(DeviceError) {
    var steps = 0
    for tile in tiles {
      let stacks = stacks(of: tile)
      var index = 0
      while index < stacks.count {
        // Whole stacks in the middle are alike.
        let isMiddle = index > 0 && index < stacks.count - 1 && !core.carriesValues
        let times = isMiddle ? stacks.count - 1 - index : 1
        try issue(tile, stacks[index], times: times)
        index += times
      }
      steps = min(stacks.count, 3)
    }
    core.hintPeriods([steps])
  }

  func counters(of tile: NPUQueryTile) throws(DeviceError) -> NPUCounters {
    var uses: [[Int]: Int] = [:]
    for keys in stacks(of: tile) { uses[key(tile, keys), default: 0] += 1 }
    // Blocks are issued on a core of their own when this one had none of their kind.
    var scratch: UnfusedNPUCube?
    var sum = NPUCounters()
    for keys in stacks(of: tile) {
      guard let count = uses.removeValue(forKey: key(tile, keys)) else { continue }
      if core.counters(ofBlock: key(tile, keys)) == nil {
        if scratch == nil { scratch = try UnfusedNPUCube(attention, isScores: isScores) }
        try scratch?.issue(tile, keys)
      }
      if let counters = core.counters(ofBlock: key(tile, keys))
        ?? scratch?.core.counters(ofBlock: key(tile, keys))
      {
        sum.add(counters, times: count)
      }
    }
    return sum
  }

  private func stacks(of tile: NPUQueryTile) -> [Range<Int>] {
    let step = attention.stackKeys
    if tile.keys.isEmpty { return isScores ? [] : [0..<0] }
    return stride(from: 0, to: tile.keys.upperBound, by: step).map {
      $0..<min(tile.keys.upperBound, $0 + step)
    }
  }

  private func key(_ tile: NPUQueryTile, _ keys: Range<Int>) -> [Int] {
    [
      tile.positions, tile.heads, keys.count, keys.lowerBound == 0 ? 1 : 0,
      keys.upperBound == tile.keys.upperBound ? 1 : 0,
    ]
  }

  private func issue(
    _ tile: NPUQueryTile, _ keys: Range<Int>, times: Int = 1
  ) throws(DeviceError) {
    try core.block(key(tile, keys), times: times) { () throws(DeviceError) in
      if isScores {
        try multiplyScores(tile, keys)
      } else if !keys.isEmpty {
        try multiplyValues(tile, keys)
      }
    }
  }

  private func blocks(_ keys: Range<Int>) -> [Range<Int>] {
    stride(from: keys.lowerBound, to: keys.upperBound, by: attention.blockKeys).map {
      $0..<min(keys.upperBound, $0 + attention.blockKeys)
    }
  }

  private func keyWindow(_ keys: Range<Int>, _ tile: NPUQueryTile) -> GlobalWindow {
    let pitch = attention.shape.keyValueHeads * width
    return GlobalWindow(
      offset: keys.lowerBound * pitch + tile.keyValueHead * width, rows: keys.count,
      rowPitch: pitch, columns: width)
  }

  /// The tile's rows of an array of scores.
  private func scoreWindow(_ keys: Range<Int>, _ tile: NPUQueryTile) -> GlobalWindow {
    let shape = attention.shape
    return GlobalWindow(
      offset: (tile.firstHead * shape.queryLength + tile.firstPosition) * shape.keyLength
        + keys.lowerBound,
      groups: tile.heads, groupPitch: shape.queryLength * shape.keyLength, rows: tile.positions,
      rowPitch: shape.keyLength, columns: keys.count)
  }

  /// The tile's rows of the queries or the output.
  private func rowWindow(_ tile: NPUQueryTile) -> GlobalWindow {
    let heads = attention.shape.heads
    return GlobalWindow(
      offset: (tile.firstPosition * heads + tile.firstHead) * width, groups: tile.heads,
      groupPitch: width, rows: tile.positions, rowPitch: heads * width, columns: width)
  }

  private func depth(rows: Int) -> Int {
    let half = min(core.spec.capacity(.l0a), core.spec.capacity(.l0b)) / 2
    return max(16, min(128, half / (FractalLayout.padded(rows) * 2) / 16 * 16))
  }

  private func multiplyScores(_ tile: NPUQueryTile, _ keys: Range<Int>) throws(DeviceError) {
    if keys.lowerBound == 0 {
      try core.loadFractals(attention.arrays.queries, rowWindow(tile), into: left[0])
    }
    for (block, keys) in blocks(keys).enumerated() {
      let half = block % 2
      try core.loadFractals(attention.arrays.keys, keyWindow(keys, tile), into: right[half])
      let depth = depth(rows: max(tile.rows, keys.count))
      for (part, column) in stride(from: 0, to: width, by: depth).enumerated() {
        let columns = min(depth, width - column)
        let buffer = (block + part) % 2
        try core.loadOperand(
          left[0], matrixRows: tile.rows, column: column, rows: tile.rows, columns: columns,
          into: leftOperands[buffer])
        try core.loadOperand(
          right[half], matrixRows: keys.count, column: column, rows: keys.count, columns: columns,
          into: rightOperands[buffer])
        try core.multiply(
          leftOperands[buffer], rightOperands[buffer], into: sums[half], m: tile.rows,
          n: keys.count, k: columns, accumulating: part > 0)
      }
      try store(
        sums[half], tile, columns: keys.count, to: attention.scores, scoreWindow(keys, tile))
    }
  }

  private func multiplyValues(_ tile: NPUQueryTile, _ keys: Range<Int>) throws(DeviceError) {
    let depth = depth(rows: max(tile.rows, width))
    var part = 0
    for (block, range) in blocks(keys).enumerated() {
      let half = block % 2
      try core.loadFractals(
        attention.probabilities, scoreWindow(range, tile), into: left[half])
      try core.loadFractals(attention.arrays.values, keyWindow(range, tile), into: right[half])
      for key in stride(from: 0, to: range.count, by: depth) {
        let count = min(depth, range.count - key)
        let buffer = part % 2
        try core.loadOperand(
          left[half], matrixRows: tile.rows, column: key, rows: tile.rows, columns: count,
          into: leftOperands[buffer])
        try core.loadOperand(
          right[half], matrixRows: range.count, row: key, rows: count, columns: width,
          transposed: true, into: rightOperands[buffer])
        try core.multiply(
          leftOperands[buffer], rightOperands[buffer], into: sums[0], m: tile.rows, n: width,
          k: count, accumulating: keys.lowerBound > 0 || part > 0)
        part += 1
      }
    }
    if keys.upperBound == tile.keys.upperBound {
      try store(
        sums[0], tile, columns: width, to: attention.arrays.output, rowWindow(tile))
    }
  }

  /// Sums of a tile to an array, rounded to its elements.
  private func store(
    _ sums: NPUTile, _ tile: NPUQueryTile, columns: Int, to array: NPUGlobal, _ window: GlobalWindow
  ) throws(DeviceError) {
    if attention.isSplit {
      try core.storeSums(sums, to: array, window)
      return
    }
    let pitch = (columns + 31) / 32 * 32
    let size = max(1, FusedNPUPlan.pieceElements / pitch)
    for (number, first) in stride(from: 0, to: tile.rows, by: size).enumerated() {
      let rows = first..<min(tile.rows, first + size)
      let values = UBMatrix(floats[number % 2], rows: rows.count, columns: columns, pitch: pitch)
      try core.sumsToVector(
        sums, matrixRows: tile.rows, row: first, rows: rows.count, columns: columns, into: values)
      var source = values
      if array.elementBytes == 2 {
        source = UBMatrix(
          halves[number % 2], rows: rows.count, columns: columns, pitch: pitch, elementBytes: 2)
        try core.convert(values, into: source)
      }
      for segment in tile.segments(rows) {
        var part = source
        part.byte = (segment.row - first) * pitch * source.elementBytes
        part.rows = segment.rows
        try core.storeRows(
          part, to: array,
          GlobalWindow(
            offset: window.offset + segment.row / tile.positions * window.groupPitch
              + segment.row % tile.positions * window.rowPitch,
            rows: segment.rows, rowPitch: window.rowPitch, columns: columns))
      }
    }
  }
}
