import CQuantKernels

/// One call of
/// ``Attention/run(queries:heads:count:firstPosition:cache:options:output:workspace:pool:)``, cut
/// into parts for workers. Rows are the query heads of one key-value head at one position, position
/// by position, so that they share every load of keys and values.
struct AttentionWork {
  let queries: UnsafePointer<Float>
  let output: UnsafeMutablePointer<Float>
  let heads: Int
  let count: Int
  let firstPosition: Int
  let cache: KeyValueCache
  let kernels: UnsafePointer<qk_attention_kernels>
  let vectors: qk_vector_kernels
  /// Query rows of one key-value head at one position.
  let group: Int
  let window: Int
  let factor: Float
  let softCapLog2E: Float

  private static let partition = Int(QK_ATTENTION_PARTITION)
  private static let block = Int(QK_ATTENTION_ROWS)
  private static let header = Int(QK_ATTENTION_STATE_HEADER)

  init(
    queries: UnsafePointer<Float>, output: UnsafeMutablePointer<Float>, heads: Int, count: Int,
    firstPosition: Int, cache: KeyValueCache, options: AttentionOptions,
    kernels: UnsafePointer<qk_attention_kernels>, vectors: qk_vector_kernels
  ) {
    self.queries = queries
    self.output = output
    self.heads = heads
    self.count = count
    self.firstPosition = firstPosition
    self.cache = cache
    self.kernels = kernels
    self.vectors = vectors
    group = heads / cache.keyValueHeads
    window = options.window ?? 0
    // Scores in base 2: 2^(s·log2 e) spares the exponential a multiplication.
    let log2E = 1.4426950408889634
    if let cap = options.softCap {
      factor = Float(Double(options.scale) / Double(cap))
      softCapLog2E = Float(Double(cap) * log2E)
    } else {
      factor = Float(Double(options.scale) * log2E)
      softCapLog2E = 0
    }
  }

  private var dimension: Int { cache.headDimension }
  private var stateStride: Int { Self.header + cache.valueStride }

  /// Partitions that the rows of these positions see.
  private func partitions(from first: Int, count: Int) -> Range<Int> {
    let oldest = window > 0 ? max(0, first - window + 1) : 0
    return oldest / Self.partition..<(first + count - 1) / Self.partition + 1
  }

  // MARK: Tiles of rows

  /// Rows of a tile: few enough that their queries and states take at most half a megabyte of a
  /// second-level cache, beside a partition's keys and values; many enough that converting those to
  /// float32, and fetching them from further away, is a small part.
  private var mostTileRows: Int {
    min(384, max(Self.leastTileRows, (1 << 19) / (4 * (dimension + stateStride))))
  }
  private static let leastTileRows = 24

  /// Positions of a tile: whole blocks of rows where that is possible, and enough tiles for the
  /// threads.
  private func tilePositions(threads: Int) -> Int {
    var step = 1
    while step < Self.block, step * group % Self.block != 0 { step += 1 }
    var rows = mostTileRows
    while threads > 1, rows > Self.leastTileRows,
      (count * group + rows - 1) / rows * cache.keyValueHeads < 4 * threads
    {
      rows /= 2
    }
    return min(count, max(step, rows / group / step * step))
  }

  func runTiled(_ workspace: AttentionWorkspace, _ pool: WorkerPool) throws(QuantError) {
    let positions = tilePositions(threads: pool.threads)
    let tiles = (count + positions - 1) / positions
    let scratch = Scratch(rows: positions * group, of: self)
    let isSmall = isTooSmallForThreads
    let base = try workspace.reserveWorkers(
      floats: scratch.floats * (isSmall ? 1 : pool.threads))
    let parts = tiles * cache.keyValueHeads
    let task = TileTask(
      work: self, positions: positions, tiles: tiles, scratch: scratch, base: base)
    if isSmall {
      for part in 0..<parts { task.run(part: part, worker: 0) }
    } else {
      pool.run(parts: parts, task)
    }
  }

  /// Waking helpers costs about as much as this many operations.
  private var isTooSmallForThreads: Bool {
    let keys = window > 0 ? min(window, firstPosition + count) : firstPosition + count
    return 4 * Double(count) * Double(heads * dimension) * Double(keys) < 100_000
  }

  /// A tile of rows of one head over all the partitions that they see.
  private struct TileTask: ParallelTask {
    let work: AttentionWork
    let positions: Int
    let tiles: Int
    let scratch: Scratch
    let base: UnsafeMutablePointer<Float>

    func run(part: Int, worker: Int) {
      let heads = work.cache.keyValueHeads
      let head = part % heads
      // The last tiles see the most keys: they go first, so that no worker is left with a long one.
      let start = (tiles - 1 - part / heads) * positions
      let count = min(positions, work.count - start)
      let first = work.firstPosition + start
      let own = base + worker * scratch.floats
      let states = own + scratch.states
      work.prepare(head, start, count, own, states)
      var rows = work.rowsDescription(
        count: count, first: first, queries: own, states: states, scores: own + scratch.scores)
      for index in work.partitions(from: first, count: count) {
        work.attend(&rows, head, index, last: first + count - 1, scratch, own)
      }
      work.finish(head, start, count, states)
    }
  }

  // MARK: Few rows, many keys

  /// Rows above which tiles of rows give threads enough to do.
  private static let splitRows = 48

  func isWorthSplitting(threads: Int) -> Bool {
    threads > 1 && count * group <= Self.splitRows && cache.keyValueHeads < 4 * threads
      && partitions(from: firstPosition, count: count).count > 1 && !isTooSmallForThreads
  }

  func runSplit(_ workspace: AttentionWorkspace, _ pool: WorkerPool) throws(QuantError) {
    let rows = count * group
    let scratch = Scratch(rows: rows, of: self)
    let visible = partitions(from: firstPosition, count: count)
    // Room for every partition that the cache can come to have.
    let most = (cache.capacity + Self.partition - 1) / Self.partition
    let stateFloats = rows * stateStride
    let base = try workspace.reserveWorkers(floats: scratch.floats * pool.threads)
    let partials = try workspace.reservePartials(
      floats: cache.keyValueHeads * most * stateFloats)
    let task = SplitTask(
      work: self, visible: visible, most: most, scratch: scratch, base: base, partials: partials)
    pool.run(parts: cache.keyValueHeads * visible.count, task)
    // One pass over 1/256 of what the parts read.
    for head in 0..<cache.keyValueHeads {
      let states = partials + (head * most + visible.lowerBound) * stateFloats
      for index in 1..<visible.count {
        kernels.pointee.merge(states, states + index * stateFloats, rows, cache.valueStride)
      }
      finish(head, 0, count, states)
    }
  }

  /// All rows of one head over one partition, into states of their own.
  private struct SplitTask: ParallelTask {
    let work: AttentionWork
    let visible: Range<Int>
    let most: Int
    let scratch: Scratch
    let base: UnsafeMutablePointer<Float>
    let partials: UnsafeMutablePointer<Float>

    func run(part: Int, worker: Int) {
      let head = part / visible.count
      let index = visible.lowerBound + part % visible.count
      let own = base + worker * scratch.floats
      let states = partials + (head * most + index) * work.count * work.group * work.stateStride
      work.prepare(head, 0, work.count, own, states)
      var rows = work.rowsDescription(
        count: work.count, first: work.firstPosition, queries: own, states: states,
        scores: own + scratch.scores)
      work.attend(
        &rows, head, index, last: work.firstPosition + work.count - 1, scratch, own)
    }
  }

  // MARK: Steps

  /// Where a worker's floats lie: queries first, then states, scores, converted keys and values.
  private struct Scratch {
    let states: Int
    let scores: Int
    let keys: Int
    let values: Int
    let floats: Int

    init(rows: Int, of work: AttentionWork) {
      func aligned(_ floats: Int) -> Int { (floats + 15) / 16 * 16 }
      states = aligned(rows * work.dimension)
      scores = states + rows * work.stateStride
      keys = scores + AttentionWork.block * AttentionWork.partition
      let converts = work.cache.type == .f16
      values = keys + (converts ? AttentionWork.partition * work.dimension : 0)
      floats = values + (converts ? AttentionWork.partition * work.cache.valueStride : 0)
    }
  }

  private func rowsDescription(
    count: Int, first: Int, queries: UnsafeMutablePointer<Float>,
    states: UnsafeMutablePointer<Float>, scores: UnsafeMutablePointer<Float>
  ) -> qk_attention_rows {
    qk_attention_rows(
      queries: queries, states: states, scores: scores, rows: count * group,
      head_dimension: dimension, value_stride: cache.valueStride, rows_per_position: group,
      first_position: first, window: window, soft_cap_log2e: softCapLog2E)
  }

  private func prepare(
    _ head: Int, _ start: Int, _ count: Int, _ scaled: UnsafeMutablePointer<Float>,
    _ states: UnsafeMutablePointer<Float>
  ) {
    kernels.pointee.prepare(
      queries + (start * heads + head * group) * dimension, heads * dimension, factor, count,
      group, dimension, cache.valueStride, scaled, states)
  }

  private func finish(
    _ head: Int, _ start: Int, _ count: Int, _ states: UnsafeMutablePointer<Float>
  ) {
    kernels.pointee.finish(
      states, count, group, dimension, cache.valueStride,
      output + (start * heads + head * group) * dimension, heads * dimension)
  }

  /// Lets the rows see one partition of a head, up to position `last`.
  private func attend(
    _ rows: inout qk_attention_rows, _ head: Int, _ index: Int, last: Int, _ scratch: Scratch,
    _ base: UnsafeMutablePointer<Float>
  ) {
    let start = index * Self.partition
    let keyOffset = start * dimension
    let valueOffset = start * cache.valueStride
    switch cache.type {
    case .f32:
      kernels.pointee.partition_float(
        &rows, start, cache.keys(head: head).assumingMemoryBound(to: Float.self) + keyOffset,
        cache.values(head: head).assumingMemoryBound(to: Float.self) + valueOffset)
    case .f16:
      let keys = cache.keys(head: head).assumingMemoryBound(to: UInt16.self) + keyOffset
      let values = cache.values(head: head).assumingMemoryBound(to: UInt16.self) + valueOffset
      if rows.rows <= 2 * Self.block {
        kernels.pointee.partition_half(&rows, start, keys, values)
      } else {
        // Many blocks of rows read these: convert once. The conversion is exact, so bits stay.
        let positions = min(Self.partition, (last - start + 64) / 64 * 64)
        vectors.half_to_float(keys, base + scratch.keys, positions * dimension)
        vectors.half_to_float(values, base + scratch.values, positions * cache.valueStride)
        kernels.pointee.partition_float(&rows, start, base + scratch.keys, base + scratch.values)
      }
    }
  }
}
