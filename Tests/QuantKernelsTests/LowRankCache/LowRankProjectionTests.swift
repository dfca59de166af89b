import QuantKernels
import TestSupport
import Testing

/// Tokens to latents, by float32 factors and by int8 ones.
@Suite struct LowRankProjectionTests {
  private let example = LowRankCase(
    keyValueHeads: 4, headDimension: 16, modelWidth: 96, headsPerGroup: 2, rank: 21)

  private func project(
    _ layer: LowRankLayer, _ kind: LowRankFactors.Kind, _ tokens: [Float], count: Int,
    instructionSet: InstructionSet, threads: Int = 1
  ) throws -> [Float] {
    let width = layer.inputWidth(kind)
    var latents = [Float](repeating: .nan, count: count * (width + 16))
    let pool = WorkerPool(threads: threads)
    try tokens.withUnsafeBufferPointer { x in
      try latents.withUnsafeMutableBufferPointer { out in
        try layer.project(
          kind, #require(x.baseAddress), count: count, into: #require(out.baseAddress),
          instructionSet: instructionSet, workspace: Workspace(), pool: pool)
      }
    }
    return Array(latents.prefix(count * width))
  }

  private func layer(
    _ example: LowRankCase, _ arithmetic: Arithmetic, _ instructionSet: InstructionSet
  ) throws -> LowRankLayer {
    try LowRankLayer(
      example.factors(), layer: 0, rotary: example.rotary, arithmetic: arithmetic,
      instructionSet: instructionSet)
  }

  /// A step of int8 is 1/127 of the largest of 32 numbers, about 2.1 deviations: rounding either side
  /// adds an error of 2.1 / 127 / √12 of a number, √2 of that together, 0.7 % of a latent.
  @Test(arguments: InstructionSet.supported, LowRankFactors.Kind.allCases)
  func equalsFloat64(_ instructionSet: InstructionSet, _ kind: LowRankFactors.Kind) throws {
    let count = 37
    let tokens = example.tokens(count)
    let wanted = try example.inputs(kind, tokens)
    for (arithmetic, least, most) in [(Arithmetic.exact, 0.0, 1e-6), (.fast, 1e-3, 1.2e-2)] {
      let latents = try project(
        layer(example, arithmetic, instructionSet), kind, tokens, count: count,
        instructionSet: instructionSet)
      var error = 0.0
      var size = 0.0
      for (got, want) in zip(latents, wanted) {
        error += Double(got - want) * Double(got - want)
        size += Double(want) * Double(want)
      }
      let relative = (error / size).squareRoot()
      #expect(relative >= least && relative <= most, "\(arithmetic): \(relative)")
    }
  }

  @Test(arguments: InstructionSet.supported, Arithmetic.allCases)
  func bitsDoNotDependOnRowsOrThreads(
    _ instructionSet: InstructionSet, _ arithmetic: Arithmetic
  ) throws {
    let count = 50
    let tokens = example.tokens(count)
    let layer = try layer(example, arithmetic, instructionSet)
    let width = layer.inputWidth(.value)
    let all = try project(layer, .value, tokens, count: count, instructionSet: instructionSet)
    for threads in [2, 7] {
      #expect(
        try project(
          layer, .value, tokens, count: count, instructionSet: instructionSet, threads: threads)
          == all)
    }
    for row in [0, 15, 16, 49] {
      let own = Array(tokens[row * example.modelWidth..<(row + 1) * example.modelWidth])
      #expect(
        try project(layer, .value, own, count: 1, instructionSet: instructionSet)
          == Array(all[row * width..<(row + 1) * width]))
    }
  }

  @Test func int8FactorsAreSmaller() throws {
    let exact = try layer(example, .exact, .best).byteCount
    let fast = try layer(example, .fast, .best).byteCount
    // 4 × 21 latents of 96 inputs: 3 panels of 16 outputs a kind for floats of 3 × 16 columns.
    let numbers = 2 * 48 * example.modelWidth
    #expect(fast < exact - numbers * 4 + numbers * 34 / 32 + 4096)
  }

  /// Widths that no int8 block divides, and factors whose scales binary16 cannot hold, stay floats.
  @Test func otherFactorsStayFloats() throws {
    let tokens = example.tokens(3)
    var narrow = example
    narrow.modelWidth = 40
    let own = narrow.tokens(3)
    #expect(
      try project(layer(narrow, .fast, .best), .value, own, count: 3, instructionSet: .best)
        == project(layer(narrow, .exact, .best), .value, own, count: 3, instructionSet: .best))

    var layers = try example.factors().layers
    layers[0].values[0].down = layers[0].values[0].down.map { $0 * 1e9 }
    let large = try LowRankFactors(
      shape: example.shape, headsPerGroup: example.headsPerGroup, keyMode: .rebuilt, bits: 4,
      isRotated: false, layers: layers)
    let both = try Arithmetic.allCases.map {
      try project(
        LowRankLayer(large, layer: 0, rotary: example.rotary, arithmetic: $0), .value, tokens,
        count: 3, instructionSet: .best)
    }
    #expect(both[0] == both[1])
  }
}
