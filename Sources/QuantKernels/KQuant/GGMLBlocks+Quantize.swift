extension GGMLBlocks {
  /// Quantizes floats into blocks as ggml's reference quantizers do, bit for bit.
  ///
  /// Q4_0 divides by the signed extreme over −8, so that the largest magnitude is exact; Q4_1 spans
  /// minimum to maximum by 15 steps; Q8_0 divides by the largest magnitude over 127 and rounds ties
  /// away from zero; TQ1_0 and TQ2_0 divide by the largest magnitude and round likewise. F16 and BF16 round to nearest even (F16 overflows to infinity), and pass
  /// infinities and NaN on; F32 copies.
  ///
  /// - Parameters:
  ///   - values: whole blocks, row after row.
  ///   - type: of the blocks.
  /// - Throws: ``QuantError`` with `.unsupported` for another type; when the count is no whole
  ///   number of blocks; when a value that goes into a scaled block is NaN or infinite, or its
  ///   block's scale overflows binary16.
  /// - Complexity: O(`values.count`).
  public static func quantize(
    _ type: GGMLType, _ values: UnsafeBufferPointer<Float>
  ) throws(QuantError) -> [UInt8] {
    switch type {
    case .f32, .f16, .bf16, .q4_0, .q4_1, .q8_0, .tq1_0, .tq2_0: break
    case .i2_s:
      throw QuantError(
        .unsupported, type.name, "has one scale for the whole tensor, not one a block",
        remedy: "quantize a TernaryMatrix and pack it as .i2s(.x86)")
    case .q5_0, .q5_1, .q4_k, .q5_k, .q6_k:
      throw QuantError(
        .unsupported, type.name, "this package reads the type and does not write it",
        remedy: "write Q4_0, Q4_1, Q8_0, TQ1_0, TQ2_0, F16, BF16 or F32")
    }
    guard let byteCount = type.rowBytes(columns: values.count) else {
      throw QuantError(
        .invalidArgument, "\(type.name) blocks",
        "\(values.count) elements are no whole number of blocks of \(type.blockElements)",
        remedy: "quantize whole rows, whose length is a multiple of the block")
    }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(byteCount)
    switch type {
    case .f32: for value in values { append(value.bitPattern, to: &bytes) }
    case .f16: for value in values { append(HalfPrecision.half(value), to: &bytes) }
    case .bf16: for value in values { append(HalfPrecision.brain(value), to: &bytes) }
    default:
      for start in stride(from: 0, to: values.count, by: type.blockElements) {
        let block = UnsafeBufferPointer(rebasing: values[start..<start + type.blockElements])
        if let bad = block.firstIndex(where: { !$0.isFinite }) {
          throw QuantError(
            .invalidData, "\(type.name) quantization", "\(block[bad]) at element \(start + bad)",
            remedy: "the weights hold NaN or infinity; export them again")
        }
        let fits =
          switch type {
          case .q4_0: appendCentered(block, to: &bytes)
          case .q4_1: appendShifted(block, to: &bytes)
          case .tq1_0: appendTernary(block, .one, to: &bytes)
          case .tq2_0: appendTernary(block, .two, to: &bytes)
          default: appendBytes(block, to: &bytes)
          }
        guard fits else {
          throw QuantError(
            .invalidData, "\(type.name) quantization",
            "the scale of the block at element \(start) exceeds binary16",
            remedy: "scale the weights down; their magnitude is beyond 500 000")
        }
      }
    }
    return bytes
  }

  /// Quantizes an array; see ``quantize(_:_:)-(_,UnsafeBufferPointer<Float>)``.
  public static func quantize(_ type: GGMLType, _ values: [Float]) throws(QuantError) -> [UInt8] {
    var failure: QuantError?
    let bytes = values.withUnsafeBufferPointer { buffer -> [UInt8] in
      do throws(QuantError) {
        return try quantize(type, buffer)
      } catch {
        failure = error
        return []
      }
    }
    if let failure { throw failure }
    return bytes
  }

  private static func append<Word: FixedWidthInteger>(_ word: Word, to bytes: inout [UInt8]) {
    for shift in stride(from: 0, to: Word.bitWidth, by: 8) {
      bytes.append(UInt8(truncatingIfNeeded: word >> Word(shift)))
    }
  }

  /// A binary16 factor; false when it overflowed.
  private static func append(factor: Float, to bytes: inout [UInt8]) -> Bool {
    let half = HalfPrecision.half(factor)
    append(half, to: &bytes)
    return HalfPrecision.isFinite(half: half)
  }

  /// 1/d, and 0 for a block without spread.
  private static func inverse(_ d: Float) -> Float { d == 0 ? 0 : 1 / d }

  /// Truncates toward zero and clamps; NaN (0 · ∞ when 1/d of a subnormal d overflows) becomes the
  /// lower bound.
  private static func truncated(_ value: Float, _ range: ClosedRange<Int32>) -> Int32 {
    guard value > Float(range.lowerBound) else { return range.lowerBound }
    return value < Float(range.upperBound) ? Int32(value) : range.upperBound
  }

  private static func appendNibbles(_ codes: (Int) -> Int32, to bytes: inout [UInt8]) {
    for i in 0..<16 { bytes.append(UInt8(codes(i) | codes(i + 16) << 4)) }
  }

  /// Q4_0.
  private static func appendCentered(_ block: UnsafeBufferPointer<Float>, to bytes: inout [UInt8])
    -> Bool
  {
    var extreme: Float = 0
    for value in block where value.magnitude > extreme.magnitude { extreme = value }
    let d = extreme / -8
    let inverse = inverse(d)
    let fits = append(factor: d, to: &bytes)
    appendNibbles({ truncated(block[$0] * inverse + 8.5, 0...15) }, to: &bytes)
    return fits
  }

  /// Q4_1.
  private static func appendShifted(_ block: UnsafeBufferPointer<Float>, to bytes: inout [UInt8])
    -> Bool
  {
    var lowest = block[0]
    var highest = block[0]
    for value in block {
      if value < lowest { lowest = value }
      if value > highest { highest = value }
    }
    let d = (highest - lowest) / 15
    let inverse = inverse(d)
    let scaleFits = append(factor: d, to: &bytes)
    let minimumFits = append(factor: lowest, to: &bytes)
    appendNibbles({ truncated((block[$0] - lowest) * inverse + 0.5, 0...15) }, to: &bytes)
    return scaleFits && minimumFits
  }

  /// Q8_0.
  private static func appendBytes(_ block: UnsafeBufferPointer<Float>, to bytes: inout [UInt8])
    -> Bool
  {
    let largest = block.reduce(Float(0)) { max($0, $1.magnitude) }
    let d = largest / 127
    let inverse = inverse(d)
    let fits = append(factor: d, to: &bytes)
    for value in block {
      let scaled = value * inverse
      // Round half away from zero without losing the last bit of 0.49999997.
      let whole = truncated(scaled.magnitude, 0...127)
      let rounded = min(whole + (scaled.magnitude - Float(whole) >= 0.5 ? 1 : 0), 127)
      bytes.append(UInt8(bitPattern: Int8(scaled < 0 ? -rounded : rounded)))
    }
    return fits
  }

  /// TQ1_0 and TQ2_0. A subnormal scale has no inverse; it is 0 in binary16, and so are all codes.
  private static func appendTernary(
    _ block: UnsafeBufferPointer<Float>, _ kind: TQBlock, to bytes: inout [UInt8]
  ) -> Bool {
    let d = block.reduce(Float(0)) { max($0, $1.magnitude) }
    var inverse = inverse(d)
    if !inverse.isFinite { inverse = 0 }
    let first = bytes.count
    bytes.append(contentsOf: repeatElement(0, count: kind.codeBytes))
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: TQBlock.elements) { codes in
      for i in 0..<TQBlock.elements {
        let scaled = block[i] * inverse
        codes[i] = scaled >= 0.5 ? 2 : scaled <= -0.5 ? 0 : 1
      }
      bytes.withUnsafeMutableBytes {
        kind.pack(UnsafeBufferPointer(codes), into: $0.part(first, kind.codeBytes))
      }
    }
    return append(factor: d, to: &bytes)
  }
}
