import DeviceModel

/// How a tile of halves lies in shared memory. Both who stores it and who loads it take the addresses
/// from the same ``OperandTile``.
public enum OperandOrder: String, Sendable, Hashable, CaseIterable {
  /// Row after row. At a width of 64 or 128 the same column of all rows stands in the same banks.
  case rowMajor = "row-major"
  /// 16 bytes between rows.
  case padded
  /// The 16-byte unit of a column xored with the row modulo 8. No padding.
  case swizzled
}

/// A tile of halves in shared memory, rows of 32, 64 or 128.
///
/// With rows of 128 or 256 bytes eight lanes that read one 16-byte column of eight rows meet in four
/// banks and take eight passes. Unit c of row r stands at unit c xor (r mod 8) when swizzled, at
/// c + r·(units + 1) when padded; over eight consecutive rows both are eight different quarters of
/// the 32 banks. Rows of 64 bytes lie two to a line of the banks: there the unit is xored with half the
/// row, modulo 4.
public struct OperandTile: TileLayout, Hashable {
  public let rows: Int
  public let columns: Int
  /// The order.
  public let order: OperandOrder
  public let byteCount: Int
  private let plain: RowMajor
  private let swizzle: Swizzle?

  public var elementBits: Int { 16 }

  /// - Throws: ``QuantError`` when the rows are not positive or the columns none of 32, 64 and 128.
  public init(rows: Int, columns: Int, order: OperandOrder) throws(QuantError) {
    guard [32, 64, 128].contains(columns) else {
      throw QuantError(
        .unsupported, "operand tile", "\(columns) columns", remedy: "use 32, 64 or 128")
    }
    self.rows = rows
    self.columns = columns
    self.order = order
    (plain, swizzle) = try QuantError.translating {
      (
        try RowMajor(
          rows: rows, columns: columns, elementBits: 16,
          pitch: order == .padded ? columns + 8 : columns),
        // Three bits of the row, which stand log2(columns) up, onto the unit of 8 halves; of rows of 32
        // the two above the lowest.
        order != .swizzled
          ? nil : columns == 32 ? try Swizzle(2, 3, 3) : try Swizzle(3, 3, columns == 64 ? 3 : 4)
      )
    }
    // A swizzle moves units inside rows of at least eight.
    byteCount = plain.byteCount
  }

  public func bitOffset(row: Int, column: Int) -> Int {
    let bits = plain.bitOffset(row: row, column: column)
    guard let swizzle else { return bits }
    return swizzle(bits / 16) &* 16 &+ bits % 16
  }

  /// `swizzled (32,128):(128,1)`.
  public var description: String { "\(order.rawValue) \(plain)" }
}
