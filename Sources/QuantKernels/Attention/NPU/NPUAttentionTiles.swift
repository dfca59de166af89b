import DeviceModel

/// A tile of query rows: all positions of a range for some heads of one key-value group, head after
/// head, so that keys and values are loaded once for all of them.
struct NPUQueryTile: Hashable {
  /// First position and how many.
  var firstPosition: Int
  var positions: Int
  /// First query head and how many, all of one key-value head.
  var firstHead: Int
  var heads: Int
  var keyValueHead: Int
  /// Visible keys, widened to whole second-level blocks.
  var keys: Range<Int>
  /// Number of the tile in the order of the heads: where its row statistics stand.
  var number: Int

  var rows: Int { heads * positions }

  /// Parts of a row range that belong to one head each: first row, rows, head, first position.
  func segments(_ range: Range<Int>) -> [(row: Int, rows: Int, head: Int, position: Int)] {
    var list: [(row: Int, rows: Int, head: Int, position: Int)] = []
    var row = range.lowerBound
    while row < range.upperBound {
      let inside = row % positions
      let count = min(range.upperBound - row, positions - inside)
      list.append((row, count, firstHead + row / positions, firstPosition + inside))
      row += count
    }
    return list
  }

  /// Rows of a vector unit: as equal parts as can be.
  func rows(ofUnit index: Int, of units: Int) -> Range<Int> {
    let part = (rows + units - 1) / units
    return min(rows, index * part)..<min(rows, (index + 1) * part)
  }
}

/// How an attention is cut into tiles and given to cores.
struct NPUAttentionTiles {
  let shape: NPUAttentionShape
  /// Heads of a tile, positions of a full one, rows that every tile's statistics have room for.
  let headsPerTile: Int
  let positionsPerTile: Int
  let blockRows: Int
  /// Visible keys of each range of positions, last range first.
  let ranges: [(first: Int, positions: Int, keys: Range<Int>)]

  /// - Parameters:
  ///   - mask: nil where nothing is skipped.
  ///   - blockKeys: the granularity of skipping.
  init(_ shape: NPUAttentionShape, blockRows: Int, mask: TileMask?, blockKeys: Int) {
    self.shape = shape
    self.blockRows = blockRows
    headsPerTile = min(shape.group, blockRows)
    positionsPerTile = max(1, blockRows / headsPerTile)
    var ranges: [(first: Int, positions: Int, keys: Range<Int>)] = []
    for first in stride(from: 0, to: shape.queryLength, by: positionsPerTile) {
      let positions = min(positionsPerTile, shape.queryLength - first)
      var keys = 0..<shape.keyLength
      if let mask {
        let visible = mask.visibleKeys(firstRow: first, rows: positions, of: shape.keyLength)
        let start = visible.lowerBound / blockKeys * blockKeys
        let end = (visible.upperBound + blockKeys - 1) / blockKeys * blockKeys
        keys = visible.isEmpty ? 0..<0 : start..<min(shape.keyLength, end)
      }
      ranges.append((first, positions, keys))
    }
    // The last rows of a causal mask have the most work: they come first.
    self.ranges = ranges.reversed()
  }

  /// Head chunks of all key-value heads: first head and how many.
  var headChunks: [(first: Int, count: Int, keyValueHead: Int)] {
    var list: [(first: Int, count: Int, keyValueHead: Int)] = []
    for keyValueHead in 0..<shape.keyValueHeads {
      for first in stride(from: 0, to: shape.group, by: headsPerTile) {
        list.append(
          (
            keyValueHead * shape.group + first, min(headsPerTile, shape.group - first),
            keyValueHead
          ))
      }
    }
    return list
  }

  /// Tiles in all.
  var count: Int { ranges.count * headChunks.count }

  /// Tiles of a number of heads, as many as there are kinds: a representative for each range, and
  /// how many it stands for.
  var classes: [(tile: NPUQueryTile, count: Int)] {
    var sizes: [Int: Int] = [:]
    for chunk in headChunks { sizes[chunk.count, default: 0] += 1 }
    return sizes.sorted { $0.key < $1.key }.flatMap { size in
      ranges.map { range in
        (
          NPUQueryTile(
            firstPosition: range.first, positions: range.positions, firstHead: 0, heads: size.key,
            keyValueHead: 0, keys: range.keys, number: 0), size.value
        )
      }
    }
  }

  /// Gives every tile, head after head, to the core with the least work so far, as a work queue does;
  /// work is rows' visible keys and a constant for the tile.
  func assigned(to cores: Int) -> [[NPUQueryTile]] {
    var lists = [[NPUQueryTile]](repeating: [], count: cores)
    // A heap of (work, core), the least first; ties go to the lower core.
    var heap: [(work: Int, core: Int)] = (0..<cores).map { (0, $0) }
    func less(_ a: (work: Int, core: Int), _ b: (work: Int, core: Int)) -> Bool {
      (a.work, a.core) < (b.work, b.core)
    }
    var number = 0
    for chunk in headChunks {
      for range in ranges {
        let tile = NPUQueryTile(
          firstPosition: range.first, positions: range.positions, firstHead: chunk.first,
          heads: chunk.count, keyValueHead: chunk.keyValueHead, keys: range.keys, number: number)
        number += 1
        lists[heap[0].core].append(tile)
        heap[0].work += range.keys.count + blockRows
        var at = 0
        while true {
          var least = at
          for child in [2 * at + 1, 2 * at + 2]
          where child < heap.count && less(heap[child], heap[least]) { least = child }
          if least == at { break }
          heap.swapAt(at, least)
          at = least
        }
      }
    }
    return lists
  }

  /// Key-value heads whose keys are in use at a time: tiles run in the order of their heads.
  func liveHeads(cores: Int) -> Int {
    let perHead = ranges.count * ((shape.group + headsPerTile - 1) / headsPerTile)
    guard perHead > 0 else { return 1 }
    return min(shape.keyValueHeads, (cores - 1) / perHead + 2)
  }
}
