import DeviceModel

extension InterleavedLayout {
  /// Joins packed matrices of one order along the outputs, moving whole runs of bytes; what stands
  /// in gaps moves too.
  ///
  /// Fused layers (Q, K and V; gate and up) need this. For orders such as QUICK's, in which the
  /// outputs do not move slowest, it is no plain concatenation of the stored bytes: QUICK's words
  /// are joined along axis 1 of their `[K/32·4, N]` view.
  ///
  /// - Returns: the joint layout, whose `rows` are the sum, and its bytes: what packing the joint
  ///   matrix gives.
  /// - Throws: ``QuantError`` when there is no part, the parts differ in columns, fragment, width
  ///   or order, a part other than the last has padded rows (its padding would come to stand
  ///   inside), or bytes are missing.
  public static func joined(
    _ parts: [(layout: InterleavedLayout, bytes: [UInt8])]
  ) throws(QuantError) -> (layout: InterleavedLayout, bytes: [UInt8]) {
    guard let first = parts.first?.layout else {
      throw QuantError(
        .invalidArgument, "InterleavedLayout.joined", "no parts", remedy: "pass at least one matrix"
      )
    }
    var rows = 0
    for (index, part) in parts.enumerated() {
      let layout = part.layout
      let subject = "InterleavedLayout.joined part \(index)"
      guard layout.columns == first.columns, layout.fragment == first.fragment,
        layout.elementBits == first.elementBits, layout.order == first.order
      else {
        throw QuantError(
          .invalidArgument, subject, "differs from part 0 in columns, element width or order",
          remedy: "join layers that share their input and were packed alike")
      }
      guard layout.paddedRows == layout.rows || index == parts.count - 1 else {
        throw QuantError(
          .invalidArgument, subject, "its \(layout.rows) rows are padded to \(layout.paddedRows)",
          remedy: "join the unpacked matrices and pack the result")
      }
      guard part.bytes.count == layout.byteCount else {
        throw QuantError(
          .invalidArgument, subject, "\(part.bytes.count) bytes where \(layout.byteCount) belong",
          remedy: "pass the whole packed matrix")
      }
      let (sum, overflow) = rows.addingReportingOverflow(layout.rows)
      guard !overflow else {
        throw QuantError(.invalidArgument, subject, "the rows overflow", remedy: "join fewer parts")
      }
      rows = sum
    }
    let joint = try InterleavedLayout(
      rows: rows, columns: first.columns, fragment: first.fragment, elementBits: first.elementBits,
      order: first.order)
    // The rest of the outputs moves in runs: a part contributes one run to each value of the slower
    // digits.
    let runs = parts.map(\.layout.outputRunBytes)
    let count = runs[0] == 0 ? 0 : first.byteCount / runs[0]
    guard count > 0, zip(parts, runs).allSatisfy({ $0.layout.byteCount == count * $1 }) else {
      throw QuantError(
        .unsupported, "InterleavedLayout.joined", "this order does not keep outputs in whole bytes",
        remedy: "join the unpacked matrices and pack the result")
    }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(joint.byteCount)
    for run in 0..<count {
      for (part, size) in zip(parts, runs) { bytes += part.bytes[run * size..<(run + 1) * size] }
    }
    return (joint, bytes)
  }

  /// Bytes of one run over the rest of the outputs, or 0 when that is no whole number of bytes.
  private var outputRunBytes: Int {
    guard let rest = outputDigits.max(by: { $0.above < $1.above }) else { return 0 }
    let (bits, overflow) = rest.extent.multipliedReportingOverflow(by: rest.stride)
    return overflow || bits % 8 != 0 || bits <= 0 ? 0 : bits / 8
  }
}
