import DeviceModel

/// Orders of weights for CPU dot-product instructions.
extension InterleavedLayout {
  /// Outputs of a panel: the widest instruction's, so that narrower ones of the same k step share
  /// its bits.
  public static let panelRows = 16

  /// Panels of 16 outputs, one after the other; in a panel, blocks of one quantization group along
  /// k.
  ///
  /// A 32-k group inside a block is a run of vectors, each [16 outputs][one k step of the
  /// instruction] of bytes. With 4-bit codes byte j of vector v holds the code of k step 2v in its
  /// low nibble and of step 2v + 1 in its high nibble (256 bytes a group of 32); with 8-bit codes
  /// vector v is step v (512 bytes). A block ends in `blockTrailerBytes` of room for its scales,
  /// found by ``gapOffset(row:column:)``.
  ///
  /// Instructions with the same k step give the same bits in a panel: one packed weight serves
  /// `vpdpbusd` of both widths, `vpmaddubsw` and `sdot` (4 k), another `smmla` (8 k).
  ///
  /// - Parameters:
  ///   - fragment: a CPU dot-product fragment: outputs that divide 16, inputs 4 or 8.
  ///   - elementBits: 4 or 8.
  ///   - groupSize: columns of a quantization group, a divisor of `columns`: a multiple of 32, or
  ///     `columns` itself, which is then padded to a multiple of 32.
  ///   - blockTrailerBytes: bytes behind the codes of each block.
  ///   - rows: N.
  ///   - columns: K.
  /// - Throws: ``QuantError`` when one of these does not hold.
  public static func panels(
    rows: Int, columns: Int, fragment: Fragment, elementBits: Int, groupSize: Int,
    blockTrailerBytes: Int = 0
  ) throws(QuantError) -> InterleavedLayout {
    let subject = "CPU panel layout \(rows)×\(columns) by \(fragment.name)"
    let outputs = fragment.columns
    let inputs = fragment.rows
    guard fragment.operand == .b, fragment.tiles == 1, fragment.lanes == outputs,
      fragment.elementsPerLane == inputs, outputs > 1, panelRows % outputs == 0,
      inputs == 4 || inputs == 8
    else {
      throw QuantError(
        .invalidArgument, subject, "not a dot-product fragment of up to 16 outputs × 4 or 8 inputs",
        remedy: "use Fragment.vpdpbusd512, .vpdpbusd256, .maddubs256, .sdot or .smmla")
    }
    guard elementBits == 4 || elementBits == 8 else {
      throw QuantError(
        .invalidArgument, subject, "elements of \(elementBits) bits", remedy: "use 4 or 8")
    }
    guard groupSize > 0, columns > 0, columns % groupSize == 0,
      groupSize % 32 == 0 || groupSize == columns, groupSize <= 1 << 20
    else {
      throw QuantError(
        .invalidArgument, subject,
        "group size \(groupSize) must be a multiple of 32 that divides \(columns), or \(columns) "
          + "itself",
        remedy: "quantize again with such a group size")
    }
    guard blockTrailerBytes >= 0, blockTrailerBytes <= 1 << 30 else {
      throw QuantError(
        .invalidArgument, subject, "\(blockTrailerBytes) trailer bytes", remedy: "pass 0 or more")
    }
    let steps = 32 / inputs
    let groups = (groupSize + 31) / 32
    var order: [StorageStep] = []
    var vectors = steps
    if elementBits == 4 {
      order.append(.inputTile(2))
      vectors = steps / 2
    }
    order += [.element(inputs), .lane(outputs)]
    if outputs < panelRows { order.append(.outputTile(panelRows / outputs)) }
    order.append(.inputTile(vectors, above: steps / vectors))
    if groups > 1 { order.append(.inputTile(groups, above: steps)) }
    order += [
      .gap(bits: blockTrailerBytes * 8), .inputRest(above: steps * groups),
      .outputRest(above: panelRows / outputs),
    ]
    return try InterleavedLayout(
      rows: rows, columns: columns, fragment: fragment, elementBits: elementBits, order: order)
  }
}
