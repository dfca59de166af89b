import LanguageModel
import QuantKernels
import TestSupport
import Testing

@testable import Calibration

/// From a model and a text to factors and their quality.
@Suite struct CalibratorTests {
  static let text: [UInt8] = {
    var random = RepeatableRandom(seed: 21)
    let words = ["the ", "river ", "runs ", "on ", "and ", "a ", "stone ", "falls ", "in ", "it "]
    return (0..<900).flatMap { _ in Array((words.randomElement(using: &random) ?? "").utf8) }
  }()

  private func file(
    _ architecture: ModelConfiguration.Architecture = .llama,
    _ change: (inout SyntheticModel) -> Void = { _ in }
  ) throws -> GGUFFile {
    var model = SyntheticModel(architecture)
    change(&model)
    return try GGUFFile(bytes: try model.serialized(), name: "model")
  }

  private var reading: Calibrator.Reading {
    var reading = Calibrator.Reading()
    reading.context = 64
    reading.samples = 40
    reading.gradientSamples = 6
    reading.headsPerBlock = 2
    return reading
  }

  private func calibrated(_ file: GGUFFile) throws -> Calibrator {
    let calibrator = try Calibrator(model: file, pool: WorkerPool(threads: 2))
    try calibrator.read(text: Self.text, reading)
    return calibrator
  }

  private func options(_ change: (inout Calibrator.Options) -> Void = { _ in }) -> Calibrator.Options {
    var options = Calibrator.Options()
    change(&options)
    return options
  }

  /// At full rank and 16 bits nothing is lost but the halves' rounding; perplexity then falls with rank
  /// and bits, for every method, mode and group size.
  @Test(arguments: Calibrator.Method.allCases, LowRankFactors.KeyMode.allCases)
  func perplexityFollowsRankAndBits(
    _ method: Calibrator.Method, _ mode: LowRankFactors.KeyMode
  ) throws {
    let file = try file(.qwen2)
    let calibrator = try calibrated(file)
    let simulation = try SimulatedPerplexity(
      model: file, text: Self.text, context: 64, windows: 6, pool: WorkerPool(threads: 2))
    let whole = try simulation.measure(SimulatedCache(factors: nil, bits: 16)).perplexity
    for group in [1, 2] {
      var last = 0.0
      for (ratio, bits) in [(1.0, 16), (0.75, 16), (0.5, 16), (0.5, 2)] {
        let result = try calibrator.factors(
          options {
            $0.method = method
            $0.keyMode = mode
            $0.ratio = ratio
            $0.headsPerGroup = group
            $0.step = 2
          })
        #expect(abs(result.achievedRatio - ratio) <= 2.0 / Double(2 * 2 * 16) + 1e-12)
        var cache = SimulatedCache(factors: result.factors, bits: bits)
        cache.keyBits = 16
        let found = try simulation.measure(cache).perplexity
        if ratio == 1 {
          #expect(abs(found / whole - 1) < 2e-3, "\(found) of \(whole)")
          #expect(result.keptEnergy > 1 - 1e-12)
        } else if bits == 2 {
          #expect(found > last, "fewer bits")
        }
        last = found
      }
    }
  }

  /// The float32 decoder with nothing in its way counts as `Perplexity` does with the serving decoder.
  @Test func wholeCacheIsPerplexity() throws {
    let file = try file(.gemma3)
    let simulation = try SimulatedPerplexity(
      model: file, text: Self.text, context: 32, windows: 5, pool: WorkerPool(threads: 2))
    let found = try simulation.measure(SimulatedCache(factors: nil, bits: 16))
    var options = LanguageModel.Options()
    options.arithmetic = .exact
    options.keyValueType = .f32
    let expected = try Perplexity(
      of: Self.text, model: try LanguageModel(file: file, options: options),
      options: .init(context: 32, windows: 5))
    #expect(found.scoredTokens == expected.scoredTokens)
    #expect(abs(found.perplexity / expected.perplexity - 1) < 1e-4)
    #expect(abs(found.standardError / expected.standardError - 1) < 1e-3)
  }

  /// The factors applied as W ≈ B A in the weights give what the simulated cache gives without
  /// rounding: it changes nothing else.
  @Test func simulationIsReplacedWeights() throws {
    let file = try file()
    let calibrator = try calibrated(file)
    let factors = try calibrator.factors(options { $0.headsPerGroup = 2 }).factors
    let weights = calibrator.weights
    let tokens = (0..<32).map { Int32(3 + $0 * 7 % 300) }
    let pool = WorkerPool(threads: 2)
    let simulated = try DenseDecoder<Float>(
      weights, sequences: 1, length: 32, keepsStreams: false, pool: pool)
    var cache = SimulatedCache(factors: factors, bits: 16)
    cache.rounds = false
    try cache.attach(to: simulated)
    let replaced = try DenseDecoder<Float>(
      weights, sequences: 1, length: 32, keepsStreams: false, pool: pool)
    for (layer, groups) in factors.layers.enumerated() {
      for (matrix, kind) in [(DenseWeights.Matrix.key, LowRankFactors.Kind.key), (.value, .value)] {
        replaced.replacements[layer, default: [:]][matrix] = groups[kind].flatMap { group in
          let up = Matrix(
            rows: factors.groupWidth, columns: group.rank, values: group.up.map(Double.init))
          let down = Matrix(
            rows: group.rank, columns: factors.shape.modelWidth,
            values: group.down.map(Double.init))
          return up.product(down).values.map { Float($0) }
        }
      }
    }
    for (a, b) in zip(try simulated.losses(of: tokens), try replaced.losses(of: tokens)) {
      #expect(abs(a - b) <= 1e-4)
    }
  }

  /// Rounding by a floating minimum errs by half a step at most, whatever the signs.
  @Test func roundingErrsByHalfAStep() {
    var random = RepeatableRandom(seed: 31)
    for bits in [2, 3, 4, 8] {
      for count in [1, 2, 7, 64, 353] {
        for kind in 0..<5 {
          let x = random.normals(count).map { value -> Float in
            switch kind {
            case 0: value
            case 1: 10.5 + 0.1 * value
            case 2: -10.5 + 0.1 * value
            case 3: 3.25
            default: 0
            }
          }
          var y = x
          SimulatedCache.round(&y, count: count, bits: bits)
          let range = (x.max() ?? 0) - (x.min() ?? 0)
          let half = range / Float((1 << bits) - 1) / 2
          // Scale and minimum are halves: each errs by 2⁻¹¹ of itself.
          let slack = range * 0x1p-10 + (x.map(abs).max() ?? 0) * 0x1p-10
          for (a, b) in zip(x, y) { #expect(abs(a - b) <= half + slack) }
        }
      }
    }
  }

  /// Work stopped after any batch and begun again ends in the same bits; a checkpoint of other settings
  /// is not used; a damaged one is refused.
  @Test func resumingChangesNoBit() throws {
    let folder = TemporaryFolder()
    let path = folder.file("checkpoint")
    let file = try file()
    let pool = WorkerPool(threads: 1)
    // Batches of one sample, so that there are many.
    var reading = reading
    reading.context = 256
    reading.samples = 7
    reading.gradientSamples = 3
    let straight = try Calibrator(model: file, pool: pool)
    try straight.read(text: Self.text, reading)
    for stop in 1...2 {
      let flag = CancellationFlag()
      let stopped = try Calibrator(model: file, pool: pool)
      #expect(throws: QuantError.self) {
        try stopped.read(
          text: Self.text, reading, checkpoint: path, checkpointSeconds: 0, cancellation: flag
        ) { done, _ in if done >= stop { flag.cancel() } }
      }
      #expect(stopped.statistics == nil)
    }
    let resumed = try Calibrator(model: file, pool: pool)
    let had = try resumed.read(text: Self.text, reading, checkpoint: path, checkpointSeconds: 0)
    #expect(had > 0)
    #expect(resumed.statistics == straight.statistics)
    #expect(try resumed.factors(options()).factors == straight.factors(options()).factors)

    // Another text, another number of samples: from the start.
    let other = try Calibrator(model: file, pool: pool)
    #expect(try other.read(text: Self.text + [65], reading, checkpoint: path) == 0)

    var bytes = try #require(readFile(path))
    bytes[bytes.count - 1] ^= 0x7F
    bytes.removeLast(3)
    folder.write(bytes, "checkpoint")
    let error = #expect(throws: QuantError.self) {
      try Calibrator(model: file, pool: pool).read(text: Self.text, reading, checkpoint: path)
    }
    #expect(error?.code == .invalidData)
  }

  @Test func badInput() throws {
    let file = try file()
    func refuses(
      _ code: QuantError.Code, line: Int = #line, _ body: (Calibrator) throws -> Void
    ) throws {
      let calibrator = try Calibrator(model: file, pool: WorkerPool(threads: 1))
      let error = #expect(throws: QuantError.self) { try body(calibrator) }
      #expect(error?.code == code, "line \(line): \(error?.description ?? "")")
    }
    // Settings of factors, before a text is read.
    for change: (inout Calibrator.Options) -> Void in [
      { $0.ratio = 0 }, { $0.ratio = -0.5 }, { $0.ratio = 1.5 }, { $0.ratio = .nan },
      { $0.headsPerGroup = 0 }, { $0.headsPerGroup = 3 }, { $0.headsPerGroup = -1 },
      { $0.bits = 5 }, { $0.bits = 16 }, { $0.step = 0 }, { $0.step = Int.max },
      { $0.step = Int.min }, { $0.ratio = 0.01 },
    ] {
      try refuses(.invalidArgument) { try $0.check(options(change), gradientSamples: 1) }
    }
    try refuses(.invalidArgument) { try $0.check(options(), gradientSamples: 0) }
    try refuses(.invalidArgument) { _ = try $0.factors(options()) }
    // Texts and settings of reading.
    for change: (inout Calibrator.Reading) -> Void in [
      { $0.context = 1 }, { $0.context = 257 }, { $0.context = Int.max }, { $0.samples = 0 },
      { $0.samples = -1 }, { $0.gradientSamples = -1 }, { $0.headsPerBlock = 3 },
      { $0.headsPerBlock = 0 },
      // One sample of 32 tokens, and the model is 64 wide.
      { ($0.context, $0.samples) = (32, 1) },
    ] {
      var reading = reading
      change(&reading)
      try refuses(.invalidArgument) { try $0.read(text: Self.text, reading) }
    }
    for text in [[], [65], Array("a b c".utf8)] as [[UInt8]] {
      try refuses(.invalidArgument) { try $0.read(text: text, reading) }
    }
    // A text that was not read backward, and one read for smaller groups.
    try refuses(.invalidArgument) { calibrator in
      var reading = reading
      reading.gradientSamples = 0
      try calibrator.read(text: Self.text, reading)
      _ = try calibrator.factors(options { $0.method = .waterFill })
      _ = try calibrator.factors(options { $0.method = .fisher })
    }
    try refuses(.invalidArgument) { calibrator in
      var reading = reading
      reading.headsPerBlock = 1
      try calibrator.read(text: Self.text, reading)
      _ = try calibrator.factors(options { $0.headsPerGroup = 2 })
    }
    // Keys that are normalized do not commute.
    let normalizing = try Calibrator(model: try self.file(.qwen3), pool: WorkerPool(threads: 1))
    let error = #expect(throws: QuantError.self) {
      try normalizing.check(options { $0.keyMode = .commuting }, gradientSamples: 1)
    }
    #expect(error?.code == .unsupported)
  }
}
