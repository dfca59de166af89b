import QuantKernels
import TestSupport
import Testing

@Suite struct AttentionTests {
  static let one = WorkerPool(threads: 1)

  /// Positions at the edges of blocks, tiles and partitions.
  static let edges = [0, 1, 15, 16, 17, 63, 64, 65, 255, 256, 257, 299]

  private func expectReference(
    _ test: AttentionCase, positions: [Int], instructionSet: InstructionSet = .best
  ) throws {
    let cache = try test.cache(instructionSet: instructionSet)
    let workspace = AttentionWorkspace(instructionSet: instructionSet)
    let width = test.heads * test.dimension
    let output = try test.run(
      0..<test.positions, cache: cache, workspace: workspace, pool: Self.one)
    for position in positions {
      let (expected, tolerance) = test.reference(position)
      for (index, value) in expected.enumerated() {
        let found = Double(output[position * width + index])
        if !((found - value).magnitude <= tolerance[index]) {
          Issue.record(
            "position \(position), element \(index): \(found), not \(value) ± \(tolerance[index])")
          return
        }
      }
    }
  }

  @Test(arguments: [32, 64, 80, 96, 128, 256, 1, 7, 37], [KeyValueType.f32, .f16, .bf16])
  func matchesFloat64(dimension: Int, type: KeyValueType) throws {
    let test = AttentionCase(
      heads: 2, keyValueHeads: 1, dimension: dimension, positions: 66, type: type)
    try expectReference(test, positions: [0, 1, 15, 16, 17, 63, 64, 65])
  }

  @Test(arguments: [1, 2, 3, 4, 5, 6, 7, 9], [1, 2])
  func groupsOfHeads(group: Int, keyValueHeads: Int) throws {
    let test = AttentionCase(
      heads: group * keyValueHeads, keyValueHeads: keyValueHeads, dimension: 16, positions: 70)
    try expectReference(test, positions: [0, 5, 31, 64, 69])
  }

  @Test(arguments: [nil, 1, 2, 16, 63, 64, 65, 255, 256, 257, 1000], [nil, 3])
  func windowsAndSoftCaps(window: Int?, softCap: Float?) throws {
    let test = AttentionCase(
      heads: 3, keyValueHeads: 1, dimension: 16, positions: 300, window: window, softCap: softCap)
    try expectReference(test, positions: Self.edges)
  }

  @Test(arguments: InstructionSet.supported)
  func everyInstructionSet(set: InstructionSet) throws {
    for (window, softCap) in [(nil, nil), (50, 5)] as [(Int?, Float?)] {
      let test = AttentionCase(
        heads: 3, keyValueHeads: 1, dimension: 24, positions: 300, type: .f16, window: window,
        softCap: softCap)
      try expectReference(test, positions: Self.edges, instructionSet: set)
    }
  }

  /// Softmax over scores hundreds apart: the far ones vanish, none overflows.
  @Test func extremeScores() throws {
    let test = AttentionCase(heads: 1, keyValueHeads: 1, dimension: 8, positions: 20)
    let options = AttentionOptions(scale: 200)
    let cache = try test.cache()
    var output = [Float](repeating: .nan, count: 20 * 8)
    try Attention.run(
      queries: test.queries, heads: 1, count: 20, firstPosition: 0, cache: cache, options: options,
      output: &output, workspace: AttentionWorkspace(), pool: Self.one)
    for position in 0..<20 {
      let scores = (0...position).map { key in
        (0..<8).reduce(0.0) {
          $0 + Double(test.queries[position * 8 + $1]) * Double(test.keys[key * 8 + $1])
        }
      }
      let best = scores.indices.max { scores[$0] < scores[$1] } ?? 0
      // Only where the runner-up is far behind.
      let others = scores.enumerated().filter { $0.offset != best }.map(\.element).max() ?? -1e9
      if (scores[best] - others) * 200 < 50 { continue }
      for k in 0..<8 { #expect(output[position * 8 + k] == test.values[best * 8 + k]) }
    }
  }

  @Test func outputMayReplaceQueries() throws {
    let test = AttentionCase(heads: 4, keyValueHeads: 2, dimension: 64, positions: 600)
    let cache = try test.cache()
    let pool = WorkerPool(threads: 2)
    for range in [0..<600, 599..<600] {
      let apart = try test.run(range, cache: cache, workspace: AttentionWorkspace(), pool: pool)
      var both = Array(test.queries[range.lowerBound * 256..<range.upperBound * 256])
      try both.withUnsafeMutableBufferPointer { both in
        try Attention.run(
          queries: UnsafeBufferPointer(both), heads: 4, count: range.count,
          firstPosition: range.lowerBound, cache: cache, options: test.options, output: both,
          workspace: AttentionWorkspace(), pool: pool)
      }
      #expect(both == apart)
    }
  }

  // MARK: Errors

  private func code(_ body: () throws -> Void) -> QuantError.Code? {
    do { try body() } catch { return (error as? QuantError)?.code }
    return nil
  }

  @Test func refusesWhatCannotBe() throws {
    let test = AttentionCase(heads: 4, keyValueHeads: 2, dimension: 8, positions: 10)
    let cache = try test.cache()
    func run(
      heads: Int = 4, count: Int = 10, first: Int = 0, options: AttentionOptions? = nil,
      queries: Int = 320, outputs: Int = 320
    ) -> QuantError.Code? {
      code {
        let source = [Float](repeating: 0, count: queries)
        var output = [Float](repeating: 0, count: outputs)
        try source.withUnsafeBufferPointer { source in
          try output.withUnsafeMutableBufferPointer { output in
            try Attention.run(
              queries: source, heads: heads, count: count, firstPosition: first, cache: cache,
              options: options ?? test.options, output: output, workspace: AttentionWorkspace(),
              pool: Self.one)
          }
        }
      }
    }
    #expect(run() == nil)
    #expect(run(count: 0) == nil)
    #expect(run(heads: 3) == .invalidArgument)
    #expect(run(heads: 0) == .invalidArgument)
    #expect(run(heads: Int.max - 1) == .invalidArgument)
    #expect(run(count: 11) == .invalidArgument)
    #expect(run(count: -1) == .invalidArgument)
    #expect(run(count: Int.max) == .invalidArgument)
    #expect(run(first: 1) == .invalidArgument)
    #expect(run(count: 1, first: -1) == .invalidArgument)
    #expect(run(count: 1, first: Int.max) == .invalidArgument)
    #expect(run(queries: 319) == .invalidArgument)
    #expect(run(outputs: 319) == .invalidArgument)
    #expect(run(options: AttentionOptions(scale: .nan)) == .invalidArgument)
    #expect(run(options: AttentionOptions(scale: 1, window: 0)) == .invalidArgument)
    #expect(run(options: AttentionOptions(scale: 1, softCap: 0)) == .invalidArgument)
    #expect(run(options: AttentionOptions(scale: 1, softCap: .infinity)) == .invalidArgument)
  }

  /// A NaN in one query stays in that query's head.
  @Test func nonFiniteQueriesStayAlone() throws {
    let test = AttentionCase(heads: 4, keyValueHeads: 2, dimension: 16, positions: 40)
    let cache = try test.cache()
    let clean = try test.run(
      0..<40, cache: cache, workspace: AttentionWorkspace(), pool: Self.one)
    for poison in [Float.nan, .infinity] {
      var queries = test.queries
      queries[21 * 64 + 16] = poison
      var output = [Float](repeating: 0, count: 40 * 64)
      try Attention.run(
        queries: queries, heads: 4, count: 40, firstPosition: 0, cache: cache,
        options: test.options, output: &output, workspace: AttentionWorkspace(), pool: Self.one)
      for index in output.indices {
        let isPoisoned = index / 64 == 21 && index % 64 / 16 == 1
        #expect(isPoisoned ? !output[index].isFinite : output[index] == clean[index])
      }
    }
  }
}
