import QuantKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Perplexity of a text under a model, counted as llama.cpp's `llama-perplexity` counts it.
///
/// The text is tokenized once and cut into consecutive windows of `context` tokens; a model that
/// begins sequences with a BOS sees one in place of each window's first token. Of each window the
/// tokens at `context / 2 + 1 … context − 1` are scored, so that each has at least half a window
/// before it. With `stride` windows overlap: each begins `stride` tokens after the one before it
/// and its last `stride` tokens are scored.
///
/// Perplexity is `exp(m)` with m the mean of −ln p over scored tokens; its standard error is
/// `exp(m) · s / √(n − 1)` with s the deviation of −ln p. Sums are in double.
public struct Perplexity: Sendable, Equatable {
  /// How a text is cut into windows.
  public struct Options: Sendable, Equatable {
    /// Tokens in a window.
    public var context = 512
    /// At most so many windows; nil takes all.
    public var windows: Int?
    /// Tokens between the starts of sliding windows; nil means consecutive windows.
    public var stride: Int?

    /// Consecutive windows of `context` tokens, or sliding ones where there is a `stride`.
    public init(context: Int = 512, windows: Int? = nil, stride: Int? = nil) {
      self.context = context
      self.windows = windows
      self.stride = stride
    }
  }

  /// `exp` of the mean of −ln p over the scored tokens.
  public let perplexity: Double
  /// Standard error of ``perplexity``.
  public let standardError: Double
  /// Tokens that were scored.
  public let scoredTokens: Int
  /// Windows that were read.
  public let windows: Int
  /// Tokens of the whole text, BOS included where the model adds one.
  public let textTokens: Int

  /// Measures a text.
  ///
  /// - Parameters:
  ///   - progress: called after each window with windows done, windows in all, and perplexity so
  ///     far.
  ///   - cancellation: looked at between batches.
  ///   - text: UTF-8.
  ///   - model: the model to measure.
  ///   - options: windows and stride.
  ///   - keyValueType: how sessions store keys and values; nil: as the model's options say.
  /// - Throws: `QuantError` `.invalidArgument` when an option is out of range or the text is
  ///   shorter than a window, `.invalidData` when a logit is not finite, `.cancelled`.
  public init(
    of text: [UInt8], model: LanguageModel, options: Options = Options(),
    keyValueType: KeyValueType? = nil, cancellation: CancellationFlag? = nil,
    progress: ((_ done: Int, _ all: Int, _ perplexity: Double) -> Void)? = nil
  ) throws(QuantError) {
    var tokens = model.tokenizer.encode(text, parseSpecial: false)
    let beginning =
      model.tokenizer.addsBeginningOfSequence ? model.tokenizer.beginningOfSequence : nil
    if let beginning { tokens.insert(beginning, at: 0) }
    try self.init(
      of: tokens, model: model, beginningOfSequence: beginning, options: options,
      keyValueType: keyValueType, cancellation: cancellation, progress: progress)
  }

  /// Measures tokens; `beginningOfSequence`, if any, replaces the first of each window.
  ///
  /// - Throws: as ``init(of:model:options:keyValueType:cancellation:progress:)``.
  public init(
    of tokens: [Int32], model: LanguageModel, beginningOfSequence: Int32?,
    options: Options = Options(), keyValueType: KeyValueType? = nil,
    cancellation: CancellationFlag? = nil,
    progress: ((_ done: Int, _ all: Int, _ perplexity: Double) -> Void)? = nil
  ) throws(QuantError) {
    let context = options.context
    guard context >= 4, context <= model.configuration.contextLength else {
      throw QuantError(
        .invalidArgument, "context",
        "\(context) tokens where 4…\(model.configuration.contextLength) are possible",
        remedy: "choose a context that the model was trained for")
    }
    if let stride = options.stride, !(1..<context).contains(stride) {
      throw QuantError(
        .invalidArgument, "stride", "\(stride) is outside 1…\(context - 1)",
        remedy: "choose a stride below the context")
    }
    if let windows = options.windows, windows < 1 {
      throw QuantError(
        .invalidArgument, "chunks", "\(windows) windows", remedy: "ask for at least one")
    }
    guard tokens.count >= context else {
      throw QuantError(
        .invalidArgument, "text",
        "\(tokens.count) tokens are fewer than one window of \(context)",
        remedy: "use a longer text or a smaller context")
    }
    let step = options.stride ?? context
    let available = (tokens.count - context) / step + 1
    let count = min(options.windows ?? available, available)
    // Row i predicts token i + 1, so the last row of a window predicts nothing inside it.
    let rows =
      options.stride.map { context - 1 - $0..<context - 1 } ?? context / 2..<context - 1

    let session = try model.makeSession(contextLength: context, keyValueType: keyValueType)
    var total = Moments()
    var window: [Int32] = []
    let losses = FloatBuffer(count: rows.count)
    for index in 0..<count {
      let start = index * step
      window.removeAll(keepingCapacity: true)
      window.append(contentsOf: tokens[start..<start + context])
      if let beginningOfSequence { window[0] = beginningOfSequence }
      session.reset()
      try session.forward(window, logits: rows, cancellation: cancellation) { visited, logits in
        Self.score(
          visited, logits, targets: window,
          into: losses.pointer - rows.lowerBound, model: model)
      }
      for row in 0..<rows.count {
        let loss = losses.pointer[row]
        guard loss.isFinite else {
          throw QuantError(
            .invalidData, "window \(index), token \(rows.lowerBound + row + 1)",
            "its probability is not a positive number",
            remedy: "the model's weights or activations overflow; export the model again")
        }
        total.add(Double(loss))
      }
      progress?(index + 1, count, exp(total.mean))
    }
    perplexity = exp(total.mean)
    standardError = perplexity * total.standardErrorOfMean
    scoredTokens = total.count
    windows = count
    textTokens = tokens.count
  }

  /// Sums of −ln p and its square.
  struct Moments {
    var count = 0
    var sum = 0.0
    var squares = 0.0

    mutating func add(_ value: Double) {
      count += 1
      sum += value
      squares += value * value
    }

    var mean: Double { count == 0 ? 0 : sum / Double(count) }
    var standardErrorOfMean: Double {
      guard count > 1 else { return 0 }
      let variance = squares / Double(count) - mean * mean
      return variance > 0 ? (variance / Double(count - 1)).squareRoot() : 0
    }
  }

  /// Writes −ln p of each visited row's next token to `losses[row]`; overwrites the logits.
  ///
  /// ln Σ exp(l) = max l − ln(softmax(l) at the maximum): the kernel's softmax gives the sum
  /// without a second pass over exponentials, and an unlikely target, whose own probability may
  /// underflow, keeps full precision.
  private static func score(
    _ rows: Range<Int>, _ logits: UnsafeMutablePointer<Float>, targets: [Int32],
    into losses: UnsafeMutablePointer<Float>, model: LanguageModel
  ) {
    let vocabulary = model.configuration.vocabularySize
    model.pool.run(parts: rows.count) { part, _ in
      let row = UnsafeMutableBufferPointer(start: logits + part * vocabulary, count: vocabulary)
      let target = row[Int(targets[rows.lowerBound + part + 1])]
      var likeliest = 0
      for token in 0..<vocabulary where row[token] > row[likeliest] { likeliest = token }
      let maximum = row[likeliest]
      VectorOperations.softmax(row, instructionSet: model.options.instructionSet)
      losses[rows.lowerBound + part] =
        Float(Double(maximum) - log(Double(row[likeliest])) - Double(target))
    }
  }
}
