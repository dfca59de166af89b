/// How TL1 cuts a matrix. A file does not say it: its maker took it from a table of shapes, compiled
/// in (`include/kernel_config.ini`).
public struct TL1Blocking: Sendable, Hashable {
  /// Rows of a block, BM.
  public let blockRows: Int
  /// Columns of a block, BK.
  public let blockColumns: Int
  /// Rows of a tile, bm: 32 or 64. A tile has 256 / bm columns.
  public let tileRows: Int

  /// - Throws: ``QuantError`` unless bm is 32 or 64 and divides BM, and BK is a positive multiple of
  ///   256 / bm.
  public init(blockRows: Int, blockColumns: Int, tileRows: Int) throws(QuantError) {
    guard tileRows == 32 || tileRows == 64, blockRows > 0, blockRows % tileRows == 0,
      blockColumns > 0, blockColumns % (256 / tileRows) == 0, blockRows <= 1 << 32,
      blockColumns <= 1 << 32
    else {
      throw QuantError(
        .invalidArgument, "TL1 blocking BM \(blockRows), BK \(blockColumns), bm \(tileRows)",
        "bm must be 32 or 64 and divide BM, and 256 / bm must divide BK",
        remedy: "pass the numbers of the build that made the file")
    }
    self.blockRows = blockRows
    self.blockColumns = blockColumns
    self.tileRows = tileRows
  }
}

/// TL1: pairs of weights (a, b) as 3a + b + 4, two indices a byte, the first in the high half; behind
/// them 32 bytes whose first four are the tensor's float32 scale.
///
/// A byte holds four consecutive columns of a row. Bytes go, slowest first, by block row, block
/// column, tile row in the block, tile column in the block, 16 rows in the tile, 4 columns in the
/// tile, row.
///
/// Source: microsoft/BitNet `utils/convert-hf-to-gguf-bitnet.py`, `utils/codegen_tl1.py`.
struct TL1Codec: TernaryCodec {
  let blocking: TL1Blocking
  private static let tailBytes = 32

  var name: String { "TL1" }

  func byteCount(rows: Int, columns: Int) throws(QuantError) -> Int {
    guard rows % blocking.blockRows == 0, columns % blocking.blockColumns == 0 else {
      throw shapeError(
        rows, columns,
        "is no multiple of blocks of \(blocking.blockRows)×\(blocking.blockColumns)")
    }
    return rows * columns / 4 + Self.tailBytes
  }

  func check(_ bytes: UnsafeRawBufferPointer, rows: Int, columns: Int) throws(QuantError) {
    let codes = bytes.part(0, bytes.count - Self.tailBytes)
    if ByteScan.hasNibble(above: 8, codes) {
      throw damage(rows, columns, in: codes, "holds an index above 8") {
        $0 & 15 > 8 || $0 >> 4 > 8
      }
    }
  }

  /// Calls `body` with each byte's place and the first of its four elements.
  @inline(__always)
  private func forEachByte(rows: Int, columns: Int, _ body: (_ at: Int, _ element: Int) -> Void) {
    let (height, width) = (blocking.tileRows, 256 / blocking.tileRows)
    var at = 0
    for blockRow in stride(from: 0, to: rows, by: blocking.blockRows) {
      for blockColumn in stride(from: 0, to: columns, by: blocking.blockColumns) {
        for tileRow in stride(from: 0, to: blocking.blockRows, by: height) {
          for tileColumn in stride(from: 0, to: blocking.blockColumns, by: width) {
            for part in stride(from: 0, to: height, by: 16) {
              for four in stride(from: 0, to: width, by: 4) {
                for row in 0..<16 {
                  let m = blockRow + tileRow + part + row
                  body(at, m * columns + blockColumn + tileColumn + four)
                  at += 1
                }
              }
            }
          }
        }
      }
    }
  }

  func unpack(
    _ bytes: UnsafeRawBufferPointer, rows: Int, columns: Int,
    into codes: UnsafeMutableBufferPointer<UInt8>
  ) throws(QuantError) -> TernaryMatrix.Scales {
    forEachByte(rows: rows, columns: columns) { at, element in
      // 3a + b + 4 is 3 · code(a) + code(b).
      let (first, second) = (bytes[at] >> 4, bytes[at] & 15)
      codes[element] = first / 3
      codes[element + 1] = first % 3
      codes[element + 2] = second / 3
      codes[element + 3] = second % 3
    }
    return .tensor(try scale(bytes, at: bytes.count - Self.tailBytes, rows, columns))
  }

  func pack(
    _ matrix: TernaryMatrix, codes: UnsafeBufferPointer<UInt8>,
    into bytes: UnsafeMutableRawBufferPointer
  ) throws(QuantError) {
    forEachByte(rows: matrix.rows, columns: matrix.columns) { at, element in
      let first = 3 * codes[element] + codes[element + 1]
      let second = 3 * codes[element + 2] + codes[element + 3]
      bytes[at] = first << 4 | second
    }
    store(try commonScale(matrix), at: bytes.count - Self.tailBytes, in: bytes)
  }
}
