import LanguageModel
import QuantKernels

/// Makes low-rank factors of a model's keys and values from a calibration text (Palu, arXiv
/// 2407.21118).
///
/// The text is read once by a float32 decoder, which gathers `Σ xᵀx` of every layer's inputs and,
/// where ranks or factors go by the loss, reads some of it backward.
/// ``factors(_:cancellation:progress:)`` then cuts each group's projection, as often as wanted for
/// different settings.
public final class Calibrator {
  /// What the text is read for.
  public struct Reading: Sendable, Equatable {
    /// Tokens of a sample.
    public var context = 512
    /// Samples whose inputs are gathered.
    public var samples = 64
    /// Samples, of these, that are read backward too, which costs three times the forward reading;
    /// 0 where no gradients are wanted.
    public var gradientSamples = 16
    /// Heads whose gradients are gathered with their products: at least those of a group, and a
    /// divisor of the key-value heads.
    public var headsPerBlock = 1

    /// The defaults.
    public init() {}
  }

  /// How ranks are shared out.
  public enum Method: String, Sendable, CaseIterable {
    /// Every group the same share.
    case uniform
    /// By the groups' mean root mean square gradients, as Palu does.
    case fisher
    /// Whichever latent saves most of the keys' and values' squared error.
    case waterFill = "water-fill"
    /// Whichever latent saves most of the loss: errors are weighted by the Gram of the loss's
    /// gradients at keys and values, in the factors as in the choice of ranks.
    case loss

    /// Whether it needs samples that were read backward.
    public var needsGradients: Bool { self == .fisher || self == .loss }
  }

  /// What factors are made.
  public struct Options: Sendable, Equatable {
    /// The share of key and value elements that latents keep; of the values alone where keys are
    /// cached whole.
    public var ratio = 0.5
    /// s: key-value heads that share a latent; a divisor of their number.
    public var headsPerGroup = 1
    /// Bits of a stored latent, as `LowRankFactors` takes them.
    public var bits = 3
    /// How a layer's outputs are weighed, and ranks shared out.
    public var method = Method.loss
    /// How keys are cached.
    public var keyMode = LowRankFactors.KeyMode.rebuilt
    /// Whether latents are turned by `HadamardRotation`. Commuting keys never are.
    public var rotates = true
    /// Ranks are multiples of it, or full. Eight latents fill whole bytes at every number of bits.
    public var step = 8
    /// Smallest eigenvalue of a Gram, in mean ones.
    public var eigenvalueFloor = Whitening.standardFloor

    /// The defaults: half the elements, 3 bits, the loss's gradients, rebuilt keys.
    public init() {}

    /// Of ranks; a commuting latent is two numbers.
    var rankStep: Int { keyMode == .commuting && step < 1 << 20 ? (step + 1) / 2 * 2 : step }
  }

  /// The factors and how they came out.
  public struct Result: Sendable {
    /// The factors, rotated where the options say so.
    public let factors: LowRankFactors
    /// Ranks by layer, keys then values, and group; no keys where these are cached whole.
    public let ranks: [[[Int]]]
    /// Latents over elements of what is factored, after all rounding.
    public let achievedRatio: Double
    /// The share of the squared error that was kept away, weighted as the method weights it: 1 at
    /// full rank.
    public let keptEnergy: Double
  }

  /// The model's attention, as far as factors depend on it.
  public let shape: LowRankFactors.Shape
  let weights: DenseWeights
  private let file: GGUFFile
  private let pool: WorkerPool
  private(set) var statistics: CalibrationStatistics?
  /// Samples that are read at a time, where not by their length.
  var samplesPerBatch: Int?

  /// Checks a model.
  ///
  /// - Throws: `QuantError` as `LanguageModel.init(file:options:cancellation:progress:)` for a
  ///   file that is no model.
  public init(model file: GGUFFile, pool: WorkerPool = .standard) throws(QuantError) {
    self.file = file
    self.pool = pool
    let configuration = try ModelConfiguration(file: file)
    weights = try DenseWeights(file: file, configuration: configuration)
    shape = LowRankFactors.Shape(configuration)
  }

  /// The model's configuration.
  public var configuration: ModelConfiguration { weights.configuration }

  // MARK: Reading

  /// Mean loss of the samples that were read backward; nil when none were.
  public var meanLoss: Double? {
    statistics.flatMap { $0.gradientSamples > 0 ? $0.lossSum / Double($0.gradientSamples) : nil }
  }

  /// Samples that are read at a time: enough rows for BLAS, few enough for activations to stay near.
  static func batchSize(context: Int) -> Int { max(1, 1024 / max(context, 1)) }

  private func batchSize(_ reading: Reading) -> Int {
    samplesPerBatch ?? Self.batchSize(context: reading.context)
  }

  /// Reads a calibration text.
  ///
  /// - Parameters:
  ///   - checkpoint: a file that the work so far is written to between batches, and read from when it
  ///     is there and of the same model, text and settings. It is left to the caller to remove.
  ///   - checkpointSeconds: time between two of its versions.
  ///   - progress: called after each batch with samples read and samples in all.
  ///   - text: UTF-8 of the calibration text.
  ///   - reading: how much of it, and how.
  ///   - cancellation: looked at between batches.
  /// - Throws: `QuantError` `.invalidArgument` for settings or a text that will not do;
  ///   `.invalidData` for weights, activations or a checkpoint that are not finite; `.outOfMemory`;
  ///   `.cancelled`.
  /// - Returns: samples that a checkpoint had already.
  @discardableResult
  public func read(
    text: [UInt8], _ reading: Reading, checkpoint: String? = nil, checkpointSeconds: Double = 20,
    cancellation: CancellationFlag? = nil, progress: ((_ done: Int, _ all: Int) -> Void)? = nil
  ) throws(QuantError) -> Int {
    let hasGradients = reading.gradientSamples > 0
    guard reading.headsPerBlock >= 1, shape.keyValueHeads % reading.headsPerBlock == 0 else {
      throw QuantError(
        .invalidArgument, "heads per group",
        "\(reading.headsPerBlock) do not divide \(shape.keyValueHeads) key-value heads",
        remedy: "choose a divisor, such as 1 or \(shape.keyValueHeads)")
    }
    let samples = try CalibrationSamples(
      text: text, model: file, configuration: configuration, context: reading.context,
      samples: reading.samples, gradientSamples: reading.gradientSamples)
    try MemoryRequirement.check(
      MemoryRequirement.sum(
        CalibrationStatistics.memory(
          shape, headsPerBlock: reading.headsPerBlock, hasGradients: hasGradients)),
      subject: "calibration statistics", remedy: "use a smaller model or smaller groups")
    var state = CalibrationCheckpoint(
      statistics: CalibrationStatistics(
        shape: shape, headsPerBlock: reading.headsPerBlock, hasGradients: hasGradients),
      batches: 0, settings: settings(text, reading))
    if let checkpoint,
      let found = try CalibrationCheckpoint.load(
        checkpoint, settings: state.settings, empty: state.statistics)
    {
      state = found
    }
    let resumed = state.statistics.samples
    let size = batchSize(reading)
    let batches = samples.batches(of: size)
    guard state.batches <= batches.count else {
      throw QuantError(
        .invalidData, checkpoint ?? "checkpoint", "\(state.batches) of \(batches.count) batches",
        remedy: "remove this checkpoint and calibrate again")
    }
    if state.batches < batches.count {
      BLAS.use(threads: pool.threads)
      let decoder = try DenseDecoder<Float>(
        weights, sequences: size, length: reading.context, keepsStreams: hasGradients, pool: pool)
      let buffers =
        hasGradients
        ? DenseDecoder<Float>.Gradients(configuration, rows: size * reading.context) : nil
      var written = MonotonicClock.nanoseconds()
      for (index, batch) in batches.enumerated().dropFirst(state.batches) {
        try read(
          batch.windows.flatMap { samples.windows[$0] }, samples: batch.windows.count, decoder,
          gradients: batch.hasGradients ? buffers : nil, into: &state.statistics, cancellation)
        state.batches = index + 1
        progress?(state.statistics.samples, samples.windows.count)
        if let checkpoint, state.batches < batches.count,
          MonotonicClock.seconds(since: written) >= checkpointSeconds
        {
          try state.write(to: checkpoint)
          written = MonotonicClock.nanoseconds()
        }
      }
      // What the last batches added, for a caller that is killed while it factors.
      if let checkpoint { try state.write(to: checkpoint) }
    }
    statistics = state.statistics
    return resumed
  }

  private func read(
    _ tokens: [Int32], samples: Int, _ decoder: DenseDecoder<Float>,
    gradients: DenseDecoder<Float>.Gradients?, into statistics: inout CalibrationStatistics,
    _ cancellation: CancellationFlag?
  ) throws(QuantError) {
    decoder.sequences = samples
    let rows = samples * decoder.length
    let width = shape.modelWidth
    // Sums of a batch that is given up must not stay: they are gathered apart.
    var gathered = statistics
    statistics.layers = []
    defer { statistics = gathered }
    let before = gathered
    do throws(QuantError) {
      decoder.observer = { layer, inputs in
        gathered.layers[layer].inputs.add(inputs, rows: rows, stride: width)
      }
      defer { decoder.observer = nil }
      if let gradients {
        let losses = try decoder.gradients(of: tokens, in: gradients, cancellation: cancellation) {
          layer, inputs, keys, values in
          gathered.add(
            .key, layer: layer, gradient: keys, inputs: inputs, samples: samples,
            length: decoder.length)
          gathered.add(
            .value, layer: layer, gradient: values, inputs: inputs, samples: samples,
            length: decoder.length)
        }
        let mean = losses.reduce(0, +) / Double(decoder.length - 1)
        guard mean.isFinite else { throw Matrix.notFinite("loss of the calibration text") }
        gathered.lossSum += mean
        gathered.gradientSamples += samples
      } else {
        try decoder.forward(tokens, cancellation: cancellation)
      }
      gathered.samples += samples
    } catch {
      gathered = before
      throw error
    }
  }

  /// What statistics depend on.
  private func settings(_ text: [UInt8], _ reading: Reading) -> String {
    var hash = XXH64()
    text.withUnsafeBytes { hash.update($0) }
    return [
      "model \(file.keyValueChecksum())", "text \(hash.finish())", "context \(reading.context)",
      "samples \(reading.samples)", "gradients \(reading.gradientSamples)",
      "block \(reading.headsPerBlock)", "batch \(batchSize(reading))",
      "version 1",
    ].joined(separator: ", ")
  }

  // MARK: Factoring

  /// Refuses settings that no text could make factors of, before one is read.
  ///
  /// - Throws: `QuantError` `.invalidArgument`, and `.unsupported` for commuting keys of a model
  ///   that normalizes keys.
  public func check(_ options: Options, gradientSamples: Int) throws(QuantError) {
    try LowRankFactors.check(
      shape, headsPerGroup: options.headsPerGroup, keyMode: options.keyMode, bits: options.bits)
    if options.method.needsGradients, gradientSamples < 1 {
      throw QuantError(
        .invalidArgument, "gradient samples",
        "\(gradientSamples), and method \(options.method.rawValue) needs some",
        remedy: "ask for at least one, or choose water-fill or uniform")
    }
    if options.keyMode == .commuting, weights.norms.contains(where: { $0.key != nil }) {
      throw QuantError(
        .unsupported, "key mode commuting",
        "this model normalizes keys between projection and rotary embedding",
        remedy: "choose rebuilt or rotated keys")
    }
    // Ratio and step, on as many groups as there will be.
    let groups = shape.layers * (shape.keyValueHeads / options.headsPerGroup)
    let full = min(shape.modelWidth, options.headsPerGroup * shape.headDimension)
    let ranks = [Int](repeating: full, count: options.keyMode == .rotated ? groups : 2 * groups)
    _ = try RankAllocation.proportional(
      to: ranks.map { Double($0) }, fullRanks: ranks, ratio: options.ratio,
      step: options.rankStep)
  }

  /// Cuts every group's projection to its share of the budget.
  ///
  /// - Parameters:
  ///   - progress: called after each layer with layers done and layers in all.
  ///   - options: ratio, groups, bits, method and mode.
  ///   - cancellation: looked at between layers.
  /// - Throws: `QuantError` `.invalidArgument` for settings that cannot be, when no text was read,
  ///   or when it was not read backward though the method needs it; `.invalidData` for weights or
  ///   statistics that are not finite; `.cancelled`.
  public func factors(
    _ options: Options, cancellation: CancellationFlag? = nil,
    progress: ((_ done: Int, _ all: Int) -> Void)? = nil
  ) throws(QuantError) -> Result {
    guard let statistics else {
      throw QuantError(
        .invalidArgument, "calibration", "no text was read", remedy: "read one first")
    }
    try check(options, gradientSamples: statistics.gradientSamples)
    return try Factoring(
      weights: weights, statistics: statistics, options: options, pool: pool
    ).result(cancellation: cancellation, progress: progress)
  }

  /// The factors with what binds them to this model, ready to be written.
  public func file(of result: Result, notes: [String: String] = [:]) -> LowRankFactorsFile {
    LowRankFactorsFile(
      factors: result.factors, modelChecksum: file.keyValueChecksum(), notes: notes)
  }
}
