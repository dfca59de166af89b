/// TQ1_0 and TQ2_0. A block of zeros has scale 0, as ggml's quantizer writes it; whatever scale a
/// file gives such a block is without meaning and is dropped.
struct TQCodec: TernaryCodec {
  let block: TQBlock

  var name: String { block.name }
  var hasHalfScales: Bool { true }

  func byteCount(rows: Int, columns: Int) throws(QuantError) -> Int {
    guard columns % TQBlock.elements == 0 else {
      throw shapeError(rows, columns, "columns must be a multiple of 256")
    }
    return rows * (columns / TQBlock.elements) * block.bytes
  }

  func check(_ bytes: UnsafeRawBufferPointer, rows: Int, columns: Int) throws(QuantError) {
    for index in 0..<bytes.count / block.bytes {
      guard block.isCanonical(bytes.part(index * block.bytes, block.bytes)) else {
        throw damage(
          rows, columns,
          "block \(index) holds "
            + (block == .one ? "a byte that is no five trits" : "code 3"))
      }
    }
  }

  func unpack(
    _ bytes: UnsafeRawBufferPointer, rows: Int, columns: Int,
    into codes: UnsafeMutableBufferPointer<UInt8>
  ) throws(QuantError) -> TernaryMatrix.Scales {
    var scales = [Float?](repeating: nil, count: rows)
    let blocks = columns / TQBlock.elements
    for row in 0..<rows {
      for index in row * blocks..<(row + 1) * blocks {
        let source = bytes.part(index * block.bytes, block.bytes)
        let target = codes.part(index * TQBlock.elements, TQBlock.elements)
        block.unpack(source, into: target)
        let half = UInt16(
          littleEndian: source.loadUnaligned(fromByteOffset: block.codeBytes, as: UInt16.self))
        let scale = HalfPrecision.float(fromHalf: half)
        guard scale.isFinite else {
          throw damage(rows, columns, "scale \(scale) of block \(index)")
        }
        guard target.contains(where: { $0 != 1 }) else { continue }
        guard scale == scales[row] ?? scale else {
          throw QuantError(
            .unsupported, "\(name) tensor \(rows)×\(columns)",
            "row \(row) has blocks of different scales, \(scales[row] ?? 0) and \(scale)",
            remedy: "dequantize the tensor; it was not ternary before it was quantized")
        }
        scales[row] = scale
      }
    }
    let used = scales.compactMap { $0 }
    if used.allSatisfy({ $0 == used.first }) { return .tensor(used.first ?? 0) }
    return .rows(scales.map { $0 ?? 0 })
  }

  func pack(
    _ matrix: TernaryMatrix, codes: UnsafeBufferPointer<UInt8>,
    into bytes: UnsafeMutableRawBufferPointer
  ) throws(QuantError) {
    let blocks = matrix.columns / TQBlock.elements
    for row in 0..<matrix.rows {
      let half = HalfPrecision.half(matrix.scale(row: row)).littleEndian
      for index in row * blocks..<(row + 1) * blocks {
        let source = codes.part(index * TQBlock.elements, TQBlock.elements)
        let target = bytes.part(index * block.bytes, block.bytes)
        block.pack(source, into: target)
        guard source.contains(where: { $0 != 1 }) else { continue }
        target.storeBytes(of: half, toByteOffset: block.codeBytes, as: UInt16.self)
      }
    }
  }
}
