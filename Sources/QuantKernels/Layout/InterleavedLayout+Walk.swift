import DeviceModel

extension InterleavedLayout {
  /// Bit offset of each row's column 0, for `0..<paddedRows`.
  ///
  /// A fragment's digits each move along one axis, so every offset is a sum of a part of the row
  /// and a part of the column: `bitOffset(row: n, column: k) == rowOffsets[n] + columnOffsets[k]`.
  /// With these two tables a packer or kernel walks any order by two loads and an add, without a
  /// closure.
  public func rowOffsets() -> [Int] { (0..<paddedRows).map { bitOffset(row: $0, column: 0) } }

  /// Bit offset of each column relative to column 0, for `0..<paddedColumns`; see ``rowOffsets()``.
  public func columnOffsets() -> [Int] {
    let origin = bitOffset(row: 0, column: 0)
    return (0..<paddedColumns).map { bitOffset(row: 0, column: $0) - origin }
  }

  /// The smallest patch that repeats unchanged along both axes, and how it repeats.
  public struct Tile: Sendable, Equatable {
    /// Outputs of the patch.
    public let rows: Int
    /// Inputs of the patch.
    public let columns: Int
    /// Bit offsets inside the patch, `[rows · columns]`, row-major.
    public let bitOffsets: [Int]
    /// Bits from a patch to the next along the outputs.
    public let rowStride: Int
    /// Bits from a patch to the next along the inputs.
    public let columnStride: Int
  }

  /// The offsets of one patch and the strides of the patches around it: `bitOffset(n, k) == tile[n
  /// % rows, k % columns] + n / rows · rowStride + k / columns · columnStride`.
  public func tile() -> Tile {
    let outer = outputDigits.max { $0.above < $1.above }
    let inner = inputDigits.max { $0.above < $1.above }
    let height = tileRows * (outer?.above ?? 1)
    let width = tileColumns * (inner?.above ?? 1)
    var offsets = [Int]()
    offsets.reserveCapacity(height * width)
    for n in 0..<height {
      for k in 0..<width { offsets.append(bitOffset(row: n, column: k)) }
    }
    return Tile(
      rows: height, columns: width, bitOffsets: offsets, rowStride: outer?.stride ?? 0,
      columnStride: inner?.stride ?? 0)
  }

  /// First byte of the gap behind the block of codes that holds the element, or nil when the order
  /// has none.
  ///
  /// For CPU panels that is where a (panel, group) keeps its scales.
  public func gapOffset(row: Int, column: Int) -> Int? {
    guard let gap, gap.blockBits > 0 else { return nil }
    let bits = bitOffset(row: row, column: column)
    return (bits / gap.blockBits * gap.blockBits + gap.start) / 8
  }
}

extension InterleavedLayout {
  /// `(row extents),(column extents):(row strides),(column strides)`, least significant first, in
  /// elements; behind it the padded shape where it differs.
  public var description: String {
    let tile = tile()
    let row = Self.modes(
      (0..<tile.rows).map { tile.bitOffsets[$0 * tile.columns] }, times: paddedRows / tile.rows,
      apart: tile.rowStride)
    let column = Self.modes(
      Array(tile.bitOffsets[..<tile.columns]), times: paddedColumns / tile.columns,
      apart: tile.columnStride)
    func list(_ values: [Int]) -> String {
      values.count == 1 ? "\(values[0])" : "(\(values.map(String.init).joined(separator: ",")))"
    }
    func stride(_ bits: Int) -> String {
      bits % elementBits == 0 ? "\(bits / elementBits)" : "\(bits)b"
    }
    func strides(_ modes: [(extent: Int, stride: Int)]) -> String {
      let values = modes.map { stride($0.stride) }
      return values.count == 1 ? values[0] : "(\(values.joined(separator: ",")))"
    }
    let padded = paddedRows == rows && paddedColumns == columns ? "" : " of (\(rows),\(columns))"
    return "(\(list(row.map(\.extent))),\(list(column.map(\.extent)))):"
      + "(\(strides(row)),\(strides(column)))" + padded
  }

  /// Cuts a patch's offsets into the fewest digits with one stride each; the patches add the last.
  private static func modes(
    _ offsets: [Int], times count: Int, apart: Int
  ) -> [(extent: Int, stride: Int)] {
    var modes: [(extent: Int, stride: Int)] = []
    var covered = 1
    while covered < offsets.count {
      let stride = offsets[covered] - offsets[0]
      var extent = 2
      while covered * (extent + 1) <= offsets.count,
        offsets[covered * extent] - offsets[0] == stride * extent
      {
        extent += 1
      }
      while offsets.count % (covered * extent) != 0, extent > 2 { extent -= 1 }
      modes.append((extent, stride))
      covered *= extent
    }
    if let last = modes.last, last.extent &* last.stride == apart {
      modes[modes.count - 1].extent *= count
    } else if count > 1 || modes.isEmpty {
      modes.append((count, apart))
    }
    return modes
  }
}
