/// Where each element of a matrix or tile stands in memory: coordinates to bits, a pure function.
///
/// The packer, the CPU kernel and the simulated kernel take the same value, so a bank conflict that
/// is counted is a conflict of the layout that ships.
public protocol TileLayout: Sendable, CustomStringConvertible {
  /// Rows that the layout describes.
  var rows: Int { get }
  /// Columns that the layout describes.
  var columns: Int { get }
  /// Width of one element.
  var elementBits: Int { get }
  /// Bytes that the layout occupies, padding included.
  var byteCount: Int { get }

  /// The first bit of the element, counted from the layout's start; bit b is bit `b mod 8` of byte
  /// `b div 8`.
  ///
  /// Defined for `0..<rows` and `0..<columns`. Other indices never trap, and give a number without
  /// meaning.
  func bitOffset(row: Int, column: Int) -> Int
}

extension TileLayout {
  /// The byte that holds the element's first bit.
  public func byteOffset(row: Int, column: Int) -> Int { bitOffset(row: row, column: column) >> 3 }
}

/// Row after row, each `pitch` elements from the last; a pitch above `columns` is padding.
public struct RowMajor: TileLayout, Hashable {
  public let rows: Int
  public let columns: Int
  public let elementBits: Int
  /// Elements from the start of one row to the start of the next.
  public let pitch: Int
  public let byteCount: Int

  /// - Parameters:
  ///   - pitch: elements from row to row; `columns` when not given.
  ///   - rows: rows of the tile.
  ///   - columns: elements of a row.
  ///   - elementBits: bits of an element.
  /// - Throws: ``LayoutError`` when a size is not positive, the pitch is below `columns`, or the
  ///   size overflows.
  public init(rows: Int, columns: Int, elementBits: Int, pitch: Int? = nil) throws(LayoutError) {
    let pitch = pitch ?? columns
    let subject = "RowMajor (\(rows),\(columns)):(\(pitch),1)"
    guard rows > 0, columns > 0, elementBits > 0, elementBits <= 64 else {
      throw LayoutError(subject, "sizes must be positive and an element at most 64 bits")
    }
    guard pitch >= columns else { throw LayoutError(subject, "the pitch is below the row length") }
    let (elements, overflow1) = rows.multipliedReportingOverflow(by: pitch)
    let (bits, overflow2) = elements.multipliedReportingOverflow(by: elementBits)
    guard !overflow1, !overflow2, bits <= Int.max - 7 else {
      throw LayoutError(subject, "its size overflows")
    }
    self.rows = rows
    self.columns = columns
    self.elementBits = elementBits
    self.pitch = pitch
    byteCount = (bits + 7) / 8
  }

  public func bitOffset(row: Int, column: Int) -> Int {
    (row &* pitch &+ column) &* elementBits
  }

  /// `(rows,columns):(pitch,1)`, strides in elements.
  public var description: String { "(\(rows),\(columns)):(\(pitch),1)" }
}
