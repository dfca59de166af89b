import ArgumentParser
import QuantKernels

/// `bench latent-attention`: a decode step over low-rank latents beside dense caches, interleaved.
struct BenchLatentAttention: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "latent-attention",
    abstract: "A decode step's attention over low-rank latents, beside dense caches.",
    discussion: """
      One query over caches that are cold: each run rotates through copies that fill twice the \
      last-level cache. The runs of all caches take turns. Factors are random: the time does not \
      depend on them. The late up-projection of values is part of the time, with factors that stay \
      in a cache.

      EXAMPLES
        quantkernels bench latent-attention --kv-length 16384 --kv-heads 8
        quantkernels bench latent-attention --kv-length 4096 --keys rebuilt --group 1 --threads 1
      """)

  @OptionGroup var common: CommonOptions
  @OptionGroup var limitOptions: LimitOptions

  @Option(name: .long, help: "Positions of keys and values.")
  var kvLength = 16384

  @Option(name: .long, help: "Query heads.")
  var heads = 32

  @Option(name: .long, help: "Heads of keys and values.")
  var kvHeads = 8

  @Option(name: .long, help: "Elements of a head.")
  var headDim = 128

  @Option(name: .long, help: "Latents of a group, as a share of its heads' elements.")
  var ratio = 0.5

  @Option(name: .long, help: "Key-value heads that share a latent.")
  var group = 4

  @Option(name: .long, help: "How keys are cached: rotated, commuting or rebuilt.")
  var keys = LowRankFactors.KeyMode.rotated.rawValue

  @Option(name: .long, help: "Bits of keys: 2, 3, 4, 8, 16 or 32.")
  var keyBits = 4

  @Option(name: .long, help: "Bits of latents of values.")
  var valueBits = 4

  @Option(name: .long, help: "Dense caches beside it, separated by commas.")
  var beside = "f16,q4_0"

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

  func run() throws {
    guard let mode = LowRankFactors.KeyMode(rawValue: keys) else {
      throw QuantError(
        .invalidArgument, "--keys \(keys)", "no such way",
        remedy: "use rotated, commuting or rebuilt")
    }
    for (name, value) in [("--kv-length", kvLength), ("--heads", heads), ("--kv-heads", kvHeads)]
    where !(1...1 << 24 ~= value) {
      throw QuantError(
        .invalidArgument, "\(name) \(value)", "no size", remedy: "use 1 to \(1 << 24)")
    }
    guard ratio > 0, ratio <= 1 else {
      throw QuantError(
        .invalidArgument, "--ratio \(ratio)", "no share", remedy: "use more than 0, at most 1")
    }
    let types = try beside.split(separator: ",").map { name throws(QuantError) in
      guard let type = KeyValueType(rawValue: String(name)) else {
        throw QuantError(
          .invalidArgument, "--beside \(name)", "no such type",
          remedy: "use "
            + KeyValueType.allCases.map(\.rawValue).joined(separator: ", "))
      }
      return type
    }
    let layer = try randomLayer(mode)
    let keyType = try LatentType(bits: keyBits)
    let valueType = try LatentType(bits: valueBits)
    let cost = LowRankCost(layer, keyType: keyType, valueType: valueType)
    let pool = WorkerPool(threads: common.threadCount)
    let limits = try limitOptions.open(pool: pool)
    var caches = [
      Cache.latent(
        try copies(cost.bytesPerToken) { () throws(QuantError) in
          try filled(layer, keyType, valueType)
        })
    ]
    for type in types {
      let bytes = 2 * kvHeads * type.bytes(width: headDim)
      caches.append(.dense(type, try copies(bytes) { () throws(QuantError) in try filled(type) }))
    }

    var times = [Timing](repeating: Timing(), count: caches.count)
    var samples = LimitSamples()
    let runner = try Runner(layer: layer, heads: heads, headDim: headDim, pool: pool)
    for cache in caches { _ = try runner.seconds(cache, length: kvLength) }
    let began = MonotonicClock.nanoseconds()
    var round = 0
    while limitOptions.repeats(done: round, since: began) {
      round += 1
      Console.progress("round \(round) of \(limitOptions.repetitions)")
      samples.add(from: limits, all: true)
      for _ in 0..<3 {
        for (index, cache) in caches.enumerated() {
          try Interruption.check()
          times[index].add(
            try runner.seconds(cache, length: kvLength) / Double(cache.copies) * 1e6)
        }
      }
    }
    Console.clearProgress()
    report(caches, times, samples, cost, limits)
  }

  private func report(
    _ caches: [Cache], _ times: [Timing], _ samples: LimitSamples, _ cost: LowRankCost,
    _ limits: MachineLimits
  ) {
    let balance = LowRankBalance(
      bytesPerSecond: samples.read.median * 1e9,
      floatMultipliesPerSecond: samples.float32.median * 0.5e9,
      digitMultipliesPerSecond: samples.int8.median * 0.5e9)
    let least = balance.secondsPerToken(cost)
    let bytesTime = least.bytes * Double(kvLength) * 1e6
    let multiplyTime = least.multiplies * Double(kvLength) * 1e6
    let bound = bytesTime > multiplyTime ? "bytes" : "multiply-accumulates"
    var rows: [JSON] = []
    var text = """
      a decode step over \(kvLength) positions, \(heads) heads of \(headDim), \(kvHeads) of keys \
      and values, \(limits.threads) thread(s), \(limits.instructionSet.rawValue)
      low-rank: \(cost.keyMode.rawValue) keys of \(keyBits) bits, \(cost.valueWidths.count) groups \
      of \(cost.valueWidths.first ?? 0) latents of \(valueBits) bits; \
      \(cost.multiplies(positions: 1) - cost.multiplies(positions: 0)) MAC a position, \
      \(cost.multiplies(positions: 0)) a step
        limits: bytes \(fixed(bytesTime, 1)) µs, multiply-accumulates \(fixed(multiplyTime, 1)) µs: \
      bound by \(bound); machine \(fixed(balance.floatsPerByte, 1)) FLOP a byte\
      \(cost.keyMode == .rebuilt ? ", rebuilding wants \(fixed(cost.rebuildBalance ?? .infinity, 1))" : "")

      """
    for (cache, time) in zip(caches, times) {
      let bytes = cache.bytesPerPosition
      let gigabytes = Double(bytes * kvLength) / time.median * 1e-3
      text +=
        "  \(padded(cache.name, 9, left: true)) \(padded(time.text(), 28, left: true)) µs  "
        + "\(padded(String(bytes), 5)) bytes a position  \(padded(fixed(gigabytes, 2), 6)) GB/s  "
        + "\(fixed(time.median / times[0].median, 2))× the low-rank time\n"
      rows.append([
        "cache": JSON(cache.name), "microseconds": time.json, "bytesPerPosition": JSON(bytes),
        "gigabytesPerSecond": JSON(gigabytes), "timesLowRank": JSON(time.median / times[0].median),
      ])
    }
    common.finish(
      [
        "keyValueLength": JSON(kvLength), "heads": JSON(heads), "keyValueHeads": JSON(kvHeads),
        "headDimension": JSON(headDim), "keyMode": JSON(cost.keyMode.rawValue),
        "keyBits": JSON(keyBits), "valueBits": JSON(valueBits), "group": JSON(group),
        "latents": JSON(cost.valueWidths.first ?? 0), "caches": .array(rows),
        "bytesMicroseconds": JSON(bytesTime), "multiplyMicroseconds": JSON(multiplyTime),
        "bound": JSON(bound), "threads": JSON(limits.threads),
        "instructionSet": JSON(limits.instructionSet.rawValue),
        "readGigabytesPerSecond": samples.read.json, "int8GigaMACPerSecond": samples.int8.json,
        "float32GigaflopPerSecond": samples.float32.json,
      ], text: String(text.dropLast()))
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

    init(layer: LowRankLayer, heads: Int, headDim: Int, pool: WorkerPool) throws(QuantError) {
      self.layer = layer
      self.heads = heads
      self.pool = pool
      options = AttentionOptions(scale: 1 / Float(headDim).squareRoot())
      let width = heads * headDim
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
    let wanted = 2 * CacheSizes.lastLevel / max(1, bytesPerPosition * kvLength) + 1
    try MemoryRequirement.check(
      MemoryRequirement.sum([[min(wanted, 64), bytesPerPosition, kvLength]]),
      subject: "caches", remedy: "use a shorter --kv-length")
    var all: [Value] = []
    for _ in 0..<min(wanted, 64) { all.append(try make()) }
    return all
  }

  private func filled(
    _ layer: LowRankLayer, _ keyType: LatentType, _ valueType: LatentType
  ) throws(QuantError) -> LowRankCache {
    let cache = try LowRankCache(
      layer: layer, keyType: keyType, valueType: valueType, capacity: kvLength)
    var random = SplitRandom(seed: 3)
    let stretch = min(256, kvLength)
    let keys = (0..<stretch * layer.inputWidth(.key)).map { _ in random.normal() }
    let values = (0..<stretch * layer.inputWidth(.value)).map { _ in random.normal() }
    while cache.count < kvLength {
      try Interruption.check()
      try cache.append(keys: keys, values: values, count: min(stretch, kvLength - cache.count))
    }
    return cache
  }

  private func filled(_ type: KeyValueType) throws(QuantError) -> KeyValueCache {
    let cache = try KeyValueCache(
      type: type, keyValueHeads: kvHeads, headDimension: headDim, capacity: kvLength)
    var random = SplitRandom(seed: 3)
    let stretch = min(256, kvLength)
    let numbers = (0..<stretch * kvHeads * headDim).map { _ in random.normal() }
    while cache.count < kvLength {
      try Interruption.check()
      try cache.append(
        keys: numbers, values: numbers, count: min(stretch, kvLength - cache.count))
    }
    return cache
  }

  /// Factors of the right shape; commuting ones give each frequency its share of the rank.
  private func randomLayer(_ mode: LowRankFactors.KeyMode) throws(QuantError) -> LowRankLayer {
    let shape = LowRankFactors.Shape(
      layers: 1, queryHeads: heads, keyValueHeads: kvHeads, headDimension: headDim,
      modelWidth: group * headDim, rotaryDimension: headDim / 2 * 2, rotaryStyle: .halves)
    try LowRankFactors.check(shape, headsPerGroup: group, keyMode: mode, bits: 4)
    let width = group * headDim
    let rank = max(2, Int(Double(width) * ratio) / 2 * 2)
    var random = SplitRandom(seed: 4)
    func values(_ count: Int) -> [Float] { (0..<count).map { _ in random.normal() } }
    func plain() -> LowRankFactors.Group {
      LowRankFactors.Group(
        rank: rank, down: [Float](repeating: 0, count: rank * width), up: values(width * rank))
    }
    func commuting() -> LowRankFactors.Group {
      let frequencies = (0..<rank / 2).map { $0 % (headDim / 2) }
      var up = [Float](repeating: 0, count: width * rank)
      for head in 0..<group {
        for (latent, frequency) in frequencies.enumerated() {
          let (a, b) = shape.elements(ofPair: frequency)
          let (x, y) = (random.normal(), random.normal())
          up[(head * headDim + a) * rank + 2 * latent] = x
          up[(head * headDim + a) * rank + 2 * latent + 1] = -y
          up[(head * headDim + b) * rank + 2 * latent] = y
          up[(head * headDim + b) * rank + 2 * latent + 1] = x
        }
      }
      return LowRankFactors.Group(
        rank: rank, down: [Float](repeating: 0, count: rank * width), up: up,
        frequencies: frequencies)
    }
    let groups = kvHeads / group
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
