import QuantKernels

/// What ends a generation, and how.
public struct GenerationOptions: Sendable, Equatable {
  /// At most so many tokens; nil goes on until the model ends or the context is full.
  public var maximumTokens: Int?
  /// Whether an end-of-generation token of the model stops it.
  public var stopsAtEndOfGeneration = true
  /// How tokens are drawn.
  public var sampling = Sampler.Options()

  /// The defaults: greedy, until the model ends or the context is full.
  public init() {}
}

/// Why a generation stopped.
public enum StopReason: String, Sendable {
  /// The model produced an end-of-generation token, which is not part of the text.
  case endOfGeneration
  /// As many tokens as were asked for.
  case maximumTokens
  /// No position is left for another token.
  case contextFull
  /// The flag was raised, while reading the prompt or between tokens.
  case cancelled
  /// The callback asked for it.
  case callback
}

/// What a generation did, and how long it took.
public struct GenerationResult: Sendable {
  /// The tokens generated, without the one that ended it.
  public var tokens: [Int32] = []
  /// Their text; invalid UTF-8 is replaced.
  public var text = ""
  /// Why the generation stopped.
  public var reason = StopReason.maximumTokens
  /// Tokens of the prompt, a BOS included if one was put before it.
  public var promptTokens = 0
  /// Whether a BOS token was put before the prompt, because the model wants one or because the
  /// prompt was empty.
  public var beganWithBeginningOfSequence = false
  /// Seconds from the call to the end of the prompt's pass.
  public var promptSeconds = 0.0
  /// Seconds of ``decodeSteps``.
  public var decodeSeconds = 0.0
  /// Forward passes of one token; the first token comes out of the prompt's pass.
  public var decodeSteps = 0

  /// Tokens of the prompt a second; 0 where no time was taken.
  public var promptTokensPerSecond: Double {
    promptSeconds > 0 ? Double(promptTokens) / promptSeconds : 0
  }
  /// Decode steps a second; 0 where there were none.
  public var decodeTokensPerSecond: Double {
    decodeSeconds > 0 ? Double(decodeSteps) / decodeSeconds : 0
  }
}

extension Session {
  /// Continues the conversation: reads `prompt` after what the session already holds, then
  /// generates.
  ///
  /// A new session begins with a BOS where the model wants one and the prompt does not bring it. An
  /// empty prompt on a new session starts from the BOS token of any model that has one.
  ///
  /// - Parameters:
  ///   - onToken: gets each token and the text that it completes (empty while a character is
  ///     unfinished); false stops.
  ///   - prompt: tokens; see above for BOS.
  ///   - options: how many tokens, and how they are drawn.
  ///   - cancellation: looked at between batches and tokens.
  /// - Throws: `QuantError` `.invalidArgument` for an empty prompt with nothing to start from, a
  ///   prompt longer than the positions left, an unknown token or a bad option; `.invalidData` when
  ///   a logit is not finite.
  public func generate(
    prompt: [Int32], options: GenerationOptions = GenerationOptions(),
    cancellation: CancellationFlag? = nil,
    onToken: ((_ token: Int32, _ text: String) -> Bool)? = nil
  ) throws(QuantError) -> GenerationResult {
    let sampler = try Sampler(options: options.sampling)
    if let maximum = options.maximumTokens, maximum < 0 {
      throw QuantError(
        .invalidArgument, "maximum tokens", "\(maximum) is negative", remedy: "pass 0 or more")
    }
    var result = GenerationResult()
    let full = try completed(prompt, &result)
    result.promptTokens = full.count
    for token in full { sampler.accept(token) }

    let clock = ContinuousClock()
    var mark = clock.now
    do throws(QuantError) {
      try forward(full, cancellation: cancellation)
    } catch  where error.code == .cancelled {
      result.reason = .cancelled
      return result
    }
    result.promptSeconds = (clock.now - mark).seconds

    let tokenizer = model.tokenizer
    var stream = UTF8Stream()
    let limit = options.maximumTokens ?? Int.max
    mark = clock.now
    while true {
      if result.tokens.count >= limit {
        result.reason = .maximumTokens
        break
      }
      if cancellation?.isCancelled == true {
        result.reason = .cancelled
        break
      }
      let token = try sampler.sample(logits)
      if options.stopsAtEndOfGeneration, tokenizer.endOfGeneration.contains(token) {
        result.reason = .endOfGeneration
        break
      }
      result.tokens.append(token)
      let text = stream.append(tokenizer.bytes(of: token))
      result.text += text
      if onToken?(token, text) == false {
        result.reason = .callback
        break
      }
      if result.tokens.count >= limit { continue }
      if position >= contextLength {
        result.reason = .contextFull
        break
      }
      try forward(token: token)
      result.decodeSteps += 1
    }
    result.decodeSeconds = (clock.now - mark).seconds
    let rest = stream.finish()
    if !rest.isEmpty, let last = result.tokens.last {
      result.text += rest
      _ = onToken?(last, rest)
    }
    return result
  }

  /// The prompt with a BOS where one belongs, checked against the positions left.
  private func completed(_ prompt: [Int32], _ result: inout GenerationResult) throws(QuantError)
    -> [Int32]
  {
    var full = prompt
    let tokenizer = model.tokenizer
    if position == 0, let beginning = model.startToken,
      prompt.isEmpty || (tokenizer.addsBeginningOfSequence && prompt.first != beginning)
    {
      full.insert(beginning, at: 0)
      result.beganWithBeginningOfSequence = true
    }
    guard !full.isEmpty else {
      throw QuantError(
        .invalidArgument, "prompt",
        position == 0
          ? "it is empty and the model has no beginning-of-sequence token to start from"
          : "it is empty", remedy: "pass at least one token of prompt")
    }
    guard full.count <= contextLength - position else {
      throw QuantError(
        .invalidArgument, "prompt",
        "\(full.count) tokens where \(contextLength - position) of \(contextLength) are left",
        remedy: "shorten the prompt or ask for a longer context")
    }
    return full
  }
}

extension LanguageModel {
  /// Generates from a text, as it stands, in a new session.
  ///
  /// - Parameters:
  ///   - parseSpecial: whether special tokens' spellings in the prompt are read as those tokens, as
  ///     a formatted chat needs.
  ///   - prompt: the text.
  ///   - options: how many tokens, and how they are drawn.
  ///   - cancellation: looked at between batches and tokens.
  ///   - onToken: as there.
  /// - Throws: as ``Session/generate(prompt:options:cancellation:onToken:)``.
  public func generate(
    prompt: String, parseSpecial: Bool = false,
    options: GenerationOptions = GenerationOptions(), cancellation: CancellationFlag? = nil,
    onToken: ((_ token: Int32, _ text: String) -> Bool)? = nil
  ) throws(QuantError) -> GenerationResult {
    try makeSession().generate(
      prompt: tokenizer.encode(Array(prompt.utf8), parseSpecial: parseSpecial), options: options,
      cancellation: cancellation, onToken: onToken)
  }
}

extension Duration {
  /// The duration as a floating-point number of seconds.
  var seconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}
