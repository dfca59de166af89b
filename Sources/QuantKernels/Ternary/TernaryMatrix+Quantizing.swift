extension TernaryMatrix {
  /// What shares a scale.
  public enum Grouping: Sendable, Equatable {
    /// All elements, as BitNet b1.58 does.
    case tensor
    /// The elements of a row.
    case rows
  }

  /// Quantizes a float matrix as BitNet b1.58 does: the scale is the mean magnitude m, at least
  /// 1e-5, and an element becomes the nearest of −1, 0, +1 to w / m, halves to even (±0.5 becomes
  /// 0).
  ///
  /// The mean is summed in float64 in ascending order and rounded once to float32; w / m is rounded
  /// to float32. Weights that are ternary already do not keep their scale this way: see
  /// ``init(exactly:rows:columns:)``.
  ///
  /// - Parameters:
  ///   - values: `[rows · columns]`, row-major, finite.
  ///   - grouping: what shares a scale.
  ///   - rows: N.
  ///   - columns: K.
  /// - Throws: ``QuantError`` when the shape does not fit, or a value is NaN or infinite (with its
  ///   position).
  /// - Complexity: O(rows · columns).
  public init(
    quantizing values: [Float], rows: Int, columns: Int, grouping: Grouping = .tensor
  ) throws(QuantError) {
    try Self.requireFinite(values, rows: rows, columns: columns)
    var codes: [UInt8] = []
    codes.reserveCapacity(values.count)
    func append(_ part: ArraySlice<Float>) -> Float {
      let sum = part.reduce(0.0) { $0 + Double($1.magnitude) }
      let mean = part.isEmpty ? 0 : Float(sum / Double(part.count))
      let scale = max(mean, 1e-5)
      // Rounding half to even and clamping to ±1 leaves three cases.
      for value in part {
        let ratio = value / scale
        codes.append(ratio > 0.5 ? 2 : ratio < -0.5 ? 0 : 1)
      }
      return scale
    }
    let scales: Scales =
      switch grouping {
      case .tensor: .tensor(append(values[...]))
      case .rows:
        .rows((0..<rows).map { append(values[$0 * columns..<($0 + 1) * columns]) })
      }
    try self.init(rows: rows, columns: columns, codes: codes, scales: scales)
  }

  /// Takes a float matrix that is ternary already: the elements of the tensor, or else of each row,
  /// are 0 and ±s with one s. Nothing is rounded; ``dequantized()`` equals `values` (−0 equals 0).
  ///
  /// - Parameters:
  ///   - values: `[rows · columns]`, row-major.
  ///   - rows: N.
  ///   - columns: K.
  /// - Throws: ``QuantError`` when the shape does not fit, or with `.unsupported` at the first
  ///   element whose magnitude is neither 0 nor its row's.
  /// - Complexity: O(rows · columns).
  public init(exactly values: [Float], rows: Int, columns: Int) throws(QuantError) {
    try Self.requireFinite(values, rows: rows, columns: columns)
    var codes: [UInt8] = []
    codes.reserveCapacity(values.count)
    var scales: [Float] = []
    scales.reserveCapacity(rows)
    for row in 0..<rows {
      var scale: Float = 0
      for column in 0..<columns {
        let value = values[row * columns + column]
        if scale == 0 { scale = value.magnitude }
        guard value == 0 || value.magnitude == scale else {
          throw QuantError(
            .unsupported, "TernaryMatrix \(rows)×\(columns)",
            "\(value) at row \(row), column \(column), beside ±\(scale)",
            remedy: "quantize the matrix; it is not ternary")
        }
        codes.append(value > 0 ? 2 : value < 0 ? 0 : 1)
      }
      scales.append(scale)
    }
    let used = scales.filter { $0 != 0 }
    let shared = used.allSatisfy { $0 == used.first }
    try self.init(
      rows: rows, columns: columns, codes: codes,
      scales: shared ? .tensor(used.first ?? 0) : .rows(scales))
  }

  private static func requireFinite(
    _ values: [Float], rows: Int, columns: Int
  ) throws(QuantError) {
    let subject = "TernaryMatrix \(rows)×\(columns)"
    let count = try elementCount(rows: rows, columns: columns, subject)
    guard values.count == count else {
      throw QuantError(
        .invalidArgument, subject, "\(values.count) values where \(count) belong",
        remedy: "pass the whole matrix, row-major")
    }
    if let bad = values.firstIndex(where: { !$0.isFinite }) {
      throw QuantError(
        .invalidData, subject, "\(values[bad]) at row \(bad / columns), column \(bad % columns)",
        remedy: "the weights hold NaN or infinity; export them again")
    }
  }
}
