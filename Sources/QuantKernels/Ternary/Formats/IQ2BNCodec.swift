/// IQ2_BN: a row is its float32 scale and, for each 64 weights, 16 bytes: byte j holds weights j,
/// 16 + j, 32 + j, 48 + j, the first in bits 1–0.
///
/// Source: ikawrakow/ik_llama.cpp `ggml/src/iqk/iqk_quantize.cpp`.
struct IQ2BNCodec: TernaryCodec {
  private static let runs = TwoBitRuns(apart: 16, firstIsHigh: false)

  var name: String { "IQ2_BN" }

  func byteCount(rows: Int, columns: Int) throws(QuantError) -> Int {
    guard columns % 64 == 0 else {
      throw shapeError(rows, columns, "columns must be a multiple of 64")
    }
    return rows * (4 + columns / 4)
  }

  func check(_ bytes: UnsafeRawBufferPointer, rows: Int, columns: Int) throws(QuantError) {
    let pitch = 4 + columns / 4
    for row in 0..<rows {
      let codes = bytes.part(row * pitch + 4, columns / 4)
      if ByteScan.hasThree(codes) {
        throw damage(rows, columns, in: codes, from: row * pitch + 4, "holds code 3") {
          $0 & $0 >> 1 & 0x55 != 0
        }
      }
    }
  }

  func unpack(
    _ bytes: UnsafeRawBufferPointer, rows: Int, columns: Int,
    into codes: UnsafeMutableBufferPointer<UInt8>
  ) throws(QuantError) -> TernaryMatrix.Scales {
    let pitch = 4 + columns / 4
    var scales: [Float] = []
    scales.reserveCapacity(rows)
    for row in 0..<rows {
      scales.append(try scale(bytes, at: row * pitch, rows, columns))
      Self.runs.unpack(
        bytes.part(row * pitch + 4, columns / 4), into: codes.part(row * columns, columns))
    }
    return merged(scales)
  }

  func pack(
    _ matrix: TernaryMatrix, codes: UnsafeBufferPointer<UInt8>,
    into bytes: UnsafeMutableRawBufferPointer
  ) throws(QuantError) {
    let columns = matrix.columns
    let pitch = 4 + columns / 4
    for row in 0..<matrix.rows {
      store(matrix.scale(row: row), at: row * pitch, in: bytes)
      Self.runs.pack(
        codes.part(row * columns, columns), into: bytes.part(row * pitch + 4, columns / 4))
    }
  }
}
