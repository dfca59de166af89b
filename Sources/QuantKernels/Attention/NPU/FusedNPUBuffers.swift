import DeviceModel

/// The tiles of one core of a fused attention.
struct FusedNPUBuffers {
  /// L1: queries by place, keys, values and probabilities twice each; on a coupled part the
  /// probabilities of a whole stack by slot.
  var queries: [NPUTile] = []
  var keys: [NPUTile] = []
  var values: [NPUTile] = []
  var probabilities: [NPUTile] = []
  /// Halves of the operand buffers.
  var left: [NPUTile] = []
  var right: [NPUTile] = []
  /// L0C: on a split part two halves, in turn for scores and products; on a coupled one the
  /// second-level blocks of each slot's scores, and apart from them the product.
  var sums: [NPUTile] = []
  var product: NPUTile
  /// Slots of global memory; split parts.
  var scoreSlots: [NPUTile] = []
  var probabilitySlots: [NPUTile] = []
  var productSlots: [NPUTile] = []
  var vectors: [Vector] = []

  /// The unified buffer of one vector unit.
  struct Vector {
    let unit: Int
    /// Pieces of scores, in flight in turn.
    var scores: [NPUTile]
    var work: NPUTile
    var product: NPUTile
    var mask: NPUTile
    var output: NPUTile
    var halves: NPUTile
    /// A block of eight for each row.
    var spread: NPUTile
    /// Row statistics by place: maximum, sum. By slot: factor of the rescale.
    var maxima: [NPUTile]
    var sums: [NPUTile]
    var factors: [NPUTile]
    /// Scratch rows.
    var found: NPUTile
    var newMaximum: NPUTile
    var safeMaximum: NPUTile
    var rest: NPUTile
  }

  /// Rows of a vector unit.
  static func unitRows(_ plan: FusedNPUPlan, _ spec: NPUSpec) -> Int {
    let units = spec.coupling == .coupled ? 1 : spec.vectorUnits.wholeNumber
    return (plan.blockRows + units - 1) / units
  }

  /// Floats of a row statistic: pieces of fewer than eight rows start at whole blocks.
  static func statisticCount(_ plan: FusedNPUPlan, _ spec: NPUSpec) -> Int {
    let rows = unitRows(plan, spec)
    let piece = plan.pieceRows
    return piece >= 8 ? (rows + 7) / 8 * 8 : (rows + piece - 1) / piece * 8
  }

  /// Floats of a tile's row sums in global memory.
  static func rowSumPitch(_ plan: FusedNPUPlan, _ spec: NPUSpec) -> Int {
    statisticCount(plan, spec) * (spec.coupling == .coupled ? 1 : spec.vectorUnits.wholeNumber)
  }

  init(_ core: NPUCore, _ plan: FusedNPUPlan, _ shape: NPUAttentionShape) throws(DeviceError) {
    let spec = core.spec
    let isSplit = spec.coupling == .split
    let rows = plan.blockRows
    let width = shape.headDimension
    func halves(_ rows: Int, _ columns: Int) -> Int {
      FractalLayout.bytes(rows: rows, columns: columns, elementBytes: 2)
    }
    func floats(_ rows: Int, _ columns: Int) -> Int {
      FractalLayout.bytes(rows: rows, columns: columns, elementBytes: 4)
    }
    for place in 0..<plan.slots {
      queries.append(try core.allocate(.l1, bytes: halves(rows, width), "queries \(place)"))
    }
    for half in 0..<2 {
      keys.append(
        try core.allocate(.l1, bytes: halves(plan.secondLevelKeys, width), "keys \(half)"))
      values.append(
        try core.allocate(.l1, bytes: halves(plan.secondLevelKeys, width), "values \(half)"))
      left.append(try core.allocate(.l0a, bytes: spec.capacity(.l0a) / 2, "left \(half)"))
      right.append(try core.allocate(.l0b, bytes: spec.capacity(.l0b) / 2, "right \(half)"))
    }
    if isSplit {
      for half in 0..<2 {
        probabilities.append(
          try core.allocate(
            .l1, bytes: halves(rows, plan.secondLevelKeys), "probabilities \(half)"))
        sums.append(
          try core.allocate(
            .l0c, bytes: max(floats(rows, plan.secondLevelKeys), floats(rows, width)),
            "sums \(half)"))
      }
      product = sums[0]
      for slot in 0..<plan.slots {
        scoreSlots.append(try core.globalSlot("scores \(slot)"))
        probabilitySlots.append(try core.globalSlot("probabilities \(slot)"))
        productSlots.append(try core.globalSlot("products \(slot)"))
      }
    } else {
      product = try core.allocate(.l0c, bytes: floats(rows, width), "product")
      for slot in 0..<plan.slots {
        probabilities.append(
          try core.allocate(
            .l1, bytes: halves(rows, plan.firstLevelKeys), "probabilities \(slot)"))
        for block in 0..<plan.firstLevelKeys / plan.secondLevelKeys {
          sums.append(
            try core.allocate(
              .l0c, bytes: floats(rows, plan.secondLevelKeys), "scores \(slot), \(block)"))
        }
      }
    }
    for unit in isSplit ? Array(1..<spec.unitsPerCore) : [0] {
      vectors.append(try Self.vector(core, plan, shape, unit: unit))
    }
  }

  /// Pieces of scores stand in the first 64 KiB, their results in the second, outputs and
  /// probabilities in the third, so that no repeat reads and writes one bank; the products start
  /// half a row of banks on, so that adding them to the work area reads each group once.
  private static func vector(
    _ core: NPUCore, _ plan: FusedNPUPlan, _ shape: NPUAttentionShape, unit: Int
  ) throws(DeviceError) -> Vector {
    func tile(_ name: String, _ bytes: Int, at address: Int? = nil) throws(DeviceError) -> NPUTile {
      try core.allocate(.ub, unit: unit, bytes: bytes, at: address, "\(name) of unit \(unit)")
    }
    let piece = FusedNPUPlan.pieceElements
    let rows = unitRows(plan, core.spec)
    let pitch = (shape.headDimension + 15) / 16 * 16
    // 512 bytes are a row of all bank groups: whole ones, so that conflicts are those of every slot.
    let statistic = (statisticCount(plan, core.spec) * 4 + 511) / 512 * 512
    let scores = [try tile("scores 0", piece * 4), try tile("scores 1", piece * 4)]
    let work = try tile("work", piece * 4)
    let product = try tile(
      "product", FusedNPUPlan.productElements * 4, at: work.address + work.byteCount + 256)
    let mask = try tile("mask", piece)
    let output = try tile(
      "output", rows * pitch * 4,
      at: max(
        core.spec.bankRule == nil ? 0 : 2 << 16, mask.address + mask.byteCount))
    let halves = try tile("probabilities", piece * 2)
    let spread = try tile("spread", rows * 32)
    func rowTiles(_ name: String) throws(DeviceError) -> [NPUTile] {
      var list: [NPUTile] = []
      for number in 0..<plan.slots { list.append(try tile("\(name) \(number)", statistic)) }
      return list
    }
    return Vector(
      unit: unit, scores: scores, work: work, product: product, mask: mask, output: output,
      halves: halves, spread: spread, maxima: try rowTiles("maxima"), sums: try rowTiles("sums"),
      factors: try rowTiles("factors"), found: try tile("found", statistic),
      newMaximum: try tile("new maximum", statistic),
      safeMaximum: try tile("safe maximum", statistic), rest: try tile("rest", statistic))
  }
}
