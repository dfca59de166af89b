import ArgumentParser
import LanguageModel
import QuantKernels

/// `generate`: continues a prompt and streams the text.
struct Generate: ParsableCommand, RunsOnRanks {
  static let configuration = CommandConfiguration(
    abstract: "Generate text from a prompt.",
    discussion: """
      The prompt is one user message in the model's chat template, or plain text with \
      --no-chat-template and for models without a template. --temperature 0 takes the likeliest \
      token each time; any other is repeatable by --seed. A file named - is standard input.

      EXAMPLES
        quantkernels generate --model model.gguf --prompt "Name three rivers." -n 64
        quantkernels generate --model model.gguf --prompt-file story.txt --no-chat-template \
      --temperature 0.8 --seed 7
        quantkernels generate --model model.gguf --int4-layers model.gptq.safetensors --ranks 2 \
      --prompt "Name three rivers."
        mpirun --bind-to none -n 2 quantkernels generate --model model.gguf --prompt "Name a river."
      """)

  @OptionGroup var common: CommonOptions
  @OptionGroup var model: ModelOptions

  @Option(name: .long, help: "The prompt.")
  var prompt: String?

  @Option(name: .long, help: ArgumentHelp("A file with the prompt.", valueName: "file"))
  var promptFile: String?

  @Option(name: .customShort("n"), help: "At most so many tokens.")
  var tokens = 256

  @Option(name: .long, help: "0 is greedy; larger values flatten the distribution.")
  var temperature: Float = 0

  @Option(name: .long, help: "Only the k likeliest tokens; 0 keeps all.")
  var topK = 40

  @Option(name: .long, help: "Only the likeliest tokens that sum up to this probability.")
  var topP: Float = 0.95

  @Option(name: .long, help: "Only tokens at least so likely, relative to the likeliest.")
  var minP: Float = 0.05

  @Option(name: .long, help: "The seed of the random generator.")
  var seed: UInt64 = 0

  @Flag(name: .long, help: "Read the prompt as plain text.")
  var noChatTemplate = false

  @Option(
    name: .long,
    help: """
      Ranks that share the model, each on threads of its own; under mpirun its processes are the \
      ranks.
      """)
  var ranks: Int?

  func validate() throws {
    if prompt != nil, promptFile != nil {
      throw ValidationError("give --prompt or --prompt-file, not both")
    }
    if prompt == nil, promptFile == nil { throw ValidationError("give --prompt or --prompt-file") }
    if tokens < 0 { throw ValidationError("-n \(tokens) must be 0 or more") }
  }

  func run() throws {
    let bytes = try ProcessRanks.fromFirst { () throws(QuantError) in
      if let prompt { return Array(prompt.utf8) }
      return try readText(promptFile)
    }
    var options = GenerationOptions()
    options.maximumTokens = tokens
    options.sampling.temperature = temperature
    options.sampling.topK = topK
    options.sampling.topP = topP
    options.sampling.minP = minP
    options.sampling.seed = seed

    let streams = !common.json
    let result: GenerationResult
    let threads: Int
    let carrier = try ProcessRanks.carrier(ranks)
    if let carrier {
      result = try generate(bytes, options, on: carrier)
      threads = carrier.threadsPerRank(of: common.threads) * carrier.localRanks
    } else {
      let loaded = try model.load(common)
      result = try generate(bytes, options, loaded.makeSession(), isLoud: true)
      threads = loaded.pool.threads
    }
    Console.clearProgress()
    if streams, !result.tokens.isEmpty { Console.writeLine() }
    if result.reason == .cancelled { try Interruption.check() }
    if streams {
      Console.flush()
      Console.status(
        "\(result.promptTokens) prompt tokens at \(fixed(result.promptTokensPerSecond, 1))/s, "
          + "\(result.tokens.count) generated at \(fixed(result.decodeTokensPerSecond, 1))/s")
      return
    }
    common.finish(
      [
        "text": JSON(result.text), "tokens": .array(result.tokens.map { JSON(Int($0)) }),
        "promptTokens": JSON(result.promptTokens),
        "promptTokensPerSecond": JSON(result.promptTokensPerSecond),
        "decodeTokensPerSecond": JSON(result.decodeTokensPerSecond),
        "stopReason": JSON(result.reason.rawValue), "threads": JSON(threads),
        "ranks": JSON(carrier?.ranks ?? 1),
      ], text: "")
  }

  /// On ranks: all of them generate the same, rank 0 shows it.
  private func generate(
    _ bytes: [UInt8], _ options: GenerationOptions, on carrier: any RankCarrier
  ) throws(QuantError) -> GenerationResult {
    let command = self
    var settings = XXH64()
    Array("\(options)".utf8).withUnsafeBytes { settings.update($0) }
    bytes.withUnsafeBytes { settings.update($0) }
    try ProcessRanks.requireAgreement(settings.finish(), on: "sampling of the ranks")
    let body: @Sendable (Session, Int) throws -> GenerationResult = { session, rank in
      let result = try command.generate(bytes, options, session, isLoud: rank == 0)
      if result.reason == .cancelled || result.reason == .callback {
        try Console.checkOutput()
        // The others may be in the middle of a step.
        throw QuantError(
          .cancelled, "generation", "the work was cancelled", remedy: "start it again when wanted")
      }
      return result
    }
    var modelOptions = try model.options(common)
    // All of this machine's, unless the user says how many.
    modelOptions.threads = common.threads
    return try LanguageModel.run(
      path: model.model, options: modelOptions, on: carrier,
      cancellation: Interruption.flag,
      progress: { Console.progress("packing weights \(fixed($0 * 100, 0)) %") }, body)[0]
  }

  private func generate(
    _ bytes: [UInt8], _ options: GenerationOptions, _ session: Session, isLoud: Bool
  ) throws(QuantError) -> GenerationResult {
    let streams = !common.json && isLoud
    let input = try promptTokens(bytes, session.model)
    if isLoud { Console.progress("reading \(input.count) tokens") }
    return try session.generate(
      prompt: input, options: options, cancellation: Interruption.flag
    ) { _, text in
      if streams {
        Console.clearProgress()
        Console.write(text)
        Console.flush()
      }
      return !isLoud || Console.outputWorks
    }
  }

  /// The prompt as tokens: one user message in the model's chat template, if it has one and it is
  /// wanted.
  private func promptTokens(
    _ bytes: [UInt8], _ loaded: LanguageModel
  ) throws(QuantError) -> [Int32] {
    let metadata = loaded.file.metadata
    guard !noChatTemplate, metadata.string("tokenizer.chat_template") != nil else {
      return loaded.tokenizer.encode(bytes, parseSpecial: false)
    }
    let template: ChatTemplate
    do throws(QuantError) {
      template = try ChatTemplate(metadata: metadata)
    } catch {
      throw QuantError(
        error.code, "\(model.model): \(error.subject)", error.problem,
        remedy: "add --no-chat-template and write the prompt as the model wants it")
    }
    let message = ChatMessage.user(String(decoding: bytes, as: UTF8.self))
    let text = template.format([message], addGenerationPrompt: true)
    return loaded.tokenizer.encode(Array(text.utf8), parseSpecial: true)
  }
}
