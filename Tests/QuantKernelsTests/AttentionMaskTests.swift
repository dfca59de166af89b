import QuantKernels
import TestSupport
import Testing

/// Masks, biases and paged caches against the definition in float64, one by one and together.
@Suite struct AttentionMaskTests {
  /// Of standard normal inputs: outputs within 5·10⁻⁶ and logarithms within 10⁻⁵, squares within
  /// 10⁻¹². Queries and weights of 16 bits, as quantized types have them, are some 2⁻¹⁷ of the
  /// largest off: a hundred times as far.
  private func expect(
    _ found: (output: [Float], logarithms: [Float]),
    _ expected: (output: [Double], logarithms: [Double]), _ what: String,
    isQuantized: Bool = false, location: SourceLocation = #_sourceLocation
  ) {
    #expect(found.output.count == expected.output.count, sourceLocation: location)
    var worst = 0.0
    for (x, y) in zip(found.output, expected.output) {
      worst = max(worst, (Double(x) - y).magnitude.isNaN ? .infinity : (Double(x) - y).magnitude)
    }
    #expect(worst <= (isQuantized ? 5e-4 : 5e-6), "\(what)", sourceLocation: location)
    #expect(
      normalizedSquareError(found.output, expected.output) <= (isQuantized ? 1e-7 : 1e-12),
      "\(what)",
      sourceLocation: location)
    for (x, y) in zip(found.logarithms, expected.logarithms) {
      let isSame =
        y == -.infinity ? x == -.infinity : (Double(x) - y).magnitude <= (isQuantized ? 1e-3 : 1e-5)
      #expect(isSame, "\(what): logarithm \(x), not \(y)", sourceLocation: location)
    }
  }

  static let shapes: [(queries: Int, keys: Int)] = [
    (1, 1), (1, 300), (7, 5), (40, 300), (300, 40), (300, 300), (15, 16), (17, 16), (255, 257),
  ]

  @Test(arguments: shapes, [AttentionMask.Alignment.topLeft, .bottomRight])
  func causalAlignments(
    _ shape: (queries: Int, keys: Int), _ alignment: AttentionMask.Alignment
  ) throws {
    let test = AttentionReference(
      queryCount: shape.queries, keyCount: shape.keys, heads: 2, keyWidth: 16)
    let offset = alignment == .bottomRight ? shape.keys - shape.queries : 0
    let mask = AttentionMask.causal(
      queries: shape.queries, keys: shape.keys, alignment: alignment)
    expect(
      try test.run(mask, cache: try test.cache()), try test.expected { $1 <= $0 + offset },
      "\(shape) \(alignment)")
  }

  @Test func everyKey() throws {
    let test = AttentionReference(queryCount: 33, keyCount: 270, heads: 3, keyWidth: 24)
    expect(try test.run(.full, cache: try test.cache()), try test.expected { _, _ in true }, "full")
  }

  @Test(arguments: [1, 2, 16, 63, 300, 1000])
  func windowsChunksAndPrefixes(_ size: Int) throws {
    var test = AttentionReference(queryCount: 300, keyCount: 300, heads: 2, keyWidth: 16)
    let scale = test.options.scale
    let cache = try test.cache()
    test.options = AttentionOptions(scale: scale, window: size)
    expect(
      try test.run(AttentionMask(), cache: cache),
      try test.expected { $1 <= $0 && $1 > $0 - size }, "window \(size)")
    test.options = AttentionOptions(scale: scale, chunk: size)
    expect(
      try test.run(AttentionMask(), cache: cache),
      try test.expected { $1 <= $0 && $1 / size == $0 / size }, "chunk \(size)")
    expect(
      try test.run(AttentionMask(isCausal: false), cache: cache),
      try test.expected { $1 / size == $0 / size }, "whole chunk \(size)")
    test.options = AttentionOptions(scale: scale, window: size, chunk: 70)
    expect(
      try test.run(AttentionMask(), cache: cache),
      try test.expected { $1 <= $0 && $1 > $0 - size && $1 / 70 == $0 / 70 }, "both \(size)")
    test.options = AttentionOptions(scale: scale)
    expect(
      try test.run(AttentionMask(prefix: size), cache: cache),
      try test.expected { $1 <= $0 || $1 < size }, "prefix \(size)")
  }

  /// Bits: words of none, words of all, and others; rows that see nothing; over causal and alone.
  @Test(arguments: [true, false])
  func arbitraryBits(_ isCausal: Bool) throws {
    let test = AttentionReference(queryCount: 70, keyCount: 600, heads: 4, keyValueHeads: 2)
    func sees(_ query: Int, _ key: Int) -> Bool {
      switch (query + key / 64) % 4 {
      case 0: false
      case 1: true
      default: query % 9 != 8 && (query &* 31 &+ key &* 17) % 5 < 2
      }
    }
    var mask = AttentionMask(
      firstPosition: 500, isCausal: isCausal,
      bits: try AttentionBits(queries: 70, keys: 600, sees: sees))
    let cache = try test.cache()
    let found = try test.run(mask, cache: cache)
    expect(
      found, try test.expected { sees($0, $1) && (!isCausal || $1 <= $0 + 500) }, "bits")
    #expect(try test.run(mask, cache: cache, threads: 2).output == found.output)
    mask.bits = try AttentionBits(queries: 70, keys: 600) { query, _ in query != 30 }
    let holed = try test.run(mask, cache: cache)
    let width = test.heads * test.valueWidth
    #expect(holed.output[30 * width..<31 * width].allSatisfy { $0 == 0 })
    #expect(holed.logarithms[30 * 4..<31 * 4].allSatisfy { $0 == -.infinity })
  }

  /// Verification of speculated tokens: row i of the tree has the bits of a plain sequence that
  /// holds only its ancestors, except that these lie at other places; so against the definition.
  @Test func treesOfTokens() throws {
    let context = 270
    let parents = [-1, 0, 0, 1, 1, 2, 5, -1, 7]
    var test = AttentionReference(
      queryCount: parents.count, keyCount: context + parents.count, heads: 4, keyValueHeads: 2,
      keyWidth: 32)
    test.options.slopes = AttentionOptions.alibiSlopes(heads: 4)
    func depth(_ token: Int) -> Int { parents[token] < 0 ? 0 : depth(parents[token]) + 1 }
    func isAncestor(_ a: Int, of token: Int) -> Bool {
      a == token || (parents[token] >= 0 && isAncestor(a, of: parents[token]))
    }
    let positions = parents.indices.map { context + depth($0) }
    let mask = AttentionMask(
      positions: positions, isCausal: false,
      bits: try .tree(context: context, parents: parents))
    let expected = try test.expected(
      position: { positions[$0] },
      sees: { query, key in key < context || isAncestor(key - context, of: query) })
    let found = try test.run(mask, cache: try test.cache())
    expect(found, expected, "tree")
    // Each row alone.
    for row in parents.indices {
      let alone = AttentionMask(
        positions: [positions[row]], isCausal: false,
        bits: try AttentionBits(queries: 1, keys: test.keyCount) { _, key in
          key < context || isAncestor(key - context, of: row)
        })
      let output = try test.run(alone, cache: try test.cache(), rows: row..<row + 1).output
      let width = test.heads * test.valueWidth
      #expect(output == Array(found.output[row * width..<(row + 1) * width]))
    }
  }

  /// ALiBi, soft-cap and sinks, each alone and all together, with grouped heads.
  @Test(arguments: 0..<8)
  func biases(_ choice: Int) throws {
    let heads = 6
    var test = AttentionReference(
      queryCount: 50, keyCount: 300, heads: heads, keyValueHeads: 2, keyWidth: 40, valueWidth: 24)
    if choice & 1 != 0 { test.options.slopes = (0..<heads).map { 0.5 / Float($0 + 1) } }
    if choice & 2 != 0 { test.options.softCap = 1.5 }
    if choice & 4 != 0 { test.options.sinks = (0..<heads).map { Float($0) - 2 } }
    let mask = AttentionMask.causal(queries: 50, keys: 300)
    let expected = try test.expected(
      position: { $0 + 250 }, sees: { $1 <= $0 + 250 })
    for threads in [1, 2] {
      expect(
        try test.run(mask, cache: try test.cache(), threads: threads), expected, "\(choice)")
    }
  }

  /// A sink alone leaves a row of 0 and its own logarithm.
  @Test func sinkOfARowThatSeesNothing() throws {
    var test = AttentionReference(queryCount: 2, keyCount: 3, keyWidth: 8)
    test.options.sinks = [1.25]
    let found = try test.run(
      AttentionMask(firstPosition: -2), cache: try test.cache())
    #expect(found.output.allSatisfy { $0 == 0 })
    #expect(found.logarithms == [1.25, 1.25])
  }

  @Test(arguments: KeyValueType.allCases, [(1, 1), (4, 1), (8, 2), (32, 1)])
  func cacheTypes(_ type: KeyValueType, _ heads: (Int, Int)) throws {
    for (queries, width) in [(1, 64), (3, 128), (40, 96), (2, 37), (7, 1), (5, 170)] {
      let test = AttentionReference(
        queryCount: queries, keyCount: 300, heads: heads.0, keyValueHeads: heads.1,
        keyWidth: width)
      let expected = try test.expected(type: type) { $1 <= $0 + 300 - queries }
      let found = try test.run(
        .causal(queries: queries, keys: 300), cache: try test.cache(type), threads: 2)
      expect(
        found, expected, "\(type) \(queries)", isQuantized: type == .q8_0 || type == .q4_0)
    }
  }

  /// Pages of every size have the bits of a contiguous cache.
  @Test(arguments: [1, 5, 16, 48, 256, 512], KeyValueType.allCases)
  func pages(_ pageSize: Int, _ type: KeyValueType) throws {
    if pageSize % 16 != 0 && type != .f32 && type != .f16 { return }
    for queries in [1, 2, 60] {
      let test = AttentionReference(
        queryCount: queries, keyCount: 530, heads: 6, keyValueHeads: 2, keyWidth: 64,
        valueWidth: 32)
      let mask = AttentionMask.causal(queries: queries, keys: 530)
      let whole = try test.run(mask, cache: try test.cache(type))
      let paged = try test.paged(type, pageSize: pageSize, reserve: 1)
      for threads in [1, 2] {
        let found = try test.run(mask, cache: paged, threads: threads)
        #expect(found.output == whole.output, "\(queries) queries")
        #expect(found.logarithms == whole.logarithms)
      }
    }
  }

  /// Two sequences that share a prefix's pages, and a batch of different lengths.
  @Test func sharedPagesAndBatches() throws {
    let test = AttentionReference(queryCount: 12, keyCount: 64, heads: 2, keyWidth: 32)
    let pool = try KeyValuePool(
      type: .f16, keyValueHeads: 1, headDimension: 32, pageSize: 16, pageCount: 9)
    let prefix = try PagedKeyValueCache(pool: pool, pages: [4, 7])
    func append(_ cache: PagedKeyValueCache, _ range: Range<Int>) throws {
      try test.keys.withUnsafeBufferPointer { keys in
        try test.values.withUnsafeBufferPointer { values in
          try cache.append(
            keys: .init(rebasing: keys[range.lowerBound * 32..<range.upperBound * 32]),
            values: .init(rebasing: values[range.lowerBound * 32..<range.upperBound * 32]))
        }
      }
    }
    try append(prefix, 0..<32)
    let first = try PagedKeyValueCache(pool: pool, pages: [4, 7, 1], count: 32)
    let second = try PagedKeyValueCache(pool: pool, pages: [4, 7, 8, 0], count: 32)
    try append(first, 32..<40)
    try append(second, 40..<64)
    let batch = [
      Attention.Sequence(cache: first, count: 5), .init(cache: prefix, count: 0),
      .init(cache: second, count: 7),
    ]
    var output = [Float](repeating: .nan, count: 12 * 64)
    try test.queries.withUnsafeBufferPointer { queries in
      try output.withUnsafeMutableBufferPointer { output in
        try Attention.run(
          queries: queries, heads: 2, batch: batch, options: test.options, output: output,
          workspace: AttentionWorkspace(), pool: WorkerPool(threads: 2))
      }
    }
    // Sequence by sequence, of the keys that each holds.
    let expected = try test.expected(type: .f16) { query, key in
      query < 5
        ? key < 32 ? true : key < 40 && key - 32 <= query + 3
        : key < 32 ? true : key >= 40 && key - 40 <= query - 5 + 17
    }
    #expect(normalizedSquareError(output, expected.output) <= 1e-12)
  }
}
