/// A weight matrix whose elements are −1, 0 or +1 times a scale, in canonical form: `rows × columns`
/// (`outFeatures × inFeatures`), the scale of the whole tensor or of each row.
///
/// The value of an element is
///
///     scale · (code − 1)          code 0, 1, 2
///
/// rounded never: a product by −1, 0 or +1 is exact. Every importer produces this form without
/// requantizing; every packer consumes it by integer moves only.
///
/// Any shape is allowed, also one without rows or columns: the product over no inputs is 0.
public struct TernaryMatrix: Sendable, Equatable {
  /// What multiplies the codes.
  public enum Scales: Sendable, Equatable {
    /// One for all (BitNet b1.58).
    case tensor(Float)
    /// One a row, `[rows]`.
    case rows([Float])
  }

  /// Outputs, N.
  public let rows: Int
  /// Inputs, K.
  public let columns: Int
  /// Codes 0, 1, 2 for −1, 0, +1, `[rows · columns]`, row-major, one a byte.
  public let codes: [UInt8]
  /// What multiplies the codes.
  public let scales: Scales

  /// Checks every size, code and scale.
  ///
  /// - Parameters:
  ///   - codes: `[rows · columns]`, row-major: 0, 1, 2 for −1, 0, +1.
  ///   - scales: finite, of either sign; 0 makes a matrix of zeros.
  ///   - rows: N.
  ///   - columns: K.
  /// - Throws: ``QuantError`` when a size is negative or overflows, a buffer has the wrong length, a
  ///   code exceeds 2, or a scale is not finite.
  /// - Complexity: O(rows · columns), at the speed of memory.
  public init(rows: Int, columns: Int, codes: [UInt8], scales: Scales) throws(QuantError) {
    let subject = "TernaryMatrix \(rows)×\(columns)"
    let count = try Self.elementCount(rows: rows, columns: columns, subject)
    guard codes.count == count else {
      throw QuantError(
        .invalidArgument, subject, "\(codes.count) codes where \(count) belong",
        remedy: "pass one byte an element, row-major")
    }
    if ByteScan.maximum(codes) > 2, let bad = codes.firstIndex(where: { $0 > 2 }) {
      throw QuantError(
        .invalidData, subject,
        "code \(codes[bad]) at row \(bad / columns), column \(bad % columns)",
        remedy: "codes are 0, 1, 2 for −1, 0, +1")
    }
    switch scales {
    case .tensor(let scale):
      guard scale.isFinite else {
        throw QuantError(
          .invalidData, subject, "scale \(scale)",
          remedy: "the weights hold NaN or infinity; export them again")
      }
    case .rows(let values):
      guard values.count == rows else {
        throw QuantError(
          .invalidArgument, subject, "\(values.count) scales where \(rows) belong",
          remedy: "pass one scale a row")
      }
      if let bad = values.firstIndex(where: { !$0.isFinite }) {
        throw QuantError(
          .invalidData, subject, "scale \(values[bad]) of row \(bad)",
          remedy: "the weights hold NaN or infinity; export them again")
      }
    }
    self.rows = rows
    self.columns = columns
    self.codes = codes
    self.scales = scales
  }

  /// The scale of a row.
  public func scale(row: Int) -> Float {
    switch scales {
    case .tensor(let scale): scale
    case .rows(let scales): scales[row]
    }
  }

  /// The value of one element.
  public subscript(row: Int, column: Int) -> Float {
    scale(row: row) * (Float(codes[row * columns + column]) - 1)
  }

  /// Every element's value, `[rows · columns]`, row-major.
  ///
  /// - Complexity: O(rows · columns).
  public func dequantized() -> [Float] {
    var values: [Float] = []
    values.reserveCapacity(codes.count)
    for row in 0..<rows {
      let scale = scale(row: row)
      for code in codes[row * columns..<(row + 1) * columns] {
        values.append(scale * (Float(code) - 1))
      }
    }
    return values
  }

  /// The one scale that gives every element its value, or nil when rows need different ones. A row
  /// of zeros goes with any scale; a matrix of zeros has its first row's.
  public var commonScale: Float? {
    guard case .rows(let scales) = scales else { return scale(row: 0) }
    var common: Float?
    for row in 0..<rows where scales[row] != common {
      guard codes[row * columns..<(row + 1) * columns].contains(where: { $0 != 1 }) else {
        continue
      }
      guard common == nil else { return nil }
      common = scales[row]
    }
    return common ?? scales.first ?? 0
  }

  /// `rows · columns` of a shape that a file or a caller names.
  ///
  /// Sizes stay below 2⁴⁷ and elements below 2⁶¹, so that counts of bytes cannot overflow, and an
  /// empty matrix has at most 2²⁴ rows, so that a loop over them ends.
  static func elementCount(
    rows: Int, columns: Int, _ subject: @autoclosure () -> String
  ) throws(QuantError) -> Int {
    let (count, overflow) = rows.multipliedReportingOverflow(by: columns)
    guard rows >= 0, columns >= 0, !overflow, rows <= Int.max >> 16, columns <= Int.max >> 16,
      count <= Int.max >> 2, count > 0 || max(rows, columns) <= 1 << 24
    else {
      throw QuantError(
        .invalidArgument, subject(),
        "rows and columns must not be negative and their product must fit memory",
        remedy: "pass the shape outFeatures × inFeatures of the layer")
    }
    return count
  }
}
