import QuantKernels

/// A decode step over low-rank latents that is timed in turn with steps over whole caches, with the
/// machine's limits sampled between the rounds.
///
/// Caches are cold: each run rotates through copies that fill twice the last-level cache. Factors are
/// random, which times do not depend on.
struct LatentAttentionCase {
  let keyValueLength: Int
  let heads: Int
  let keyValueHeads: Int
  let headDimension: Int
  /// Latents of a group, as a share of its heads' elements.
  let ratio: Double
  /// Key-value heads that share a latent.
  let group: Int
  let keyMode: LowRankFactors.KeyMode
  let keyType: LatentType
  let valueType: LatentType
  /// Whole caches beside it.
  let beside: [KeyValueType]

  /// What was measured of one cache.
  struct Row {
    /// `low-rank`, or the type of a whole cache.
    let name: String
    let bytesPerPosition: Int
    let microseconds: Timing
  }

  struct Result {
    let cost: LowRankCost
    /// The latents' first.
    let rows: [Row]
    let limits: LimitSamples
  }

  private enum Cache {
    case latent([LowRankCache])
    case dense(KeyValueType, [KeyValueCache])

    var name: String {
      switch self {
      case .latent: "low-rank"
      case .dense(let type, _): type.rawValue
      }
    }
    var copies: Int {
      switch self {
      case .latent(let caches): caches.count
      case .dense(_, let caches): caches.count
      }
    }
    var bytesPerPosition: Int {
      switch self {
      case .latent(let caches): caches[0].bytesPerPosition
      case .dense(_, let caches): caches[0].bytesPerPosition
      }
    }
  }

  /// Makes the caches and runs them in turn.
  ///
  /// - Parameter layer: what ``randomLayer()`` gives.
  /// - Throws: ``QuantError`` when memory is short or Ctrl-C comes.
  func measure(
    _ layer: LowRankLayer, options: LimitOptions, limits: MachineLimits, pool: WorkerPool
  ) throws(QuantError) -> Result {
    Console.progress("filling caches of \(keyValueLength) positions")
    let cost = LowRankCost(layer, keyType: keyType, valueType: valueType)
    var caches = [
      Cache.latent(
        try copies(cost.bytesPerToken) { () throws(QuantError) in
          try filled(layer, keyType, valueType)
        })
    ]
    for type in beside {
      let bytes = 2 * keyValueHeads * type.bytes(width: headDimension)
      caches.append(.dense(type, try copies(bytes) { () throws(QuantError) in try filled(type) }))
    }
    var times = [Timing](repeating: Timing(), count: caches.count)
    var samples = LimitSamples()
    let runner = try Runner(layer: layer, heads: heads, headDimension: headDimension, pool: pool)
    for cache in caches { _ = try runner.seconds(cache, length: keyValueLength) }
    let began = MonotonicClock.nanoseconds()
    var round = 0
    while options.repeats(done: round, since: began) {
      round += 1
      Console.progress("round \(round) of \(options.repetitions)")
      samples.add(from: limits, all: true)
      for _ in 0..<3 {
        for (index, cache) in caches.enumerated() {
          try Interruption.check()
          times[index].add(
            try runner.seconds(cache, length: keyValueLength) / Double(cache.copies) * 1e6)
        }
      }
    }
    return Result(
      cost: cost,
      rows: zip(caches, times).map {
        Row(name: $0.name, bytesPerPosition: $0.bytesPerPosition, microseconds: $1)
      }, limits: samples)
  }

  // MARK: What is run

  private struct Runner {
    let layer: LowRankLayer
    let heads: Int
    let pool: WorkerPool
    let workspace = LowRankWorkspace()
    let denseWorkspace = AttentionWorkspace()
    let options: AttentionOptions
    let queries: UnsafeMutableBufferPointer<Float>
    let outputs: UnsafeMutableBufferPointer<Float>
    private let memory: [AlignedBuffer]

    init(layer: LowRankLayer, heads: Int, headDimension: Int, pool: WorkerPool) throws(QuantError) {
      self.layer = layer
      self.heads = heads
      self.pool = pool
      options = AttentionOptions(scale: 1 / Float(headDimension).squareRoot())
      let width = heads * headDimension
      memory = [
        try AlignedBuffer(count: 4 * width, for: "queries"),
        try AlignedBuffer(count: 4 * width, for: "outputs"),
      ]
      func floats(_ buffer: AlignedBuffer) -> UnsafeMutableBufferPointer<Float> {
        UnsafeMutableBufferPointer(
          start: buffer.base.bindMemory(to: Float.self, capacity: width), count: width)
      }
      queries = floats(memory[0])
      outputs = floats(memory[1])
      var random = SplitRandom(seed: 2)
      for index in queries.indices { queries[index] = random.normal() }
    }

    /// One step on each copy.
    func seconds(_ cache: Cache, length: Int) throws(QuantError) -> Double {
      try pool.withHotRegion { () throws(QuantError) in
        let start = MonotonicClock.nanoseconds()
        switch cache {
        case .latent(let caches):
          for cache in caches {
            try LowRankAttention.run(
              queries: UnsafeBufferPointer(queries), count: 1, firstPosition: length - 1,
              cache: cache, options: options, output: outputs, workspace: workspace, pool: pool)
          }
        case .dense(_, let caches):
          for cache in caches {
            try Attention.run(
              queries: UnsafeBufferPointer(queries), heads: heads, count: 1,
              firstPosition: length - 1, cache: cache, options: options, output: outputs,
              workspace: denseWorkspace, pool: pool)
          }
        }
        return MonotonicClock.seconds(since: start)
      }
    }
  }

  /// As many copies as fill twice the last-level cache.
  private func copies<Value>(
    _ bytesPerPosition: Int, _ make: () throws(QuantError) -> Value
  ) throws(QuantError) -> [Value] {
    let wanted = 2 * CacheSizes.lastLevel / max(1, bytesPerPosition * keyValueLength) + 1
    try MemoryRequirement.check(
      MemoryRequirement.sum([[min(wanted, 64), bytesPerPosition, keyValueLength]]),
      subject: "caches", remedy: "use a shorter --kv-length")
    var all: [Value] = []
    for _ in 0..<min(wanted, 64) { all.append(try make()) }
    return all
  }

  private func filled(
    _ layer: LowRankLayer, _ keyType: LatentType, _ valueType: LatentType
  ) throws(QuantError) -> LowRankCache {
    let cache = try LowRankCache(
      layer: layer, keyType: keyType, valueType: valueType, capacity: keyValueLength)
    var random = SplitRandom(seed: 3)
    let stretch = min(256, keyValueLength)
    let keys = (0..<stretch * layer.inputWidth(.key)).map { _ in random.normal() }
    let values = (0..<stretch * layer.inputWidth(.value)).map { _ in random.normal() }
    while cache.count < keyValueLength {
      try Interruption.check()
      try cache.append(
        keys: keys, values: values, count: min(stretch, keyValueLength - cache.count))
    }
    return cache
  }

  private func filled(_ type: KeyValueType) throws(QuantError) -> KeyValueCache {
    let cache = try KeyValueCache(
      type: type, keyValueHeads: keyValueHeads, headDimension: headDimension,
      capacity: keyValueLength)
    var random = SplitRandom(seed: 3)
    let stretch = min(256, keyValueLength)
    let numbers = (0..<stretch * keyValueHeads * headDimension).map { _ in random.normal() }
    while cache.count < keyValueLength {
      try Interruption.check()
      try cache.append(
        keys: numbers, values: numbers, count: min(stretch, keyValueLength - cache.count))
    }
    return cache
  }

  /// Factors of the right shape; commuting ones give each frequency its share of the rank.
  ///
  /// - Throws: ``QuantError`` when sizes do not fit each other.
  func randomLayer() throws(QuantError) -> LowRankLayer {
    let mode = keyMode
    let shape = LowRankFactors.Shape(
      layers: 1, queryHeads: heads, keyValueHeads: keyValueHeads, headDimension: headDimension,
      modelWidth: group * headDimension, rotaryDimension: headDimension / 2 * 2,
      rotaryStyle: .halves)
    try LowRankFactors.check(shape, headsPerGroup: group, keyMode: mode, bits: 4)
    let width = group * headDimension
    let rank = max(2, Int(Double(width) * ratio) / 2 * 2)
    var random = SplitRandom(seed: 4)
    func values(_ count: Int) -> [Float] { (0..<count).map { _ in random.normal() } }
    func plain() -> LowRankFactors.Group {
      LowRankFactors.Group(
        rank: rank, down: [Float](repeating: 0, count: rank * width), up: values(width * rank))
    }
    func commuting() -> LowRankFactors.Group {
      let frequencies = (0..<rank / 2).map { $0 % (headDimension / 2) }
      var up = [Float](repeating: 0, count: width * rank)
      for head in 0..<group {
        for (latent, frequency) in frequencies.enumerated() {
          let (a, b) = shape.elements(ofPair: frequency)
          let (x, y) = (random.normal(), random.normal())
          up[(head * headDimension + a) * rank + 2 * latent] = x
          up[(head * headDimension + a) * rank + 2 * latent + 1] = -y
          up[(head * headDimension + b) * rank + 2 * latent] = y
          up[(head * headDimension + b) * rank + 2 * latent + 1] = x
        }
      }
      return LowRankFactors.Group(
        rank: rank, down: [Float](repeating: 0, count: rank * width), up: up,
        frequencies: frequencies)
    }
    let groups = keyValueHeads / group
    let factors = try LowRankFactors(
      shape: shape, headsPerGroup: group, keyMode: mode, bits: 4, isRotated: false,
      layers: [
        LowRankFactors.Layer(
          keys: mode == .rotated
            ? [] : (0..<groups).map { _ in mode == .commuting ? commuting() : plain() },
          values: (0..<groups).map { _ in plain() })
      ])
    return try LowRankLayer(
      factors, layer: 0, rotary: LowRankLayer.Rotary(dimension: shape.rotaryDimension))
  }
}
