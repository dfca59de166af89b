import CQuantKernels

/// One call of ``LowRankAttention``, cut into parts for workers.
///
/// A *unit* is a group of values with the groups of keys of the same heads. Its rows are its query
/// heads, each with all queries of a tile: a head's rows lie together. Every kernel call serves all
/// rows of a group, so that its bytes are read once.
struct LowRankWork {
  /// The positions that a query sees.
  struct Seen {
    var low: Int
    var high: Int
  }

  let layer: LowRankLayer
  let view: LatentView
  /// `[count][heads · d_h]`, both.
  let queries: UnsafePointer<Float>
  let output: UnsafeMutablePointer<Float>
  let count: Int
  let ranges: UnsafePointer<Seen>
  let factor: Float
  let softCapLog2E: Float
  let isExact: Bool
  let kernels: UnsafePointer<qk_latent_kernels>
  let states: UnsafePointer<qk_attention_kernels>

  static let partition = Int(QK_LATENT_PARTITION)
  /// Partitions that are merged before their result is merged with others': fixed, so that bits do
  /// not depend on threads; four, so that a run's states are a small part of the bytes it reads, and
  /// 4096 positions of two units still occupy eight threads.
  static let run = 4
  private static let header = Int(QK_LATENT_STATE_HEADER)

  var d: Int { layer.shape.headDimension }
  var heads: Int { layer.unitHeads }
  var queryWidth: Int { layer.shape.queryHeads * d }

  /// Whether codes of a type are multiplied by digits.
  private func usesDigits(_ type: LatentType) -> Bool { !isExact && type.bits <= 4 }
  var keysUseDigits: Bool {
    layer.keyMode != .rebuilt && usesDigits(view.pages.keys[0].type)
  }

  /// The number of things that queries of a unit are multiplied with.
  func depth(_ unit: Int) -> Int {
    layer.keyMode == .commuting ? layer.keyWidths[unit] : d
  }

  func stateStride(_ unit: Int) -> Int {
    Self.header + qk_latent_padded(layer.valueWidths[unit])
  }

  /// Positions that any of these queries sees.
  private func visible(_ queries: Range<Int>) -> Range<Int> {
    var low = Int.max
    var high = 0
    for query in queries where ranges[query].low < ranges[query].high {
      low = min(low, ranges[query].low)
      high = max(high, ranges[query].high)
    }
    return low < high ? low..<high : 0..<0
  }

  private func partitions(_ positions: Range<Int>) -> Range<Int> {
    positions.isEmpty
      ? 0..<0
      : positions.lowerBound / Self.partition..<(positions.upperBound - 1) / Self.partition + 1
  }

  // MARK: Running

  /// Rows of a tile: enough that unpacking codes is a small part, few enough for their scores and
  /// digits to lie in a second-level cache.
  private static let tileRows = 96

  func run(_ workspace: LowRankWorkspace, _ pool: WorkerPool) throws(QuantError) {
    let tile = min(count, max(1, Self.tileRows / heads))
    let tiles = (count + tile - 1) / tile
    let widest = (0..<layer.units).max { stateStride($0) < stateStride($1) } ?? 0
    let scratch = Scratch(self, rows: heads * tile, widest: widest)
    let workers = try workspace.reserve(.workers, bytes: scratch.bytes * pool.threads)
    let counters = try workspace.reserve(
      .counters, bytes: MemoryLayout<LowRankCounters>.stride * pool.threads
    ).bindMemory(to: LowRankCounters.self, capacity: pool.threads)
    counters.initialize(repeating: LowRankCounters(), count: pool.threads)
    let prepared = Prepared(self, rows: heads * tile)
    if tiles > 1 {
      let queries = try workspace.reserve(.queries, bytes: prepared.bytes * pool.threads)
      let task = TileTask(
        work: self, tile: tile, tiles: tiles, scratch: scratch, workers: workers,
        prepared: prepared, queries: queries, counters: counters)
      pool.run(parts: tiles * layer.units, task)
    } else {
      let queries = try workspace.reserve(.queries, bytes: prepared.bytes * layer.units)
      // Room for every run that the cache can come to have.
      let most = (view.capacity + Self.partition * Self.run - 1) / (Self.partition * Self.run)
      let stateBytes = 4 * heads * tile * stateStride(widest)
      let runs = try workspace.reserve(.runs, bytes: layer.units * most * stateBytes)
      let seen = partitions(visible(0..<count))
      let task = SplitTask(
        work: self, prepared: prepared, queries: queries, scratch: scratch, workers: workers,
        runs: runs, most: most, stateBytes: stateBytes,
        seen: seen.lowerBound / Self.run..<(max(seen.upperBound, 1) - 1) / Self.run + 1,
        counters: counters)
      pool.run(parts: layer.units, PrepareTask(split: task))
      pool.run(parts: layer.units * task.seen.count, task)
      pool.run(parts: layer.shape.keyValueHeads, FinishTask(split: task))
    }
    for worker in 0..<pool.threads {
      workspace.counters = workspace.counters + counters[worker]
    }
  }

  /// A tile of queries of one unit over all that they see.
  private struct TileTask: ParallelTask {
    let work: LowRankWork
    let tile: Int
    let tiles: Int
    let scratch: Scratch
    let workers: UnsafeMutableRawPointer
    let prepared: Prepared
    let queries: UnsafeMutableRawPointer
    let counters: UnsafeMutablePointer<LowRankCounters>

    func run(part: Int, worker: Int) {
      let unit = part % work.layer.units
      // The last tiles see the most: they go first, so that no worker is left with a long one.
      let first = (tiles - 1 - part / work.layer.units) * tile
      let tile = first..<min(first + tile, work.count)
      let own = scratch.at(workers, worker)
      let queries = prepared.at(queries, worker)
      work.prepare(unit, tile, queries, own, &counters[worker])
      let rows = work.heads * tile.count
      let total = own.total
      let seen = work.partitions(work.visible(tile))
      var partition = seen.lowerBound
      repeat {
        let end = min(seen.upperBound, (partition / LowRankWork.run + 1) * LowRankWork.run)
        let isFirst = partition == seen.lowerBound
        work.attend(
          unit, tile, partition..<end, queries, into: isFirst ? total : own.run, own,
          &counters[worker])
        if !isFirst { work.merge(total, own.run, rows, unit) }
        partition = end
      } while partition < seen.upperBound
      work.finish(unit, tile, heads: 0..<work.heads, total, own, &counters[worker])
    }
  }

  /// The queries of one unit, of a call of one tile.
  private struct PrepareTask: ParallelTask {
    let split: SplitTask

    func run(part: Int, worker: Int) {
      split.work.prepare(
        part, 0..<split.work.count, split.prepared.at(split.queries, part),
        split.scratch.at(split.workers, worker), &split.counters[worker])
    }
  }

  /// All rows of one unit over one run of partitions, into a state of its own.
  private struct SplitTask: ParallelTask {
    let work: LowRankWork
    let prepared: Prepared
    let queries: UnsafeMutableRawPointer
    let scratch: Scratch
    let workers: UnsafeMutableRawPointer
    let runs: UnsafeMutableRawPointer
    let most: Int
    let stateBytes: Int
    let seen: Range<Int>
    let counters: UnsafeMutablePointer<LowRankCounters>

    func state(_ unit: Int, _ run: Int) -> UnsafeMutablePointer<Float> {
      (runs + (unit * most + run) * stateBytes).assumingMemoryBound(to: Float.self)
    }

    func run(part: Int, worker: Int) {
      let unit = part / seen.count
      let run = seen.lowerBound + part % seen.count
      let tile = 0..<work.count
      let all = work.partitions(work.visible(tile))
      let partitions = (run * LowRankWork.run..<(run + 1) * LowRankWork.run).clamped(to: all)
      work.attend(
        unit, tile, partitions, prepared.at(queries, unit), into: state(unit, run),
        scratch.at(workers, worker), &counters[worker])
    }
  }

  /// Merges the runs of one key-value head's rows and projects them up.
  private struct FinishTask: ParallelTask {
    let split: SplitTask

    func run(part: Int, worker: Int) {
      let work = split.work
      let unit = part / work.layer.headsPerGroup
      let group = work.layer.queriesPerHead
      let head = part % work.layer.headsPerGroup * group
      let offset = head * work.count * work.stateStride(unit)
      let total = split.state(unit, split.seen.lowerBound)
      for run in split.seen.dropFirst() {
        work.merge(total + offset, split.state(unit, run) + offset, group * work.count, unit)
      }
      work.finish(
        unit, 0..<work.count, heads: head..<head + group, total,
        split.scratch.at(split.workers, worker), &split.counters[worker])
    }
  }

  // MARK: Steps

  /// What rows that see nothing come to.
  private func clear(_ state: UnsafeMutablePointer<Float>, _ rows: Int, _ unit: Int) {
    let stride = stateStride(unit)
    state.update(repeating: 0, count: rows * stride)
    for row in 0..<rows { state[row * stride] = -.infinity }
  }

  private func merge(
    _ state: UnsafeMutablePointer<Float>, _ later: UnsafePointer<Float>, _ rows: Int, _ unit: Int
  ) {
    states.pointee.merge(state, later, rows, stateStride(unit) - Self.header)
  }

  /// Lets the rows of a unit see a run of partitions, into a state that the first of them begins.
  private func attend(
    _ unit: Int, _ tile: Range<Int>, _ partitions: Range<Int>, _ place: Prepared.Place,
    into run: UnsafeMutablePointer<Float>, _ own: Scratch.Place,
    _ counters: inout LowRankCounters
  ) {
    let rows = heads * tile.count
    guard !partitions.isEmpty else { return clear(run, rows, unit) }
    let visible = visible(tile)
    for partition in partitions {
      let state = partition == partitions.lowerBound ? run : own.partition
      let start = partition * Self.partition
      let from = max(visible.lowerBound - start, 0) / LatentType.block
      let to = (min(visible.upperBound - start, Self.partition) - 1) / LatentType.block + 1
      for (index, query) in tile.enumerated() {
        let low = min(max(ranges[query].low - start, 0), Self.partition)
        let high = min(max(ranges[query].high - start, 0), Self.partition)
        own.seen[index] = qk_latent_seen(low: Int32(low), high: Int32(high))
      }
      withUnsafeTemporaryAllocation(
        of: UnsafeRawPointer.self, capacity: Int(QK_LATENT_POINTERS)
      ) { pointers in
        guard let pointers = pointers.baseAddress else { return }
        score(unit, tile.count, partition, from, to, pointers, place, own, &counters)
        kernels.pointee.soften(
          own.scores, rows, tile.count, own.seen, from, to, softCapLog2E, state,
          stateStride(unit))
        let group = view.pages.values[unit]
        view.fill(pointers, group, partition: partition)
        var blocks = qk_latent_group(
          type: group.type.kernelType, width: group.width, blocks: UnsafePointer(pointers),
          from: from, to: to)
        kernels.pointee.weigh(
          own.scores, rows, usesDigits(group.type) ? 0 : 1, &blocks, state,
          stateStride(unit), own.kernel)
        counters.valueBytes += (to - from) * group.blockBytes
        counters.valueMultiplies += (to - from) * LatentType.block * rows * group.width
      }
      if state != run { merge(run, state, rows, unit) }
    }
  }

  private func score(
    _ unit: Int, _ count: Int, _ partition: Int, _ from: Int, _ to: Int,
    _ pointers: UnsafeMutablePointer<UnsafeRawPointer>, _ place: Prepared.Place,
    _ own: Scratch.Place, _ counters: inout LowRankCounters
  ) {
    let depth = depth(unit)
    let all = heads * count
    let groups = layer.keyGroupsPerUnit
    let rows = all / groups
    for index in 0..<groups {
      let number = unit * groups + index
      let group = view.pages.keys[number]
      view.fill(pointers, group, partition: partition)
      var blocks = qk_latent_group(
        type: group.type.kernelType, width: group.width, blocks: UnsafePointer(pointers),
        from: from, to: to)
      let first = index * rows
      var multiplied = qk_latent_rows(
        rows: rows,
        digits: keysUseDigits
          ? UnsafePointer(place.digits + first * 2 * qk_latent_padded(depth)) : nil,
        floats: UnsafePointer(place.floats + first * depth), stride: depth,
        scales: UnsafePointer(place.scales + first),
        sums: UnsafePointer(place.scales + all + first))
      let scores = own.scores + first * Self.partition
      let positions = (to - from) * LatentType.block
      counters.keyBytes += (to - from) * group.blockBytes
      counters.scoreMultiplies += positions * rows * depth
      guard layer.keyMode == .rebuilt else {
        kernels.pointee.score(&multiplied, &blocks, scores, own.kernel)
        continue
      }
      let pairs = layer.shape.rotaryPairs
      let sines = own.angles + Int(QK_LATENT_BLOCKS) * pairs
      layer.fillAngles(partition: partition, cosines: own.angles, sines: sines)
      var keys = qk_latent_rebuild(
        heads: layer.headsPerGroup, rows_per_head: rows / layer.headsPerGroup, head_width: d,
        pairs: pairs, interleaved: layer.shape.rotaryStyle == .interleaved ? 1 : 0,
        up: layer.keyUp(number), bias: layer.keyBias(number),
        block_cos: UnsafePointer(own.angles), block_sin: UnsafePointer(sines),
        cos: layer.cosines, sin: layer.sines)
      kernels.pointee.rebuild(&multiplied, &blocks, &keys, scores, own.kernel)
      counters.rebuildMultiplies += positions * group.width * layer.headsPerGroup * d
    }
  }

  /// Projects the sums of some heads of a unit up and writes their outputs.
  private func finish(
    _ unit: Int, _ tile: Range<Int>, heads some: Range<Int>,
    _ total: UnsafePointer<Float>, _ own: Scratch.Place, _ counters: inout LowRankCounters
  ) {
    let latents = layer.valueWidths[unit]
    let stride = stateStride(unit)
    let queriesPerHead = layer.queriesPerHead
    let rows = queriesPerHead * tile.count
    let projected = own.sums + LowRankLayer.padded(rows * latents)
    // A kernel's rows end at a multiple of 16: where heads do too it writes the output itself.
    let isDirect = d == layer.headStride
    for head in some {
      let shared = head / queriesPerHead
      let target = output + tile.lowerBound * queryWidth + (unit * heads + head) * d
      if head % queriesPerHead == 0 {
        // The query heads of a key-value head lie together.
        states.pointee.finish(
          total + head * tile.count * stride, 1, rows, latents, stride - Self.header, nil, own.sums,
          0, nil, 0)
      }
      kernels.pointee.product(
        own.sums + head % queriesPerHead * tile.count * latents, latents, tile.count, latents,
        layer.valueUp(unit, head: shared), layer.headStride, d, isDirect ? target : projected,
        isDirect ? queryWidth : layer.headStride)
      let bias = layer.valueBias(unit, head: shared)
      if bias != nil || !isDirect {
        for query in 0..<tile.count {
          let row = target + query * queryWidth
          let source = isDirect ? row : projected + query * layer.headStride
          for element in 0..<d { row[element] = source[element] + (bias?[element] ?? 0) }
        }
      }
      counters.upMultiplies += tile.count * latents * d
    }
  }
}
