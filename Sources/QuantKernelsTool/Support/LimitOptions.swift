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

  func validate() throws {
    if repetitions < 1 { throw ValidationError("--repetitions \(repetitions) must be at least 1") }
    if !(1...65_536).contains(readMegabytes) {
      throw ValidationError("--read-megabytes \(readMegabytes) must be 1 to 65536")
    }
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
