/// Marlin's striped partition: the tiles of the weight matrix, taken column after column, cut into
/// equal runs, one a block, so that every multiprocessor gets the same number of tiles whatever the
/// shape; a column that several blocks share is summed by them in turn.
///
/// A *column* is a stack of tiles along K for one run of outputs and one panel of input rows; the
/// columns of panel 1 come after those of panel 0.
struct MarlinStripes: Sendable, Equatable {
  /// A block's share of one column.
  struct Slice: Sendable, Equatable {
    /// Column, counted over all panels.
    let column: Int
    /// First tile along K.
    let firstTile: Int
    /// Tiles along K.
    let tiles: Int
    /// Turn of the block in the column's sum: the block at the end of K is 0.
    let turn: Int
    /// Blocks that share the column.
    let sharers: Int

    /// The block adds the last part and writes the result.
    var isLast: Bool { turn == sharers - 1 }
  }

  /// Tiles of a column.
  let tilesPerColumn: Int
  /// Columns of all panels.
  let columns: Int
  /// Blocks of the grid.
  let blocks: Int
  /// Tiles of a block; the last blocks may have fewer or none.
  let tilesPerBlock: Int

  /// - Parameter tilesPerGroup: tiles that share a row of scales; a run is a multiple of them.
  init(tilesPerColumn: Int, columns: Int, blocks: Int, tilesPerGroup: Int) {
    self.tilesPerColumn = tilesPerColumn
    self.columns = columns
    self.blocks = blocks
    let share = (tilesPerColumn * columns + blocks - 1) / blocks
    tilesPerBlock = (share + tilesPerGroup - 1) / tilesPerGroup * tilesPerGroup
  }

  /// The slices of a block, in the order in which it works on them.
  func slices(of block: Int) -> [Slice] {
    var slices: [Slice] = []
    var tile = block * tilesPerBlock
    let end = min(tile + tilesPerBlock, tilesPerColumn * columns)
    while tile < end {
      let column = tile / tilesPerColumn
      let bottom = (column + 1) * tilesPerColumn
      let firstSharer = column * tilesPerColumn / tilesPerBlock
      let lastSharer = (bottom - 1) / tilesPerBlock
      slices.append(
        Slice(
          column: column, firstTile: tile - column * tilesPerColumn,
          tiles: min(end, bottom) - tile, turn: lastSharer - block,
          sharers: lastSharer - firstSharer + 1))
      tile = bottom
    }
    return slices
  }

  /// Blocks of the most shared column: the length of the chain of locks.
  var longestChain: Int {
    (0..<columns).reduce(1) { longest, column in
      let first = column * tilesPerColumn / tilesPerBlock
      let last = ((column + 1) * tilesPerColumn - 1) / tilesPerBlock
      return max(longest, last - first + 1)
    }
  }
}
