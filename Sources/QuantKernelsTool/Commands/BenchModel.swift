import ArgumentParser
import LanguageModel
import QuantKernels

/// `bench model`: prompt and decode speed, counted as llama-bench counts them.
struct BenchModel: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "model", abstract: "Prompt and decode tokens a second of a model.",
    discussion: """
      Each repetition reads -p random tokens in one call, and then, from an empty cache, -n random \
      tokens one by one; --depth first fills the cache with so many tokens, untimed. Read \
      bandwidth is sampled between the repetitions: shareOfReadBandwidth is decode speed times the \
      bytes that a token reads (weights, and keys and values at the mean depth) over that bandwidth.

      EXAMPLES
        quantkernels bench model --model model.gguf
        quantkernels bench model --model model.gguf --threads 1 -p 512 -n 128 --json
      """)

  @OptionGroup var common: CommonOptions
  @OptionGroup var limitOptions: LimitOptions
  @OptionGroup var model: ModelOptions

  @Option(name: .customShort("p"), help: "Tokens of the prompt; 0 leaves it out.")
  var promptTokens = 512

  @Option(name: .customShort("n"), help: "Tokens decoded; 0 leaves it out.")
  var decodeTokens = 128

  @Option(name: .long, help: "Tokens in the cache before each run.")
  var depth = 0

  func validate() throws {
    for (name, value) in [("-p", promptTokens), ("-n", decodeTokens), ("--depth", depth)]
    where value < 0 {
      throw ValidationError("\(name) \(value) must be 0 or more")
    }
    let (positions, overflow) = depth.addingReportingOverflow(max(promptTokens, decodeTokens))
    if overflow || positions < 1 {
      throw ValidationError("-p, -n and --depth make no number of positions")
    }
  }

  func run() throws {
    let loaded = try model.load(common, contextLength: depth + max(promptTokens, decodeTokens))
    let session = try loaded.makeSession()
    let limits = try limitOptions.open(
      pool: loaded.pool, instructionSet: loaded.options.instructionSet)
    var samples = LimitSamples()
    var prompt = Timing()
    var decode = Timing()
    var random = SeededRandom(seed: 1)

    func tokens(_ count: Int) -> [Int32] {
      let vocabulary = Int32(clamping: loaded.configuration.vocabularySize)
      return (0..<count).map { _ in .random(in: 0..<max(1, vocabulary), using: &random) }
    }
    func fillCache() throws(QuantError) {
      session.reset()
      if depth > 0 { try session.prefill(tokens(depth), cancellation: Interruption.flag) }
    }

    // The first repetition warms caches and memory, and is not counted.
    var began = MonotonicClock.nanoseconds()
    var repetition = -1
    while limitOptions.repeats(done: max(0, repetition), since: began) {
      defer { repetition += 1 }
      if repetition == 0 { began = MonotonicClock.nanoseconds() }
      Console.progress("repetition \(repetition + 1) of \(limitOptions.repetitions)")
      let counts = repetition >= 0
      if counts { samples.add(from: limits, all: false) }
      if promptTokens > 0 {
        try fillCache()
        let input = tokens(promptTokens)
        let start = MonotonicClock.nanoseconds()
        try session.forward(input, cancellation: Interruption.flag)
        if counts { prompt.add(Double(promptTokens) / MonotonicClock.seconds(since: start)) }
      }
      if decodeTokens > 0 {
        try fillCache()
        let input = tokens(counts ? decodeTokens : min(decodeTokens, 8))
        let start = MonotonicClock.nanoseconds()
        try loaded.pool.withHotRegion { () throws(QuantError) in
          for token in input {
            try Interruption.check()
            try session.forward(token: token)
          }
        }
        if counts { decode.add(Double(input.count) / MonotonicClock.seconds(since: start)) }
      }
    }
    samples.add(from: limits, all: false)
    report(loaded, session, prompt: prompt, decode: decode, samples: samples)
  }

  private func report(
    _ loaded: LanguageModel, _ session: Session, prompt: Timing, decode: Timing,
    samples: LimitSamples
  ) {
    let weightBytes = session.weightBytesPerToken
    let cacheBytes =
      Double(session.keyValueBytesPerToken) * (Double(depth) + Double(decodeTokens) / 2)
    let bytes = Double(weightBytes) + cacheBytes
    let share = decode.median * bytes * 1e-9 / samples.read.median
    common.finish(
      [
        "prompt": ["tokens": JSON(promptTokens), "tokensPerSecond": prompt.json],
        "decode": [
          "tokens": JSON(decodeTokens), "tokensPerSecond": decode.json,
          "shareOfReadBandwidth": JSON(share),
        ],
        "bytesPerToken": JSON(Int(bytes)), "weightBytesPerToken": JSON(weightBytes),
        "headBytesPerToken": JSON(loaded.headBytes),
        "ternaryFormat": loaded.ternary.map { JSON($0.format.rawValue) } ?? .null,
        "ternaryFormatReason": loaded.ternary.map { JSON($0.reason) } ?? .null,
        "depth": JSON(depth), "threads": JSON(loaded.pool.threads),
        "instructionSet": JSON(loaded.options.instructionSet.rawValue),
        "keyValueType": JSON(model.kvCache),
        "readGigabytesPerSecond": samples.read.json, "int8GigaMACPerSecond": samples.int8.json,
      ],
      text: """
        \(model.model), \(loaded.pool.threads) thread(s), \
        \(loaded.options.instructionSet.rawValue), \(model.kvCache) cache\
        \(depth > 0 ? ", depth \(depth)" : "")\
        \(loaded.ternary.map { "\n  ternary weights as \($0.format.rawValue): \($0.reason)" } ?? "")
          prompt \(padded(String(promptTokens), 5))  \(prompt.text()) tokens/s
          decode \(padded(String(decodeTokens), 5))  \(decode.text()) tokens/s, \
        \(fixed(bytes * 1e-6, 1)) MB a token (\(fixed(Double(loaded.headBytes) * 1e-6, 1)) of them \
        the head's), \(fixed(share * 100, 1)) % of read bandwidth \
        (\(fixed(samples.read.median, 1)) GB/s)
        """)
  }
}
