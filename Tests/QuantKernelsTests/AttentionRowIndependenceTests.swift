import QuantKernels
import TestSupport
import Testing

/// The promise: a row's bits depend on its query, its position and the keys it sees, on nothing
/// else.
@Suite struct AttentionRowIndependenceTests {
  struct Shape: Sendable, CustomTestStringConvertible {
    var heads = 3
    var keyValueHeads = 1
    var dimension = 16
    var type = KeyValueType.f32
    var window: Int?
    var softCap: Float?
    var products = AttentionOptions.Products.float32

    var testDescription: String {
      "\(heads)/\(keyValueHeads)/\(dimension) \(type) \(window ?? 0) \(softCap ?? 0) \(products)"
    }
  }

  static let shapes = [
    Shape(), Shape(type: .f16), Shape(heads: 1), Shape(heads: 4, keyValueHeads: 2, type: .f16),
    Shape(heads: 7, dimension: 33), Shape(heads: 2, dimension: 80, type: .f16),
    Shape(window: 100), Shape(type: .f16, window: 300, softCap: 4), Shape(softCap: 2),
    Shape(heads: 16, keyValueHeads: 8, dimension: 8), Shape(heads: 4, dimension: 64, type: .q8_0),
    Shape(heads: 7, dimension: 33, type: .q4_0), Shape(type: .q4_0, window: 100, softCap: 3),
    // Where the processor has no such products these are the shapes above once more.
    Shape(type: .bf16, products: .bfloat16), Shape(heads: 7, dimension: 33, products: .bfloat16),
    Shape(heads: 8, dimension: 64, type: .f16, window: 77, softCap: 4, products: .bfloat16),
  ]

  private func test(_ shape: Shape, positions: Int) -> AttentionCase {
    AttentionCase(
      heads: shape.heads, keyValueHeads: shape.keyValueHeads, dimension: shape.dimension,
      positions: positions, type: shape.type, window: shape.window, softCap: shape.softCap,
      products: shape.products)
  }

  private func bits(_ x: some Sequence<Float>) -> [UInt32] { x.map(\.bitPattern) }

  /// Every number of rows from 1 to 64 and every thread count against one-row calls in a cache that
  /// holds nothing later.
  @Test(arguments: shapes)
  func rowsAndThreads(shape: Shape) throws {
    let test = test(shape, positions: 600)
    let width = shape.heads * shape.dimension
    let pools = [1, 2, 7].map { WorkerPool(threads: $0) }
    let workspace = AttentionWorkspace()
    let full = try test.cache()
    let whole = bits(
      try test.run(0..<600, cache: full, workspace: workspace, pool: pools[0]))
    for pool in pools[1...] {
      let again = try test.run(0..<600, cache: full, workspace: workspace, pool: pool)
      #expect(bits(again) == whole, "\(pool.threads) threads")
    }
    let grown = try test.cache(count: 0)
    var next = 0
    for position in [0, 1, 16, 63, 64, 255, 256, 300, 511, 512, 599] {
      // One by one where one-row calls look, so that both ways of appending are held together.
      let kv = shape.keyValueHeads * shape.dimension
      while next <= position {
        let run = next == position ? 1 : position - next
        try test.keys.withUnsafeBufferPointer { keys in
          try test.values.withUnsafeBufferPointer { values in
            try grown.append(
              keys: UnsafeBufferPointer(rebasing: keys[next * kv..<(next + run) * kv]),
              values: UnsafeBufferPointer(rebasing: values[next * kv..<(next + run) * kv]))
          }
        }
        next += run
      }
      let expected = Array(whole[position * width..<(position + 1) * width])
      for pool in pools {
        let row = try test.run(
          position..<position + 1, cache: grown, workspace: workspace, pool: pool)
        #expect(bits(row) == expected, "position \(position), \(pool.threads) threads")
      }
    }
    for count in 1...64 {
      let first = count * 37 % (600 - count)
      let pool = pools[count % 3]
      let rows = try test.run(first..<first + count, cache: full, workspace: workspace, pool: pool)
      #expect(
        bits(rows) == Array(whole[first * width..<(first + count) * width]), "\(count) rows")
    }
  }

  /// All levels run the same arithmetic: the vector kernels equal the scalar reference bit for bit,
  /// where they multiply the same numbers.
  @Test(arguments: InstructionSet.supported, shapes)
  func instructionSetsAgree(set: InstructionSet, shape: Shape) throws {
    let products = AttentionWorkspace(instructionSet: set).products(
      shape.products, for: shape.type)
    guard products == .float32 else { return }
    let test = test(shape, positions: 300)
    func run(_ set: InstructionSet) throws -> [UInt32] {
      let workspace = AttentionWorkspace(instructionSet: set)
      let cache = try test.cache(instructionSet: set)
      return try [0..<40, 250..<262, 299..<300].flatMap {
        bits(
          try test.run($0, cache: cache, workspace: workspace, pool: AttentionTests.one))
      }
    }
    #expect(try run(set) == run(.scalar))
  }

  /// Keys of the future, and what a truncated cache still holds, do not matter.
  @Test func truncatedPositionsDoNotMatter() throws {
    let test = test(Shape(), positions: 300)
    let workspace = AttentionWorkspace()
    let cache = try test.cache()
    let before = try test.run(
      0..<200, cache: cache, workspace: workspace, pool: AttentionTests.one)
    cache.truncate(to: 200)
    #expect(cache.count == 200)
    let after = try test.run(0..<200, cache: cache, workspace: workspace, pool: AttentionTests.one)
    #expect(bits(before) == bits(after))
  }
}
