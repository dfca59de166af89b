import QuantKernels
import TestSupport
import Testing

/// Long caches and extreme scores against float64, and memory that does not grow with the length.
@Suite struct AttentionLengthTests {
  /// Relative errors ‖found − expected‖ / ‖expected‖ of the last queries: 10⁻⁶ to 8K and 5·10⁻⁶ at
  /// 128K in float types (read as the numbers that they stand for), 10⁻³ in quantized ones, whose
  /// queries and weights have 16 bits.
  @Test(arguments: [8192, 131_072], [KeyValueType.f32, .f16, .q8_0, .q4_0])
  func longCaches(_ length: Int, _ type: KeyValueType) throws {
    let test = AttentionReference(queryCount: 2, keyCount: length, heads: 2, keyWidth: 64)
    let expected = try test.expected(type: type) { $1 <= $0 + length - 2 }
    let cache = try test.cache(type)
    let mask = AttentionMask.causal(queries: 2, keys: length)
    let found = try test.run(mask, cache: cache)
    let relative = normalizedSquareError(found.output, expected.output).squareRoot()
    let bound = type == .q8_0 || type == .q4_0 ? 1e-3 : length > 8192 ? 5e-6 : 1e-6
    #expect(relative <= bound, "\(relative)")
    for (x, y) in zip(found.logarithms, expected.logarithms) {
      #expect((Double(x) - y).magnitude <= (bound >= 1e-3 ? 1e-3 : 1e-6 * y.magnitude))
    }
    // Split over threads, the same bits.
    let split = try test.run(mask, cache: cache, threads: 2)
    #expect(split.output == found.output)
    #expect(split.logarithms == found.logarithms)
  }

  /// Scores of ±10⁴: the largest takes all, and nothing overflows. The keys are ± one vector.
  @Test(arguments: KeyValueType.allCases)
  func largeScores(_ type: KeyValueType) throws {
    var test = AttentionReference(queryCount: 1, keyCount: 600, keyWidth: 32)
    test.options.scale = 10_000 / 32
    test.queries = [Float](repeating: 1, count: 32)
    for best in [0, 255, 256, 599] {
      for key in 0..<600 {
        for element in 0..<32 { test.keys[key * 32 + element] = key == best ? 1 : -1 }
      }
      let found = try test.run(.full, cache: try test.cache(type))
      let stored = try AttentionReference.stored(test.values, width: 32, type)
      let wanted = stored[best * 32..<best * 32 + 32]
      for (x, y) in zip(found.output, wanted) {
        // A weight of 16 bits is 32767 exactly, times a scale that was divided by it.
        #expect((x - y).magnitude <= y.magnitude * 0x1p-22, "\(best)")
      }
      let ones = [Float](repeating: 1, count: 32)
      let one = try AttentionReference.stored(ones, width: 32, type)
      #expect((Double(found.logarithms[0]) - 10_000 * Double(one[0])).magnitude <= 0.01)
    }
  }

  /// Equal scores weigh every value alike.
  @Test(arguments: KeyValueType.allCases)
  func equalScores(_ type: KeyValueType) throws {
    var test = AttentionReference(queryCount: 1, keyCount: 700, keyWidth: 32)
    test.queries = [Float](repeating: 0, count: 32)
    let found = try test.run(.full, cache: try test.cache(type))
    let stored = try AttentionReference.stored(test.values, width: 32, type)
    for element in 0..<32 {
      let mean = (0..<700).reduce(0.0) { $0 + Double(stored[$1 * 32 + element]) } / 700
      #expect((Double(found.output[element]) - mean).magnitude <= 1e-5)
    }
    #expect((Double(found.logarithms[0]) - naturalLogarithm(700)).magnitude <= 1e-6 * 7)
  }

  /// What a call needs beside queries, cache and outputs: rows' states and one partition, however long
  /// the cache is; over threads also the partials, keys / 256 · rows · (width + 16) floats.
  @Test(arguments: [1, 40, 300], [KeyValueType.f32, .f16, .q8_0])
  func memoryDoesNotGrowWithTheLength(_ queries: Int, _ type: KeyValueType) throws {
    func bytes(_ length: Int, threads: Int) throws -> Int {
      let cache = try KeyValueCache(
        type: type, keyValueHeads: 1, headDimension: 32, capacity: length)
      let zeros = [Float](repeating: 0, count: length * 32)
      try cache.append(keys: zeros, values: zeros, count: length)
      let workspace = AttentionWorkspace()
      let input = [Float](repeating: 0, count: queries * 64)
      var output = input
      try input.withUnsafeBufferPointer { input in
        try output.withUnsafeMutableBufferPointer { output in
          try Attention.run(
            queries: input, heads: 2, count: queries,
            mask: .causal(queries: queries, keys: length), cache: cache,
            options: AttentionOptions(scale: 1), output: output, workspace: workspace,
            pool: WorkerPool(threads: threads))
        }
      }
      return workspace.byteCount
    }
    let short = try bytes(1024, threads: 1)
    #expect(try bytes(131_072, threads: 1) == short)
    let partials = queries * 2 <= 48 ? 131_072 / 256 * queries * 2 * (32 + 16) * 4 : 0
    #expect(try bytes(131_072, threads: 2) <= 2 * short + 2 * partials)
  }
}
