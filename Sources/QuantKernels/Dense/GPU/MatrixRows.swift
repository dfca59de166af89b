/// What `ldmatrix` reads where a tile has fewer rows than the instruction.
enum MatrixRows {
  /// A row that is there, for any row of a tile whose first `count` rows are: the row itself, else
  /// the first of its 8×8 matrix, else row 0.
  ///
  /// The results of missing rows are dropped, so their operands may be any; a repeated row of the
  /// same matrix is a broadcast and costs no pass.
  static func present(_ row: Int, of count: Int) -> Int {
    if row < count { return row }
    let matrix = row / 8 * 8
    return matrix < count ? matrix : 0
  }
}
