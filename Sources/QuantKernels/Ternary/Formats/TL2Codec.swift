/// How TL2 cuts a matrix. A file does not say it: its maker took it from a table of shapes, compiled
/// in (`include/kernel_config.ini`). Tiles have bm = 32 rows, the only ones that the format's tools
/// can make.
public struct TL2Blocking: Sendable, Hashable {
  /// Rows of a block, BM.
  public let blockRows: Int
  /// Columns of a block of triples, BK (96 or 192 in published tables).
  public let blockColumns: Int

  /// - Throws: ``QuantError`` unless BM is a positive multiple of 32 and BK of 24.
  public init(blockRows: Int, blockColumns: Int) throws(QuantError) {
    guard blockRows > 0, blockRows % 32 == 0, blockColumns > 0, blockColumns % 24 == 0,
      blockRows <= 1 << 32, blockColumns <= 1 << 32
    else {
      throw QuantError(
        .invalidArgument, "TL2 blocking BM \(blockRows), BK \(blockColumns)",
        "BM must be a multiple of 32 and BK of 24",
        remedy: "pass the numbers of the build that made the file")
    }
    self.blockRows = blockRows
    self.blockColumns = blockColumns
  }
}

/// TL2: triples of weights (a, b, c) as |9a + 3b + c| in four bits and its sign in another.
///
/// Columns that are no multiple of BK end in pairs coded as TL1's, in blocks of 32 columns. In the
/// file:
///
///     index bytes   a triple in the high half and its right neighbour in the low one, for 32 rows
///     sign bytes    for 32 rows and 8 triples 16 words: bit 15 − (2 · triple + row div 16) of word row mod 16
///     pair bytes    a pair in the high half and its right neighbour in the low one, for 32 rows
///     zeros         up to the size (K − 256) · M · 5 / 24 + 64 · M, rounded up to 32
///     32 bytes      of which the first four are the tensor's float32 scale
///
/// each by block row, block column, 32 rows in the block, columns in the block. In a vector of 32 rows
/// the eights stand in the order 0, 2, 1, 3, which undoes what AVX2 does to them.
///
/// Source: microsoft/BitNet `utils/convert-hf-to-gguf-bitnet.py`, `utils/codegen_tl2.py`.
struct TL2Codec: TernaryCodec {
  let blocking: TL2Blocking
  private static let tailBytes = 32
  private static let eights = [0, 2, 1, 3]

  var name: String { "TL2" }

  /// Where the parts of a tensor stand.
  private struct Parts {
    /// Columns coded as triples; the rest are pairs.
    let threes: Int
    let signs: Int
    let pairs: Int
    /// End of the pairs.
    let used: Int
    /// Place of the scale.
    let tail: Int

    init(rows: Int, columns: Int, blockColumns: Int) {
      threes = columns / blockColumns * blockColumns
      signs = rows * threes / 6
      pairs = signs + rows * threes / 24
      used = pairs + rows * (columns - threes) / 4
      // As the format's tools compute it, each division rounding down (also of negative numbers).
      func down(_ value: Int, by divisor: Int) -> Int {
        value >= 0 ? value / divisor : -((-value + divisor - 1) / divisor)
      }
      let fixed = down(down((columns - 256) * rows, by: 3) * 5, by: 8) + 64 * rows
      tail = (fixed + 31) / 32 * 32
    }
  }

  private func parts(_ rows: Int, _ columns: Int) -> Parts {
    Parts(rows: rows, columns: columns, blockColumns: blocking.blockColumns)
  }

  func byteCount(rows: Int, columns: Int) throws(QuantError) -> Int {
    let rest = columns % blocking.blockColumns
    guard rows % blocking.blockRows == 0, rest % 32 == 0 else {
      throw shapeError(
        rows, columns,
        "needs rows by \(blocking.blockRows), and columns by \(blocking.blockColumns) or by 32 "
          + "behind those")
    }
    let parts = parts(rows, columns)
    // The format's formula has room for 256 columns of pairs.
    guard parts.used <= parts.tail else {
      throw shapeError(
        rows, columns, "\(rest) columns of pairs exceed what the format has room for")
    }
    return parts.tail + Self.tailBytes
  }

  func check(_ bytes: UnsafeRawBufferPointer, rows: Int, columns: Int) throws(QuantError) {
    let parts = parts(rows, columns)
    let triples = bytes.part(0, parts.signs)
    if ByteScan.hasNibble(above: 13, triples) {
      throw damage(rows, columns, in: triples, "holds an index above 13") {
        $0 & 15 > 13 || $0 >> 4 > 13
      }
    }
    let pairs = bytes.part(parts.pairs, parts.used - parts.pairs)
    if ByteScan.hasNibble(above: 8, pairs) {
      throw damage(rows, columns, in: pairs, from: parts.pairs, "holds an index above 8") {
        $0 & 15 > 8 || $0 >> 4 > 8
      }
    }
    let padding = bytes.part(parts.used, parts.tail - parts.used)
    if ByteScan.maximum(padding) > 0 {
      throw damage(rows, columns, in: padding, from: parts.used, "should be zero") { $0 != 0 }
    }
  }

  /// Calls `body` with each byte's place from the part's start and the first of its elements.
  ///
  /// - Parameters:
  ///   - columns: of the part, from `first`.
  ///   - width: columns a byte.
  @inline(__always)
  private func forEachByte(
    rows: Int, pitch: Int, first: Int, columns: Int, block: Int, width: Int,
    _ body: (_ at: Int, _ element: Int) -> Void
  ) {
    var at = 0
    for blockRow in stride(from: 0, to: rows, by: blocking.blockRows) {
      for blockColumn in stride(from: 0, to: columns, by: block) {
        for tileRow in stride(from: 0, to: blocking.blockRows, by: 32) {
          for column in stride(from: 0, to: block, by: width) {
            for place in 0..<32 {
              let row = 8 * Self.eights[place / 8] + place % 8
              body(
                at, (blockRow + tileRow + row) * pitch + first + blockColumn + column)
              at += 1
            }
          }
        }
      }
    }
  }

  /// The byte and bit of the sign of each triple.
  @inline(__always)
  private func forEachSign(
    rows: Int, pitch: Int, columns: Int, _ body: (_ at: Int, _ bit: Int, _ element: Int) -> Void
  ) {
    var vector = 0
    for blockRow in stride(from: 0, to: rows, by: blocking.blockRows) {
      for blockColumn in stride(from: 0, to: columns, by: blocking.blockColumns) {
        for tileRow in stride(from: 0, to: blocking.blockRows, by: 32) {
          for column in stride(from: 0, to: blocking.blockColumns, by: 24) {
            for row in 0..<32 {
              for triple in 0..<8 {
                let bit = 15 - (2 * triple + row / 16)
                body(
                  vector * 32 + 2 * (row % 16) + bit / 8, bit % 8,
                  (blockRow + tileRow + row) * pitch + blockColumn + column + 3 * triple)
              }
            }
            vector += 1
          }
        }
      }
    }
  }

  func unpack(
    _ bytes: UnsafeRawBufferPointer, rows: Int, columns: Int,
    into codes: UnsafeMutableBufferPointer<UInt8>
  ) throws(QuantError) -> TernaryMatrix.Scales {
    let parts = parts(rows, columns)
    forEachByte(
      rows: rows, pitch: columns, first: 0, columns: parts.threes, block: blocking.blockColumns,
      width: 6
    ) { at, element in
      // 9a + 3b + c + 13 is 9 · code(a) + 3 · code(b) + code(c).
      for (place, index) in [bytes[at] >> 4, bytes[at] & 15].enumerated() {
        let value = index + 13
        codes[element + 3 * place] = value / 9
        codes[element + 3 * place + 1] = value / 3 % 3
        codes[element + 3 * place + 2] = value % 3
      }
    }
    var signedZero: Int?
    forEachSign(rows: rows, pitch: columns, columns: parts.threes) { at, bit, element in
      guard bytes[parts.signs + at] >> UInt8(bit) & 1 != 0 else { return }
      if codes[element] == 1, codes[element + 1] == 1, codes[element + 2] == 1 {
        signedZero = signedZero ?? element
      }
      for k in element..<element + 3 { codes[k] = 2 - codes[k] }
    }
    if let signedZero {
      throw damage(
        rows, columns,
        "the three zeros at row \(signedZero / columns), column \(signedZero % columns) have a sign"
      )
    }
    forEachByte(
      rows: rows, pitch: columns, first: parts.threes, columns: columns - parts.threes, block: 32,
      width: 4
    ) { at, element in
      let byte = bytes[parts.pairs + at]
      codes[element] = (byte >> 4) / 3
      codes[element + 1] = (byte >> 4) % 3
      codes[element + 2] = (byte & 15) / 3
      codes[element + 3] = (byte & 15) % 3
    }
    return .tensor(try scale(bytes, at: parts.tail, rows, columns))
  }

  func pack(
    _ matrix: TernaryMatrix, codes: UnsafeBufferPointer<UInt8>,
    into bytes: UnsafeMutableRawBufferPointer
  ) throws(QuantError) {
    let columns = matrix.columns
    let parts = parts(matrix.rows, columns)
    /// 9a + 3b + c.
    func value(_ element: Int) -> Int {
      9 * Int(codes[element]) + 3 * Int(codes[element + 1]) + Int(codes[element + 2]) - 13
    }
    forEachByte(
      rows: matrix.rows, pitch: columns, first: 0, columns: parts.threes,
      block: blocking.blockColumns, width: 6
    ) { at, element in
      bytes[at] = UInt8(value(element).magnitude) << 4 | UInt8(value(element + 3).magnitude)
    }
    forEachSign(rows: matrix.rows, pitch: columns, columns: parts.threes) { at, bit, element in
      if value(element) < 0 { bytes[parts.signs + at] |= 1 << UInt8(bit) }
    }
    forEachByte(
      rows: matrix.rows, pitch: columns, first: parts.threes, columns: columns - parts.threes,
      block: 32, width: 4
    ) { at, element in
      bytes[parts.pairs + at] =
        (3 * codes[element] + codes[element + 1]) << 4
        | (3 * codes[element + 2] + codes[element + 3])
    }
    store(try commonScale(matrix), at: parts.tail, in: bytes)
  }
}
