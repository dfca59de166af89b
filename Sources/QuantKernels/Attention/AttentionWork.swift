import CQuantKernels

/// One call of ``Attention``, cut into parts for workers. Rows are the query heads of one key-value
/// head at one query, query by query, so that they share every load of keys and values.
struct AttentionWork {
  let queries: UnsafePointer<Float>
  let output: UnsafeMutablePointer<Float>
  /// `[count × heads]`, or nil when nobody asks.
  let logarithms: UnsafeMutablePointer<Float>?
  let heads: Int
  let count: Int
  let view: KeyValueView
  /// What each query sees.
  let ranges: UnsafePointer<qk_attention_range>
  let bits: UnsafePointer<UInt64>?
  let bitWords: Int
  /// Positions of the queries, with slopes only.
  let positions: UnsafePointer<Int64>?
  /// Of every query head, times log2 e.
  let slopes: UnsafePointer<Float>?
  let sinks: UnsafePointer<Float>?
  let factor: Float
  let softCapLog2E: Float
  let kernels: UnsafePointer<qk_attention_kernels>
  let vectors: qk_vector_kernels

  private static let partition = Int(QK_ATTENTION_PARTITION)
  private static let block = Int(QK_ATTENTION_ROWS)
  private static let header = Int(QK_ATTENTION_STATE_HEADER)
  private static let pointers = Int(QK_ATTENTION_POINTERS)

  /// Query rows of one key-value head at one query.
  private var group: Int { heads / view.shape.heads }
  private var stateStride: Int { Self.header + view.shape.valueStride }

  /// Keys that any of these queries sees, and the partitions that they lie in.
  private func visible(_ queries: Range<Int>) -> (keys: Range<Int>, partitions: Range<Int>) {
    var low = Int.max
    var high = 0
    for query in queries where ranges[query].low < ranges[query].high {
      low = min(low, Int(ranges[query].low))
      high = max(high, Int(ranges[query].high))
    }
    if low >= high { return (0..<0, 0..<0) }
    return (low..<high, low / Self.partition..<(high - 1) / Self.partition + 1)
  }

  // MARK: Tiles of rows

  /// Rows of a tile: few enough that their queries and states take at most half a megabyte of a
  /// second-level cache, beside a partition's keys and values; many enough that converting those to
  /// float32, and fetching them from further away, is a small part.
  private var mostTileRows: Int {
    min(384, max(Self.leastTileRows, (1 << 19) / (4 * (view.shape.keyWidth + stateStride))))
  }
  private static let leastTileRows = 24

  /// Queries of a tile: whole blocks of rows where that is possible, and enough tiles for the
  /// threads.
  private func tileQueries(threads: Int) -> Int {
    var step = 1
    while step < Self.block, step * group % Self.block != 0 { step += 1 }
    var rows = mostTileRows
    while threads > 1, rows > Self.leastTileRows,
      (count * group + rows - 1) / rows * view.shape.heads < 4 * threads
    {
      rows /= 2
    }
    return min(count, max(step, rows / group / step * step))
  }

  func runTiled(_ workspace: AttentionWorkspace, _ pool: WorkerPool) throws(QuantError) {
    let queries = tileQueries(threads: pool.threads)
    let tiles = (count + queries - 1) / queries
    let scratch = Scratch(rows: queries * group, of: self)
    let isSmall = isTooSmallForThreads
    let base = try workspace.reserve(
      .workers, scratch.floats * (isSmall ? 1 : pool.threads), of: Float.self)
    let parts = tiles * view.shape.heads
    let task = TileTask(work: self, queries: queries, tiles: tiles, scratch: scratch, base: base)
    if isSmall {
      for part in 0..<parts { task.run(part: part, worker: 0) }
    } else {
      pool.run(parts: parts, task)
    }
  }

  /// Waking helpers costs about as much as this many operations.
  private var isTooSmallForThreads: Bool {
    4 * Double(count) * Double(heads * view.shape.keyWidth) * Double(visible(0..<count).keys.count)
      < 100_000
  }

  /// A tile of rows of one head over all the partitions that they see.
  private struct TileTask: ParallelTask {
    let work: AttentionWork
    let queries: Int
    let tiles: Int
    let scratch: Scratch
    let base: UnsafeMutablePointer<Float>

    func run(part: Int, worker: Int) {
      let heads = work.view.shape.heads
      let head = part % heads
      // The last tiles see the most keys: they go first, so that no worker is left with a long one.
      let start = (tiles - 1 - part / heads) * queries
      let tile = start..<min(start + queries, work.count)
      let own = base + worker * scratch.floats
      let states = own + scratch.states
      work.prepare(head, tile, own, states)
      let visible = work.visible(tile)
      for index in visible.partitions {
        work.attend(head, tile, partition: index, visible.keys, states, scratch, own)
      }
      work.finish(head, tile, states)
    }
  }

  // MARK: Few rows, many keys

  /// Rows above which tiles of rows give threads enough to do.
  private static let splitRows = 48

  func isWorthSplitting(threads: Int) -> Bool {
    threads > 1 && count * group <= Self.splitRows && view.shape.heads < 4 * threads
      && visible(0..<count).partitions.count > 1 && !isTooSmallForThreads
  }

  func runSplit(_ workspace: AttentionWorkspace, _ pool: WorkerPool) throws(QuantError) {
    let rows = count * group
    let scratch = Scratch(rows: rows, of: self)
    let partitions = visible(0..<count).partitions
    // Room for every partition that the cache can come to have.
    let most = (view.capacity + Self.partition - 1) / Self.partition
    let stateFloats = rows * stateStride
    let base = try workspace.reserve(.workers, scratch.floats * pool.threads, of: Float.self)
    let partials = try workspace.reserve(
      .partials, view.shape.heads * most * stateFloats, of: Float.self)
    let task = SplitTask(
      work: self, partitions: partitions, most: most, scratch: scratch, base: base,
      partials: partials)
    pool.run(parts: view.shape.heads * partitions.count, task)
    // One pass over 1/256 of what the parts read.
    for head in 0..<view.shape.heads {
      let states = partials + (head * most + partitions.lowerBound) * stateFloats
      for index in 1..<partitions.count {
        kernels.pointee.merge(
          states, states + index * stateFloats, rows, view.shape.valueStride)
      }
      finish(head, 0..<count, states)
    }
  }

  /// All rows of one head over one partition, into states of their own.
  private struct SplitTask: ParallelTask {
    let work: AttentionWork
    let partitions: Range<Int>
    let most: Int
    let scratch: Scratch
    let base: UnsafeMutablePointer<Float>
    let partials: UnsafeMutablePointer<Float>

    func run(part: Int, worker: Int) {
      let head = part / partitions.count
      let index = partitions.lowerBound + part % partitions.count
      let own = base + worker * scratch.floats
      let states = partials + (head * most + index) * work.count * work.group * work.stateStride
      work.prepare(head, 0..<work.count, own, states)
      work.attend(
        head, 0..<work.count, partition: index, work.visible(0..<work.count).keys, states, scratch,
        own)
    }
  }

  // MARK: Steps

  /// Rows up to which a partition is read as it is stored; more make it worth widening once.
  private static let narrowRows = 2 * block

  /// Where a worker's floats lie: queries first, then states, scores, widened keys and values, and
  /// pointers to blocks.
  private struct Scratch {
    let states: Int
    let scores: Int
    let keys: Int
    let values: Int
    let pointers: Int
    let floats: Int

    init(rows: Int, of work: AttentionWork) {
      func aligned(_ floats: Int) -> Int { (floats + 15) / 16 * 16 }
      let shape = work.view.shape
      states = aligned(rows * shape.queryStride)
      scores = states + rows * work.stateStride
      keys = scores + AttentionWork.block * AttentionWork.partition
      let widens =
        work.view.smallPage != nil || (shape.type.isHalf && rows > AttentionWork.narrowRows)
      values = keys + (widens ? AttentionWork.partition * shape.keyWidth : 0)
      // A row of a small page on its way into a block, of keys or values.
      pointers =
        values
        + (widens ? AttentionWork.partition * shape.valueStride : 0)
        + (work.view.smallPage == nil ? 0 : aligned(shape.keyWidth + shape.valueWidth))
      floats = aligned(pointers + 2 * 2 * AttentionWork.pointers)
    }
  }

  private func prepare(
    _ head: Int, _ tile: Range<Int>, _ scaled: UnsafeMutablePointer<Float>,
    _ states: UnsafeMutablePointer<Float>
  ) {
    let width = view.shape.keyWidth
    kernels.pointee.prepare(
      view.shape.type.kernelType, queries + (tile.lowerBound * heads + head * group) * width,
      heads * width, factor,
      tile.count, group, width, view.shape.valueStride, scaled, states)
  }

  private func finish(
    _ head: Int, _ tile: Range<Int>, _ states: UnsafeMutablePointer<Float>
  ) {
    let first = tile.lowerBound * heads + head * group
    kernels.pointee.finish(
      states, tile.count, group, view.shape.valueWidth, view.shape.valueStride,
      sinks.map { $0 + head * group }, output + first * view.shape.valueWidth,
      heads * view.shape.valueWidth, logarithms.map { $0 + first }, heads)
  }

  /// Lets the rows of a tile see one partition of a head, of which any of them sees `keys`.
  private func attend(
    _ head: Int, _ tile: Range<Int>, partition index: Int, _ keys: Range<Int>,
    _ states: UnsafeMutablePointer<Float>, _ scratch: Scratch, _ own: UnsafeMutablePointer<Float>
  ) {
    let shape = view.shape
    var rows = qk_attention_rows(
      queries: own, states: states, scores: own + scratch.scores, rows: tile.count * group,
      key_width: shape.keyWidth, value_stride: shape.valueStride, rows_per_position: group,
      seen: ranges + tile.lowerBound, mask: bits.map { $0 + tile.lowerBound * bitWords },
      mask_words: bitWords, slopes: slopes.map { $0 + head * group },
      positions: positions.map { $0 + tile.lowerBound }, soft_cap_log2e: softCapLog2E)
    let start = index * Self.partition
    let pointers = UnsafeMutableRawPointer(own + scratch.pointers)
      .assumingMemoryBound(to: UnsafeRawPointer.self)
    let keyPointers = pointers
    let valuePointers = pointers + Self.pointers
    let blocks =
      max(keys.lowerBound - start, 0)
      / KeyValueShape.block..<(min(keys.upperBound - start, Self.partition) - 1)
      / KeyValueShape.block + 1
    let isWidened = view.smallPage != nil || (shape.type.isHalf && rows.rows > Self.narrowRows)
    if isWidened {
      // Many blocks of rows read these: widen once. It is exact, so bits stay.
      for block in 0..<Self.pointers {
        let room = min(block, blocks.upperBound - 1)
        keyPointers[block] = UnsafeRawPointer(
          own + scratch.keys + room * KeyValueShape.block * shape.keyWidth)
        valuePointers[block] = UnsafeRawPointer(
          own + scratch.values + room * KeyValueShape.block * shape.valueStride)
      }
      for block in blocks { widen(head, start, block, scratch, own) }
    } else {
      view.fill(
        keyPointers, valuePointers, head: head, firstBlock: start / KeyValueShape.block)
    }
    let kernel = kernelOf(kernels.pointee.partition, isWidened ? .f32 : shape.type)
    kernel(&rows, Int64(start), keyPointers, valuePointers)
  }

  private func widen(
    _ head: Int, _ start: Int, _ block: Int, _ scratch: Scratch, _ own: UnsafeMutablePointer<Float>
  ) {
    let shape = view.shape
    let keys = own + scratch.keys + block * KeyValueShape.block * shape.keyWidth
    let values = own + scratch.values + block * KeyValueShape.block * shape.valueStride
    guard view.smallPage != nil else {
      let index = start / KeyValueShape.block + block
      let widen =
        shape.type == .f16 ? kernels.pointee.widen_half : kernels.pointee.widen_brain
      widen(
        view.keys(head: head, block: index), view.values(head: head, block: index),
        shape.keyWidth, shape.valueStride, keys, values)
      return
    }
    let row = own + scratch.values + Self.partition * shape.valueStride
    for offset in 0..<KeyValueShape.block {
      // Past the end the last row again: what nobody sees must only be finite.
      let position = min(start + block * KeyValueShape.block + offset, view.count - 1)
      let rows = view.smallRows(head: head, position: position)
      var key = UnsafePointer(rows.keys.assumingMemoryBound(to: Float.self))
      var value = UnsafePointer(rows.values.assumingMemoryBound(to: Float.self))
      if shape.type == .f16 {
        vectors.half_to_float(
          rows.keys.assumingMemoryBound(to: UInt16.self), row, shape.keyWidth)
        vectors.half_to_float(
          rows.values.assumingMemoryBound(to: UInt16.self), row + shape.keyWidth,
          shape.valueWidth)
        key = UnsafePointer(row)
        value = UnsafePointer(row + shape.keyWidth)
      }
      kernelOf(kernels.pointee.store, .f32)(
        key, 0, value, 0, offset, 1, shape.keyWidth, shape.valueWidth, keys, values)
    }
  }
}
