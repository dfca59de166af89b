import ArgumentParser
import QuantKernels

/// How the machine's limits are measured beside everything else.
struct LimitOptions: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Megabytes that a read pass covers; below 512 the result is no memory bandwidth.",
      visibility: .hidden))
  var readMegabytes = 512

  @Option(name: .long, help: "Repetitions; medians are shown.")
  var repetitions = 7

  @Option(
    name: .long,
    help: "Seconds after which a case repeats no more, once it ran twice (default: no limit).")
  var seconds: Double?

  func validate() throws {
    if let seconds, !(seconds > 0) {
      throw ValidationError("--seconds \(seconds) must be above 0")
    }
    if repetitions < 1 { throw ValidationError("--repetitions \(repetitions) must be at least 1") }
    if !(1...65_536).contains(readMegabytes) {
      throw ValidationError("--read-megabytes \(readMegabytes) must be 1 to 65536")
    }
  }

  /// Whether a case that began at `start` and ran `done` times runs again.
  func repeats(done: Int, since start: UInt64) -> Bool {
    guard done < repetitions else { return false }
    guard let seconds, done >= 2 else { return true }
    return MonotonicClock.seconds(since: start) < seconds
  }

  /// Maps the memory and ranks the read loops, showing progress.
  func open(
    pool: WorkerPool, instructionSet: InstructionSet = .best
  ) throws(QuantError) -> MachineLimits {
    try MemoryRequirement.check(
      MemoryRequirement.sum([[2, readMegabytes, 1 << 20]]), subject: "--read-megabytes",
      remedy: "read less")
    Console.progress("mapping memory and choosing a read loop")
    return try MachineLimits(
      pool: pool, instructionSet: instructionSet, bytes: readMegabytes << 20)
  }
}
