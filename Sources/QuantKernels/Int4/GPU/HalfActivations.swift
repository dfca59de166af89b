import DeviceModel

/// Activations of a simulated product: `[rows × columns]` binary16 in global memory, row-major, each
/// row padded with zeros to whole k steps of 32.
public struct HalfActivations: Sendable {
  /// Rows, M.
  public let rows: Int
  /// Inputs, K.
  public let columns: Int
  /// Where each value stands; its columns are K rounded up to 32.
  public let layout: RowMajor
  /// The values.
  public let buffer: GlobalBuffer

  /// Rounds `x`, `[M × matrix.columns]` row-major, to binary16 once, in the order in which the matrix
  /// keeps its inputs (an act-order permutation is applied here, as the host of a GPU does).
  ///
  /// - Throws: ``QuantError`` when `x` is empty or no whole number of rows, a value is not finite or
  ///   rounds to an infinity in binary16 (65,520 and above), or memory is short.
  public init(_ x: [Float], for matrix: Int4Matrix) throws(QuantError) {
    let columns = matrix.columns
    let subject = "activations of \(matrix.rows)×\(columns) weights"
    guard !x.isEmpty, x.count % columns == 0 else {
      throw QuantError(
        .invalidArgument, subject,
        "\(x.count) values are no whole, positive number of rows of \(columns)",
        remedy: "pass M · \(columns) values, row-major, M at least 1")
    }
    let rows = x.count / columns
    let layout = try Self.layout(rows: rows, columns: columns)
    var halves = [UInt16](repeating: 0, count: layout.byteCount / 2)
    for row in 0..<rows {
      for column in 0..<columns {
        let source = matrix.inputPermutation.map { Int($0[column]) } ?? column
        let value = x[row * columns + source]
        let half = HalfPrecision.half(value)
        guard HalfPrecision.isFinite(half: half) else {
          throw QuantError(
            .invalidArgument, subject, "value \(value) at row \(row), column \(source)",
            remedy: "activations must be finite and below 65,520 to be binary16")
        }
        halves[row * layout.pitch + column] = half
      }
    }
    self.rows = rows
    self.columns = columns
    self.layout = layout
    buffer = try QuantError.translating {
      try GlobalBuffer("activations", halves)
    }
  }

  /// Zeros, for runs that only count.
  ///
  /// - Throws: ``QuantError`` when a size is not positive or the buffer passes 4 GiB.
  public init(zeros rows: Int, columns: Int) throws(QuantError) {
    let layout = try Self.layout(rows: rows, columns: columns)
    self.rows = rows
    self.columns = columns
    self.layout = layout
    buffer = try QuantError.translating {
      try GlobalBuffer("activations", byteCount: layout.byteCount)
    }
  }

  private static func layout(rows: Int, columns: Int) throws(QuantError) -> RowMajor {
    guard rows > 0, columns > 0, columns <= 1 << 30 else {
      throw QuantError(
        .invalidArgument, "activations", "\(rows) × \(columns) values",
        remedy: "pass at least one row of 1…2³⁰ inputs")
    }
    do {
      return try RowMajor(rows: rows, columns: (columns + 31) / 32 * 32, elementBits: 16)
    } catch {
      throw QuantError(.invalidArgument, "activations", error.problem, remedy: "pass fewer rows")
    }
  }
}
