/// A matrix in a unified buffer: rows of elements, `pitch` apart.
public struct UBMatrix: Sendable, Hashable {
  /// The tile that holds it.
  public var tile: NPUTile
  /// First byte, counted from the tile's.
  public var byte: Int
  /// Rows.
  public var rows: Int
  /// Columns.
  public var columns: Int
  /// Elements from one row to the next.
  public var pitch: Int
  /// Bytes of an element: 1, 2 or 4.
  public var elementBytes: Int

  /// A matrix of float32 unless said otherwise.
  public init(
    _ tile: NPUTile, byte: Int = 0, rows: Int, columns: Int, pitch: Int? = nil,
    elementBytes: Int = 4
  ) {
    self.tile = tile
    self.byte = byte
    self.rows = rows
    self.columns = columns
    self.pitch = pitch ?? columns
    self.elementBytes = elementBytes
  }

  /// A column of float32, one value a row.
  public static func vector(_ tile: NPUTile, first: Int = 0, count: Int) -> UBMatrix {
    UBMatrix(tile, byte: first * 4, rows: 1, columns: count)
  }

  var address: Int { tile.address + byte }

  /// - Throws: ``DeviceError`` `.misaligned` when rows do not start at whole blocks of 32 bytes (a
  ///   single row may be of any length, and part of a block), `.outOfRange` when they pass the tile.
  func check(_ core: NPUCore, rows: Int, columns: Int) throws(DeviceError) {
    try core.require(tile, in: .ub)
    guard rows > 0, columns > 0, pitch >= columns, [1, 2, 4].contains(elementBytes),
      rows < 1 << 24, pitch < 1 << 24
    else {
      throw DeviceError(
        .invalidArgument, "ub matrix in \(tile.name)",
        "\(rows) × \(columns) at pitch \(pitch) of \(elementBytes) bytes",
        remedy: "use positive sizes and a pitch of at least a row")
    }
    guard byte % 32 == 0, rows == 1 || pitch * elementBytes % 32 == 0 else {
      throw DeviceError(
        .misaligned, "ub matrix in \(tile.name)",
        "starts at byte \(byte), rows \(pitch * elementBytes) bytes apart",
        remedy: "use multiples of 32", address: byte, limit: 32)
    }
    try core.require(
      tile, byte: byte, bytes: ((rows - 1) * pitch + columns) * elementBytes)
  }
}
