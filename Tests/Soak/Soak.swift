import LanguageModel
import QuantKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Generates for a long time in one process: random prompts, cache types, contexts, threads and
/// sampling, each case twice on different threads. Both texts must be equal, and memory must not
/// grow.
///
///     Soak MODEL SECONDS [SEED]
@main struct Soak {
  static func main() {
    let arguments = CommandLine.arguments
    guard arguments.count >= 3, let seconds = Double(arguments[2]) else {
      print("usage: Soak MODEL SECONDS [SEED]")
      exit(64)
    }
    let seed = arguments.count > 3 ? UInt64(arguments[3]) ?? 1 : 1
    do throws(QuantError) {
      var run = try SoakRun(model: arguments[1], seed: seed)
      exit(try run.run(seconds: seconds) ? 0 : 1)
    } catch {
      print("error: \(error)")
      exit(1)
    }
  }
}

/// One case: what is generated, but for the threads.
struct SoakCase {
  let prompt: [Int32]
  let keyValueType: KeyValueType
  let context: Int
  let options: GenerationOptions
}

struct SoakRun {
  private let path: String
  private var random: SeededGenerator
  /// A model for each number of threads.
  private var models: [LanguageModel] = []
  private var threads: [Int] = []
  private var memory = MemoryRecord()
  private var (cases, tokens, loads, differences) = (0, 0, 0, 0)
  private var casesOfType: [String: Int] = [:]

  init(model path: String, seed: UInt64) throws(QuantError) {
    self.path = path
    random = SeededGenerator(state: seed)
    for count in Set([1, min(2, WorkerPool.processorCount), WorkerPool.processorCount]).sorted() {
      threads.append(count)
      models.append(try load(threads: count))
    }
  }

  private func load(threads: Int) throws(QuantError) -> LanguageModel {
    var options = LanguageModel.Options()
    options.threads = threads
    return try LanguageModel(path: path, options: options)
  }

  /// - Returns: whether all texts repeated and memory stayed flat.
  mutating func run(seconds: Double) throws(QuantError) -> Bool {
    let start = MonotonicClock.nanoseconds()
    var minutes = 0
    while MonotonicClock.seconds(since: start) < seconds {
      try step()
      let now = MonotonicClock.seconds(since: start)
      memory.note(at: now)
      if Int(now / 60) > minutes {
        minutes = Int(now / 60)
        defer { fflush(nil) }
        print(
          "\(minutes) min: \(cases) cases, \(tokens) tokens, \(memory.latestMebibytes) MiB resident"
        )
      }
    }
    let types = casesOfType.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }
    print(
      "\(cases) cases twice (\(types.joined(separator: ", "))), \(tokens) tokens, \(loads) models "
        + "loaded anew, on \(threads.map(String.init).joined(separator: ", ")) threads: "
        + "\(differences) differed")
    let isFlat = memory.report()
    return differences == 0 && isFlat
  }

  /// One case, twice.
  private mutating func step() throws(QuantError) {
    // Now and then a model goes and comes.
    if cases % 50 == 49 {
      let index = Int.random(in: 0..<models.count, using: &random)
      models[index] = try load(threads: threads[index])
      loads += 1
    }
    let test = makeCase()
    let first = Int.random(in: 0..<models.count, using: &random)
    let second = (first + 1) % models.count
    let results = (try generate(test, on: first), try generate(test, on: second))
    cases += 1
    casesOfType["\(test.keyValueType)", default: 0] += 1
    tokens += results.0.tokens.count + results.1.tokens.count
    if results.0.tokens != results.1.tokens || results.0.text != results.1.text {
      differences += 1
      print(
        "DIFFERS: case \(cases), \(test.keyValueType), \(test.prompt.count) tokens of prompt, seed "
          + "\(test.options.sampling.seed), on \(threads[first]) and \(threads[second]) threads")
    }
  }

  private mutating func makeCase() -> SoakCase {
    let model = models[0]
    let types: [KeyValueType] = [.f32, .f16, .bf16, .q8_0, .q4_0]
    let longest = min(model.configuration.contextLength, 1024)
    let context = Int.random(in: longest / 4...longest, using: &random)
    let length = Int.random(in: 1...context / 2, using: &random)
    let vocabulary = Int32(model.configuration.vocabularySize)
    var options = GenerationOptions()
    options.maximumTokens = Int.random(in: 1...64, using: &random)
    options.sampling.temperature =
      Bool.random(using: &random) ? 0 : .random(in: 0.1...2, using: &random)
    options.sampling.topK = [0, 1, 40].randomElement(using: &random) ?? 0
    options.sampling.seed = random.next()
    return SoakCase(
      prompt: (0..<length).map { _ in .random(in: 0..<vocabulary, using: &random) },
      keyValueType: types.randomElement(using: &random) ?? .f16, context: context, options: options)
  }

  private func generate(_ test: SoakCase, on index: Int) throws(QuantError) -> GenerationResult {
    try models[index].makeSession(contextLength: test.context, keyValueType: test.keyValueType)
      .generate(prompt: test.prompt, options: test.options)
  }
}

/// SplitMix64, so that a seed gives the same cases everywhere.
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
