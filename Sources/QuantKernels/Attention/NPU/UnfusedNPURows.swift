import DeviceModel

/// A pass of vector units over the rows of all scores.
struct UnfusedRowPass {
  var name: String
  var scales = false
  var masks = false
  /// Softmax of each row; else elements stay what they are otherwise.
  var normalizes = false
  var from: NPUGlobal
  var to: NPUGlobal
}

/// One core of a standard attention's passes over rows of scores. A row that no piece of the unified
/// buffer holds is read twice: for its maximum and sum, and for its probabilities.
final class UnfusedNPURows {
  let attention: UnfusedNPUAttention
  let pass: UnfusedRowPass
  let core: NPUCore
  private var units: [Unit] = []

  private struct Unit {
    let number: Int
    let loaded: [NPUTile]
    let scores: NPUTile
    let work: NPUTile
    let mask: NPUTile
    let halves: NPUTile
    let spread: NPUTile
    let maximum: NPUTile
    let sum: NPUTile
    let factor: NPUTile
    let found: NPUTile
    let newMaximum: NPUTile
    let safeMaximum: NPUTile
  }

  /// Rows of a piece: as many as fit whole, eight of longer ones.
  static func rows(of shape: NPUAttentionShape) -> Int {
    shape.keyLength > FusedNPUPlan.pieceElements / 8
      ? 8 : FusedNPUPlan.pieceRows(columns: max(1, shape.keyLength))
  }

  /// Columns of a piece: a whole row's, or what eight rows leave room for.
  static func columns(of shape: NPUAttentionShape) -> Int {
    min(shape.keyLength, FusedNPUPlan.pieceElements / 8)
  }

  init(_ attention: UnfusedNPUAttention, _ pass: UnfusedRowPass) throws(DeviceError) {
    self.attention = attention
    self.pass = pass
    core = try NPUCore(attention.spec, carriesValues: attention.carriesValues)
    let piece = FusedNPUPlan.pieceElements
    let rows = Self.rows(of: attention.shape)
    for number in attention.isSplit ? Array(1..<attention.spec.unitsPerCore) : [0] {
      func tile(_ name: String, _ bytes: Int) throws(DeviceError) -> NPUTile {
        try core.allocate(.ub, unit: number, bytes: bytes, "\(name) of unit \(number)")
      }
      func row(_ name: String) throws(DeviceError) -> NPUTile { try tile(name, rows * 4) }
      units.append(
        Unit(
          number: number,
          loaded: [
            try tile("loaded 0", piece * pass.from.elementBytes),
            try tile("loaded 1", piece * pass.from.elementBytes),
          ],
          scores: try tile("scores", piece * 4), work: try tile("work", piece * 4),
          mask: try tile("mask", piece), halves: try tile("halves", piece * 2),
          spread: try tile("spread", rows * 32), maximum: try row("maximum"), sum: try row("sum"),
          factor: try row("factor"), found: try row("found"),
          newMaximum: try row("new maximum"), safeMaximum: try row("safe maximum")))
    }
  }

  func run(_ rows: Range<Int>, times: Int = 1) throws(DeviceError) {
    try core.block(key(rows), times: times) { () throws(DeviceError) in try issue(rows) }
  }

  func counters(of rows: Range<Int>) throws(DeviceError) -> NPUCounters {
    if let known = core.counters(ofBlock: key(rows)) { return known }
    let scratch = try UnfusedNPURows(attention, pass)
    try scratch.run(rows)
    return scratch.core.program.counters
  }

  /// Where a head's rows begin inside the task decides how its mask is read.
  func key(_ rows: Range<Int>) -> [Int] {
    [rows.count] + (pass.masks ? segments(rows).map(\.rows) : [])
  }

  /// Parts of rows that belong to one head.
  private func segments(_ rows: Range<Int>) -> [(row: Int, rows: Int, position: Int)] {
    var list: [(row: Int, rows: Int, position: Int)] = []
    var row = rows.lowerBound
    while row < rows.upperBound {
      let position = row % attention.shape.queryLength
      let count = min(rows.upperBound - row, attention.shape.queryLength - position)
      list.append((row, count, position))
      row += count
    }
    return list
  }

  private func issue(_ rows: Range<Int>) throws(DeviceError) {
    let size = Self.rows(of: attention.shape)
    for (number, first) in stride(from: rows.lowerBound, to: rows.upperBound, by: size).enumerated()
    {
      let unit = units[number % units.count]
      let part = first..<min(rows.upperBound, first + size)
      let columns = Self.columns(of: attention.shape)
      let chunks = stride(from: 0, to: attention.shape.keyLength, by: columns).map {
        $0..<min(attention.shape.keyLength, $0 + columns)
      }
      if pass.normalizes, chunks.count > 1 {
        for (index, chunk) in chunks.enumerated() {
          let (scores, work) = try load(unit, part, chunk, buffer: index % 2)
          try statistics(unit, scores, work, isFirst: index == 0)
        }
        try core.apply(.oneZero, row(unit.sum, part), into: row(unit.sum, part))
        for (index, chunk) in chunks.enumerated() {
          let (scores, work) = try load(unit, part, chunk, buffer: index % 2)
          try exponentials(unit, scores, work)
          try store(unit, scores, work, part, chunk)
        }
      } else {
        for (index, chunk) in chunks.enumerated() {
          let buffer = (number / units.count + index) % 2
          let (scores, work) = try load(unit, part, chunk, buffer: buffer)
          if pass.normalizes {
            try statistics(unit, scores, work, isFirst: true)
            try core.apply(.oneZero, row(unit.sum, part), into: row(unit.sum, part))
          }
          try store(unit, scores, work, part, chunk)
        }
      }
    }
  }

  private func row(_ tile: NPUTile, _ rows: Range<Int>) -> UBMatrix {
    .vector(tile, count: rows.count)
  }

  /// Scores of a chunk in the work area, scaled and masked, and a buffer of their shape.
  private func load(
    _ unit: Unit, _ rows: Range<Int>, _ keys: Range<Int>, buffer: Int
  ) throws(DeviceError) -> (scores: UBMatrix, work: UBMatrix) {
    let pitch = (keys.count + 31) / 32 * 32
    let length = attention.shape.keyLength
    let loaded = UBMatrix(
      unit.loaded[buffer], rows: rows.count, columns: keys.count, pitch: pitch,
      elementBytes: pass.from.elementBytes)
    try core.loadRows(
      pass.from,
      GlobalWindow(
        offset: rows.lowerBound * length + keys.lowerBound, rows: rows.count, rowPitch: length,
        columns: keys.count),
      into: loaded)
    let scores = UBMatrix(unit.scores, rows: rows.count, columns: keys.count, pitch: pitch)
    let work = UBMatrix(unit.work, rows: rows.count, columns: keys.count, pitch: pitch)
    var source = loaded
    if loaded.elementBytes == 2 {
      try core.convert(loaded, into: pass.scales ? scores : work)
      source = pass.scales ? scores : work
    }
    if pass.scales {
      try core.apply(.scale, source, .scalar(attention.scale), into: work)
    } else if loaded.elementBytes == 4 {
      try core.apply(.scale, source, .scalar(1), into: work)
    }
    if pass.masks, let stored = attention.arrays.mask {
      for segment in segments(rows) {
        let mask = UBMatrix(
          unit.mask, rows: segment.rows, columns: keys.count, pitch: pitch, elementBytes: 1)
        try core.loadRows(
          stored,
          GlobalWindow(
            offset: segment.position * length + keys.lowerBound, rows: segment.rows,
            rowPitch: length, columns: keys.count),
          into: mask)
        var part = work
        part.byte = (segment.row - rows.lowerBound) * pitch * 4
        part.rows = segment.rows
        try core.maskByBytes(part, mask: mask, complement: false)
      }
    }
    return (scores, work)
  }

  /// Maximum and sum of rows over a chunk more; leaves e^(s − m) of the chunk in the work area.
  private func statistics(
    _ unit: Unit, _ scores: UBMatrix, _ work: UBMatrix, isFirst: Bool
  ) throws(DeviceError) {
    func row(_ tile: NPUTile) -> UBMatrix { .vector(tile, count: work.rows) }
    if isFirst {
      try core.fill(row(unit.maximum), -.infinity)
      try core.fill(row(unit.sum), 0)
    }
    let folded = UBMatrix(scores.tile, rows: work.rows, columns: 64)
    try core.reduceRows(sum: false, work, scratch: folded, into: row(unit.found))
    try core.apply(
      .maximum, row(unit.maximum), .matrix(row(unit.found)), into: row(unit.newMaximum))
    try core.apply(.zeroInfinity, row(unit.newMaximum), into: row(unit.safeMaximum))
    try core.apply(
      .subtract, row(unit.maximum), .matrix(row(unit.safeMaximum)), into: row(unit.factor))
    try core.apply(.exponential, row(unit.factor), into: row(unit.factor))
    try core.apply(.scale, row(unit.newMaximum), .scalar(1), into: row(unit.maximum))
    try exponentials(unit, scores, work)
    try core.reduceRows(sum: true, work, scratch: folded, into: row(unit.found))
    try core.apply(.multiply, row(unit.sum), .matrix(row(unit.factor)), into: row(unit.sum))
    try core.apply(.add, row(unit.sum), .matrix(row(unit.found)), into: row(unit.sum))
  }

  private func exponentials(
    _ unit: Unit, _ scores: UBMatrix, _ work: UBMatrix
  ) throws(DeviceError) {
    let spread = UBMatrix(unit.spread, rows: work.rows, columns: 8)
    try core.broadcast(.vector(unit.safeMaximum, count: work.rows), into: spread)
    try core.apply(.subtract, work, .perRow(spread), into: scores)
    try core.apply(.exponential, scores, into: work)
  }

  /// A chunk of the work area, divided by the rows' sums where the pass normalizes, to its array.
  private func store(
    _ unit: Unit, _ scores: UBMatrix, _ work: UBMatrix, _ rows: Range<Int>, _ keys: Range<Int>
  ) throws(DeviceError) {
    var source = work
    if pass.normalizes {
      let spread = UBMatrix(unit.spread, rows: work.rows, columns: 8)
      try core.broadcast(.vector(unit.sum, count: work.rows), into: spread)
      try core.apply(.divide, work, .perRow(spread), into: scores)
      source = scores
    }
    if pass.to.elementBytes == 2 {
      let halves = UBMatrix(
        unit.halves, rows: work.rows, columns: work.columns, pitch: work.pitch, elementBytes: 2)
      try core.convert(source, into: halves)
      source = halves
    }
    let length = attention.shape.keyLength
    try core.storeRows(
      source, to: pass.to,
      GlobalWindow(
        offset: rows.lowerBound * length + keys.lowerBound, rows: rows.count, rowPitch: length,
        columns: keys.count))
  }
}
