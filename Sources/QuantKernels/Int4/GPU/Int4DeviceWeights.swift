import DeviceModel

/// 4-bit weights in a simulated device's global memory, in the order in which one kernel wants them.
///
/// The three buffers are packed by the very layouts that the package's file formats use, and the
/// kernels take their addresses from the same values. Outputs are padded to 128 and inputs to 32
/// (padding has code, zero point and scale 0, hence value 0).
///
/// Scales are binary16, as every such kernel's are. A scale that binary16 does not represent is
/// rounded to it once, here; the product then is that of the rounded scale.
public struct Int4DeviceWeights: Sendable {
  /// Whose order.
  public enum Order: String, Sendable, CaseIterable {
    /// AutoAWQ's files: `[K, N/8]` words, plain scales.
    case awq
    /// QUICK's files: interleaved words, scales and zero points stored twice.
    case quick
    /// QUICK's words in Marlin's sequence, so that a warp's load covers whole sectors; scales and
    /// zero points once. Our own, see ``InterleavedLayout/laneOrderedGroups(rows:groups:elementBits:)``.
    case quickImproved
  }

  /// Whose order.
  public let order: Order
  /// Outputs, N.
  public let rows: Int
  /// Inputs, K.
  public let columns: Int
  /// Inputs that share a scale.
  public let groupSize: Int
  /// Codes: 4 bits, `[paddedRows × paddedColumns]`.
  public let codes: InterleavedLayout
  /// Scales: binary16, `[paddedRows × groups]`.
  public let scales: InterleavedLayout
  /// Zero points: 4 bits, `[paddedRows × groups]`.
  public let zeroPoints: InterleavedLayout
  let codeBuffer: GlobalBuffer
  let scaleBuffer: GlobalBuffer
  let zeroPointBuffer: GlobalBuffer

  /// N rounded up to a block's 128 outputs.
  public var paddedRows: Int { codes.rows }
  /// K rounded up to a step's 32 inputs.
  public var paddedColumns: Int { codes.columns }
  /// Groups of an output.
  public var groups: Int { columns / groupSize }

  /// Packs a matrix. Its input permutation, if it has one, is the activations' affair.
  ///
  /// - Throws: ``QuantError``: `.unsupported` for minimums, for zero points of 16, for a group size
  ///   that is neither a multiple of 32 nor all of K, and for scales so large that a weight is
  ///   infinite in binary16 (15 · |scale| > 65,504); `.invalidArgument` when a buffer passes 4 GiB.
  public init(_ matrix: Int4Matrix, order: Order) throws(QuantError) {
    try self.init(
      order, rows: matrix.rows, columns: matrix.columns, groupSize: matrix.groupSize,
      matrix: matrix)
  }

  /// Weights of value 0, for runs that only count: nothing is packed.
  ///
  /// - Throws: ``QuantError`` as ``init(_:order:)`` for sizes and group sizes.
  public init(
    zeros order: Order, rows: Int, columns: Int, groupSize: Int
  ) throws(QuantError) {
    try self.init(order, rows: rows, columns: columns, groupSize: groupSize, matrix: nil)
  }

  private init(
    _ order: Order, rows: Int, columns: Int, groupSize: Int, matrix: Int4Matrix?
  ) throws(QuantError) {
    let subject = "\(order.rawValue) weights \(rows)×\(columns)"
    guard rows > 0, columns > 0, rows <= 1 << 30, columns <= 1 << 30 else {
      throw QuantError(
        .invalidArgument, subject, "sizes must be 1…2³⁰", remedy: "pass the layer's shape")
    }
    guard groupSize > 0, columns % groupSize == 0, groupSize % 32 == 0 || groupSize == columns
    else {
      throw QuantError(
        .unsupported, subject,
        "group size \(groupSize) is neither a multiple of 32 that divides \(columns) nor all of it",
        remedy: "quantize again with such a group size")
    }
    self.order = order
    self.rows = rows
    self.columns = columns
    self.groupSize = groupSize
    let paddedRows = (rows + 127) / 128 * 128
    let paddedColumns = (columns + 31) / 32 * 32
    let groups = columns / groupSize
    switch order {
    case .awq:
      codes = try .awq(rows: paddedRows, columns: paddedColumns)
      scales = try .columnMajor(rows: paddedRows, columns: groups, elementBits: 16)
      zeroPoints = try .awq(rows: paddedRows, columns: groups)
    case .quick:
      codes = try .quick(rows: paddedRows, columns: paddedColumns, padding: .extended)
      scales = try .quickScales(rows: paddedRows, groups: groups, padding: .extended)
      zeroPoints = try .quickZeroPoints(rows: paddedRows, groups: groups, padding: .extended)
    case .quickImproved:
      codes = try .marlin(rows: paddedRows, columns: paddedColumns)
      scales = try .laneOrderedGroups(rows: paddedRows, groups: groups, elementBits: 16)
      zeroPoints = try .laneOrderedGroups(rows: paddedRows, groups: groups, elementBits: 4)
    }
    guard let matrix else {
      codeBuffer = try Self.buffer("weights", codes)
      scaleBuffer = try Self.buffer("scales", scales)
      zeroPointBuffer = try Self.buffer("zero points", zeroPoints)
      return
    }
    let halves = try matrix.halfScales(subject)
    let zeros = try matrix.fourBitZeroPoints(subject)
    let paddedCodes = Self.padded(
      matrix.codes, rows: rows, columns: columns, to: paddedRows, paddedColumns)
    let packedCodes = try codes.pack(paddedCodes)
    let packedScales = try scales.pack(
      halves: Self.padded(halves, rows: rows, columns: groups, to: paddedRows, groups))
    let packedZeros = try zeroPoints.pack(
      Self.padded(zeros, rows: rows, columns: groups, to: paddedRows, groups))
    codeBuffer = try QuantError.translating {
      try GlobalBuffer("weights", packedCodes)
    }
    scaleBuffer = try QuantError.translating {
      try GlobalBuffer("scales", packedScales)
    }
    zeroPointBuffer = try QuantError.translating {
      try GlobalBuffer("zero points", packedZeros)
    }
  }

  private static func buffer(
    _ name: String, _ layout: InterleavedLayout
  ) throws(QuantError) -> GlobalBuffer {
    try QuantError.translating {
      try GlobalBuffer(name, byteCount: layout.byteCount)
    }
  }

  private static func padded<Element: ExpressibleByIntegerLiteral>(
    _ elements: [Element], rows: Int, columns: Int, to paddedRows: Int, _ paddedColumns: Int
  ) -> [Element] {
    if rows == paddedRows, columns == paddedColumns { return elements }
    var result = [Element](repeating: 0, count: paddedRows * paddedColumns)
    for row in 0..<rows {
      let source = elements[row * columns..<(row + 1) * columns]
      result.replaceSubrange(row * paddedColumns..<row * paddedColumns + columns, with: source)
    }
    return result
  }
}

extension Int4Matrix {
  /// Scales rounded to binary16, as bits.
  ///
  /// - Throws: ``QuantError`` when a weight of such a scale could be infinite.
  func halfScales(_ subject: String) throws(QuantError) -> [UInt16] {
    var halves: [UInt16] = []
    halves.reserveCapacity(scales.count)
    for (group, scale) in scales.enumerated() {
      let half = HalfPrecision.half(scale)
      guard HalfPrecision.float(fromHalf: half).magnitude * 15 <= 65504 else {
        throw QuantError(
          .unsupported, subject,
          "scale \(scale) of row \(group / groups), group \(group % groups): 15 times it passes binary16",
          remedy: "divide the layer's scales and multiply its output")
      }
      halves.append(half)
    }
    return halves
  }

  /// Zero points 0…15, as GPU orders hold them.
  ///
  /// - Throws: ``QuantError`` with `.unsupported` for minimums and for zero points of 16.
  func fourBitZeroPoints(_ subject: String) throws(QuantError) -> [UInt8] {
    switch offsets {
    case .symmetric: return [UInt8](repeating: 8, count: scales.count)
    case .zeroPoints(let zeros):
      if let bad = zeros.firstIndex(where: { $0 > 15 }) {
        throw QuantError(
          .unsupported, subject,
          "zero point \(zeros[bad]) of row \(bad / groups), group \(bad % groups) needs five bits",
          remedy: "quantize again with zero points 0…15")
      }
      return zeros
    case .minimums:
      throw QuantError(
        .unsupported, subject, "float minimums; the kernel subtracts integer zero points",
        remedy: "quantize with zero points, or multiply on the CPU")
    }
  }
}

extension InterleavedLayout {
  /// One value a group for each output, in the sequence in which the lanes of `mma.m16n8k16` want
  /// them: the eight n-tiles of a warp's 64 columns side by side, then the eight lane groups.
  ///
  /// A quad's four lanes read one record: 16 bytes of scales, one word of zero points; a warp's
  /// eight records are consecutive. QUICK's own orders hold the same twice.
  ///
  /// - Throws: ``QuantError`` unless `rows` is a multiple of 64.
  public static func laneOrderedGroups(
    rows: Int, groups: Int, elementBits: Int
  ) throws(QuantError) -> InterleavedLayout {
    guard rows > 0, rows % 64 == 0 else {
      throw QuantError(
        .invalidArgument, "lane-ordered groups", "\(rows) outputs; a warp has 64",
        remedy: "pad the layer")
    }
    return try InterleavedLayout(
      rows: rows, columns: groups, fragment: .scalar, elementBits: elementBits,
      order: [
        .outputTile(8, above: 8), .outputTile(8), .outputRest(above: 64), .inputRest(above: 1),
      ])
  }
}
