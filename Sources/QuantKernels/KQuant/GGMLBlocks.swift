/// The block formats of GGUF tensors: float32 values out of blocks, and blocks out of float32
/// values.
///
/// Dequantization performs ggml's reference arithmetic: each factor converted to float32, each
/// product and sum rounded once, in ggml's order; the results are bit-identical to it.
///
/// Blocks, in bytes (`d`, `m` binary16; element i of the low half in the low nibble, i + 16 in the
/// high):
///
///     Q4_0  d, 16 nibbles                            d · (q − 8)
///     Q4_1  d, m, 16 nibbles                         d · q + m
///     Q5_0  d, 32 fifth bits, 16 nibbles             d · (q − 16)
///     Q5_1  d, m, 32 fifth bits, 16 nibbles          d · q + m
///     Q8_0  d, 32 signed bytes                       d · q
///     Q4_K  d, dmin, 8 × (6-bit scale, 6-bit min), 128 nibbles   (d · scale) · q − dmin · min
///     Q5_K  the same with 256 fifth bits before the nibbles
///     Q6_K  128 nibbles, 64 bytes of upper bit pairs, 16 signed scales, d   (d · scale) · (q − 32)
///     TQ1_0, TQ2_0  see `TQBlock`                    d · (q − 1)
///     I2_S  32 bytes of 128 2-bit codes; the scale s stands behind the tensor's blocks   s · (q − 1)
///
/// Codes that no quantizer writes decode as ggml's code does: 3 in TQ2_0 and I2_S is +2.
public enum GGMLBlocks {
  /// Dequantizes whole blocks; of I2_S whole tensors, or some blocks with the tensor's tail behind
  /// them.
  ///
  /// - Parameters:
  ///   - type: the tensor's type.
  ///   - bytes: the blocks, at any alignment, and the type's tail.
  ///   - output: receives one float for each element; its count says how many.
  /// - Throws: ``QuantError`` when the output is no whole number of blocks or `bytes` is not
  ///   exactly theirs.
  /// - Complexity: O(`output.count`).
  public static func dequantize(
    _ type: GGMLType, _ bytes: UnsafeRawBufferPointer,
    into output: UnsafeMutableBufferPointer<Float>
  ) throws(QuantError) {
    try requireBlocks(type, bytes: bytes.count, elements: output.count)
    guard let source = bytes.baseAddress, let target = output.baseAddress, !output.isEmpty else {
      return
    }
    // The scale of a type that has one for all blocks.
    let tensorScale = type == .i2_s ? tailScale(source + bytes.count - type.tailBytes) : 0
    for index in 0..<output.count / type.blockElements {
      let block = source + index * type.blockBytes
      let values = target + index * type.blockElements
      switch type {
      case .f32: values[0] = block.loadUnaligned(as: Float.self)
      case .f16: values[0] = half(block, 0)
      case .bf16:
        values[0] = HalfPrecision.float(
          fromBrain: UInt16(littleEndian: block.loadUnaligned(as: UInt16.self)))
      case .q4_0: centered(block, high: nil, low: 2, offset: 8, into: values)
      case .q4_1: shifted(block, high: nil, low: 4, into: values)
      case .q5_0: centered(block, high: 2, low: 6, offset: 16, into: values)
      case .q5_1: shifted(block, high: 4, low: 8, into: values)
      case .q8_0:
        let scale = half(block, 0)
        for i in 0..<32 {
          values[i] = scale * Float(block.load(fromByteOffset: 2 + i, as: Int8.self))
        }
      case .q4_k: superblock(block, high: nil, low: 16, into: values)
      case .q5_k: superblock(block, high: 16, low: 48, into: values)
      case .q6_k: sixBits(block, into: values)
      case .tq1_0: ternary(block, .one, into: values)
      case .tq2_0: ternary(block, .two, into: values)
      case .i2_s:
        for i in 0..<128 {
          values[i] = tensorScale * Float((byte(block, i % 32) >> (6 - i / 32 * 2) & 3) - 1)
        }
      }
    }
  }

  /// Dequantizes whole blocks into a new array.
  ///
  /// - Throws: ``QuantError`` when `bytes` is no whole number of blocks.
  public static func dequantize(_ type: GGMLType, _ bytes: [UInt8]) throws(QuantError) -> [Float] {
    let blocks = max(0, bytes.count - type.tailBytes) / type.blockBytes
    let (elements, overflow) = blocks.multipliedReportingOverflow(by: type.blockElements)
    guard !overflow else {
      throw QuantError(
        .invalidArgument, type.name, "too many blocks", remedy: "dequantize fewer at a time")
    }
    var values = [Float](repeating: 0, count: elements)
    var failure: QuantError?
    bytes.withUnsafeBytes { source in
      values.withUnsafeMutableBufferPointer { target in
        do throws(QuantError) {
          try dequantize(type, source, into: target)
        } catch {
          failure = error
        }
      }
    }
    if let failure { throw failure }
    return values
  }

  static func requireBlocks(_ type: GGMLType, bytes: Int, elements: Int) throws(QuantError) {
    guard let wanted = type.tensorBytes(elements: elements) else {
      throw QuantError(
        .invalidArgument, "\(type.name) blocks",
        "\(elements) elements are no whole number of blocks of \(type.blockElements)",
        remedy: "pass whole rows, whose length is a multiple of the block")
    }
    guard wanted == bytes else {
      throw QuantError(
        .invalidArgument, "\(type.name) blocks",
        "\(bytes) bytes where \(elements) elements take \(wanted)",
        remedy: "pass exactly the bytes of the elements wanted")
    }
  }

  // MARK: One block each; callers guarantee blockBytes readable and blockElements writable

  static func half(_ block: UnsafeRawPointer, _ offset: Int) -> Float {
    HalfPrecision.float(
      fromHalf: UInt16(littleEndian: block.loadUnaligned(fromByteOffset: offset, as: UInt16.self)))
  }

  private static func byte(_ block: UnsafeRawPointer, _ offset: Int) -> Int {
    Int(block.load(fromByteOffset: offset, as: UInt8.self))
  }

  /// The code of element `i` of 32: a nibble, and a fifth bit when the format has them.
  private static func code(_ block: UnsafeRawPointer, _ i: Int, high: Int?, low: Int) -> Int {
    let nibble = byte(block, low + i % 16) >> (i / 16 * 4) & 15
    guard let high else { return nibble }
    return nibble | (byte(block, high + i / 8) >> (i % 8) & 1) << 4
  }

  /// Q4_0 and Q5_0.
  private static func centered(
    _ block: UnsafeRawPointer, high: Int?, low: Int, offset: Int,
    into values: UnsafeMutablePointer<Float>
  ) {
    let scale = half(block, 0)
    for i in 0..<32 { values[i] = scale * Float(code(block, i, high: high, low: low) - offset) }
  }

  /// Q4_1 and Q5_1.
  private static func shifted(
    _ block: UnsafeRawPointer, high: Int?, low: Int, into values: UnsafeMutablePointer<Float>
  ) {
    let scale = half(block, 0)
    let minimum = half(block, 2)
    for i in 0..<32 { values[i] = scale * Float(code(block, i, high: high, low: low)) + minimum }
  }

  /// The 6-bit scale and minimum of group `j` of 8 in a Q4_K or Q5_K block.
  ///
  /// Groups 0…3 keep them in the low six bits of bytes 0…3 and 4…7; groups 4…7 keep four bits of
  /// each in bytes 8…11 and two in the top bits of the first eight.
  static func scaleAndMinimum(_ block: UnsafeRawPointer, _ j: Int) -> (scale: Int, minimum: Int) {
    let packed = block + 4
    if j < 4 { return (byte(packed, j) & 63, byte(packed, j + 4) & 63) }
    let low = byte(packed, j + 4)
    return (
      low & 15 | (byte(packed, j - 4) >> 6) << 4,
      low >> 4 | (byte(packed, j) >> 6) << 4
    )
  }

  /// Q4_K and Q5_K: pairs of 32-element groups share 32 bytes of nibbles; group j's fifth bits are
  /// bit j of 32 bytes.
  private static func superblock(
    _ block: UnsafeRawPointer, high: Int?, low: Int, into values: UnsafeMutablePointer<Float>
  ) {
    let d = half(block, 0)
    let dmin = half(block, 2)
    for j in 0..<8 {
      let packed = scaleAndMinimum(block, j)
      let scale = d * Float(packed.scale)
      let minimum = dmin * Float(packed.minimum)
      for i in 0..<32 {
        var q = byte(block, low + j / 2 * 32 + i) >> (j % 2 * 4) & 15
        if let high { q |= (byte(block, high + i) >> j & 1) << 4 }
        values[32 * j + i] = scale * Float(q) - minimum
      }
    }
  }

  /// Q6_K: two halves of 128; in each, elements i, i + 32, i + 64, i + 96 share an upper byte's
  /// four bit pairs.
  private static func sixBits(_ block: UnsafeRawPointer, into values: UnsafeMutablePointer<Float>) {
    let d = half(block, 208)
    for i in 0..<256 {
      let (part, quarter, l) = (i / 128, i % 128 / 32, i % 32)
      let nibble = byte(block, part * 64 + quarter % 2 * 32 + l) >> (quarter / 2 * 4) & 15
      let upper = byte(block, 128 + part * 32 + l) >> (quarter * 2) & 3
      let scale = d * Float(block.load(fromByteOffset: 192 + i / 16, as: Int8.self))
      values[i] = scale * Float((nibble | upper << 4) - 32)
    }
  }

  /// The scale in an I2_S tail.
  private static func tailScale(_ tail: UnsafeRawPointer) -> Float {
    Float(bitPattern: UInt32(littleEndian: tail.loadUnaligned(as: UInt32.self)))
  }

  /// TQ1_0 and TQ2_0.
  private static func ternary(
    _ bytes: UnsafeRawPointer, _ kind: TQBlock, into values: UnsafeMutablePointer<Float>
  ) {
    let block = UnsafeRawBufferPointer(start: bytes, count: kind.bytes)
    let scale = half(bytes, kind.codeBytes)
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: TQBlock.elements) { codes in
      kind.unpack(block, into: codes)
      for i in 0..<TQBlock.elements { values[i] = scale * Float(Int(codes[i]) - 1) }
    }
  }
}
