/// Ranks that are threads of one process and see each other's memory.
///
/// An all-reduce is a reduce-scatter and an all-gather: each rank adds up one part of the vectors of
/// all and writes it to all. It sends 2 (G − 1)/G of its bytes in 2 (G − 1) messages, as a ring
/// does.
public final class ThreadCommunicator: Communicator, @unchecked Sendable {
  public let rank: Int
  public var ranks: Int { group.ranks }
  private let group: RankGroup
  private let monitor = Monitor()
  private var counted = CommunicationTraffic()

  public var traffic: CommunicationTraffic { monitor.locked { counted } }

  init(rank: Int, group: RankGroup) {
    self.rank = rank
    self.group = group
  }

  /// The most ranks of a process.
  public static let mostRanks = 256

  /// Runs `body` on `ranks` threads, each with its rank's communicator, and returns what they
  /// return, by rank.
  ///
  /// - Parameters:
  ///   - ranks: 1 to ``mostRanks``; more than there are cores works, as nobody spins.
  /// - Throws: ``QuantError``: what the first rank to fail threw, its number before the subject,
  ///   when all ranks have ended; `.invalidArgument` for another number of ranks, `.outOfMemory`
  ///   when the system gives no threads.
  public static func run<Output: Sendable>(
    ranks: Int, _ body: @escaping @Sendable (ThreadCommunicator) throws -> Output
  ) throws(QuantError) -> [Output] {
    guard ranks >= 1, ranks <= mostRanks else {
      throw QuantError(
        .invalidArgument, "ranks", "\(ranks)", remedy: "use 1 to \(mostRanks)")
    }
    let group = RankGroup(ranks: ranks)
    let results = Results<Output>(ranks: ranks)
    let work: @Sendable (Int) -> Void = { rank in
      let communicator = ThreadCommunicator(rank: rank, group: group)
      do throws(QuantError) {
        results.set(try QuantError.translating { try body(communicator) }, of: rank)
      } catch {
        group.fail(
          group.firstFailure
            ?? QuantError(
              error.code, "rank \(rank), \(error.subject)", error.problem, remedy: error.remedy))
      }
      group.leave(rank)
    }
    var threads: [JoinableThread] = []
    do throws(QuantError) {
      for rank in 1..<max(ranks, 1) {
        threads.append(try JoinableThread { work(rank) })
      }
      work(0)
    } catch {
      group.fail(error)
    }
    for thread in threads { thread.join() }
    let values = results.values
    if values.count == ranks { return values }
    throw group.firstFailure
      ?? QuantError(
        .invalidArgument, "ranks", "one ended without a result", remedy: "look at its work")
  }

  private final class Results<Output: Sendable>: @unchecked Sendable {
    private let monitor = Monitor()
    private var stored: [Output?]

    init(ranks: Int) { stored = [Output?](repeating: nil, count: ranks) }

    func set(_ value: Output, of rank: Int) { monitor.locked { stored[rank] = value } }

    var values: [Output] { monitor.locked { stored.compactMap { $0 } } }
  }

  public func abort(_ error: QuantError) { group.fail(error) }

  public func barrier() throws(QuantError) {
    _ = try group.enter(
      rank,
      RankGroup.Request(kind: .barrier, values: UnsafeMutableBufferPointer(start: nil, count: 0)))
    group.exit(rank)
  }

  public func allReduce(_ values: UnsafeMutableBufferPointer<Float>) throws(QuantError) {
    let start = MonotonicClock.nanoseconds()
    let all = try group.enter(rank, RankGroup.Request(kind: .allReduce, values: values))
    let own = Self.part(rank, of: ranks, count: values.count)
    Self.sum(all.map(\.values), over: own)
    group.exit(rank)
    if ranks == 1 || values.isEmpty { return }
    monitor.locked {
      counted.collectives += 1
      counted.seconds += MonotonicClock.seconds(since: start)
      for other in 0..<ranks where other != rank {
        // My terms of the part that another adds up, then my sums to it.
        let theirs = Self.part(other, of: ranks, count: values.count)
        counted.messages += (theirs.isEmpty ? 0 : 1) + (own.isEmpty ? 0 : 1)
        counted.bytes += (theirs.count + own.count) * MemoryLayout<Float>.size
      }
    }
  }

  /// The elements that a rank adds up: nearly equal parts, the first ones longer.
  static func part(_ rank: Int, of ranks: Int, count: Int) -> Range<Int> {
    let (each, rest) = count.quotientAndRemainder(dividingBy: ranks)
    func edge(_ rank: Int) -> Int { rank * each + min(rank, rest) }
    return edge(rank)..<edge(rank + 1)
  }

  /// Adds up elements of all vectors in ascending order and writes the sums into all of them.
  private static func sum(_ vectors: [UnsafeMutableBufferPointer<Float>], over part: Range<Int>) {
    let block = 1024
    withUnsafeTemporaryAllocation(of: Float.self, capacity: block) { sums in
      for start in stride(from: part.lowerBound, to: part.upperBound, by: block) {
        let count = min(block, part.upperBound - start)
        for index in 0..<count { sums[index] = vectors[0][start + index] }
        for vector in vectors.dropFirst() {
          for index in 0..<count { sums[index] += vector[start + index] }
        }
        for vector in vectors {
          for index in 0..<count { vector[start + index] = sums[index] }
        }
      }
    }
  }
}
