import DeviceModel

/// The orders of ternary file formats that start at a byte's low bits, as layouts: codes only, without
/// scales.
///
/// I2_S starts at the high bits, which digits cannot say, since they count upwards; TL1 and TL2 count
/// pairs and triples, not weights.
extension InterleavedLayout {
  /// TQ2_0: weights m, m + 32, m + 64, m + 96 of 128 in byte m, then 16 bits of gap for the scale of
  /// 256.
  ///
  /// - Throws: ``QuantError`` unless columns are a positive multiple of 256.
  public static func tq2(rows: Int, columns: Int) throws(QuantError) -> InterleavedLayout {
    try ternary(
      "TQ2_0", rows: rows, columns: columns, 256,
      [
        .inputTile(4, above: 32), .inputTile(32), .inputTile(2, above: 128), .gap(bits: 16),
        .inputRest(above: 256), .outputRest(above: 1),
      ])
  }

  /// IQ2_BN: weights j, j + 16, j + 32, j + 48 of 64 in byte j, without the scales in front of rows.
  ///
  /// - Throws: ``QuantError`` unless columns are a positive multiple of 64.
  public static func iq2BN(rows: Int, columns: Int) throws(QuantError) -> InterleavedLayout {
    try ternary(
      "IQ2_BN", rows: rows, columns: columns, 64,
      [.inputTile(4, above: 16), .inputTile(16), .inputRest(above: 64), .outputRest(above: 1)])
  }

  /// IQ2_BN_R4: words of 16 weights of a row, for four rows, without the scales in front of them.
  ///
  /// - Throws: ``QuantError`` unless columns are a positive multiple of 64 and rows of 4.
  public static func iq2BNR4(rows: Int, columns: Int) throws(QuantError) -> InterleavedLayout {
    guard rows % 4 == 0 else {
      throw QuantError(
        .invalidArgument, "IQ2_BN_R4 layout", "\(rows) rows; they go by fours",
        remedy: "use the layout of IQ2_BN")
    }
    return try ternary(
      "IQ2_BN_R4", rows: rows, columns: columns, 64,
      [
        .inputTile(4, above: 4), .inputTile(4), .outputTile(4), .inputRest(above: 16),
        .outputRest(above: 4),
      ])
  }

  private static func ternary(
    _ name: String, rows: Int, columns: Int, _ block: Int, _ order: [StorageStep]
  ) throws(QuantError) -> InterleavedLayout {
    guard rows > 0, columns > 0, columns % block == 0 else {
      throw QuantError(
        .invalidArgument, "\(name) layout", "\(rows)×\(columns); blocks are \(block) columns",
        remedy: "pass a matrix of such columns")
    }
    return try InterleavedLayout(
      rows: rows, columns: columns, fragment: .scalar, elementBits: 2, order: order)
  }
}
