extension Int4Matrix {
  /// Takes the codes, scales and offsets of a GGUF tensor as they stand; nothing is requantized.
  ///
  /// Q4_0 becomes symmetric groups of 32; Q4_1 groups of 32 with minimums; Q4_K groups of 32 whose
  /// scale is d · scale and whose minimum is −(dmin · min), each product rounded once to float32 as
  /// ggml's dequantization does. Elements equal ``GGMLBlocks/dequantize(_:_:into:)`` bit for bit.
  ///
  /// - Parameters:
  ///   - bytes: the tensor's blocks, row after row, at any alignment.
  ///   - type: `.q4_0`, `.q4_1` or `.q4_k`.
  ///   - rows: N.
  ///   - columns: K, a multiple of the type's block.
  /// - Throws: ``QuantError`` with `.unsupported` for another type, or when the shape, the byte
  ///   count or a scale is wrong.
  /// - Complexity: O(rows · columns).
  public init(
    type: GGMLType, bytes: UnsafeRawBufferPointer, rows: Int, columns: Int
  ) throws(QuantError) {
    let subject = "\(type.name) tensor \(rows)×\(columns)"
    guard type == .q4_0 || type == .q4_1 || type == .q4_k else {
      throw QuantError(
        .unsupported, subject, "not a 4-bit type",
        remedy: "import Q4_0, Q4_1 or Q4_K, or dequantize and quantize again")
    }
    let (count, overflow) = rows.multipliedReportingOverflow(by: columns)
    guard rows > 0, columns > 0, !overflow, columns % type.blockElements == 0 else {
      throw QuantError(
        .invalidArgument, subject,
        "rows must be positive and columns a positive multiple of \(type.blockElements)",
        remedy: "pass the tensor's own shape")
    }
    try GGMLBlocks.requireBlocks(type, bytes: bytes.count, elements: count)
    guard let base = bytes.baseAddress else {
      throw QuantError(.invalidArgument, subject, "no bytes", remedy: "pass the tensor's bytes")
    }
    var codes = [UInt8](repeating: 0, count: count)
    var scales: [Float] = []
    var minimums: [Float] = []
    scales.reserveCapacity(count / 32)
    codes.withUnsafeMutableBufferPointer { codes in
      for index in 0..<count / type.blockElements {
        let block = base + index * type.blockBytes
        let first = index * type.blockElements
        switch type {
        case .q4_0:
          scales.append(GGMLBlocks.half(block, 0))
          Self.splitNibbles(block + 2, into: codes, at: first, apart: 16)
        case .q4_1:
          scales.append(GGMLBlocks.half(block, 0))
          minimums.append(GGMLBlocks.half(block, 2))
          Self.splitNibbles(block + 4, into: codes, at: first, apart: 16)
        default:
          let d = GGMLBlocks.half(block, 0)
          let dmin = GGMLBlocks.half(block, 2)
          for group in 0..<8 {
            let packed = GGMLBlocks.scaleAndMinimum(block, group)
            scales.append(d * Float(packed.scale))
            minimums.append(-(dmin * Float(packed.minimum)))
          }
          for pair in 0..<4 {
            Self.splitNibbles(block + 16 + 32 * pair, into: codes, at: first + 64 * pair, apart: 32)
          }
        }
      }
    }
    try self.init(
      rows: rows, columns: columns, groupSize: 32, codes: codes, scales: scales,
      offsets: type == .q4_0 ? .symmetric : .minimums(minimums))
  }

  /// `apart` bytes hold `apart` elements in their low nibbles and the next `apart` in their high
  /// ones.
  private static func splitNibbles(
    _ bytes: UnsafeRawPointer, into codes: UnsafeMutableBufferPointer<UInt8>, at first: Int,
    apart: Int
  ) {
    for i in 0..<apart {
      let byte = bytes.load(fromByteOffset: i, as: UInt8.self)
      codes[first + i] = byte & 15
      codes[first + apart + i] = byte >> 4
    }
  }
}
