import TestSupport
import Testing

@testable import QuantKernels

@Suite struct LowRankCacheTests {
  private func expect(_ code: QuantError.Code, _ body: () throws -> Void) {
    #expect { try body() } throws: { ($0 as? QuantError)?.code == code }
  }

  // MARK: Bytes and counts

  /// Reported = allocated = touched: two caches whose memory held opposite bits are equal once full.
  @Test(arguments: LowRankFactors.KeyMode.allCases, LatentType.allCases)
  func everyByteIsWritten(mode: LowRankFactors.KeyMode, type: LatentType) throws {
    let test = LowRankCase(
      headDimension: 10, rank: mode == .commuting ? 18 : 19, mode: mode, keyType: type,
      valueType: type)
    let layer = try test.layer()
    let tokens = test.tokens(48)
    var contents: [[UInt8]] = []
    for pattern in [UInt8(0x5A), 0xA5] {
      let cache = try test.cache(layer, capacity: 48)
      let memory = cache.pool.buffer
      let bytes = UnsafeMutableRawBufferPointer(start: memory.base, count: memory.count)
      bytes.initializeMemory(as: UInt8.self, repeating: pattern)
      try cache.append(
        keys: try test.inputs(.key, tokens), values: try test.inputs(.value, tokens), count: 48)
      contents.append(Array(bytes))
      let widths = layer.keyWidths + layer.valueWidths
      let formula = widths.reduce(0) {
        $0 + ($1 * type.bits + 7) / 8 + (type.isPacked ? 4 : 0)
      }
      #expect(cache.bytesPerPosition == formula)
      #expect(cache.byteCount == 48 * formula)
      #expect(memory.count == 48 * formula)
      #expect(
        LowRankCost(layer, keyType: type, valueType: type).bytesPerToken == formula)
    }
    #expect(contents[0] == contents[1])
  }

  /// Blocks of positions are stored by several threads: the same bytes as by one, wherever a call
  /// begins and ends in a block.
  @Test(arguments: LowRankFactors.KeyMode.allCases, LatentType.allCases)
  func threadsStoreTheSame(mode: LowRankFactors.KeyMode, type: LatentType) throws {
    let test = LowRankCase(
      headDimension: 10, rank: mode == .commuting ? 18 : 19, mode: mode, keyType: type,
      valueType: type)
    let layer = try test.layer()
    let tokens = test.tokens(112)
    let keys = try test.inputs(.key, tokens)
    let values = try test.inputs(.value, tokens)
    var contents: [[UInt8]] = []
    for pool in [nil, WorkerPool(threads: 2), WorkerPool(threads: 7)] {
      let cache = try test.cache(layer, capacity: 112)
      let memory = UnsafeMutableRawBufferPointer(
        start: cache.pool.buffer.base, count: cache.pool.buffer.count)
      memory.initializeMemory(as: UInt8.self, repeating: 0)
      for range in [0..<5, 5..<86, 86..<112] {
        try keys.withUnsafeBufferPointer { keys in
          try values.withUnsafeBufferPointer { values in
            try cache.append(
              keys: keys.baseAddress! + range.lowerBound * layer.inputWidth(.key),
              values: values.baseAddress! + range.lowerBound * layer.inputWidth(.value),
              count: range.count, pool: pool)
          }
        }
      }
      contents.append(Array(memory))
    }
    #expect(contents[1] == contents[0])
    #expect(contents[2] == contents[0])
  }

  /// The paper's 91.25 % leaves out scales and minima, and its ranks are rounded.
  @Test func llamaAtThirtyPercentAndTwoBits() {
    let widths = [Int](repeating: 352, count: 8)  // 0.7 · 512 = 358.4, rounded to a multiple of 32
    let cost = LowRankCost(
      keyWidths: widths, valueWidths: widths, keyType: .twoBit, valueType: .twoBit,
      queryHeads: 32, keyValueHeads: 32, headDimension: 128, headsPerGroup: 4, keyMode: .rebuilt)
    #expect(cost.bytesPerToken == 2 * 8 * 92)
    #expect(abs(cost.savedShare - 0.910) < 0.0005)
    #expect(abs(cost.savedShare - 0.9125) > 0.002)
  }

  /// §2.3 of the digest: MAC of a cached token of Llama-2-7B's layer at 50 %.
  @Test func costsOfSchemes() {
    for (group, rank, rebuild, late) in [
      (1, 64, 262_144, 262_144), (4, 256, 1_048_576, 1_048_576), (8, 512, 2_097_152, 2_097_152),
      (32, 2048, 8_388_608, 8_388_608),
    ] {
      let widths = [Int](repeating: rank, count: 32 / group)
      let cost = LowRankCost(
        keyWidths: widths, valueWidths: widths, keyType: .f16, valueType: .f16, queryHeads: 32,
        keyValueHeads: 32, headDimension: 128, headsPerGroup: group, keyMode: .rebuilt)
      #expect(cost.rebuildMultipliesPerToken == rebuild)
      #expect(cost.upMultiplies == late)
      // s·ρ times what dense values take.
      #expect(cost.valueMultipliesPerToken == 32 * 128 * group / 2)
      #expect(cost.bytesPerToken == 2 * 2 * 2048)
      #expect(cost.rebuildBalance == 512 * Double(group) / 4)
    }
  }

  static let counted = LowRankFactors.KeyMode.allCases.flatMap { mode in
    [LatentType.f16, .fourBit, .threeBit].map {
      LowRankCase(
        keyValueHeads: 4, queriesPerHead: 3, headDimension: 16, headsPerGroup: 2,
        rank: mode == .commuting ? 22 : 21, mode: mode, keyType: $0, valueType: $0)
    }
  }

  /// Kernels did what the formulas say; latents were read once a group, not once a head.
  @Test(arguments: counted)
  func countersEqualFormulas(test: LowRankCase) throws {
    let layer = try test.layer()
    let length = 608  // whole blocks, not whole partitions
    let tokens = test.tokens(length)
    let cache = try test.cache(layer, capacity: length)
    try cache.append(
      keys: try test.inputs(.key, tokens), values: try test.inputs(.value, tokens),
      count: length)
    let cost = LowRankCost(layer, keyType: test.keyType, valueType: test.valueType)
    for threads in [1, 3] {
      let workspace = LowRankWorkspace()
      _ = try test.run(
        cache, test.queries(1), first: length - 1, threads: threads, workspace: workspace)
      let counters = workspace.counters
      #expect(counters.keyBytes + counters.valueBytes == length * cost.bytesPerToken)
      #expect(counters.scoreMultiplies == length * cost.scoreMultipliesPerToken)
      #expect(counters.rebuildMultiplies == length * cost.rebuildMultipliesPerToken)
      #expect(counters.valueMultiplies == length * cost.valueMultipliesPerToken)
      #expect(counters.upMultiplies == cost.upMultiplies)
      #expect(counters.queryMultiplies == cost.queryMultiplies)
      // A second query shares every read and every rebuilt key.
      _ = try test.run(
        cache, test.queries(2), first: length - 2, threads: threads, workspace: workspace)
      #expect(workspace.counters.keyBytes == counters.keyBytes)
      #expect(workspace.counters.rebuildMultiplies == counters.rebuildMultiplies)
      #expect(workspace.counters.valueMultiplies == 2 * counters.valueMultiplies)
    }
  }

  /// But for the states of runs, a decode step's memory does not grow with the cache.
  @Test(arguments: LowRankFactors.KeyMode.allCases)
  func memoryDoesNotGrowWithLength(mode: LowRankFactors.KeyMode) throws {
    let test = LowRankCase(rank: 32, mode: mode, keyType: .fourBit, valueType: .fourBit)
    let layer = try test.layer()
    let tokens = test.tokens(256)
    let keys = try test.inputs(.key, tokens)
    let values = try test.inputs(.value, tokens)
    var bytes: [Int] = []
    for length in [1024, 32768] {
      let cache = try test.cache(layer, capacity: length)
      while cache.count < length { try cache.append(keys: keys, values: values, count: 256) }
      let workspace = LowRankWorkspace()
      _ = try test.run(cache, test.queries(1), first: length - 1, workspace: workspace)
      // A unit's rows of sums, one state a run of 1024 positions.
      let states = length / 1024 * 4 * test.queryHeads * (16 + 32)
      bytes.append(workspace.byteCount - states)
    }
    #expect(bytes[0] == bytes[1])
  }

  // MARK: Bad input

  @Test func capacityAndSizes() throws {
    let test = LowRankCase(rank: 20, keyType: .fourBit, valueType: .fourBit)
    let layer = try test.layer()
    for capacity in [0, -1, .min, .max] {
      expect(.invalidArgument) { _ = try test.cache(layer, capacity: capacity) }
    }
    let cache = try test.cache(layer, capacity: 3)
    let floats = [Float](repeating: 1, count: 200)
    try cache.append(keys: floats, values: floats, count: 0)
    try cache.append(keys: floats, values: floats, count: 2)
    for count in [2, -1, .max] {
      expect(.invalidArgument) {
        try cache.append(keys: floats, values: floats, count: count)
      }
    }
    #expect(cache.count == 2)
    try cache.append(keys: floats, values: floats, count: 1)
    #expect(cache.count == 3 && cache.capacity == 3)
    #expect(cache.byteCount == 16 * cache.bytesPerPosition)
    floats.withUnsafeBufferPointer { floats in
      expect(.invalidArgument) {
        try cache.append(
          keys: .init(rebasing: floats[..<19]), values: .init(rebasing: floats[..<20]))
      }
      expect(.invalidArgument) {
        try cache.append(
          keys: .init(rebasing: floats[..<40]), values: .init(rebasing: floats[..<20]))
      }
    }
    cache.truncate(to: 1)
    #expect(cache.count == 1)
    cache.truncate(to: -4)
    #expect(cache.count == 0)
    expect(.invalidArgument) { _ = try cache.latents(.key, position: 0) }
    // Nothing held: nothing to ask about.
    expect(.invalidArgument) { _ = try test.run(cache, test.queries(1), first: 0) }
    #expect(try test.run(cache, [], first: 0).isEmpty)
    for (size, pages) in [(0, 1), (8, 1), (17, 1), (16, 0), (-16, 1), (16, Int.max)] {
      expect(.invalidArgument) {
        _ = try LowRankPool(
          layer: layer, keyType: .f16, valueType: .f16, pageSize: size, pageCount: pages)
      }
    }
    let pool = try LowRankPool(
      layer: layer, keyType: .f16, valueType: .f16, pageSize: 16, pageCount: 2)
    for pages: [Int32] in [[2], [-1], [0, 0]] {
      expect(.invalidArgument) { _ = try LowRankCache(pool: pool, pages: pages) }
    }
    expect(.invalidArgument) { _ = try LowRankCache(pool: pool, pages: [0], count: 17) }
  }

  @Test func queriesAndOptions() throws {
    let test = LowRankCase(rank: 20, keyType: .fourBit, valueType: .fourBit)
    let cache = try test.cache(try test.layer(), capacity: 20)
    let tokens = test.tokens(20)
    try cache.append(
      keys: try test.inputs(.key, tokens), values: try test.inputs(.value, tokens), count: 20)
    let queries = test.queries(1)
    for first in [-1, 20, .max, .min] {
      expect(.invalidArgument) { _ = try test.run(cache, queries, first: first) }
    }
    func run(_ options: AttentionOptions, queries: Int, outputs: Int) throws {
      let input = [Float](repeating: 1, count: queries)
      var output = [Float](repeating: 1, count: outputs)
      try input.withUnsafeBufferPointer { input in
        try output.withUnsafeMutableBufferPointer { output in
          try LowRankAttention.run(
            queries: input, count: 1, firstPosition: 3, cache: cache, options: options,
            output: output, workspace: LowRankWorkspace(), pool: WorkerPool(threads: 1))
        }
      }
    }
    let width = test.queryWidth
    try run(test.options, queries: width, outputs: width)
    expect(.invalidArgument) { try run(test.options, queries: width - 1, outputs: width) }
    expect(.invalidArgument) { try run(test.options, queries: width, outputs: width - 1) }
    expect(.invalidArgument) {
      try run(AttentionOptions(scale: .nan), queries: width, outputs: width)
    }
    expect(.unsupported) {
      try run(
        AttentionOptions(scale: 1, sinks: [Float](repeating: 0, count: test.queryHeads)),
        queries: width, outputs: width)
    }
  }

  @Test func layersThatCannotBe() throws {
    let test = LowRankCase(rank: 20)
    let factors = try test.factors()
    expect(.invalidArgument) { _ = try LowRankLayer(factors, layer: 1, rotary: test.rotary) }
    expect(.invalidArgument) { _ = try LowRankLayer(factors, layer: -1, rotary: test.rotary) }
    expect(.invalidArgument) { _ = try LowRankLayer(factors, layer: 0, rotary: nil) }
    expect(.invalidArgument) {
      _ = try LowRankLayer(factors, layer: 0, rotary: test.rotary, keyMode: .commuting)
    }
    var bad = LowRankLayer.Rotary(dimension: 16)
    bad.frequencies[3] = .nan
    expect(.invalidArgument) { _ = try LowRankLayer(factors, layer: 0, rotary: bad) }
    // Whole keys can always be had.
    let whole = try LowRankLayer(factors, layer: 0, rotary: test.rotary, keyMode: .rotated)
    #expect(whole.keyWidths == [16, 16])
  }

  // MARK: Numbers that are none

  /// A bias and the rotary embedding's factor come on top of a commuting latent: what no longer fits
  /// then is refused, not lost without a word.
  @Test(arguments: [LatentType.f16, .fourBit])
  func biasedLatentsThatDoNotFitAreRefused(type: LatentType) throws {
    var test = LowRankCase(
      keyValueHeads: 2, queriesPerHead: 1, headDimension: 8, headsPerGroup: 2, mode: .commuting,
      keyType: type, valueType: type)
    test.hasBias = true
    let plain = try test.factors()
    var layer = plain.layers[0]
    layer.keys[0].latentBias = layer.keys[0].latentBias?.map { _ in 40_000 }
    let factors = try LowRankFactors(
      shape: plain.shape, headsPerGroup: plain.headsPerGroup, keyMode: plain.keyMode, bits: 4,
      isRotated: false, layers: [layer])
    let cache = try test.cache(
      LowRankLayer(factors, layer: 0, rotary: test.rotary), capacity: 8)
    let values = [Float](repeating: 1, count: cache.layer.inputWidth(.value))
    let width = cache.layer.inputWidth(.key)
    // 10,000 alone fits four times over; with its bias, turned, it may not.
    for (magnitude, fits) in [(Float(6000), true), (10_000, false), (30_000, false)] {
      let keys = [Float](repeating: magnitude, count: width)
      if fits {
        try cache.append(keys: keys, values: values, count: 1)
      } else {
        expect(.invalidData) { try cache.append(keys: keys, values: values, count: 1) }
      }
    }
    #expect(cache.count == 1 && cache.lostPositions().isEmpty)
    var loud = try #require(test.rotary)
    loud.magnitude = 4
    let scaled = try test.cache(
      LowRankLayer(test.factors(), layer: 0, rotary: loud), capacity: 8)
    let keys = [Float](repeating: 20_000, count: width)
    expect(.invalidData) { try scaled.append(keys: keys, values: values, count: 1) }
    #expect(scaled.count == 0)
  }

  @Test(arguments: LowRankFactors.KeyMode.allCases, LatentType.allCases)
  func aBadTokenStaysAlone(mode: LowRankFactors.KeyMode, type: LatentType) throws {
    var test = LowRankCase(rank: 20, mode: mode, keyType: type, valueType: type)
    test.window = 5
    let layer = try test.layer()
    let tokens = test.tokens(40)
    let keys = try test.inputs(.key, tokens)
    let values = try test.inputs(.value, tokens)
    let clean = try test.cache(layer, capacity: 40)
    try clean.append(keys: keys, values: values, count: 40)
    #expect(clean.lostPositions() == [])
    let queries = test.queries(40)
    let wanted = try test.run(clean, queries, first: 0)
    for bad in [Float.nan, .infinity, -.infinity] {
      for kind in LowRankFactors.Kind.allCases {
        var badKeys = keys
        var badValues = values
        if kind == .key { badKeys[17 * keys.count / 40 + 3] = bad }
        if kind == .value { badValues[17 * values.count / 40 + 3] = bad }
        let cache = try test.cache(layer, capacity: 40)
        expect(.invalidData) {
          try cache.append(keys: badKeys, values: badValues, count: 40)
        }
        #expect(cache.count == 0)
        try cache.append(keys: badKeys, values: badValues, count: 40, nonFinite: .keep)
        #expect(cache.lostPositions() == [17])
        for arithmetic in [LowRankAttention.Arithmetic.digits, .exact] {
          let found = try test.run(cache, queries, first: 0, arithmetic: arithmetic)
          let untouched =
            arithmetic == .digits
            ? wanted : try test.run(clean, queries, first: 0, arithmetic: .exact)
          for row in 0..<40 where !(17..<22 ~= row) {
            let range = row * test.queryWidth..<(row + 1) * test.queryWidth
            if Array(found[range]) != Array(untouched[range]) {
              Issue.record("row \(row) of \(kind) \(bad) is not what it was")
            }
          }
          // The query of the token itself sees it, in the heads of its group.
          let own = found[17 * test.queryWidth..<18 * test.queryWidth]
          #expect(own.contains { $0.isNaN })
        }
      }
    }
  }
}
