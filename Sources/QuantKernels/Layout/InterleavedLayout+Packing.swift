import DeviceModel

extension InterleavedLayout {
  private var subject: String { "InterleavedLayout \(rows)×\(columns) by \(fragment.name)" }

  /// Packs `[rows · columns]` row-major codes into the order.
  ///
  /// - Parameters:
  ///   - codes: one code a byte; each must fit `elementBits`, which must be 8 or a divisor of 8.
  ///   - padding: the code of padded rows and columns. Gaps are zero.
  /// - Returns: `byteCount` bytes.
  /// - Throws: ``QuantError`` when the count is wrong or a code does not fit.
  /// - Complexity: O(paddedRows · paddedColumns).
  public func pack(_ codes: [UInt8], padding: UInt8 = 0) throws(QuantError) -> [UInt8] {
    guard 8 % elementBits == 0 else {
      throw QuantError(
        .invalidArgument, subject, "elements of \(elementBits) bits are not byte codes",
        remedy: "pack codes into a layout of at most 8 bits an element")
    }
    try requireCount(codes.count)
    let limit = UInt8((1 << elementBits) - 1)
    if let bad = codes.firstIndex(where: { $0 > limit }) {
      throw QuantError(
        .invalidData, subject,
        "code \(codes[bad]) at row \(bad / columns), column \(bad % columns)",
        remedy: "codes of \(elementBits) bits are 0…\(limit)")
    }
    guard padding <= limit else {
      throw QuantError(
        .invalidArgument, subject, "padding code \(padding)",
        remedy: "codes of \(elementBits) bits are 0…\(limit)")
    }
    var bytes = [UInt8](repeating: 0, count: byteCount)
    walk(codes, padding: padding) { bit, code in bytes[bit >> 3] |= code << UInt8(bit & 7) }
    return bytes
  }

  /// The codes that ``pack(_:padding:)`` packed, bit for bit.
  ///
  /// - Throws: ``QuantError`` when there are not exactly `byteCount` bytes.
  public func unpack(_ bytes: [UInt8]) throws(QuantError) -> [UInt8] {
    guard 8 % elementBits == 0 else {
      throw QuantError(
        .invalidArgument, subject, "elements of \(elementBits) bits are not byte codes",
        remedy: "unpack 16-bit elements with unpackHalves")
    }
    try requireBytes(bytes.count)
    let mask = UInt8((1 << elementBits) - 1)
    return read { bit in bytes[bit >> 3] >> UInt8(bit & 7) & mask }
  }

  /// Packs 16-bit elements (half-float scales, as bits) into the order.
  ///
  /// - Throws: ``QuantError`` when the layout's elements are not 16 bits or the count is wrong.
  public func pack(halves: [UInt16], padding: UInt16 = 0) throws(QuantError) -> [UInt16] {
    try requireHalves()
    try requireCount(halves.count)
    var words = [UInt16](repeating: 0, count: byteCount / 2)
    walk(halves, padding: padding) { bit, half in words[bit >> 4] = half }
    return words
  }

  /// The elements that ``pack(halves:padding:)`` packed.
  ///
  /// - Throws: ``QuantError`` when the layout's elements are not 16 bits or the count is wrong.
  public func unpack(halves: [UInt16]) throws(QuantError) -> [UInt16] {
    try requireHalves()
    try requireBytes(halves.count * 2)
    return read { bit in halves[bit >> 4] }
  }

  private func walk<Element>(
    _ elements: [Element], padding: Element, _ store: (Int, Element) -> Void
  ) {
    let rowBits = rowOffsets()
    let columnBits = columnOffsets()
    for n in 0..<paddedRows {
      let inside = n < rows
      for k in 0..<paddedColumns {
        let element = inside && k < columns ? elements[n * columns + k] : padding
        for copy in copyOffsets { store(rowBits[n] + columnBits[k] + copy, element) }
      }
    }
  }

  private func read<Element>(_ load: (Int) -> Element) -> [Element] {
    let rowBits = rowOffsets()
    let columnBits = columnOffsets()
    var elements: [Element] = []
    elements.reserveCapacity(rows * columns)
    for n in 0..<rows {
      for k in 0..<columns { elements.append(load(rowBits[n] + columnBits[k])) }
    }
    return elements
  }

  private func requireCount(_ count: Int) throws(QuantError) {
    let (wanted, overflow) = rows.multipliedReportingOverflow(by: columns)
    guard !overflow, count == wanted else {
      throw QuantError(
        .invalidArgument, subject, "\(count) elements where \(rows) · \(columns) belong",
        remedy: "pass one element a weight, row-major")
    }
  }

  private func requireBytes(_ count: Int) throws(QuantError) {
    guard count == byteCount else {
      throw QuantError(
        .invalidArgument, subject, "\(count) bytes where \(byteCount) belong",
        remedy: "pass the whole packed matrix and the layout it was packed with")
    }
  }

  private func requireHalves() throws(QuantError) {
    guard elementBits == 16 else {
      throw QuantError(
        .invalidArgument, subject, "elements of \(elementBits) bits are not halves",
        remedy: "use a layout of 16-bit elements")
    }
  }

  /// Moves a packed matrix into another order of the same matrix; integers only, nothing is
  /// requantized.
  ///
  /// - Throws: ``QuantError`` when the two layouts differ in shape or element width, or the byte
  ///   count is wrong.
  public func repack(_ bytes: [UInt8], to other: InterleavedLayout) throws(QuantError) -> [UInt8] {
    guard other.rows == rows, other.columns == columns, other.elementBits == elementBits else {
      throw QuantError(
        .invalidArgument, subject,
        "cannot become \(other.rows)×\(other.columns) of \(other.elementBits) bits",
        remedy: "repack between layouts of one shape and element width")
    }
    return try other.pack(unpack(bytes))
  }

  /// Where each 32-bit word of this order stands in the other, when the two orders have the same
  /// words in a different sequence (QUICK and Marlin do); nil when a word's contents differ.
  ///
  /// - Complexity: O(paddedRows · paddedColumns).
  public func wordPermutation(to other: InterleavedLayout) -> [Int]? {
    guard paddedRows == other.paddedRows, paddedColumns == other.paddedColumns,
      elementBits == other.elementBits, byteCount == other.byteCount, byteCount % 4 == 0,
      copyOffsets == [0], other.copyOffsets == [0]
    else { return nil }
    var permutation = [Int](repeating: -1, count: byteCount / 4)
    for n in 0..<paddedRows {
      for k in 0..<paddedColumns {
        let here = bitOffset(row: n, column: k)
        let there = other.bitOffset(row: n, column: k)
        guard here & 31 == there & 31 else { return nil }
        if permutation[here >> 5] == -1 { permutation[here >> 5] = there >> 5 }
        guard permutation[here >> 5] == there >> 5 else { return nil }
      }
    }
    return permutation
  }
}
