import CTestSupport
import LanguageModel
import QuantKernels
import TestSupport
import XCTest

/// Models whose sessions cache latents.
final class LowRankSessionTests: XCTestCase {
  /// Factors of full rank, whose product is each projection itself, turned by an orthogonal matrix.
  private func fullRank(
    _ model: LanguageModel, headsPerGroup: Int, mode: LowRankFactors.KeyMode, bits: Int = 4
  ) throws -> LowRankOptions {
    let weights = try DenseWeights(file: model.file, configuration: model.configuration)
    let shape = LowRankFactors.Shape(model.configuration)
    let width = shape.modelWidth
    let rows = headsPerGroup * shape.headDimension
    func groups(_ matrix: DenseWeights.Matrix, _ layer: Int) throws -> [LowRankFactors.Group] {
      var all = [Float](repeating: 0, count: shape.keyValueWidth * width)
      try all.withUnsafeMutableBufferPointer {
        try weights.read(matrix, layer: layer, into: $0.baseAddress!, pool: model.pool)
      }
      let bias = weights.bias(of: matrix, layer: layer)
      return try (0..<shape.keyValueHeads / headsPerGroup).map { group in
        var down = all[group * rows * width..<(group + 1) * rows * width].map(Double.init)
        var up = (0..<rows * rows).map { $0 / rows == $0 % rows ? 1.0 : 0.0 }
        try HadamardRotation(rank: rows).fold(into: &down, &up)
        return LowRankFactors.Group(
          rank: rows, down: down.map(Float.init), up: up.map(Float.init),
          bias: bias.map { Array($0[group * rows..<(group + 1) * rows]) })
      }
    }
    let factors = try LowRankFactors(
      shape: shape, headsPerGroup: headsPerGroup, keyMode: mode, bits: bits, isRotated: true,
      layers: try (0..<shape.layers).map {
        LowRankFactors.Layer(
          keys: mode == .rotated ? [] : try groups(.key, $0), values: try groups(.value, $0))
      })
    var options = LowRankOptions(
      file: LowRankFactorsFile(
        factors: factors, modelChecksum: model.file.keyValueChecksum()), name: "factors")
    options.keyMode = mode
    return options
  }

  private func loaded(
    _ test: ModelCase, _ lowRank: LowRankOptions, arithmetic: Arithmetic = .exact,
    threads: Int = 2
  ) throws -> LanguageModel {
    var options = LanguageModel.Options()
    options.threads = threads
    options.arithmetic = arithmetic
    options.lowRank = lowRank
    return try LanguageModel(file: try test.file(), options: options)
  }

  /// Factors have the values' own order; int4 layers whose values were moved have another.
  func testMovedValuesAreRefused() throws {
    let bench = try Workbench(.llama, type: .f32)
    var conversion = ModelConverter.Options()
    conversion.calibrationText = Array(
      String(repeating: "The river runs to the sea. ", count: 60).utf8)
    conversion.actOrder = true
    conversion.groupSize = 32
    for (isMoved, name) in [(false, "plain.safetensors"), (true, "moved.safetensors")] {
      conversion.movesInputOrder = isMoved
      try bench.convert(bench.source, to: .safetensors(.gptq), name, conversion)
      var options = LanguageModel.Options()
      options.threads = 1
      options.int4Layers = bench.folder.file(name)
      options.lowRank = try fullRank(
        LanguageModel(path: bench.source), headsPerGroup: 1, mode: .rotated)
      let model = try LanguageModel(path: bench.source, options: options)
      if isMoved {
        XCTAssertThrowsError(try model.makeSession()) {
          XCTAssertEqual(($0 as? QuantError)?.code, .unsupported)
        }
      } else {
        XCTAssertNoThrow(try model.makeSession())
      }
    }
  }

  private static let models = ModelCase.variants.filter {
    ["llama", "qwen2", "gemma3", "llama with biases, a head and mixed types", "qwen2 with YaRN"]
      .contains($0.name)
  }

  /// Full rank and no rounding: the logits of the dense model.
  func testFullRankIsTheDenseModel() throws {
    XCTAssertEqual(Self.models.count, 5)
    for test in Self.models {
      let dense = try test.load()
      let tokens = test.tokens(70)
      let reference = try dense.makeSession()
      try reference.forward(tokens)
      for mode in [LowRankFactors.KeyMode.rotated, .rebuilt] {
        // Gemma normalizes its keys, which latents do not pass through.
        if mode == .rebuilt, test.name == "gemma3" { continue }
        for group in Set([1, dense.configuration.keyValueHeadCount]) {
          var options = try fullRank(dense, headsPerGroup: group, mode: mode)
          options.keyType = .f32
          options.valueType = .f32
          let session = try loaded(test, options).makeSession()
          try session.forward(tokens)
          var error = 0.0
          var size = 0.0
          for (found, wanted) in zip(session.logits, reference.logits) {
            error += Double(found - wanted) * Double(found - wanted)
            size += Double(wanted) * Double(wanted)
          }
          XCTAssertLessThan(
            (error / size).squareRoot(), 1e-5, "\(test.name), \(mode), groups of \(group)")
        }
      }
    }
  }

  /// Batches, steps and a truncated cache give the same bits; the bytes are the formula's.
  func testStepsAreBatches() throws {
    let test = Self.models[0]
    let dense = try test.load()
    for mode in [LowRankFactors.KeyMode.rotated, .rebuilt] {
      let options = try fullRank(dense, headsPerGroup: 1, mode: mode, bits: 3)
      let model = try loaded(test, options, arithmetic: .fast)
      let tokens = test.tokens(40)
      let whole = try model.makeSession()
      try whole.forward(tokens)
      let wanted = whole.logits.map(\.bitPattern)
      let stepped = try model.makeSession()
      for token in tokens { try stepped.forward(token: token) }
      XCTAssertEqual(stepped.logits.map(\.bitPattern), wanted)
      stepped.truncate(to: 11)
      try stepped.forward(Array(tokens[11...]))
      XCTAssertEqual(stepped.logits.map(\.bitPattern), wanted)
      let shape = options.file.factors.shape
      let width = shape.headDimension
      let keys = mode == .rotated ? (width * 4 + 7) / 8 + 4 : (width * 3 + 7) / 8 + 4
      XCTAssertEqual(
        whole.keyValueBytesPerToken,
        shape.layers * shape.keyValueHeads * (keys + (width * 3 + 7) / 8 + 4))
      // Full factors of floats are more than what they take the place of.
      XCTAssertGreaterThan(whole.weightBytesPerToken, model.weightBytesPerToken)
      let plain = try dense.makeSession()
      XCTAssertEqual(plain.weightBytesPerToken, dense.weightBytesPerToken)
    }
  }

  func testDecodeStepsAllocateNothing() throws {
    try XCTSkipUnless(allocation_count_available() == 1, "no counting allocator here")
    let test = Self.models[0]
    let dense = try test.load()
    for mode in [LowRankFactors.KeyMode.rotated, .rebuilt] {
      let options = try fullRank(dense, headsPerGroup: 1, mode: mode)
      for threads in [1, 2] {
        let session = try loaded(test, options, arithmetic: .fast, threads: threads).makeSession()
        try session.forward(test.tokens(5))
        try session.forward(token: 5)
        allocation_count_begin()
        for token in 6...50 { try session.forward(token: Int32(token)) }
        XCTAssertEqual(allocation_count_end(), 0, "\(mode), \(threads) threads")
      }
    }
  }

  func testFactorsThatDoNotFit() throws {
    let test = Self.models[0]
    let dense = try test.load()
    func expect(_ code: QuantError.Code, _ options: LowRankOptions, line: UInt = #line) throws {
      let model = try loaded(test, options)
      XCTAssertThrowsError(try model.makeSession(), line: line) {
        XCTAssertEqual(($0 as? QuantError)?.code, code, "\($0)", line: line)
      }
    }
    var options = try fullRank(dense, headsPerGroup: 1, mode: .rebuilt)
    options.keyMode = .commuting
    try expect(.invalidArgument, options)
    let other = try fullRank(
      try ModelCase.architectures[1].load(), headsPerGroup: 1, mode: .rotated)
    try expect(.invalidData, other)
    let good = try fullRank(dense, headsPerGroup: 1, mode: .rotated)
    try expect(
      .invalidData,
      LowRankOptions(
        file: LowRankFactorsFile(factors: good.file.factors, modelChecksum: 1), name: "factors"))
  }
}
