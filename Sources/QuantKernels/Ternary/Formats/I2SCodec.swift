/// The three orders of I2_S codes. Which one a file has depends on the processor and the options of
/// the build that made it, and nothing in the file says it.
public enum I2SOrder: Sendable, Hashable, CaseIterable {
  /// Blocks of 128 consecutive weights of the flattened tensor: byte j of 32 holds weights j, 32 + j,
  /// 64 + j, 96 + j, the first in bits 7–6.
  case x86
  /// Blocks of 64: byte j of 16 holds weights j, 16 + j, 32 + j, 48 + j, the first in bits 7–6.
  case arm
  /// Four rows a byte: byte k of a group of rows holds column k of each, the first row in bits 7–6
  /// (x86 builds without `ACT_PARALLEL`).
  case fourRows
}

/// I2_S: codes of 2 bits, then 32 bytes whose first four are the tensor's float32 scale.
///
/// Blocks run over the flattened tensor, so that one may straddle rows. A tensor that is no whole
/// number of blocks is refused: the format's own writers drop or spoil its end.
///
/// Source: microsoft/BitNet `src/ggml-bitnet-mad.cpp`, `utils/convert-hf-to-gguf-bitnet.py`.
struct I2SCodec: TernaryCodec {
  let order: I2SOrder
  static let tailBytes = 32

  var name: String { "I2_S" }

  private func runs(columns: Int) -> TwoBitRuns {
    switch order {
    case .x86: TwoBitRuns(apart: 32, firstIsHigh: true)
    case .arm: TwoBitRuns(apart: 16, firstIsHigh: true)
    case .fourRows: TwoBitRuns(apart: columns, firstIsHigh: true)
    }
  }

  func byteCount(rows: Int, columns: Int) throws(QuantError) -> Int {
    let count = rows * columns
    switch order {
    case .x86, .arm:
      let block = order == .x86 ? 128 : 64
      guard count % block == 0 else {
        throw shapeError(rows, columns, "\(count) weights are no whole number of \(block)")
      }
    case .fourRows:
      guard rows % 4 == 0 else { throw shapeError(rows, columns, "rows go by fours") }
    }
    return count / 4 + Self.tailBytes
  }

  func check(_ bytes: UnsafeRawBufferPointer, rows: Int, columns: Int) throws(QuantError) {
    let codes = bytes.part(0, bytes.count - Self.tailBytes)
    if ByteScan.hasThree(codes) {
      throw damage(rows, columns, in: codes, "holds code 3") { $0 & $0 >> 1 & 0x55 != 0 }
    }
  }

  func unpack(
    _ bytes: UnsafeRawBufferPointer, rows: Int, columns: Int,
    into codes: UnsafeMutableBufferPointer<UInt8>
  ) throws(QuantError) -> TernaryMatrix.Scales {
    runs(columns: columns).unpack(bytes, into: codes)
    return .tensor(try scale(bytes, at: bytes.count - Self.tailBytes, rows, columns))
  }

  func pack(
    _ matrix: TernaryMatrix, codes: UnsafeBufferPointer<UInt8>,
    into bytes: UnsafeMutableRawBufferPointer
  ) throws(QuantError) {
    runs(columns: matrix.columns).pack(codes, into: bytes)
    store(try commonScale(matrix), at: bytes.count - Self.tailBytes, in: bytes)
  }
}
