import QuantKernels

/// An attention that is timed again and again, with the machine's limits sampled between its runs.
struct AttentionCase {
  let queryLength: Int
  let keyValueLength: Int
  let heads: Int
  let keyValueHeads: Int
  let headDimension: Int
  let type: KeyValueType
  let products: AttentionOptions.Products
  let isCausal: Bool
  let window: Int?
  let pageSize: Int?
  /// Whether the unfused path is timed between the runs.
  let comparesUnfused: Bool

  struct Result {
    let rounds: TimedRounds
    /// Microseconds, scratch bytes and largest difference of the unfused path.
    let unfused: (microseconds: Timing, bytes: Int, difference: Double)?
    /// Scratch bytes of the fused path.
    let scratchBytes: Int
    /// What the kernel multiplied in.
    let products: AttentionOptions.Products
    let copies: Int
    /// Bytes of the keys and values that are seen, each once.
    let keyValueBytes: Double
  }

  /// Queries up to which a run reads its cache about once.
  private static let fewQueries = 8

  var mask: AttentionMask {
    var mask = AttentionMask.causal(queries: queryLength, keys: keyValueLength)
    mask.isCausal = isCausal
    return mask
  }

  var options: AttentionOptions {
    AttentionOptions(
      scale: 1 / Float(headDimension).squareRoot(), window: window, products: products)
  }

  /// Pairs of a query and a key that it sees, and keys that any query sees.
  var pairs: (seen: Double, keys: Double) {
    var seen = 0.0
    var oldest = keyValueLength
    for query in 0..<queryLength {
      let position = keyValueLength - queryLength + query
      let high = isCausal ? max(0, position + 1) : keyValueLength
      let low = window.map { max(0, position - $0 + 1) } ?? 0
      seen += Double(max(0, high - low))
      if low < high { oldest = min(oldest, low) }
    }
    return (seen, Double(keyValueLength - oldest))
  }

  /// Multiplications and additions of scores and outputs.
  var operations: Double { 4 * pairs.seen * Double(heads) * Double(headDimension) }

  private enum Cache {
    case whole(KeyValueCache)
    case paged(PagedKeyValueCache)

    var bytesPerPosition: Double {
      switch self {
      case .whole(let cache): Double(cache.byteCount) / Double((cache.capacity + 15) / 16 * 16)
      case .paged(let cache):
        Double(cache.pool.byteCount) / Double(cache.pool.pageCount * cache.pool.pageSize)
      }
    }
  }

  /// - Throws: ``QuantError`` when sizes do not fit each other, memory is short or Ctrl-C comes.
  func measure(
    options limitOptions: LimitOptions, limits: MachineLimits, pool: WorkerPool
  ) throws(QuantError) -> Result {
    try MemoryRequirement.check(
      MemoryRequirement.sum([
        [2, keyValueLength, keyValueHeads, type.bytes(width: headDimension)],
        [8, queryLength, heads, headDimension],
        comparesUnfused ? [4, queryLength, keyValueLength] : [],
        comparesUnfused ? [16, keyValueLength, keyValueHeads, headDimension] : [],
      ]),
      subject: "attention", remedy: "use shorter lengths")
    Console.progress("filling the cache")
    var caches = [try filled()]
    let bytes = caches[0].bytesPerPosition * pairs.keys
    if queryLength <= Self.fewQueries {
      while Double(caches.count) * bytes < 2 * Double(CacheSizes.lastLevel), caches.count < 64 {
        caches.append(try filled())
      }
    }
    let width = heads * headDimension
    let queries = try AlignedBuffer(count: 4 * queryLength * width, for: "queries")
    let outputs = try AlignedBuffer(count: 4 * queryLength * width, for: "outputs")
    let q = UnsafeMutableBufferPointer(
      start: queries.base.bindMemory(to: Float.self, capacity: queryLength * width),
      count: queryLength * width)
    let y = UnsafeMutableBufferPointer(
      start: outputs.base.bindMemory(to: Float.self, capacity: queryLength * width),
      count: queryLength * width)
    var random = SplitRandom(seed: 2)
    for index in q.indices { q[index] = random.normal() }
    let workspace = AttentionWorkspace()
    let mask = mask
    let options = options
    let unfused =
      comparesUnfused ? try UnfusedAttention(self, numbers: wholeNumbers()) : nil
    let other = try AlignedBuffer(
      count: comparesUnfused ? 4 * queryLength * width : 0, for: "outputs")
    var unfusedTime = Timing()

    func pass() throws(QuantError) -> Double {
      try pool.withHotRegion { () throws(QuantError) in
        let start = MonotonicClock.nanoseconds()
        for cache in caches {
          switch cache {
          case .whole(let cache):
            try Attention.run(
              queries: UnsafeBufferPointer(q), heads: heads, count: queryLength, mask: mask,
              cache: cache, options: options, output: y, workspace: workspace, pool: pool)
          case .paged(let cache):
            try Attention.run(
              queries: UnsafeBufferPointer(q), heads: heads, count: queryLength, mask: mask,
              cache: cache, options: options, output: y, workspace: workspace, pool: pool)
          }
        }
        let seconds = MonotonicClock.seconds(since: start)
        if let unfused {
          let start = MonotonicClock.nanoseconds()
          try unfused.run(
            queries.base.assumingMemoryBound(to: Float.self),
            into: other.base.assumingMemoryBound(to: Float.self), pool: pool)
          unfusedTime.add(MonotonicClock.seconds(since: start) * 1e6)
        }
        return seconds
      }
    }

    let rounds = try TimedRounds(of: caches.count, options: limitOptions, limits: limits, pass)
    let outputOfOther = other.base.assumingMemoryBound(to: Float.self)
    return Result(
      rounds: rounds,
      unfused: unfused.map { unfused in
        let difference = y.indices.reduce(0.0) {
          max($0, Double((y[$1] - outputOfOther[$1]).magnitude))
        }
        return (unfusedTime, unfused.scratchBytes, difference)
      }, scratchBytes: workspace.byteCount,
      products: workspace.products(products, for: type), copies: caches.count,
      keyValueBytes: bytes)
  }

  /// Standard normal numbers, the same for every stretch of positions.
  private func stretch() -> (positions: Int, keys: [Float], values: [Float]) {
    var random = SplitRandom(seed: 3)
    let width = keyValueHeads * headDimension
    let positions = min(256, keyValueLength)
    let keys = (0..<positions * width).map { _ in random.normal() }
    let values = (0..<positions * width).map { _ in random.normal() }
    return (positions, keys, values)
  }

  /// What ``filled()`` puts into a cache.
  private func wholeNumbers() -> (keys: [Float], values: [Float]) {
    let (positions, keys, values) = stretch()
    let width = keyValueHeads * headDimension
    func repeated(_ numbers: [Float]) -> [Float] {
      (0..<keyValueLength * width).map { numbers[$0 % (positions * width)] }
    }
    return (repeated(keys), repeated(values))
  }

  /// A cache of standard normal numbers, the same for every position of a stretch of 256: filling
  /// is no part of what is measured.
  private func filled() throws(QuantError) -> Cache {
    let width = keyValueHeads * headDimension
    let (stretch, keys, values) = stretch()
    let cache: Cache
    if let pageSize {
      let pages = (keyValueLength + pageSize - 1) / pageSize
      let memory = try KeyValuePool(
        type: type, keyValueHeads: keyValueHeads, headDimension: headDimension,
        pageSize: pageSize, pageCount: pages)
      // Every other page, then those between: no two neighbors follow one another.
      let order =
        stride(from: 0, to: pages, by: 2).map(Int32.init)
        + stride(from: 1, to: pages, by: 2).map(Int32.init)
      cache = .paged(try PagedKeyValueCache(pool: memory, pages: order))
    } else {
      cache = .whole(
        try KeyValueCache(
          type: type, keyValueHeads: keyValueHeads, headDimension: headDimension,
          capacity: keyValueLength))
    }
    var failure: QuantError?
    keys.withUnsafeBufferPointer { keys in
      values.withUnsafeBufferPointer { values in
        do throws(QuantError) {
          for start in stride(from: 0, to: keyValueLength, by: stretch) {
            try Interruption.check()
            let count = min(stretch, keyValueLength - start) * width
            let someKeys = UnsafeBufferPointer(rebasing: keys[..<count])
            let someValues = UnsafeBufferPointer(rebasing: values[..<count])
            switch cache {
            case .whole(let cache): try cache.append(keys: someKeys, values: someValues)
            case .paged(let cache): try cache.append(keys: someKeys, values: someValues)
            }
          }
        } catch {
          failure = error
        }
      }
    }
    if let failure { throw failure }
    return cache
  }
}
