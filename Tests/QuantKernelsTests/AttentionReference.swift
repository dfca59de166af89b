import QuantKernels
import TestSupport

/// Attention by its definition in float64, over the numbers that a cache of a type stands for.
struct AttentionReference {
  var heads = 1
  var keyValueHeads = 1
  var keyWidth = 64
  var valueWidth = 64
  var queries: [Float] = []
  var keys: [Float] = []
  var values: [Float] = []
  var options: AttentionOptions

  /// Standard normal queries, keys and values.
  init(
    queryCount: Int, keyCount: Int, heads: Int = 1, keyValueHeads: Int = 1, keyWidth: Int = 64,
    valueWidth: Int? = nil, options: AttentionOptions? = nil, seed: UInt64 = 7
  ) {
    self.heads = heads
    self.keyValueHeads = keyValueHeads
    self.keyWidth = keyWidth
    self.valueWidth = valueWidth ?? keyWidth
    self.options = options ?? AttentionOptions(scale: 1 / Float(keyWidth).squareRoot())
    var random = RepeatableRandom(seed: seed)
    func normal(_ count: Int) -> [Float] {
      (0..<count).map { _ in
        // The sum of 12 uniform numbers, less 6: variance 1.
        var sum = -6.0
        for _ in 0..<12 { sum += Double(random.next() >> 11) * 0x1p-53 }
        return Float(sum)
      }
    }
    queries = normal(queryCount * heads * keyWidth)
    keys = normal(keyCount * keyValueHeads * keyWidth)
    values = normal(keyCount * keyValueHeads * self.valueWidth)
  }

  var queryCount: Int { queries.count / (heads * keyWidth) }
  var keyCount: Int { keys.count / (keyValueHeads * keyWidth) }

  /// The numbers that a cache keeps of rows of `width`: by ggml's quantizers and readers of whole
  /// blocks, a row's last one filled with zeros, which change neither its scale nor its codes.
  static func stored(_ x: [Float], width: Int, _ type: KeyValueType) throws -> [Float] {
    let whole = (width + 31) / 32 * 32
    guard width == whole || type == .f32 else {
      var padded = [Float](repeating: 0, count: x.count / width * whole)
      for index in x.indices { padded[index / width * whole + index % width] = x[index] }
      let numbers = try stored(padded, width: whole, type)
      return x.indices.map { numbers[$0 / width * whole + $0 % width] }
    }
    return switch type {
    case .f32: x
    case .f16: try GGMLBlocks.dequantize(.f16, try GGMLBlocks.quantize(.f16, x))
    case .bf16: try GGMLBlocks.dequantize(.bf16, try GGMLBlocks.quantize(.bf16, x))
    case .q8_0: try GGMLBlocks.dequantize(.q8_0, try GGMLBlocks.quantize(.q8_0, x))
    case .q4_0: try GGMLBlocks.dequantize(.q4_0, try GGMLBlocks.quantize(.q4_0, x))
    }
  }

  /// Output rows and logarithms of sums, for queries at `position(query)` that see keys by `sees`.
  func expected(
    type: KeyValueType = .f32, position: (Int) -> Int = { $0 }, sees: (Int, Int) -> Bool
  ) throws -> (output: [Double], logarithms: [Double]) {
    let keys = try Self.stored(keys, width: keyWidth, type)
    let values = try Self.stored(values, width: valueWidth, type)
    var output: [Double] = []
    var logarithms: [Double] = []
    for query in 0..<queryCount {
      for head in 0..<heads {
        let shared = head / (heads / keyValueHeads)
        var scores: [(key: Int, score: Double)] = []
        for key in 0..<keyCount where sees(query, key) {
          var score = 0.0
          for i in 0..<keyWidth {
            score +=
              Double(queries[(query * heads + head) * keyWidth + i])
              * Double(keys[(key * keyValueHeads + shared) * keyWidth + i])
          }
          score *= Double(options.scale)
          if let cap = options.softCap {
            score = Double(cap) * hyperbolicTangent(score / Double(cap))
          }
          if let slopes = options.slopes {
            score += Double(slopes[head]) * Double(key - position(query))
          }
          scores.append((key, score))
        }
        let sink = options.sinks.map { Double($0[head]) }
        let top = max(scores.map(\.score).max() ?? -.infinity, sink ?? -.infinity)
        guard top > -.infinity else {
          output += [Double](repeating: 0, count: valueWidth)
          logarithms.append(-.infinity)
          continue
        }
        var sum = sink.map { exponential($0 - top) } ?? 0
        var row = [Double](repeating: 0, count: valueWidth)
        for (key, score) in scores {
          let weight = exponential(score - top)
          sum += weight
          for i in 0..<valueWidth {
            row[i] += weight * Double(values[(key * keyValueHeads + shared) * valueWidth + i])
          }
        }
        output += row.map { $0 / sum }
        logarithms.append(top + naturalLogarithm(sum))
      }
    }
    return (output, logarithms)
  }

  func cache(_ type: KeyValueType = .f32) throws -> KeyValueCache {
    let cache = try KeyValueCache(
      type: type, keyValueHeads: keyValueHeads, headDimension: keyWidth,
      valueDimension: valueWidth, capacity: max(keyCount, 1))
    try cache.append(keys: keys, values: values, count: keyCount)
    return cache
  }

  /// Pages in an order that is not theirs.
  func paged(
    _ type: KeyValueType = .f32, pageSize: Int, reserve: Int = 0
  ) throws -> PagedKeyValueCache {
    let pages = (keyCount + pageSize - 1) / pageSize + reserve
    let pool = try KeyValuePool(
      type: type, keyValueHeads: keyValueHeads, headDimension: keyWidth,
      valueDimension: valueWidth, pageSize: pageSize, pageCount: pages + 3)
    let cache = try PagedKeyValueCache(
      pool: pool, pages: (0..<pages).map { Int32(pages + 2 - $0) })
    try keys.withUnsafeBufferPointer { keys in
      try values.withUnsafeBufferPointer { values in
        try cache.append(keys: keys, values: values)
      }
    }
    return cache
  }

  /// What the package computes.
  func run(
    _ mask: AttentionMask, cache: KeyValueCache, threads: Int = 1,
    rows: Range<Int>? = nil
  ) throws -> (output: [Float], logarithms: [Float]) {
    try run(rows) { queries, count, output, logarithms in
      try Attention.run(
        queries: queries, heads: heads, count: count, mask: mask, cache: cache, options: options,
        output: output, logarithms: logarithms, workspace: AttentionWorkspace(),
        pool: WorkerPool(threads: threads))
    }
  }

  func run(
    _ mask: AttentionMask, cache: PagedKeyValueCache, threads: Int = 1
  ) throws -> (output: [Float], logarithms: [Float]) {
    try run(nil) { queries, count, output, logarithms in
      try Attention.run(
        queries: queries, heads: heads, count: count, mask: mask, cache: cache, options: options,
        output: output, logarithms: logarithms, workspace: AttentionWorkspace(),
        pool: WorkerPool(threads: threads))
    }
  }

  private func run(
    _ rows: Range<Int>?,
    _ body: (
      UnsafeBufferPointer<Float>, Int, UnsafeMutableBufferPointer<Float>,
      UnsafeMutableBufferPointer<Float>
    ) throws -> Void
  ) throws -> (output: [Float], logarithms: [Float]) {
    let rows = rows ?? 0..<queryCount
    var output = [Float](repeating: .nan, count: rows.count * heads * valueWidth)
    var logarithms = [Float](repeating: .nan, count: rows.count * heads)
    let width = heads * keyWidth
    try queries.withUnsafeBufferPointer { queries in
      try output.withUnsafeMutableBufferPointer { output in
        try logarithms.withUnsafeMutableBufferPointer { logarithms in
          try body(
            UnsafeBufferPointer(
              rebasing: queries[rows.lowerBound * width..<rows.upperBound * width]),
            rows.count, output, logarithms)
        }
      }
    }
    return (output, logarithms)
  }
}

/// Σ(found − expected)² / Σ expected².
func normalizedSquareError(_ found: [Float], _ expected: [Double]) -> Double {
  var difference = 0.0
  var size = 0.0
  for (x, y) in zip(found, expected) {
    difference += (Double(x) - y) * (Double(x) - y)
    size += y * y
  }
  return size == 0 ? difference : difference / size
}
