import LanguageModel
import QuantKernels

/// The perplexity of a text under a model whose keys and values pass through ``SimulatedCache``,
/// counted as `Perplexity` counts: windows of `context` tokens, the second half of each scored.
///
/// The weights are float32 and stay loaded between caches, so that many can be compared.
public final class SimulatedPerplexity {
  /// A perplexity and what it was taken over.
  public struct Result: Sendable, Equatable {
    /// `exp` of the mean of −ln p over the scored tokens.
    public let perplexity: Double
    /// Standard error of ``perplexity``.
    public let standardError: Double
    /// Tokens that were scored.
    public let scoredTokens: Int
  }

  private let decoder: DenseDecoder<Float>
  private let windows: [[Int32]]
  private let context: Int
  private let pool: WorkerPool

  /// Tokens whose probabilities count.
  public var scoredTokens: Int { windows.count * (context - 1 - context / 2) }

  /// - Parameters:
  ///   - windows: at most so many; nil takes all of the text.
  ///   - file: the model.
  ///   - text: UTF-8.
  ///   - context: tokens of a window, at least 4.
  ///   - pool: the threads that take part.
  /// - Throws: `QuantError` `.invalidArgument` for a context or a text that will not do, and what
  ///   a file that is no model throws.
  public init(
    model file: GGUFFile, text: [UInt8], context: Int = 512, windows: Int? = nil,
    pool: WorkerPool = .standard
  ) throws(QuantError) {
    let configuration = try ModelConfiguration(file: file)
    guard context >= 4, context <= configuration.contextLength else {
      throw QuantError(
        .invalidArgument, "context",
        "\(context) tokens where 4…\(configuration.contextLength) are possible",
        remedy: "choose a context that the model was trained for")
    }
    if let windows, windows < 1 {
      throw QuantError(
        .invalidArgument, "chunks", "\(windows) windows", remedy: "ask for at least one")
    }
    let tokenizer = try Tokenizer(metadata: file.metadata)
    var tokens = tokenizer.encode(text, parseSpecial: false)
    let beginning = tokenizer.addsBeginningOfSequence ? tokenizer.beginningOfSequence : nil
    if let beginning { tokens.insert(beginning, at: 0) }
    let available = tokens.count / context
    guard available >= 1 else {
      throw QuantError(
        .invalidArgument, "text", "\(tokens.count) tokens are fewer than one window of \(context)",
        remedy: "use a longer text or a smaller context")
    }
    self.windows = (0..<min(windows ?? available, available)).map { index in
      var window = Array(tokens[index * context..<(index + 1) * context])
      if let beginning { window[0] = beginning }
      return window
    }
    self.context = context
    self.pool = pool
    decoder = try DenseDecoder(
      DenseWeights(file: file, configuration: configuration),
      sequences: Calibrator.batchSize(context: context), length: context, keepsStreams: false,
      pool: pool)
  }

  /// Measures the text with a cache.
  ///
  /// - Throws: `QuantError` `.invalidArgument` for factors of another shape; `.invalidData` when a
  ///   loss is not finite; `.cancelled`.
  public func measure(
    _ cache: SimulatedCache, cancellation: CancellationFlag? = nil,
    progress: ((_ done: Int, _ all: Int) -> Void)? = nil
  ) throws(QuantError) -> Result {
    let losses = try losses(cache, cancellation: cancellation, progress: progress)
    let count = Double(losses.count)
    let mean = losses.reduce(0, +) / count
    let variance = max(0, losses.reduce(0) { $0 + $1 * $1 } / count - mean * mean)
    let perplexity = Elementary.exponential(mean)
    return Result(
      perplexity: perplexity,
      standardError: perplexity * (variance / max(count - 1, 1)).squareRoot(),
      scoredTokens: losses.count)
  }

  /// −ln p of every scored token.
  func losses(
    _ cache: SimulatedCache, cancellation: CancellationFlag? = nil,
    progress: ((_ done: Int, _ all: Int) -> Void)? = nil
  ) throws(QuantError) -> [Double] {
    if let factors = cache.factors {
      let shape = LowRankFactors.Shape(decoder.configuration)
      guard factors.shape == shape else {
        throw QuantError(
          .invalidArgument, "low-rank factors", "are of another model's shape",
          remedy: "calibrate this model")
      }
    }
    BLAS.use(threads: pool.threads)
    try cache.attach(to: decoder)
    var losses: [Double] = []
    while losses.count < scoredTokens {
      let first = losses.count / (context - 1 - context / 2)
      let members = windows[first..<min(first + decoder.capacity, windows.count)]
      decoder.sequences = members.count
      losses += try decoder.losses(
        of: members.flatMap { $0 }, from: context / 2, cancellation: cancellation)
      guard losses.allSatisfy(\.isFinite) else {
        throw QuantError(
          .invalidData, "window \(first)", "a token's probability is no positive number",
          remedy: "check the model and the factors")
      }
      progress?(members.endIndex, windows.count)
    }
    return losses
  }
}
