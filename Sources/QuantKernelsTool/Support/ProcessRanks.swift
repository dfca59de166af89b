import ArgumentParser
import QuantKernels
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

#if MPI
  import MPICommunicator
#endif

/// A command that several processes run together.
protocol RunsOnRanks {}

/// The ranks that are processes of one launch, where this is one of them.
///
/// Text comes from rank 0; an error of any rank ends all of them with its exit code, and is told
/// once.
enum ProcessRanks {
  private static let connection = Mutex<(any Communicator & RankCarrier)?>(nil)

  private static var connected: (any Communicator & RankCarrier)? { connection.withLock { $0 } }

  /// Whether this process is the one that speaks; always where it is the only one.
  static var isFirst: Bool { connected?.rank ?? 0 == 0 }

  /// Runs a command, on all ranks where there are several.
  static func run(_ body: () throws -> Void) -> ExitStatus {
    let launch = RankLaunch { name in getenv(name).map { String(cString: $0) } }
    #if MPI
      if let launch { return run(launch, body) }
    #else
      if let launch, let error = launch.refusal(isBuiltIn: false) {
        // The launcher ends all when the first has ended: that must be the one that speaks.
        if launch.rank != 0 {
          sleep(3)
          return ExitStatus(error.code)
        }
        return ExitStatus.report(error)
      }
    #endif
    do {
      try body()
      return .success
    } catch {
      return ExitStatus.report(error)
    }
  }

  #if MPI
    private static func run(_ launch: RankLaunch, _ body: () throws -> Void) -> ExitStatus {
      var communicator: MPICommunicator?
      // An error that is no QuantError is the parser's, and reported in its way.
      var unusual: (any Error)?
      var status = ExitStatus.success
      do throws(QuantError) {
        try MPICommunicator.run { own in
          communicator = own
          if let refusal = launch.refusal(connected: own.ranks) { throw refusal }
          connection.withLock { $0 = own }
          Console.isSilent = own.rank != 0
          do {
            try body()
          } catch let error as QuantError {
            throw error
          } catch  where QuantKernelsTool.exitCode(for: error).isSuccess {
            status = ExitStatus.report(error)
          } catch {
            unusual = error
            throw QuantError(
              .invalidArgument, "command line", QuantKernelsTool.message(for: error),
              remedy: "see 'quantkernels --help'")
          }
        }
        return status
      } catch {
        status = ExitStatus(error.code)
        guard let communicator else { return ExitStatus.report(error) }
        communicator.report {
          Console.isSilent = false
          status = ExitStatus.report(unusual ?? error)
        }
        return status
      }
    }
  #endif

  /// - Throws: ``QuantError`` `.invalidArgument` for a command that each process would do all of.
  static func check(_ command: any ParsableCommand) throws(QuantError) {
    guard let connected, connected.ranks > 1, !(command is any RunsOnRanks) else { return }
    throw QuantError(
      .invalidArgument, "mpirun", "has started \(connected.ranks) ranks of a command for one",
      remedy: "start it without mpirun; generate and bench tensor-parallel run on ranks")
  }

  /// What runs ranks: the processes of the launch, or as many threads as were asked for; nil when
  /// neither.
  ///
  /// - Throws: ``QuantError`` `.invalidArgument` when another number is asked for than was started.
  static func carrier(_ ranks: Int?) throws(QuantError) -> (any RankCarrier)? {
    guard let connected else { return ranks.map { ThreadCarrier(ranks: $0) } }
    if let ranks, ranks != connected.ranks {
      throw QuantError(
        .invalidArgument, "--ranks \(ranks)", "mpirun has started \(connected.ranks)",
        remedy: "leave --ranks out, or start as many")
    }
    return connected
  }

  /// What rank 0 has: standard input comes to it alone.
  static func fromFirst(_ bytes: () throws(QuantError) -> [UInt8]) throws(QuantError) -> [UInt8] {
    guard let connected, connected.ranks > 1 else { return try bytes() }
    let isFirst = connected.rank == 0
    let own = isFirst ? try bytes() : []
    let count = Int(try connected.gather([UInt64(own.count)])[0][0])
    var words = [UInt64](repeating: 0, count: (count + 7) / 8)
    for (index, byte) in own.enumerated() {
      words[index / 8] |= UInt64(byte) << UInt64(index % 8 * 8)
    }
    words = try connected.gather(words)[0]
    return (0..<count).map { UInt8(truncatingIfNeeded: words[$0 / 8] >> UInt64($0 % 8 * 8)) }
  }

  /// Holds what must be the same on all processes against the others'.
  static func requireAgreement(_ value: UInt64, on subject: String) throws(QuantError) {
    try connected?.requireAgreement(value, on: subject)
  }
}
