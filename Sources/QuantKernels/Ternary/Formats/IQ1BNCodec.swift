/// IQ1_BN: a row is its binary16 scale and 13 bytes for each 64 weights. Byte 3g + i (g < 4, i < 3)
/// holds weights 16g + 5i … 16g + 5i + 4, the first the least significant trit; byte 12 holds weights
/// 15, 31, 47, 63 likewise.
///
/// Source: ikawrakow/ik_llama.cpp `ggml/src/iqk/iqk_quantize.cpp`.
struct IQ1BNCodec: TernaryCodec {
  static let blockBytes = 13

  var name: String { "IQ1_BN" }
  var hasHalfScales: Bool { true }

  private func rowBytes(_ columns: Int) -> Int { 2 + columns / 64 * Self.blockBytes }

  func byteCount(rows: Int, columns: Int) throws(QuantError) -> Int {
    guard columns % 64 == 0 else {
      throw shapeError(rows, columns, "columns must be a multiple of 64")
    }
    return rows * rowBytes(columns)
  }

  func check(_ bytes: UnsafeRawBufferPointer, rows: Int, columns: Int) throws(QuantError) {
    for row in 0..<rows {
      let start = row * rowBytes(columns) + 2
      let codes = bytes.part(start, rowBytes(columns) - 2)
      if ByteScan.hasNonCanonicalFraction(codes) {
        throw damage(rows, columns, in: codes, from: start, "is no five trits") {
          !TritFraction.isCanonical($0)
        }
      }
      for last in stride(from: 12, to: codes.count, by: Self.blockBytes)
      where TritFraction.value(codes[last]) > 80 {
        throw damage(
          rows, columns, "byte \(start + last) is \(codes[last]), which is no four trits")
      }
    }
  }

  func unpack(
    _ bytes: UnsafeRawBufferPointer, rows: Int, columns: Int,
    into codes: UnsafeMutableBufferPointer<UInt8>
  ) throws(QuantError) -> TernaryMatrix.Scales {
    var scales: [Float] = []
    scales.reserveCapacity(rows)
    for row in 0..<rows {
      let start = row * rowBytes(columns)
      let scale = HalfPrecision.float(
        fromHalf: UInt16(
          littleEndian: bytes.loadUnaligned(fromByteOffset: start, as: UInt16.self)))
      guard scale.isFinite else { throw damage(rows, columns, "scale \(scale) of row \(row)") }
      scales.append(scale)
      for block in 0..<columns / 64 {
        let from = bytes.part(start + 2 + block * Self.blockBytes, Self.blockBytes)
        let to = codes.part(row * columns + block * 64, 64)
        for g in 0..<4 {
          for w in 0..<15 {
            to[16 * g + w] = TritFraction.trit(
              from[3 * g + w / 5], droppingBy: TritFraction.powers[4 - w % 5])
          }
          to[16 * g + 15] = TritFraction.trit(
            from[12], droppingBy: TritFraction.powers[4 - g])
        }
      }
    }
    return merged(scales)
  }

  func pack(
    _ matrix: TernaryMatrix, codes: UnsafeBufferPointer<UInt8>,
    into bytes: UnsafeMutableRawBufferPointer
  ) throws(QuantError) {
    let columns = matrix.columns
    for row in 0..<matrix.rows {
      let start = row * rowBytes(columns)
      bytes.storeBytes(
        of: HalfPrecision.half(matrix.scale(row: row)).littleEndian, toByteOffset: start,
        as: UInt16.self)
      for block in 0..<columns / 64 {
        let from = codes.part(row * columns + block * 64, 64)
        let to = bytes.part(start + 2 + block * Self.blockBytes, Self.blockBytes)
        var last = 0
        for g in (0..<4).reversed() {
          for i in 0..<3 {
            let value = (0..<5).reversed().reduce(0) { $0 * 3 + Int(from[16 * g + 5 * i + $1]) }
            to[3 * g + i] = TritFraction.byte(value)
          }
          last = last * 3 + Int(from[16 * g + 15])
        }
        to[12] = TritFraction.byte(last)
      }
    }
  }
}
