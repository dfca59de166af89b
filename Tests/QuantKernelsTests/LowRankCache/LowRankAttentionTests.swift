import QuantKernels
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Attention over latents against its definition in float64.
@Suite struct LowRankAttentionTests {
  static let fullRank: [LowRankCase] = {
    var cases: [LowRankCase] = []
    for mode in LowRankFactors.KeyMode.allCases where mode != .commuting {
      // M, G of 2, 4 and 8, J; one and several query heads.
      for (heads, group) in [(4, 1), (4, 2), (8, 4), (8, 8), (3, 3)] {
        for queries in [1, 3] {
          for style in [VectorOperations.RotaryStyle.halves, .interleaved] {
            cases.append(
              LowRankCase(
                keyValueHeads: heads, queriesPerHead: queries, headDimension: 8, modelWidth: 70,
                headsPerGroup: group, mode: mode, style: style,
                seed: UInt64(heads * 100 + group * 10 + queries)))
          }
        }
      }
      cases.append(
        LowRankCase(
          keyValueHeads: 2, headDimension: 20, modelWidth: 50, mode: mode, rotaryDimension: 12))
      cases.append(
        LowRankCase(
          keyValueHeads: 2, headDimension: 9, modelWidth: 50, mode: mode, rotaryDimension: 0))
      cases.append(LowRankCase(headDimension: 64, modelWidth: 130, mode: mode))
    }
    return cases
  }()

  /// Full rank, no quantization: dense attention.
  @Test(arguments: fullRank)
  func fullRankIsDense(test: LowRankCase) throws {
    let tokens = test.tokens(300)
    let queries = test.queries(3)
    let keys = test.denseHeads(.key, tokens)
    let values = test.denseHeads(.value, tokens)
    let expected = test.attention(queries, positions: 297..<300, keys: keys, values: values)
    let cache = try test.cache(try test.layer(), capacity: 300)
    try cache.append(
      keys: try test.inputs(.key, tokens), values: try test.inputs(.value, tokens), count: 300)
    let found = try test.run(cache, queries, first: 297, threads: 2)
    let error = relativeError(found, expected)
    #expect(error <= 2e-6, "\(error)")
    if test.mode == .rebuilt {
      // The identity itself, in float64: factors rounded to float32 are the only difference.
      let latents = { (kind: LowRankFactors.Kind) in
        try test.inputs64(kind, tokens)
      }
      let again = test.attention(
        queries, positions: 297..<300, keys: try test.rebuilt(.key, try latents(.key)),
        values: try test.rebuilt(.value, try latents(.value)))
      #expect(relativeError(again.map(Float.init), expected) <= 2e-7)
    }
  }

  static let truncated: [LowRankCase] = {
    var cases: [LowRankCase] = []
    // Commuting latents of every frequency and head: full rank.
    cases.append(LowRankCase(headDimension: 12, mode: .commuting, hasBias: true))
    cases.append(
      LowRankCase(headDimension: 20, mode: .commuting, rotaryDimension: 12, style: .interleaved))
    for mode in LowRankFactors.KeyMode.allCases {
      for type in LatentType.allCases {
        cases.append(
          LowRankCase(
            keyValueHeads: 4, headDimension: 24, rank: mode == .commuting ? 38 : 37, mode: mode,
            hasBias: true, keyType: type, valueType: type))
      }
      cases.append(
        LowRankCase(
          headDimension: 64, modelWidth: 100, rank: 64, mode: mode, style: .interleaved,
          keyType: .fourBit, valueType: .threeBit, window: 100, softCap: 3))
      cases.append(
        LowRankCase(
          keyValueHeads: 3, queriesPerHead: 5, headDimension: 10, headsPerGroup: 1,
          rank: mode == .commuting ? 2 : 1, mode: mode, keyType: .twoBit, valueType: .twoBit))
    }
    return cases
  }()

  /// Attention over the very numbers that the cache holds, rebuilt in float64: the late
  /// up-projection, commuting latents, rebuilt tiles and the identities on codes all equal it.
  @Test(arguments: truncated)
  func integerDomainIsDequantizeThenMultiply(test: LowRankCase) throws {
    let tokens = test.tokens(400)
    let queries = test.queries(4)
    let cache = try test.cache(try test.layer(), capacity: 400)
    try cache.append(
      keys: try test.inputs(.key, tokens), values: try test.inputs(.value, tokens), count: 400)
    let keys = try test.storedHeads(.key, cache)
    let values = try test.storedHeads(.value, cache)
    let expected = test.attention(queries, positions: 396..<400, keys: keys, values: values)
    // What rounding is a share of: a mean of many values is far smaller than they are.
    let size = test.attention(
      queries, positions: 396..<400, keys: keys, values: values.map(abs))
    let exact = relativeError(
      try test.run(cache, queries, first: 396, arithmetic: .exact), expected, to: size)
    #expect(exact <= 1e-6, "floats: \(exact)")
    // A query's numbers are rounded to 1/32512 of the largest, which moves a score of size 3 by up to
    // 1e-4, and a probability by as large a share; larger scores move by more.
    let digits = relativeError(try test.run(cache, queries, first: 396), expected, to: size)
    #expect(digits <= 3e-4, "digits: \(digits)")
  }

  /// Every length up to a partition and one, with a rank that ends within a chunk.
  @Test(arguments: LowRankFactors.KeyMode.allCases, [LatentType.f32, .fourBit])
  func everyLength(mode: LowRankFactors.KeyMode, type: LatentType) throws {
    let test = LowRankCase(
      headDimension: 8, rank: mode == .commuting ? 10 : 11, mode: mode, keyType: type,
      valueType: type)
    let tokens = test.tokens(257)
    let queries = test.queries(1)
    let cache = try test.cache(try test.layer(), capacity: 257)
    let keys = try test.inputs(.key, tokens)
    let values = try test.inputs(.value, tokens)
    let keyWidth = keys.count / 257
    let valueWidth = values.count / 257
    for position in 0..<257 {
      try cache.append(
        keys: Array(keys[position * keyWidth..<(position + 1) * keyWidth]),
        values: Array(values[position * valueWidth..<(position + 1) * valueWidth]), count: 1)
    }
    let allKeys = try test.storedHeads(.key, cache)
    let allValues = try test.storedHeads(.value, cache)
    for position in 0..<257 {
      let expected = test.attention(
        queries, positions: position..<position + 1, keys: allKeys, values: allValues)
      let size = test.attention(
        queries, positions: position..<position + 1, keys: allKeys, values: allValues.map(abs))
      let error = relativeError(
        try test.run(cache, queries, first: position, arithmetic: .exact), expected, to: size)
      if error > 2e-6 { Issue.record("length \(position + 1): \(error)") }
    }
  }

  /// Windows that do not begin at 0, up to a million positions.
  @Test(arguments: [LowRankFactors.KeyMode.rebuilt, .commuting])
  func farPositions(mode: LowRankFactors.KeyMode) throws {
    let test = LowRankCase(
      keyValueHeads: 1, queriesPerHead: 1, headDimension: 8, modelWidth: 8, headsPerGroup: 1,
      rank: 8, mode: mode, window: 300)
    let count = 1 << 20
    // The same few tokens again and again before those that are looked at.
    let tail = test.tokens(301)
    let tailKeys = try test.inputs(.key, tail)
    let tailValues = try test.inputs(.value, tail)
    let cache = try test.cache(try test.layer(), capacity: count)
    let filler = [Float](repeating: 1, count: 8 * 4096)
    while cache.count < count - 301 {
      try cache.append(
        keys: filler, values: filler, count: min(4096, count - 301 - cache.count))
    }
    try cache.append(keys: tailKeys, values: tailValues, count: 301)
    let queries = test.queries(1)
    let keys = try test.rebuilt(.key, tailKeys.map(Double.init), first: count - 301)
    let values = try test.rebuilt(.value, tailValues.map(Double.init))
    let expected = test.attention(queries, positions: 300..<301, keys: keys, values: values)
    let error = relativeError(try test.run(cache, queries, first: count - 1), expected)
    #expect(error <= 2e-6, "\(error)")
  }

  /// Half precision of latents is half precision of results.
  @Test func halvesAreClose() throws {
    var test = LowRankCase(mode: .rebuilt, keyType: .f16, valueType: .f16)
    test.rank = 20
    let tokens = test.tokens(64)
    let cache = try test.cache(try test.layer(), capacity: 64)
    let keys = try test.inputs(.key, tokens)
    try cache.append(keys: keys, values: try test.inputs(.value, tokens), count: 64)
    let stored = try cache.latents(.key, position: 5)
    #expect(
      stored == keys[5 * 20..<6 * 20].map { HalfPrecision.float(fromHalf: HalfPrecision.half($0)) })
  }

  // MARK: Bits

  static let bitCases: [LowRankCase] = {
    var cases: [LowRankCase] = []
    for mode in LowRankFactors.KeyMode.allCases {
      for type in [LatentType.f16, .eightBit, .fourBit, .threeBit] {
        cases.append(
          LowRankCase(
            keyValueHeads: 4, queriesPerHead: 2, headDimension: 16, headsPerGroup: 2,
            rank: mode == .commuting ? 22 : 21, mode: mode, hasBias: true, keyType: type,
            valueType: type, window: type == .threeBit ? 700 : nil))
      }
    }
    return cases
  }()

  /// A row's bits depend on its query and what it sees: not on rows beside it, on threads, on
  /// pages, on how tokens came, nor on the instruction set.
  @Test(arguments: bitCases)
  func rowsThreadsPagesAndLevels(test: LowRankCase) throws {
    let count = 1300
    let tokens = test.tokens(count)
    let queries = test.queries(count)
    let layer = try test.layer()
    let keys = try test.inputs(.key, tokens)
    let values = try test.inputs(.value, tokens)
    let cache = try test.cache(layer, capacity: count)
    try cache.append(keys: keys, values: values, count: count)
    func bits(_ x: some Sequence<Float>) -> [UInt32] { x.map(\.bitPattern) }
    let whole = bits(try test.run(cache, queries, first: 0))
    for threads in [2, 7] {
      #expect(bits(try test.run(cache, queries, first: 0, threads: threads)) == whole)
    }
    let width = test.queryWidth
    let grown = try test.cache(layer, capacity: 2000)
    let keyWidth = keys.count / count
    let valueWidth = values.count / count
    func grow(to end: Int) throws {
      let first = grown.count
      try keys.withUnsafeBufferPointer { keys in
        try values.withUnsafeBufferPointer { values in
          try grown.append(
            keys: .init(rebasing: keys[first * keyWidth..<end * keyWidth]),
            values: .init(rebasing: values[first * valueWidth..<end * valueWidth]))
        }
      }
    }
    for position in [0, 1, 15, 16, 255, 256, 300, 1023, 1024, 1279, 1299] {
      try grow(to: position)
      try grow(to: position + 1)
      let row = Array(queries[position * width..<(position + 1) * width])
      let wanted = Array(whole[position * width..<(position + 1) * width])
      for threads in [1, 3] {
        #expect(
          bits(try test.run(grown, row, first: position, threads: threads)) == wanted,
          "position \(position), \(threads) threads")
      }
      #expect(bits(try test.run(cache, row, first: position)) == wanted)
    }
    let few = Array(queries[1290 * width..<1293 * width])
    #expect(
      bits(try test.run(cache, few, first: 1290, threads: 2))
        == Array(whole[1290 * width..<1293 * width]))

    let pool = try LowRankPool(
      layer: layer, keyType: test.keyType, valueType: test.valueType, pageSize: 48, pageCount: 40)
    let paged = try LowRankCache(pool: pool, pages: (0..<28).map { Int32(39 - $0) })
    try paged.append(keys: keys, values: values, count: count)
    #expect(
      bits(try test.run(paged, few, first: 1290)) == Array(whole[1290 * width..<1293 * width]))

    // The scalar level computes rows one number at a time, and slowly.
    for level in InstructionSet.supported {
      let other = try test.cache(layer, capacity: count, instructionSet: level)
      try other.append(keys: keys, values: values, count: count)
      let row = Array(queries[1290 * width..<1291 * width])
      #expect(
        bits(try test.run(other, row, first: 1290))
          == Array(whole[1290 * width..<1291 * width]), "\(level)")
    }
  }

  @Test func aBatchIsItsSequences() throws {
    let test = LowRankCase(rank: 20, mode: .rotated, keyType: .fourBit, valueType: .fourBit)
    let layer = try test.layer()
    let pool = try LowRankPool(
      layer: layer, keyType: .fourBit, valueType: .fourBit, pageSize: 16, pageCount: 64)
    var sequences: [LowRankAttention.Sequence] = []
    var page: Int32 = 0
    for (length, count) in [(40, 3), (1, 1), (200, 0), (129, 5)] {
      let pages = Int32((length + 15) / 16)
      let cache = try LowRankCache(pool: pool, pages: Array(page..<page + pages))
      page += pages
      let tokens = test.tokens(length)
      try cache.append(
        keys: try test.inputs(.key, tokens), values: try test.inputs(.value, tokens),
        count: length)
      sequences.append(.init(cache: cache, count: count))
    }
    let queries = test.queries(9)
    var output = [Float](repeating: 0, count: queries.count)
    try queries.withUnsafeBufferPointer { queries in
      try output.withUnsafeMutableBufferPointer { output in
        try LowRankAttention.run(
          queries: queries, batch: sequences, options: test.options, output: output,
          workspace: LowRankWorkspace(), pool: WorkerPool(threads: 2))
      }
    }
    var first = 0
    for sequence in sequences {
      let range = first * test.queryWidth..<(first + sequence.count) * test.queryWidth
      first += sequence.count
      let alone = try test.run(
        sequence.cache, Array(queries[range]), first: sequence.cache.count - sequence.count)
      #expect(alone == Array(output[range]))
    }
  }
}

extension LowRankCase {
  /// Latents in float64.
  func inputs64(_ kind: LowRankFactors.Kind, _ tokens: [Float]) throws -> [Double] {
    let count = tokens.count / modelWidth
    let groups = try factors().layers[0][kind].map {
      Self.project($0.down.map(Double.init), tokens, width: modelWidth)
    }
    return (0..<count).flatMap { token in
      groups.flatMap { group in
        let rank = group.count / count
        return group[token * rank..<(token + 1) * rank]
      }
    }
  }
}
