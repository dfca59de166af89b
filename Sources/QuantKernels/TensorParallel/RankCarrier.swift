/// What starts the ranks of a computation and connects them: threads of this process, or processes
/// that a launcher such as `mpirun` has started.
public protocol RankCarrier: Sendable {
  /// Ranks in all.
  var ranks: Int { get }
  /// Ranks that share this machine's processors, this one included.
  var localRanks: Int { get }

  /// Runs `body` on the ranks that belong to this process, each with its communicator.
  ///
  /// - Returns: what these ranks return, in their order: of threads every rank's, of a process that
  ///   is one rank only its own.
  /// - Throws: ``QuantError``: what the first rank to fail threw, its number before the subject.
  func run<Output: Sendable>(
    _ body: @escaping @Sendable (any Communicator) throws -> Output
  ) throws(QuantError) -> [Output]
}

extension RankCarrier {
  /// Workers for each rank out of `threads` for all ranks of this machine; nil: all processors, as
  /// far as this process may use them (a launcher may have bound it to a few).
  public func threadsPerRank(of threads: Int?) -> Int {
    let sharing = max(localRanks, 1)
    if let threads { return max(1, threads / sharing) }
    return max(1, min(WorkerPool.usableProcessorCount, WorkerPool.processorCount / sharing))
  }
}

/// Ranks that are threads of this process.
public struct ThreadCarrier: RankCarrier {
  public let ranks: Int
  public var localRanks: Int { ranks }

  /// - Parameter ranks: 1 to ``ThreadCommunicator/mostRanks``; others are refused when run.
  public init(ranks: Int) { self.ranks = ranks }

  public func run<Output: Sendable>(
    _ body: @escaping @Sendable (any Communicator) throws -> Output
  ) throws(QuantError) -> [Output] {
    try ThreadCommunicator.run(ranks: ranks) { try body($0) }
  }
}
