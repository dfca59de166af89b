import CQuantKernels

/// Where the blocks of a cache lie: in one piece, or in pages named by a table. Its memory belongs
/// to the cache it was made from.
struct KeyValueView {
  let shape: KeyValueShape
  /// Positions that may be read.
  let count: Int
  /// Positions that there is room for.
  let capacity: Int
  let base: UnsafeMutableRawPointer
  /// A page holds, head by head, the key blocks and then the value blocks of its positions.
  let blocksPerPage: Int
  let pageBytes: Int
  /// Pages in order of positions; nil: one page holds all.
  let table: UnsafePointer<Int32>?
  /// Positions of a page where that is no multiple of 16: such pages hold plain rows, see
  /// ``KeyValuePool``.
  let smallPage: Int?

  func keys(head: Int, block: Int) -> UnsafeMutableRawPointer {
    page(of: block, head: head) + block % blocksPerPage * shape.keyBlockBytes
  }

  func values(head: Int, block: Int) -> UnsafeMutableRawPointer {
    page(of: block, head: head) + blocksPerPage * shape.keyBlockBytes
      + block % blocksPerPage * shape.valueBlockBytes
  }

  private func page(of block: Int, head: Int) -> UnsafeMutableRawPointer {
    let page = table.map { Int($0[block / blocksPerPage]) } ?? 0
    return base + page * pageBytes
      + head * blocksPerPage * (shape.keyBlockBytes + shape.valueBlockBytes)
  }

  /// The rows of a position in a small page.
  func smallRows(head: Int, position: Int) -> (
    keys: UnsafeMutableRawPointer, values: UnsafeMutableRawPointer
  ) {
    let size = smallPage ?? 1
    let page = table.map { Int($0[position / size]) } ?? 0
    let element = shape.type == .f32 ? 4 : 2
    let row = (shape.keyWidth + shape.valueWidth) * element
    let keys = base + page * pageBytes + (head * size + position % size) * row
    return (keys, keys + shape.keyWidth * element)
  }

  /// Pointers to the blocks of a partition and to those after it that may be fetched ahead; past
  /// the last position, the last block again.
  func fill(
    _ keys: UnsafeMutablePointer<UnsafeRawPointer>,
    _ values: UnsafeMutablePointer<UnsafeRawPointer>, head: Int, firstBlock: Int
  ) {
    let last = (count - 1) / KeyValueShape.block
    for index in 0..<Int(QK_ATTENTION_POINTERS) {
      let block = min(firstBlock + index, last)
      keys[index] = UnsafeRawPointer(self.keys(head: head, block: block))
      values[index] = UnsafeRawPointer(self.values(head: head, block: block))
    }
  }
}
