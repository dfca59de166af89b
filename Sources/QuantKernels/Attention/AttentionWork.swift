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
  /// Not nil where products are of pairs of bfloat16.
  let pairs: UnsafePointer<qk_attention_pairs>?
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

  /// What rows multiply with: the cache's own type, or what a partition's blocks are copied as.
  private var arithmeticType: qk_kv_type {
    pairs == nil ? view.shape.type.kernelType : QK_KV_PAIRS
  }

  /// Whether so many rows read a copy of a partition, in float32 or in pairs of bfloat16.
  private func copies(rows: Int) -> Bool {
    pairs != nil || view.smallPage != nil || (view.shape.type.isHalf && rows > Self.narrowRows)
  }

  private var copiedType: qk_kv_type { pairs == nil ? QK_KV_FLOAT : QK_KV_PAIRS }
  /// Bytes of a copied block of 16 positions.
  private var copiedKeyBytes: Int { qk_key_block_bytes(copiedType, view.shape.keyWidth) }
  private var copiedValueBytes: Int { qk_value_block_bytes(copiedType, view.shape.valueWidth) }

  /// Where a worker's floats lie: queries first, then states, scores, copied keys and values, and
  /// pointers to blocks.
  private struct Scratch {
    let states: Int
    let scores: Int
    let keys: Int
    let values: Int
    let rows32: Int
    let block32: Int
    let pointers: Int
    let floats: Int

    init(rows: Int, of work: AttentionWork) {
      func aligned(_ floats: Int) -> Int { (floats + 15) / 16 * 16 }
      let shape = work.view.shape
      states = aligned(rows * qk_query_stride(work.arithmeticType, shape.keyWidth))
      scores = states + rows * work.stateStride
      keys = scores + AttentionWork.block * AttentionWork.partition
      let blocks = work.copies(rows: rows) ? AttentionWork.partition / KeyValueShape.block : 0
      values = keys + blocks * work.copiedKeyBytes / 4
      let isSmall = work.view.smallPage != nil
      rows32 = values + blocks * work.copiedValueBytes / 4
      // A row of a small page on its way into a block, and that block on its way into pairs.
      block32 = rows32 + (isSmall ? aligned(shape.keyWidth + shape.valueWidth) : 0)
      pointers =
        block32
        + (isSmall && work.pairs != nil
          ? KeyValueShape.block * (shape.keyWidth + shape.valueStride) : 0)
      floats = aligned(pointers + 2 * 2 * AttentionWork.pointers)
    }
  }

  private func prepare(
    _ head: Int, _ tile: Range<Int>, _ scaled: UnsafeMutablePointer<Float>,
    _ states: UnsafeMutablePointer<Float>
  ) {
    let width = view.shape.keyWidth
    let source = queries + (tile.lowerBound * heads + head * group) * width
    if let pairs {
      pairs.pointee.prepare(
        source, heads * width, factor, tile.count, group, width, view.shape.valueStride, scaled,
        states)
    } else {
      kernels.pointee.prepare(
        view.shape.type.kernelType, source, heads * width, factor, tile.count, group, width,
        view.shape.valueStride, scaled, states)
    }
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
    let isCopied = copies(rows: rows.rows)
    // The next partition's blocks, which few rows fetch ahead, are the cache's own.
    let ownPointers =
      rows.rows < Self.block && view.smallPage == nil ? Int(QK_ATTENTION_BLOCKS) : Self.pointers
    if !isCopied || ownPointers < Self.pointers {
      view.fill(
        keyPointers, valuePointers, head: head, firstBlock: start / KeyValueShape.block)
    }
    if isCopied {
      for block in 0..<ownPointers {
        let room = min(block, blocks.upperBound - 1)
        keyPointers[block] = UnsafeRawPointer(own + scratch.keys) + room * copiedKeyBytes
        valuePointers[block] = UnsafeRawPointer(own + scratch.values) + room * copiedValueBytes
      }
      for block in blocks { copy(head, start, block, scratch, own) }
    }
    if let pairs {
      pairs.pointee.partition(&rows, Int64(start), keyPointers, valuePointers)
    } else {
      let kernel = kernelOf(kernels.pointee.partition, isCopied ? .f32 : shape.type)
      kernel(&rows, Int64(start), keyPointers, valuePointers)
    }
  }

  /// Copies a block for the rows of a tile: into float32, which is exact, or into pairs.
  private func copy(
    _ head: Int, _ start: Int, _ block: Int, _ scratch: Scratch, _ own: UnsafeMutablePointer<Float>
  ) {
    let shape = view.shape
    let keys = own + scratch.keys + block * copiedKeyBytes / 4
    let values = own + scratch.values + block * copiedValueBytes / 4
    if view.smallPage == nil {
      let index = start / KeyValueShape.block + block
      let stored = (view.keys(head: head, block: index), view.values(head: head, block: index))
      if let pairs {
        let convert =
          switch shape.type {
          case .f16: pairs.pointee.pair.1
          case .bf16: pairs.pointee.pair.2
          default: pairs.pointee.pair.0
          }
        convert(stored.0, stored.1, shape.keyWidth, shape.valueStride, keys, values)
      } else {
        let widen = shape.type == .f16 ? kernels.pointee.widen_half : kernels.pointee.widen_brain
        widen(stored.0, stored.1, shape.keyWidth, shape.valueStride, keys, values)
      }
    } else if let pairs {
      let wide = own + scratch.block32
      let wideValues = wide + KeyValueShape.block * shape.keyWidth
      gather(head, start, block, own + scratch.rows32, keys: wide, values: wideValues)
      pairs.pointee.pair.0(wide, wideValues, shape.keyWidth, shape.valueStride, keys, values)
    } else {
      gather(head, start, block, own + scratch.rows32, keys: keys, values: values)
    }
  }

  /// A block of small pages' rows in float32; `row` has room for one position.
  private func gather(
    _ head: Int, _ start: Int, _ block: Int, _ row: UnsafeMutablePointer<Float>,
    keys: UnsafeMutablePointer<Float>, values: UnsafeMutablePointer<Float>
  ) {
    let shape = view.shape
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
