import DeviceModel
import TestSupport
import Testing

@testable import QuantKernels

@Suite struct SimulatedAttentionValuesTests {
  typealias Case = DeviceAttentionCase

  static let kernels = GPUAttentionKernel.allCases

  /// Widths in and beside the tiles', lengths in and beside the tiles' edges, groups, masks.
  static let cases = [
    Case(queryLength: 1, keyLength: 1, width: 64),
    Case(queryLength: 1, keyLength: 70, width: 128, causal: true),
    Case(queryLength: 70, keyLength: 1, width: 64),
    Case(queryLength: 33, keyLength: 65, heads: 2, width: 40, causal: true),
    Case(queryLength: 129, keyLength: 127, heads: 4, keyValueHeads: 2, width: 64),
    Case(queryLength: 128, keyLength: 128, width: 128, causal: true),
    Case(queryLength: 131, keyLength: 160, heads: 3, keyValueHeads: 1, width: 128, causal: true),
    Case(queryLength: 150, keyLength: 40, width: 80, causal: true),
    Case(queryLength: 20, keyLength: 33, width: 7),
    Case(queryLength: 12, keyLength: 50, width: 96, causal: true, scale: -0.1),
    Case(queryLength: 12, keyLength: 50, width: 16, scale: 0),
  ]

  @Test(arguments: kernels, cases)
  func staysInsideTheBound(_ kernel: GPUAttentionKernel, _ test: Case) throws {
    let run = try test.run(kernel, checks: test.queryLength < 40)
    let (worst, nmse) = Case.errors(run.output, test.reference())
    // Unfused rounds scores to binary16, which the bound does not cover: scores of ±6 or so have
    // 2⁻⁹ of rounding each.
    if kernel != .unfused { #expect(worst <= 1) }
    #expect(nmse <= (kernel == .unfused ? 1e-5 : 1e-6), "\(nmse)")
    #expect(run.estimate != nil)
  }

  /// Around every edge of both tiles: one less, the edge, one more.
  @Test(arguments: [GPUAttentionKernel.volta, .xformers, .flash])
  func tileEdges(_ kernel: GPUAttentionKernel) throws {
    for (rows, keys) in [
      (31, 63), (32, 64), (33, 65), (127, 31), (128, 32), (129, 33), (63, 129), (64, 128),
      (65, 127),
    ] {
      let test = Case(queryLength: rows, keyLength: keys, width: 64, causal: true)
      let run = try test.run(kernel)
      #expect(Case.errors(run.output, test.reference()).worst <= 1, "\(test)")
    }
  }

  @Test(arguments: kernels)
  func largeScoresAreExactLimits(_ kernel: GPUAttentionKernel) throws {
    // Scores of ±10⁴ (unfused keeps them in binary16, up to 65,504).
    let test = Case(queryLength: 40, keyLength: 64, width: 64, spread: 1e3)
    let run = try test.run(kernel)
    let reference = test.reference()
    let nmse = Case.errors(run.output, reference).nmse
    #expect(nmse <= (kernel == .unfused ? 0.2 : 1e-3), "\(nmse)")
    #expect(run.output.allSatisfy { HalfPrecision.float(fromHalf: $0).isFinite })
    // All keys equal: the output is the mean of the values.
    let even = Case(queryLength: 4, keyLength: 64, width: 64)
    let keys = [UInt16](repeating: HalfPrecision.half(1), count: 64 * 64)
    let mean = try even.run(kernel, keys: keys)
    #expect(
      Case.errors(mean.output, even.reference(keys: keys)).nmse <= 1e-6)
    // One key far above the others: exactly its value.
    var one = [UInt16](repeating: 0, count: 64 * 64)
    for i in 0..<64 { one[9 * 64 + i] = HalfPrecision.half(100) }
    let queries = [UInt16](repeating: HalfPrecision.half(4), count: 4 * 64)
    let picked = try even.run(kernel, queries: queries, keys: one)
    for row in 0..<4 {
      #expect(Array(picked.output[row * 64..<(row + 1) * 64]) == Array(even.values[9 * 64..<640]))
    }
  }

  @Test(arguments: kernels)
  func withoutKeysOrQueries(_ kernel: GPUAttentionKernel) throws {
    let none = try Case(queryLength: 0, keyLength: 9, width: 64).run(kernel)
    #expect(none.output.isEmpty && none.launches.isEmpty && none.estimate == nil)
    let blind = try Case(queryLength: 5, keyLength: 0, width: 64).run(kernel)
    #expect(blind.output == Array(repeating: 0, count: 5 * 64))
    // More queries than keys: the leading rows see nothing and are 0.
    let test = Case(queryLength: 70, keyLength: 9, heads: 2, width: 64, causal: true)
    let run = try test.run(kernel)
    #expect(run.output[..<(61 * 128)].allSatisfy { $0 == 0 })
    #expect(run.output[(61 * 128)...].contains { $0 != 0 })
  }

  /// NaN and infinity in keys and values that are hidden from a row change nothing in it; rows that
  /// see them get no finite result where they matter.
  @Test(arguments: kernels, [Float.nan, .infinity, -.infinity])
  func hiddenValuesDoNotLeak(_ kernel: GPUAttentionKernel, _ bad: Float) throws {
    let test = Case(queryLength: 70, keyLength: 70, heads: 2, width: 64, causal: true)
    let clean = try test.run(kernel).output
    let bits = HalfPrecision.half(bad)
    let width = test.heads * test.width
    // keyValueHeads 1 of width 64: key 37.
    var values = test.values
    values[37 * 64 + 5] = bits
    let poisoned = try test.run(kernel, values: values).output
    for row in 0..<70 {
      for head in 0..<2 {
        for column in 0..<64 {
          let at = row * width + head * 64 + column
          if row < 37 || column != 5 {
            #expect(poisoned[at] == clean[at], "row \(row), column \(column)")
          } else {
            #expect(!HalfPrecision.float(fromHalf: poisoned[at]).isFinite)
          }
        }
      }
    }
    var keys = test.keys
    keys[50 * 64 + 3] = bits
    let run = try test.run(kernel, keys: keys).output
    #expect(Array(run[..<(50 * width)]) == Array(clean[..<(50 * width)]))
    var queries = test.queries
    queries[20 * width + 64] = bits
    let single = try test.run(kernel, queries: queries).output
    for row in 0..<70 {
      for head in 0..<2 where row != 20 || head != 1 {
        let range = row * width + head * 64..<row * width + head * 64 + 64
        #expect(Array(single[range]) == Array(clean[range]))
      }
    }
  }

  /// Arrangement of quad-pairs and order of operands move data and change no sum: the products of a
  /// score are added in the same order.
  @Test func layoutsGiveTheSameBits() throws {
    let test = Case(
      queryLength: 70, keyLength: 130, heads: 2, keyValueHeads: 1, width: 128, causal: true)
    let wanted = try test.run(.volta).output
    for order in OperandOrder.allCases {
      for pairs in FlashAttentionKernel.QuadPairs.allCases {
        var options = FlashAttentionKernel.Options()
        options.order = order
        options.quadPairs = pairs
        #expect(try test.run(.volta, options, checks: true).output.count == wanted.count)
        if pairs == .square { #expect(try test.run(.volta, options).output == wanted) }
        let (worst, _) = Case.errors(try test.run(.volta, options).output, test.reference())
        #expect(worst <= 1)
      }
    }
  }

  /// Binary16 sums of scores are less exact, are asked for, and refused where there are none.
  @Test(arguments: FlashAttentionKernel.QuadPairs.allCases)
  func halfSumsAreFlaggedAndWorse(_ pairs: FlashAttentionKernel.QuadPairs) throws {
    let test = Case(queryLength: 66, keyLength: 130, heads: 2, width: 128, causal: true)
    #expect(FlashAttentionKernel.Options().scoreSums == .float32)
    var options = FlashAttentionKernel.Options()
    options.quadPairs = pairs
    let exact = Case.errors(try test.run(.volta, options).output, test.reference()).nmse
    options.scoreSums = .float16
    let half = Case.errors(try test.run(.volta, options, checks: true).output, test.reference())
      .nmse
    #expect(half > 4 * exact)
    #expect(half < 1e-4)
    #expect(throws: QuantError.self) { try test.run(.flash, options) }
  }

  /// 2^x within a few units of the last place, and its limits.
  @Test func powersOfTwo() {
    for step in -4000...400 {
      let x = Float(step) / 32
      let wanted = exponential(Double(x) * 0.693_147_180_559_945_3)
      #expect(abs(Double(LaneMath.exp2(x)) / wanted - 1) < 4 * 0x1p-24)
    }
    #expect(LaneMath.exp2(-.infinity) == 0)
    #expect(LaneMath.exp2(-200) == 0)
    #expect(LaneMath.exp2(.infinity) == .infinity)
    #expect(LaneMath.exp2(.nan).isNaN)
    #expect(LaneMath.exp2(0) == 1)
  }
}
