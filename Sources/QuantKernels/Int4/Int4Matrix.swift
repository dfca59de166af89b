/// A weight matrix of 4-bit codes in canonical form: `rows × columns` (`outFeatures × inFeatures`),
/// one scale and one offset for each group of `groupSize` consecutive columns of a row.
///
/// The value of an element is
///
///     scale · (code − zeroPoint)      symmetric (zeroPoint 8) and integer zero points
///     scale · code + minimum          minimums (GGUF Q4_1, Q4_K)
///
/// with each factor converted to float32 first, the product rounded once and the sum rounded once.
/// Every importer produces this form without requantising; every packer consumes it by integer
/// moves only.
public struct Int4Matrix: Sendable, Equatable {
  /// How codes are centred.
  public enum Offsets: Sendable, Equatable {
    /// The zero point is 8 everywhere (GGUF Q4_0, symmetric GPTQ, Marlin).
    case symmetric
    /// One integer zero point a group, `[rows · groups]`, row-major, each in 0…16 (GPTQ's old style
    /// stores z − 1, so 16 occurs).
    case zeroPoints([UInt8])
    /// One float minimum a group, `[rows · groups]`, row-major.
    case minimums([Float])
  }

  /// Outputs, N.
  public let rows: Int
  /// Inputs, K.
  public let columns: Int
  /// Columns that share a scale; `columns` means one group a row.
  public let groupSize: Int
  /// Codes 0…15, `[rows · columns]`, row-major, one a byte.
  public let codes: [UInt8]
  /// Scales, `[rows · groups]`, row-major.
  public let scales: [Float]
  /// How codes are centered.
  public let offsets: Offsets
  /// Act-order: column `j` of this matrix multiplies input element `inputPermutation[j]`; nil means
  /// the identity.
  public let inputPermutation: [Int32]?

  /// Groups in a row.
  public var groups: Int { groupSize == 0 ? 0 : columns / groupSize }

  /// Checks every size, code, scale and permutation.
  ///
  /// - Throws: ``QuantError`` when a size is not positive or overflows, `columns` is no multiple of
  ///   `groupSize`, `groupSize` is neither `columns` nor a multiple of 32, a buffer has the wrong
  ///   length, a code exceeds 15, a zero point exceeds 16, a scale or minimum is not finite, or
  ///   `inputPermutation` is no permutation.
  /// - Complexity: O(rows · columns).
  public init(
    rows: Int, columns: Int, groupSize: Int, codes: [UInt8], scales: [Float], offsets: Offsets,
    inputPermutation: [Int32]? = nil
  ) throws(QuantError) {
    let subject = "Int4Matrix \(rows)×\(columns)"
    guard rows > 0, columns > 0, !rows.multipliedReportingOverflow(by: columns).overflow else {
      throw QuantError(
        .invalidArgument, subject,
        "rows and columns must be positive and their product must fit an Int",
        remedy: "pass the shape outFeatures × inFeatures of the layer")
    }
    guard groupSize > 0, columns % groupSize == 0, groupSize % 32 == 0 || groupSize == columns
    else {
      throw QuantError(
        .invalidArgument, subject,
        "group size \(groupSize) must be a multiple of 32 that divides \(columns), or \(columns) "
          + "itself",
        remedy: "quantize again with such a group size")
    }
    let groups = rows * (columns / groupSize)
    guard codes.count == rows * columns else {
      throw QuantError(
        .invalidArgument, subject, "\(codes.count) codes where \(rows * columns) belong",
        remedy: "pass one byte an element, row-major")
    }
    guard scales.count == groups else {
      throw QuantError(
        .invalidArgument, subject, "\(scales.count) scales where \(groups) belong",
        remedy: "pass one scale for each row and group of \(groupSize) columns")
    }
    if let bad = codes.firstIndex(where: { $0 > 15 }) {
      throw QuantError(
        .invalidData, subject,
        "code \(codes[bad]) at row \(bad / columns), column \(bad % columns)",
        remedy: "codes are 0…15")
    }
    if let bad = scales.firstIndex(where: { !$0.isFinite }) {
      throw QuantError(
        .invalidData, subject, "scale \(scales[bad]) of group \(bad)",
        remedy: "the weights hold NaN or infinity; export them again")
    }
    switch offsets {
    case .symmetric: break
    case .zeroPoints(let zeros):
      guard zeros.count == groups else {
        throw QuantError(
          .invalidArgument, subject, "\(zeros.count) zero points where \(groups) belong",
          remedy: "pass one zero point for each row and group")
      }
      if let bad = zeros.firstIndex(where: { $0 > 16 }) {
        throw QuantError(
          .invalidData, subject, "zero point \(zeros[bad]) of group \(bad)",
          remedy: "zero points are 0…16")
      }
    case .minimums(let minimums):
      guard minimums.count == groups else {
        throw QuantError(
          .invalidArgument, subject, "\(minimums.count) minimums where \(groups) belong",
          remedy: "pass one minimum for each row and group")
      }
      if let bad = minimums.firstIndex(where: { !$0.isFinite }) {
        throw QuantError(
          .invalidData, subject, "minimum \(minimums[bad]) of group \(bad)",
          remedy: "the weights hold NaN or infinity; export them again")
      }
    }
    if let permutation = inputPermutation {
      var seen = [Bool](repeating: false, count: columns)
      for index in permutation {
        guard index >= 0, index < columns, !seen[Int(index)] else {
          throw QuantError(
            .invalidData, subject, "inputPermutation repeats or exceeds index \(index)",
            remedy: "pass a permutation of 0..<\(columns)")
        }
        seen[Int(index)] = true
      }
      guard permutation.count == columns else {
        throw QuantError(
          .invalidArgument, subject, "inputPermutation has \(permutation.count) entries",
          remedy: "pass one entry a column")
      }
    }
    self.rows = rows
    self.columns = columns
    self.groupSize = groupSize
    self.codes = codes
    self.scales = scales
    self.offsets = offsets
    self.inputPermutation = inputPermutation
  }

  /// The value of one element, as every kernel's exact float mode sees it.
  public subscript(row: Int, column: Int) -> Float {
    let group = row * groups + column / groupSize
    let code = Float(codes[row * columns + column])
    switch offsets {
    case .symmetric: return scales[group] * (code - 8)
    case .zeroPoints(let zeros): return scales[group] * (code - Float(zeros[group]))
    case .minimums(let minimums): return scales[group] * code + minimums[group]
    }
  }
}
