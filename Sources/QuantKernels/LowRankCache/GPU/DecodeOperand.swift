import DeviceModel

/// What positions are multiplied with, in device memory: rows `[sets][rows][columns]` of binary16, both
/// padded with zeros, and perhaps a float32 number a row. Up-projections of keys, a set a head; queries
/// of a unit, a set a unit.
struct DecodeOperand: Sendable {
  let rows: Int
  let columns: Int
  let paddedRows: Int
  let pitch: Int
  let buffer: GlobalBuffer
  /// `[sets][padded rows]` float32; nil without one.
  let bias: GlobalBuffer?
  let sets: Int

  /// - Parameters:
  ///   - rowStep: what the rows are padded to a multiple of; `columnStep` likewise the columns.
  ///   - value: a number by set, row and column; nil for zeros that are only counted.
  ///   - bias: a number by set and row; nil for none.
  /// - Throws: ``QuantError`` `.invalidData`, naming the element, for what is not finite in binary16.
  init(
    _ name: String, sets: Int, rows: Int, columns: Int, rowStep: Int, columnStep: Int,
    bias: ((_ set: Int, _ row: Int) -> Float)? = nil,
    value: ((_ set: Int, _ row: Int, _ column: Int) -> Float)?
  ) throws(QuantError) {
    self.sets = sets
    self.rows = rows
    self.columns = columns
    let paddedRows = (rows + rowStep - 1) / rowStep * rowStep
    let pitch = (columns + columnStep - 1) / columnStep * columnStep
    self.paddedRows = paddedRows
    self.pitch = pitch
    self.bias =
      if let bias {
        try QuantError.translating {
          try GlobalBuffer(
            "\(name) bias",
            (0..<sets * paddedRows).map { index in
              index % paddedRows < rows ? bias(index / paddedRows, index % paddedRows) : 0
            })
        }
      } else { nil }
    guard let value else {
      let count = sets * paddedRows * pitch
      buffer = try QuantError.translating { try GlobalBuffer(name, byteCount: 2 * count) }
      return
    }
    var halves = [UInt16](repeating: 0, count: sets * paddedRows * pitch)
    for set in 0..<sets {
      for row in 0..<rows {
        for column in 0..<columns {
          let number = value(set, row, column)
          let half = HalfPrecision.half(number)
          guard HalfPrecision.isFinite(half: half) else {
            throw QuantError(
              .invalidData, name, "\(number) at \(set), \(row), \(column)",
              remedy: "numbers must be finite and below 65,520")
          }
          halves[(set * paddedRows + row) * pitch + column] = half
        }
      }
    }
    buffer = try QuantError.translating { try GlobalBuffer(name, halves) }
  }

  /// Where a row begins.
  func offset(set: Int, row: Int) -> Int { (set * paddedRows + row) * pitch * 2 }
  var byteCount: Int { buffer.byteCount }
}
