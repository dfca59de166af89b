/// IQ2_BN_R4: four rows are their four float32 scales and, for each 64 columns, 64 bytes: byte 16l +
/// 4r + i (l, r, i < 4) holds columns 16l + i, + 4, + 8, + 12 of row r, the first in bits 1–0.
///
/// So a 32-bit word is 16 consecutive weights of a row.
///
/// Source: ikawrakow/ik_llama.cpp `ggml/src/iqk/iqk_quantize.cpp`.
struct IQ2BNR4Codec: TernaryCodec {
  /// The word of 16 weights.
  private static let word = TwoBitRuns(apart: 4, firstIsHigh: false)

  var name: String { "IQ2_BN_R4" }

  private func groupBytes(_ columns: Int) -> Int { 16 + columns }

  func byteCount(rows: Int, columns: Int) throws(QuantError) -> Int {
    guard columns % 64 == 0 else {
      throw shapeError(rows, columns, "columns must be a multiple of 64")
    }
    guard rows % 4 == 0 else { throw shapeError(rows, columns, "rows go by fours") }
    return rows / 4 * groupBytes(columns)
  }

  func check(_ bytes: UnsafeRawBufferPointer, rows: Int, columns: Int) throws(QuantError) {
    for group in 0..<rows / 4 {
      let start = group * groupBytes(columns) + 16
      let codes = bytes.part(start, columns)
      if ByteScan.hasThree(codes) {
        throw damage(rows, columns, in: codes, from: start, "holds code 3") {
          $0 & $0 >> 1 & 0x55 != 0
        }
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
      let start = row / 4 * groupBytes(columns)
      scales.append(try scale(bytes, at: start + row % 4 * 4, rows, columns))
      for l in 0..<columns / 16 {
        Self.word.unpack(
          bytes.part(start + 16 + 16 * l + row % 4 * 4, 4),
          into: codes.part(row * columns + 16 * l, 16))
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
      let start = row / 4 * groupBytes(columns)
      store(matrix.scale(row: row), at: start + row % 4 * 4, in: bytes)
      for l in 0..<columns / 16 {
        Self.word.pack(
          codes.part(row * columns + 16 * l, 16),
          into: bytes.part(start + 16 + 16 * l + row % 4 * 4, 4))
      }
    }
  }
}
