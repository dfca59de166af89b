import DeviceModel

extension InterleavedLayout {
  /// Panels of 16 outputs of ternary codes: `stepsPerByte` successive k steps of the instruction
  /// share a byte, the first step in its first place.
  ///
  /// With 4 steps a place is 2 bits and offsets are in bits. With 5 a place is a base-3 digit, and
  /// offsets count digits: digit `offset % 5` of byte `offset / 5`, the first the most significant.
  /// A vector, [16 outputs][one k step] of bytes, is the unit along k. The kernels' bytes
  /// (`qk_ternary.h`, versions 1 of `QK_T2` and `QK_T5`) are in this order.
  ///
  /// - Parameters:
  ///   - fragment: a CPU dot-product fragment: outputs that divide 16, inputs 4 or 8.
  ///   - stepsPerByte: 4 or 5.
  ///   - rows: N.
  ///   - columns: K.
  /// - Throws: ``QuantError`` when one of these does not hold or the size overflows.
  public static func ternaryPanels(
    rows: Int, columns: Int, fragment: Fragment, stepsPerByte: Int
  ) throws(QuantError) -> InterleavedLayout {
    let outputs = fragment.columns
    guard fragment.operand == .b, fragment.tiles == 1, fragment.lanes == outputs, outputs > 1,
      panelRows % outputs == 0, fragment.rows == 4 || fragment.rows == 8,
      stepsPerByte == 4 || stepsPerByte == 5
    else {
      throw QuantError(
        .invalidArgument, "ternary panel layout \(rows)×\(columns) by \(fragment.name)",
        "not a dot-product fragment of up to 16 outputs × 4 or 8 inputs with 4 or 5 codes a byte",
        remedy: "use Fragment.vpdpbusd512, .vpdpbusd256, .maddubs256, .sdot or .smmla")
    }
    var order: [StorageStep] = [
      .inputTile(stepsPerByte), .element(fragment.rows), .lane(outputs),
    ]
    if outputs < panelRows { order.append(.outputTile(panelRows / outputs)) }
    order += [.inputRest(above: stepsPerByte), .outputRest(above: panelRows / outputs)]
    return try InterleavedLayout(
      rows: rows, columns: columns, fragment: fragment, elementBits: stepsPerByte == 4 ? 2 : 1,
      order: order)
  }
}
