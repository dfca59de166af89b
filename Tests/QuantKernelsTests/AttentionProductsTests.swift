import QuantKernels
import TestSupport
import Testing

/// Products in bfloat16: what they lose, and that they lose it nowhere else.
@Suite struct AttentionProductsTests {
  static let floatTypes = [KeyValueType.f32, .f16, .bf16]

  /// Why the tests of this processor's instruction do not run.
  static let isMissing = AttentionWorkspace().products(.bfloat16, for: .f32) == .float32

  /// Standard normal numbers whose products are in bfloat16.
  private func reference(
    _ queryCount: Int, _ keyCount: Int, heads: Int = 1, keyValueHeads: Int? = nil, width: Int,
    valueWidth: Int? = nil, options: AttentionOptions? = nil
  ) -> AttentionReference {
    var reference = AttentionReference(
      queryCount: queryCount, keyCount: keyCount, heads: heads,
      keyValueHeads: keyValueHeads ?? 1, keyWidth: width, valueWidth: valueWidth,
      options: options)
    reference.options.products = .bfloat16
    return reference
  }

  private func normalizedError(_ found: [Float], _ expected: [Double]) -> Double {
    var error = 0.0
    var energy = 0.0
    for (x, y) in zip(found, expected) {
      error += (Double(x) - y) * (Double(x) - y)
      energy += y * y
    }
    return error / energy
  }

  /// For prompts (which take the tile of many rows) and for a few queries. A rounding to 8 bits is
  /// off by up to 2⁻⁸, its square on average 2.6e-6 of the number's; errors of queries and keys
  /// enter scores of variance 1, and so outputs, as much as those of probabilities and values do.
  /// Over bf16, queries and probabilities are rounded: 5.2e-6. Over the other types keys and values
  /// are, too: 10.5e-6. A head of one element has no sum in which errors even out.
  @Test(
    .disabled(if: isMissing, "no AVX512_BF16 here"),
    arguments: [1, 7, 40, 64, 80, 96, 128, 192, 256],
    floatTypes)
  func staysNearFloat64(_ dimension: Int, _ type: KeyValueType) throws {
    for (queries, keys, heads) in [(70, 70, 2), (3, 530, 4), (1, 300, 1)] {
      let reference = reference(queries, keys, heads: heads, width: dimension)
      let expected = try reference.expected(type: type) { query, key in
        key <= query + keys - queries
      }
      let found = try reference.run(
        .causal(queries: queries, keys: keys), cache: try reference.cache(type), threads: 2)
      let error = normalizedError(found.output, expected.output)
      let bound = dimension == 1 ? 2e-4 : type == .bf16 ? 1e-5 : 2e-5
      #expect(error <= bound, "\(queries) queries")
      // Not the float32 products under another name.
      #expect(error >= 1e-8, "\(queries) queries")
    }
  }

  /// Windows, soft-caps, slopes and sinks on widths of their own, and rows in every part of a block.
  @Test(.disabled(if: isMissing, "no AVX512_BF16 here"), arguments: 0..<4)
  func masksAndBiases(_ choice: Int) throws {
    var options = AttentionOptions(scale: 0.2)
    switch choice {
    case 0: options.window = 21
    case 1: options.softCap = 3
    case 2: options.slopes = AttentionOptions.alibiSlopes(heads: 4)
    default: options.sinks = [1, -2, 0.5, 3]
    }
    let reference = reference(
      301, 301, heads: 4, keyValueHeads: 2, width: 33, valueWidth: 20, options: options)
    let expected = try reference.expected(type: .bf16) { query, key in
      key <= query && (options.window.map { key > query - $0 } ?? true)
    }
    let found = try reference.run(
      .causal(queries: 301, keys: 301), cache: try reference.cache(.bf16))
    #expect(normalizedError(found.output, expected.output) <= 1e-5)
  }

  /// Pages of any size hold the same numbers.
  @Test(arguments: [1, 5, 16, 48], [KeyValueType.f32, .f16])
  func pages(_ pageSize: Int, _ type: KeyValueType) throws {
    let reference = reference(40, 310, heads: 6, keyValueHeads: 2, width: 40)
    let mask = AttentionMask.causal(queries: 40, keys: 310)
    let whole = try reference.run(mask, cache: try reference.cache(type))
    let paged = try reference.run(mask, cache: try reference.paged(type, pageSize: pageSize))
    #expect(paged.output == whole.output)
  }

  /// Levels without the instruction, and quantized caches, multiply as they always do.
  @Test(arguments: InstructionSet.supported, KeyValueType.allCases)
  func isOnlyAWish(_ set: InstructionSet, _ type: KeyValueType) throws {
    let workspace = AttentionWorkspace(instructionSet: set)
    guard workspace.products(.bfloat16, for: type) == .float32 else { return }
    let outputs = try AttentionOptions.Products.allCases.map { products in
      let test = AttentionCase(
        heads: 2, keyValueHeads: 1, dimension: 24, positions: 40, type: type, products: products)
      return try test.run(
        20..<40, cache: try test.cache(instructionSet: set), workspace: workspace,
        pool: AttentionTests.one
      ).map(\.bitPattern)
    }
    #expect(outputs[0] == outputs[1])
  }

  /// A float32 number past the largest bfloat16 becomes that, not infinity: what a query does not
  /// see stays out.
  @Test(.disabled(if: isMissing, "no AVX512_BF16 here"))
  func largeNumbersStayFinite() throws {
    var reference = reference(2, 2, width: 16)
    for i in 16..<32 {
      reference.keys[i] = .greatestFiniteMagnitude
      reference.values[i] = -.greatestFiniteMagnitude
    }
    let found = try reference.run(
      .causal(queries: 2, keys: 2), cache: try reference.cache(.f32)
    ).output
    for i in 0..<16 {
      #expect((found[i] - reference.values[i]).magnitude <= reference.values[i].magnitude * 0x1p-8)
    }
  }

  /// NaN and infinity in one query stay in its own rows.
  @Test(arguments: [Float.nan, .infinity])
  func nonFiniteQueriesStayAlone(_ poison: Float) throws {
    var reference = reference(30, 30, heads: 3, width: 20)
    let mask = AttentionMask.causal(queries: 30, keys: 30)
    let cache = try reference.cache(.bf16)
    let expected = try reference.run(mask, cache: cache).output
    reference.queries[(11 * 3 + 1) * 20 + 19] = poison
    let found = try reference.run(mask, cache: cache).output
    for index in found.indices {
      let isPoisoned = index / 20 == 11 * 3 + 1
      #expect(isPoisoned ? !found[index].isFinite : found[index] == expected[index])
    }
  }
}
