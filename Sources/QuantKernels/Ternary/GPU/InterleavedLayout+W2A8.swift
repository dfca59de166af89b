import DeviceModel

extension InterleavedLayout {
  /// The weight order of BitNet's W2A8 kernel: 2-bit codes, blocks of 16 outputs × 32 inputs, one
  /// 32-bit word for 16 inputs of an output.
  ///
  ///     bits   2·(e div 4) + 8·(e mod 4)             e = k mod 16
  ///     word   n mod 8 + 8·(k div 16 mod 2) + 16·(n div 8 mod 2)    in a block of 128 bytes
  ///     block  (n div 16)·(K/32) + k div 32
  ///
  /// So (word >> 2i) & 0x03030303 is the four codes of k = 4i…4i + 3 as bytes, ready for `dp4a`.
  ///
  /// Source: microsoft/BitNet `gpu/pack_weight.py`.
  ///
  /// - Throws: ``QuantError`` unless outputs are a multiple of 16 and inputs of 32.
  public static func w2a8(rows: Int, columns: Int) throws(QuantError) -> InterleavedLayout {
    guard rows > 0, columns > 0, rows % 16 == 0, columns % 32 == 0 else {
      throw QuantError(
        .invalidArgument, "W2A8 layout",
        "\(rows) outputs × \(columns) inputs; its blocks are 16 × 32", remedy: "pad the layer")
    }
    return try InterleavedLayout(
      rows: rows, columns: columns, fragment: .scalar, elementBits: 2,
      order: [
        .inputTile(4, above: 4), .inputTile(4), .outputTile(8), .inputTile(2, above: 16),
        .outputTile(2, above: 8), .inputRest(above: 32), .outputRest(above: 16),
      ])
  }
}
