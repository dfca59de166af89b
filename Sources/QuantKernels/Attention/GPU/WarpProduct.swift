import DeviceModel

/// How a warp multiplies: which instruction, how its parts stand side by side, and where each lane's
/// elements belong. All from the ``Fragment`` table.
///
/// A *block* is what one accumulator of eight floats a lane covers. On Volta's m8n8k4 the four
/// quad-pairs stand two by two (`square`: 16 × 16, each operand held twice) or one below the other
/// (`rows`: 32 × 8, the right operand held four times); on Ampere two m16n8k16 stand side by side
/// (16 × 16).
///
/// Where quad-pairs stand is free, as is which row or column of a block each of their rows and columns
/// is. Chosen here: rows 0…3 of quad-pair groups 0 and 1 are rows 0…3 and 4…7 of the block. The eight
/// lanes that shared memory serves together are quads 0 and 1 or quads 2 and 3 of one half warp, so
/// they then read eight consecutive rows, which ``OperandTile`` keeps apart.
struct WarpProduct: Sendable, Hashable {
  enum Family: String, Sendable, Hashable {
    case square
    case rows
    case ampere
  }

  let family: Family

  /// Rows and columns of a block.
  var rows: Int { family == .rows ? 32 : 16 }
  var columns: Int { family == .rows ? 8 : 16 }
  /// k of one load of a score's operands.
  var depth: Int { family == .ampere ? 16 : 8 }
  /// Keys and columns of one load of values.
  var valueKeys: Int { family == .ampere ? 16 : 4 }
  var valueColumns: Int { family == .square ? 32 : 16 }
  /// Blocks that one load of values covers.
  var blocksPerValueLoad: Int { valueColumns / columns }
  /// Words of the left operand of P·V in a block: pairs of neighboring keys.
  var leftWords: Int { family == .square ? 8 : 4 }
  /// Instructions that one left and one right load feed.
  var instructionsPerLoad: Int { 2 }
  var shape: MatrixShape { family == .ampere ? .m16n8k16 : .m8n8k4 }

  // MARK: Where lanes stand

  /// Volta's lane: its number inside the quad-pair and the pair's row and column group.
  private func seat(_ lane: Int) -> (t: Int, row: Int, column: Int) {
    let pair = lane >> 2 & 3
    return (
      lane & 3 | (lane >> 4) << 2, family == .rows ? pair : pair >> 1,
      family == .rows ? 0 : pair & 1
    )
  }

  /// Row `index` of an instruction's eight in a row group.
  private func row(_ index: Int, group: Int) -> Int {
    index & 3 | (group & 1) << 2 | (index >> 2) << 3 | (group >> 1) << 4
  }

  /// Column `index` of an instruction's eight in a column group.
  private func column(_ index: Int, group: Int) -> Int {
    family == .rows ? index : index & 3 | group << 2 | (index >> 2) << 3
  }

  /// The row and column in a block of a lane's element 0…7, sums in float32.
  func place(lane: Int, element: Int) -> (row: Int, column: Int) {
    if family == .ampere {
      let at = Fragment.mmaM16N8K16C.coordinate(lane: lane, element: element & 3)
      return (at.row, at.column + element / 4 * 8)
    }
    let at = Fragment.voltaCFloat.coordinate(lane: lane, element: element)
    let seat = seat(lane)
    return (row(at.row, group: seat.row), column(at.column, group: seat.column))
  }

  /// The same where sums are binary16 (Volta alone).
  func halfPlace(lane: Int, element: Int) -> (row: Int, column: Int) {
    let at = Fragment.voltaCHalf.coordinate(lane: lane, element: element)
    let seat = seat(lane)
    return (row(at.row, group: seat.row), column(at.column, group: seat.column))
  }

  /// Which of a lane's two rows an element is in.
  static func slot(_ element: Int) -> Int { element >> 1 & 1 }

  /// Distances over which a row's partial results are gathered, sums in float32.
  var rowDistances: [Int] {
    switch family {
    case .square: [2, 4]
    case .rows: [2]
    case .ampere: [1, 2]
    }
  }

  /// The same where sums are binary16.
  var halfRowDistances: [Int] { family == .square ? [4] : [] }

  /// The row and first pair of keys that word `index` of the left operand of P·V holds.
  func leftPlace(lane: Int, word: Int) -> (row: Int, column: Int) {
    if family == .ampere {
      let at = Fragment.mmaM16N8K16A.coordinate(lane: lane, element: 2 * word)
      return (at.row, at.column)
    }
    // Two words a k4 step, whose keys are 4·step….
    let seat = seat(lane)
    let at = Fragment.voltaARowMajor.coordinate(lane: lane, element: word % 2 * 2)
    return (row(at.row, group: seat.row), word / 2 * 4 + at.column)
  }

  // MARK: Addresses

  /// What a lane reads of a left operand `[row, k]`, one block and one `depth` of it.
  func leftSource(lane: Int) -> (row: Int, column: Int) {
    if family == .ampere { return (lane % 16, lane / 16 * 8) }
    let seat = seat(lane)
    return (row(seat.t, group: seat.row), 0)
  }

  /// What a lane reads of a right operand stored `[n, k]`.
  func rightSource(lane: Int) -> (row: Int, column: Int) {
    if family == .ampere { return (lane / 16 * 8 + lane % 8, lane / 8 % 2 * 8) }
    let seat = seat(lane)
    return (column(seat.t, group: seat.column), 0)
  }

  /// What a lane reads of a right operand stored `[k, n]`: 16 bytes, for Volta two instructions' four
  /// columns each. The unit of eight columns takes the column group's bit as bit 2, so that four keys
  /// and two groups are eight different units when swizzled by the key.
  func valueSource(lane: Int, load: Int) -> (row: Int, column: Int) {
    if family == .ampere { return (lane % 16, load * 16 + lane / 16 * 8) }
    let seat = seat(lane)
    return (seat.t & 3, 8 * unit(load, seat.column, seat.t >> 2))
  }

  private func unit(_ load: Int, _ group: Int, _ half: Int) -> Int {
    family == .rows ? half | load << 1 : half | (load & 1) << 1 | group << 2 | (load >> 1) << 3
  }

  /// The column of the output that element `element` of block `index` is.
  func outputColumn(index: Int, lane: Int, element: Int) -> Int {
    if family == .ampere { return 16 * index + place(lane: lane, element: element).column }
    let at = Fragment.voltaCFloat.coordinate(lane: lane, element: element)
    return 8 * unit(index / 2, seat(lane).column, at.column >> 2) + index % 2 * 4 + at.column & 3
  }

  /// After ``rowExchange``: the row that a lane holds, and the first of the eight columns that stand
  /// in words 0 and 1 (`half` 0) or 2 and 3 of the two blocks of value load `load`.
  func outputUnit(load: Int, half: Int, lane: Int) -> (row: Int, column: Int) {
    let seat = seat(lane)
    return (row(seat.t, group: seat.row), 8 * unit(load, seat.column, half))
  }

  // MARK: Exchanges

  private static func allLanes(_ words: Int, _ word: (Int, Int) -> LaneExchange.Word)
    -> [[LaneExchange.Word]]
  {
    (0..<32).map { lane in (0..<words).map { word(lane, $0) } }
  }

  /// From scores (four words of pairs a block) to the left operand of P·V. Ampere needs none.
  func leftExchange(halfSums: Bool) -> LaneExchange {
    LaneExchange(
      owned: Self.allLanes(4) { lane, word in
        let at =
          halfSums
          ? halfPlace(lane: lane, element: 2 * word) : place(lane: lane, element: 2 * word)
        return LaneExchange.Word(row: at.row, pair: at.column)
      },
      wanted: Self.allLanes(leftWords) { lane, word in
        let at = leftPlace(lane: lane, word: word)
        return LaneExchange.Word(row: at.row, pair: at.column)
      })
  }

  /// Inside a quad-pair, from two rows a lane to one: words of columns 0…7.
  static let rowExchange = LaneExchange(
    owned: allLanes(4) { lane, word in
      let at = Fragment.voltaCFloat.coordinate(lane: lane, element: 2 * word)
      return LaneExchange.Word(row: at.tile * 8 + at.row, pair: at.column)
    },
    wanted: allLanes(4) { lane, word in
      let at = Fragment.voltaCHalf.coordinate(lane: lane, element: 2 * word)
      return LaneExchange.Word(row: at.tile * 8 + at.row, pair: at.column)
    })

  // MARK: Instructions

  func load(_ warp: inout Warp, at addresses: Lanes<UInt32>, site: Int) throws(DeviceError)
    -> Registers4
  {
    if family == .ampere { return try warp.loadMatrix(.x4, at: addresses, site: site) }
    return try warp.loadShared(at: addresses, site: site)
  }

  func loadValues(_ warp: inout Warp, at addresses: Lanes<UInt32>, site: Int) throws(DeviceError)
    -> Registers4
  {
    if family == .ampere {
      return try warp.loadMatrix(.x4, transposed: true, at: addresses, site: site)
    }
    return try warp.loadShared(at: addresses, site: site)
  }

  /// Adds one left load times one right load to block `index`.
  func multiply(
    _ warp: inout Warp, _ left: Registers4, _ right: Registers4,
    into sums: inout [FloatAccumulator], block index: Int
  ) throws(DeviceError) {
    if family == .ampere {
      return try warp.multiply(left, right, addingTo: &sums, at: 2 * index)
    }
    try warp.multiplyVolta(
      Registers2(left.r0, left.r1), Registers2(right.r0, right.r1), addingTo: &sums,
      at: 2 * index)
    try warp.multiplyVolta(
      Registers2(left.r2, left.r3), Registers2(right.r2, right.r3), addingTo: &sums,
      at: 2 * index)
  }

  /// Adds `valueKeys` keys of P, step `step` of the words of a block, times one load of values to the
  /// blocks from `index` on.
  func multiplyValues(
    _ warp: inout Warp, _ left: [Lanes<UInt32>], step: Int, _ values: Registers4,
    into sums: inout [FloatAccumulator], block index: Int
  ) throws(DeviceError) {
    if family == .ampere {
      return try warp.multiply(
        Registers4(left[0], left[1], left[2], left[3]), values, addingTo: &sums, at: 2 * index)
    }
    let keys = Registers2(left[2 * step], left[2 * step + 1])
    try warp.multiplyVolta(
      keys, Registers2(values.r0, values.r1), addingTo: &sums, at: 2 * index, rowMajorB: true)
    try warp.multiplyVolta(
      keys, Registers2(values.r2, values.r3), addingTo: &sums, at: 2 * index + 2,
      rowMajorB: true)
  }
}
