/// Five trits a byte in plain base 3, 1.6 bits a weight: blocks of 160 columns in 32 bytes, byte j
/// the sum of code(32n + j) · 3ⁿ, n = 0…4.
///
/// Each row is padded to whole blocks with code 1, a zero. Behind all rows stands the tensor's float32
/// scale. Bytes of 243 and more are none.
///
/// The block is the t5b format's (purpleskulll/bitnet-t5b); padding by rows and the place of the scale
/// are this package's.
struct FiveTritCodec: TernaryCodec {
  private static let blockBytes = 32
  private static let blockElements = 160
  private static let powers: [UInt8] = [1, 3, 9, 27, 81]
  /// Digit n of every byte at 256n + byte.
  private static let digits: [UInt8] = powers.flatMap { power in
    (0..<256).map { UInt8($0) / power % 3 }
  }

  var name: String { "five-trit" }

  private func blocks(_ columns: Int) -> Int {
    (columns + Self.blockElements - 1) / Self.blockElements
  }

  func byteCount(rows: Int, columns: Int) throws(QuantError) -> Int {
    rows * blocks(columns) * Self.blockBytes + 4
  }

  func check(_ bytes: UnsafeRawBufferPointer, rows: Int, columns: Int) throws(QuantError) {
    let codes = bytes.part(0, bytes.count - 4)
    if ByteScan.maximum(codes) > 242 {
      throw damage(rows, columns, in: codes, "is no five trits") { $0 > 242 }
    }
  }

  func unpack(
    _ bytes: UnsafeRawBufferPointer, rows: Int, columns: Int,
    into codes: UnsafeMutableBufferPointer<UInt8>
  ) throws(QuantError) -> TernaryMatrix.Scales {
    let digits = Self.digits
    let blocks = blocks(columns)
    for row in 0..<rows {
      for block in 0..<blocks {
        let from = bytes.part((row * blocks + block) * Self.blockBytes, Self.blockBytes)
        for n in 0..<5 {
          for j in 0..<32 {
            let code = digits[256 * n + Int(from[j])]
            let column = block * Self.blockElements + 32 * n + j
            if column < columns {
              codes[row * columns + column] = code
            } else if code != 1 {
              throw damage(rows, columns, "padding of row \(row) holds code \(code)")
            }
          }
        }
      }
    }
    return .tensor(try scale(bytes, at: bytes.count - 4, rows, columns))
  }

  func pack(
    _ matrix: TernaryMatrix, codes: UnsafeBufferPointer<UInt8>,
    into bytes: UnsafeMutableRawBufferPointer
  ) throws(QuantError) {
    let columns = matrix.columns
    for row in 0..<matrix.rows {
      for block in 0..<blocks(columns) {
        let to = bytes.part((row * blocks(columns) + block) * Self.blockBytes, Self.blockBytes)
        for n in 0..<5 {
          for j in 0..<32 {
            let column = block * Self.blockElements + 32 * n + j
            to[j] += (column < columns ? codes[row * columns + column] : 1) * Self.powers[n]
          }
        }
      }
    }
    store(try commonScale(matrix), at: bytes.count - 4, in: bytes)
  }
}
