import CQuantKernels

/// The keys and values of one sequence in pages of a ``KeyValuePool``.
///
/// Which pages are free is the caller's to know. Writing into a page that another sequence shares
/// changes it there too: give a sequence its own copy of the page that it appends to.
public final class PagedKeyValueCache: @unchecked Sendable {
  /// The memory that the pages are of.
  public let pool: KeyValuePool
  /// Positions that may be read.
  public private(set) var count: Int
  /// Pages in order of positions.
  public private(set) var pages: [Int32]
  private let table: AlignedBuffer

  /// - Parameters:
  ///   - pages: numbers of pool pages, in order of positions, each at most once.
  ///   - count: positions that they already hold.
  ///   - pool: the memory.
  /// - Throws: ``QuantError`` `.invalidArgument` for a page that the pool has not or that stands
  ///   twice, and for fewer pages than `count` positions take.
  public init(pool: KeyValuePool, pages: [Int32], count: Int = 0) throws(QuantError) {
    try checkPageTable(pages, poolPages: pool.pageCount)
    guard count >= 0, count <= pages.count * pool.pageSize else {
      throw QuantError(
        .invalidArgument, "page table",
        "\(count) positions in \(pages.count) pages of \(pool.pageSize)",
        remedy: "give a page for every \(pool.pageSize) positions")
    }
    self.pool = pool
    self.pages = pages
    self.count = count
    table = try AlignedBuffer(count: 4 * max(pages.count, 1), for: "page table")
    let numbers = table.base.assumingMemoryBound(to: Int32.self)
    for (index, page) in pages.enumerated() { numbers[index] = page }
  }

  /// Appends positions `self.count ..< self.count + count`; see ``KeyValueCache``.
  ///
  /// - Throws: ``QuantError``, having changed nothing: `.invalidArgument` when the pages do not
  ///   hold so many or the buffers are not whole positions, `.invalidData` for numbers that are not
  ///   finite.
  public func append(
    keys: UnsafeBufferPointer<Float>, values: UnsafeBufferPointer<Float>
  ) throws(QuantError) {
    let shape = pool.shape
    let added = try wholePositions(shape, keys: keys, values: values)
    guard added <= pages.count * pool.pageSize - count else {
      throw QuantError(
        .invalidArgument, "page table",
        "\(added) positions where \(pages.count * pool.pageSize - count) are free",
        remedy: "give the sequence more pages")
    }
    guard let keyBase = keys.baseAddress, let valueBase = values.baseAddress else { return }
    try shape.requireFinite(
      "keys", keyBase, keys.count, from: count, instructionSet: pool.instructionSet)
    try shape.requireFinite(
      "values", valueBase, values.count, from: count, instructionSet: pool.instructionSet)
    let kernels = qk_attention_kernels_for(pool.instructionSet.kernelTableIdentifier)
    let store = kernelOf(kernels.pointee.store, shape.type)
    let view = view
    for index in 0..<added {
      let position = count + index
      for head in 0..<shape.heads {
        let key = keyBase + (index * shape.heads + head) * shape.keyWidth
        let value = valueBase + (index * shape.heads + head) * shape.valueWidth
        if pool.isSmall {
          let rows = view.smallRows(head: head, position: position)
          Self.copy(key, shape.keyWidth, to: rows.keys, shape.type)
          Self.copy(value, shape.valueWidth, to: rows.values, shape.type)
        } else {
          let block = position / KeyValueShape.block
          store(
            key, 0, value, 0, position % KeyValueShape.block, 1, shape.keyWidth, shape.valueWidth,
            view.keys(head: head, block: block), view.values(head: head, block: block))
        }
      }
    }
    count += added
  }

  private static func copy(
    _ source: UnsafePointer<Float>, _ count: Int, to target: UnsafeMutableRawPointer,
    _ type: KeyValueType
  ) {
    if type == .f32 {
      target.copyMemory(from: source, byteCount: 4 * count)
    } else {
      let halves = target.assumingMemoryBound(to: UInt16.self)
      for index in 0..<count { halves[index] = HalfPrecision.half(source[index]) }
    }
  }

  /// Forgets positions from `count` on; does nothing when there are none.
  public func truncate(to count: Int) { self.count = min(self.count, max(count, 0)) }

  var view: KeyValueView {
    KeyValueView(
      shape: pool.shape, count: count, capacity: pages.count * pool.pageSize,
      base: pool.buffer.base,
      blocksPerPage: max(1, pool.pageSize / KeyValueShape.block), pageBytes: pool.pageBytes,
      table: UnsafePointer(table.base.assumingMemoryBound(to: Int32.self)),
      smallPage: pool.isSmall ? pool.pageSize : nil)
  }
}

/// - Throws: ``QuantError`` `.invalidArgument` for a page that the pool does not have or that stands
///   twice.
func checkPageTable(_ pages: [Int32], poolPages: Int) throws(QuantError) {
  for page in pages where page < 0 || Int(page) >= poolPages {
    throw QuantError(
      .invalidArgument, "page table", "page \(page) of a pool of \(poolPages)",
      remedy: "name pages from 0 to \(poolPages - 1)")
  }
  let sorted = pages.sorted()
  for (page, next) in zip(sorted, sorted.dropFirst()) where page == next {
    throw QuantError(
      .invalidArgument, "page table", "page \(page) stands twice",
      remedy: "share pages between sequences, not within one")
  }
}
