import DeviceModel

/// How a product's tiles are dealt to blocks: row tiles × 128-output tiles × splits of K, the last
/// slowest, as AWQ's and QUICK's launches number them.
///
/// Split z takes the k steps z, z + splits, z + 2·splits, … of 32 inputs; a split past the last step
/// has none. (QUICK's own guard for a ragged last round cannot hold and reads past the end; AWQ's is
/// this one.)
struct SplitKGrid: Sendable, Hashable {
  /// Outputs of a block.
  static let outputs = 128
  /// Inputs of a step.
  static let inputs = 32
  /// Most splits that a launch may ask for.
  static let maximumSplits = 1024

  let rows: Int
  let tileRows: Int
  let rowTiles: Int
  let outputTiles: Int
  let steps: Int
  let splits: Int

  struct Place {
    let row: Int
    let outputTile: Int
    let split: Int
    /// Rows of the tile that exist.
    let rows: Int
  }

  /// - Throws: ``QuantError`` when the splits are not 1…1024 or the blocks more than 2³¹ − 1.
  init(
    rows: Int, tileRows: Int, outputs: Int, inputs: Int, splits: Int, kernel: String
  ) throws(QuantError) {
    guard splits > 0, splits <= Self.maximumSplits else {
      throw QuantError(
        .invalidArgument, kernel, "\(splits) splits of K", remedy: "use 1…\(Self.maximumSplits)")
    }
    self.rows = rows
    self.tileRows = tileRows
    rowTiles = (rows + tileRows - 1) / tileRows
    outputTiles = outputs / Self.outputs
    steps = inputs / Self.inputs
    self.splits = splits
    let (tiles, overflow1) = rowTiles.multipliedReportingOverflow(by: outputTiles)
    let (blocks, overflow2) = tiles.multipliedReportingOverflow(by: splits)
    guard !overflow1, !overflow2, blocks <= Int(Int32.max) else {
      throw QuantError(
        .unsupported, kernel, "the grid passes 2³¹ − 1 blocks", remedy: "multiply fewer rows")
    }
  }

  var blocks: Int { rowTiles * outputTiles * splits }

  func place(_ block: Int) -> Place {
    let tile = block % (rowTiles * outputTiles)
    let row = tile / outputTiles * tileRows
    return Place(
      row: row, outputTile: tile % outputTiles, split: block / (rowTiles * outputTiles),
      rows: min(tileRows, rows - row))
  }

  /// Steps of a split.
  func steps(of split: Int) -> Int { max(0, (steps - split + splits - 1) / splits) }

  /// Blocks with equal counters: alike in the rows that exist, in the number of steps, and in the
  /// output tile modulo 4. Tiles four apart stand a multiple of 128 bytes apart in every buffer, so
  /// that they touch lines alike; nearer ones may not.
  ///
  /// - Parameter groupSteps: for kernels that reload scales only when a split passes from one group
  ///   of so many steps to another: alike in the number of such passages, too.
  func blockClasses(groupSteps: Int = 1) -> [BlockClass] {
    struct Key: Hashable {
      let isBottom: Bool
      let phase: Int
      let steps: Int
      let groups: Int
    }
    var found: [Key: (block: Int, count: Int)] = [:]
    let hasBottom = rows % tileRows != 0
    for split in 0..<splits {
      let steps = steps(of: split)
      let groups = Set((0..<steps).map { ($0 * splits + split) / groupSteps }).count
      for phase in 0..<min(4, outputTiles) {
        let alike = (outputTiles - phase + 3) / 4
        for isBottom in hasBottom ? [false, true] : [false] {
          let tiles = isBottom ? 1 : rowTiles - (hasBottom ? 1 : 0)
          guard tiles > 0 else { continue }
          let key = Key(isBottom: isBottom, phase: phase, steps: steps, groups: groups)
          let row = isBottom ? rowTiles - 1 : 0
          let block = (split * rowTiles + row) * outputTiles + phase
          found[key, default: (block, 0)].count += alike * tiles
        }
      }
    }
    return found.values.sorted { $0.block < $1.block }.map {
      BlockClass(representative: $0.block, count: $0.count)
    }
  }
}
