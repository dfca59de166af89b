import QuantKernels

/// What `reproduce` measures on this processor, each case once, however many papers ask for it.
///
/// The machine's limits are opened with the first case and sampled between the runs of all of them.
final class ProcessorMeasurements {
  let threads: Int
  /// All samples of the limits, of every case.
  private(set) var samples = LimitSamples()

  private let pool: WorkerPool
  private let options: LimitOptions
  private var opened: MachineLimits?
  private var batchReports: [MatmulReport]?
  private var formatReports: [MatmulReport]?
  private var steps: [Int: LatentAttentionCase.Result] = [:]
  private var prompts: [AttentionReport]?

  /// Rows of the product whose speed stands against its batch.
  static let batches = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
  /// Extent of its weights, outputs and inputs.
  static let extent = 4096
  /// Formats whose cold row stands against their bits.
  static let formats = ["f16", "q8_0", "q6_k", "q4_k", "q4_0", "ternary", "ternary-dense"]
  /// Positions at which decode steps are timed.
  static let stepLengths = [1024, 4096, 16_384]
  /// Lengths of prompts.
  static let promptLengths = [1024, 2048]
  static let promptHeads = 8

  /// - Parameters:
  ///   - threads: processors to use.
  ///   - seconds: after which a case repeats no more, once it ran twice.
  init(threads: Int, seconds: Double = 1) {
    self.threads = threads
    pool = WorkerPool(threads: threads)
    options = LimitOptions(repetitions: 5, seconds: seconds)
  }

  private func limits() throws(QuantError) -> MachineLimits {
    if let opened { return opened }
    let limits = try options.open(pool: pool)
    opened = limits
    return limits
  }

  /// What a command needs to run with as many threads.
  var threadOption: String { " --threads \(threads)" }

  // MARK: Products

  /// Int4 products of group 128 at each of ``batches``.
  func products() throws(QuantError) -> [MatmulReport] {
    if let batchReports { return batchReports }
    let shapes = try Self.batches.map { rows throws(QuantError) in
      try MatmulShape(
        format: "int4", tokens: rows, outputs: Self.extent, inputs: Self.extent, group: 128,
        symmetric: false)
    }
    for shape in shapes { try shape.checkMemory(copies: 4 * CacheSizes.lastLevel) }
    Console.progress("packing int4 weights")
    let weights = try shapes[0].randomWeights(instructionSet: .best, pool: pool)
    let reports = try shapes.map { shape throws(QuantError) in
      try report(shape, weights)
    }
    batchReports = reports
    return reports
  }

  /// One cold row by each of ``formats``.
  func coldRows() throws(QuantError) -> [MatmulReport] {
    if let formatReports { return formatReports }
    let reports = try Self.formats.map { format throws(QuantError) in
      try coldRow(format)
    }
    formatReports = reports
    return reports
  }

  /// One cold row by one format.
  func coldRow(_ format: String) throws(QuantError) -> MatmulReport {
    let shape = try MatmulShape(
      format: format, tokens: 1, outputs: Self.extent, inputs: Self.extent, group: nil,
      symmetric: false)
    try shape.checkMemory(copies: 4 * CacheSizes.lastLevel)
    Console.progress("packing \(format) weights")
    return try report(shape, try shape.randomWeights(instructionSet: .best, pool: pool))
  }

  private func report(
    _ shape: MatmulShape, _ weights: any MeasuredWeights
  ) throws(QuantError) -> MatmulReport {
    let limits = try limits()
    let product = MatmulCase(
      weights: try MatmulCase.copies(of: weights, tokens: shape.tokens, isWarm: false),
      tokens: shape.tokens, arithmetic: .fast, pool: pool)
    let rounds = try product.measure(options: options, limits: limits)
    samples.merge(rounds.limits)
    return MatmulReport(
      shape: shape, weights: weights, copies: product.weights.count, isExact: false,
      result: rounds, limits: limits)
  }

  // MARK: Attention

  /// A decode step over latents of half the elements, keys rotated whole, all in 4 bits, beside whole
  /// caches.
  func decodeStep(over positions: Int) throws(QuantError) -> LatentAttentionCase.Result {
    if let known = steps[positions] { return known }
    let example = LatentAttentionCase(
      keyValueLength: positions, heads: 32, keyValueHeads: 8, headDimension: 128, ratio: 0.5,
      group: 4, keyMode: .rotated, keyType: try LatentType(bits: 4),
      valueType: try LatentType(bits: 4), beside: [.f32, .f16, .q8_0, .q4_0])
    let layer = try example.randomLayer()
    let result = try example.measure(
      layer, options: options, limits: try limits(), pool: pool)
    samples.merge(result.limits)
    steps[positions] = result
    return result
  }

  /// Tiled attention of float32 prompts with the way without tiles timed between its runs, causal and
  /// not, at each of ``promptLengths``.
  func promptAttention() throws(QuantError) -> [AttentionReport] {
    if let prompts { return prompts }
    var reports: [AttentionReport] = []
    for isCausal in [true, false] {
      for length in Self.promptLengths {
        Console.progress("attention of \(length) positions")
        let attention = AttentionCase(
          queryLength: length, keyValueLength: length, heads: Self.promptHeads,
          keyValueHeads: Self.promptHeads, headDimension: 128, type: .f32, products: .float32,
          isCausal: isCausal, window: nil, pageSize: nil, comparesUnfused: true)
        let limits = try limits()
        let result = try attention.measure(options: options, limits: limits, pool: pool)
        samples.merge(result.rounds.limits)
        reports.append(AttentionReport(attention: attention, result: result, limits: limits))
      }
    }
    prompts = reports
    return reports
  }
}

extension LimitOptions {
  /// As the command line would give them.
  init(repetitions: Int, seconds: Double) {
    self.init()
    readMegabytes = MachineLimits.standardBytes >> 20
    self.repetitions = repetitions
    self.seconds = seconds
  }
}

extension LimitSamples {
  /// Adds the samples of another case.
  mutating func merge(_ other: LimitSamples) {
    for sample in other.read.samples { read.add(sample) }
    for sample in other.int8.samples { int8.add(sample) }
    for sample in other.bfloat16.samples { bfloat16.add(sample) }
    for sample in other.float32.samples { float32.add(sample) }
  }
}
