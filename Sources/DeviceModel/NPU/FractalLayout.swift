/// A matrix in blocks of 16 × 16, blocks column by column and each block row by row: the order in
/// which L1 and the cube's buffers hold operands (binary16, 512 bytes a block) and sums (float32).
///
/// The parts use more than one order of blocks; what a product costs depends on none of them.
public struct FractalLayout: TileLayout, Hashable {
  public let rows: Int
  public let columns: Int
  public let elementBits: Int
  public let byteCount: Int

  /// - Throws: ``LayoutError`` when a size is not positive, or the layout's size overflows.
  public init(rows: Int, columns: Int, elementBits: Int) throws(LayoutError) {
    let subject = "FractalLayout \(rows) × \(columns)"
    guard rows > 0, columns > 0, rows < 1 << 24, columns < 1 << 24,
      elementBits == 16 || elementBits == 32
    else {
      throw LayoutError(subject, "sizes must be 1 to 2²⁴ − 1 and an element 16 or 32 bits")
    }
    self.rows = rows
    self.columns = columns
    self.elementBits = elementBits
    byteCount = Self.bytes(rows: rows, columns: columns, elementBytes: elementBits / 8)
  }

  public func bitOffset(row: Int, column: Int) -> Int {
    let blocks = Self.padded(rows) / 16
    let block = (column >> 4) &* blocks &+ (row >> 4)
    return (block &* 256 &+ (row & 15) &* 16 &+ (column & 15)) &* elementBits
  }

  public var description: String { "fractals of \(rows) × \(columns)" }

  /// Bytes that a matrix takes in blocks.
  public static func bytes(rows: Int, columns: Int, elementBytes: Int) -> Int {
    padded(rows) * padded(columns) * elementBytes
  }

  /// The next multiple of 16.
  public static func padded(_ extent: Int) -> Int { (extent + 15) / 16 * 16 }
}
