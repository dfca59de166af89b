import QuantKernels

/// One token's attention over a filled cache: 32 query heads of 128 over 8 of keys and values.
final class DecodeStep {
  private let cache: KeyValueCache
  private let length: Int
  private let workspace = AttentionWorkspace()
  private let queries = [Float](repeating: 0.25, count: 32 * 128)
  private var output = [Float](repeating: 0, count: 32 * 128)

  init(type: KeyValueType, length: Int) throws {
    cache = try KeyValueCache(type: type, keyValueHeads: 8, headDimension: 128, capacity: length)
    self.length = length
    let row = (0..<8 * 128).map { Float($0 % 19) / 9 - 1 }
    for _ in 0..<length { try cache.append(keys: row, values: row, count: 1) }
  }

  func run() throws {
    try queries.withUnsafeBufferPointer { queries in
      try output.withUnsafeMutableBufferPointer { output in
        try Attention.run(
          queries: queries, heads: 32, count: 1, firstPosition: length - 1, cache: cache,
          options: AttentionOptions(scale: 0.088_388_35), output: output, workspace: workspace,
          pool: .standard)
      }
    }
  }
}
