import ArgumentParser
import QuantKernels

/// `bench machine`: the limits that every other measurement is compared with.
struct BenchMachine: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "machine", abstract: "Read bandwidth and int8, bfloat16 and float32 peaks.",
    discussion: """
      Read bandwidth is that of the best of twelve read loops (1, 2 or 4 streams, with and without \
      prefetch, 4 KiB and huge pages) over at least 512 MiB. Peaks are loops of the instruction \
      named, with every operand in a register.

      EXAMPLES
        quantkernels bench machine
        quantkernels bench machine --threads 1 --json
      """)

  @OptionGroup var common: CommonOptions
  @OptionGroup var limitOptions: LimitOptions

  func run() throws {
    let pool = WorkerPool(threads: common.threadCount)
    let limits = try limitOptions.open(pool: pool)
    var samples = LimitSamples()
    let began = MonotonicClock.nanoseconds()
    var repetition = 0
    while limitOptions.repeats(done: repetition, since: began) {
      defer { repetition += 1 }
      try Interruption.check()
      Console.progress("sample \(repetition + 1) of \(limitOptions.repetitions)")
      samples.add(from: limits, all: true)
    }
    let kinds = samples
    common.finish(
      [
        "threads": JSON(limits.threads),
        "instructionSet": JSON(limits.instructionSet.rawValue),
        "readGigabytesPerSecond": JSON(kinds.read.median),
        "int8GigaMACPerSecond": JSON(kinds.int8.median),
        "bfloat16GigaflopPerSecond": JSON(kinds.bfloat16.median),
        "float32GigaflopPerSecond": JSON(kinds.float32.median),
        "read": kinds.read.json, "int8": kinds.int8.json,
        "bfloat16": kinds.bfloat16.json, "float32": kinds.float32.json,
        "readLoop": JSON(limits.rankedReadLoops.first?.description ?? ""),
        "int8Instruction": JSON(limits.instruction(.int8)),
        "bfloat16Instruction": JSON(limits.instruction(.bfloat16)),
        "float32Instruction": JSON(limits.instruction(.float32)),
      ],
      text: kinds.table(limits))
  }
}

/// Samples of the machine's limits, taken between the runs of what they are compared with.
struct LimitSamples {
  var read = Timing()
  var int8 = Timing()
  var bfloat16 = Timing()
  var float32 = Timing()

  /// Takes one short slice of each limit, or of read bandwidth and int8 only.
  mutating func add(from limits: MachineLimits, all: Bool) {
    read.add(limits.readGigabytesPerSecond(milliseconds: 90))
    int8.add(limits.gigaMultiplyAddsPerSecond(.int8, milliseconds: 30))
    if all {
      bfloat16.add(2 * limits.gigaMultiplyAddsPerSecond(.bfloat16, milliseconds: 30))
      float32.add(2 * limits.gigaMultiplyAddsPerSecond(.float32, milliseconds: 30))
    }
  }

  func table(_ limits: MachineLimits) -> String {
    let threads = "\(limits.threads) thread\(limits.threads == 1 ? "" : "s")"
    let loop = limits.rankedReadLoops.first?.description ?? "none"
    return """
      machine limits, \(threads), \(limits.instructionSet.rawValue); median (minimum–maximum) of \
      \(read.samples.count)
        read bandwidth  \(padded(read.text(), 24, left: true)) GB/s     \(loop)
        int8 dot        \(padded(int8.text(), 24, left: true)) GMAC/s   \(limits.instruction(.int8))
        bfloat16        \(padded(bfloat16.text(), 24, left: true)) GFLOP/s  \
      \(limits.instruction(.bfloat16))
        float32         \(padded(float32.text(), 24, left: true)) GFLOP/s  \
      \(limits.instruction(.float32))
      """
  }
}
