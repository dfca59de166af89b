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
  ///   - body: runs on each thread.
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
      RankGroup.Request(
        what: CollectiveRequest(.barrier, count: 0),
        values: UnsafeBufferPointer(start: nil, count: 0)))
    group.exit(rank)
  }

  public func allReduce(_ values: UnsafeMutableBufferPointer<Float>) throws(QuantError) {
    let start = MonotonicClock.nanoseconds()
    let what = CollectiveRequest(.allReduce, count: values.count)
    let all = try group.enter(
      rank, RankGroup.Request(what: what, values: UnsafeBufferPointer(values), sums: values))
    let own = CollectiveRequest.part(rank, of: ranks, count: values.count)
    let parts = all.compactMap { $0.sums.baseAddress.map { $0 + own.lowerBound } }
    if !own.isEmpty {
      OrderedSum.add(parts.map { UnsafePointer($0) }, count: own.count) { sums, start, count in
        for part in parts { (part + start).update(from: sums, count: count) }
      }
    }
    group.exit(rank)
    count(what, since: start)
  }

  public func allGather(
    _ own: UnsafeBufferPointer<Float>, into all: UnsafeMutableBufferPointer<Float>
  ) throws(QuantError) {
    let what = try checked { () throws(QuantError) in
      try CollectiveRequest.allGather(own.count, into: all.count, rank: rank, ranks: ranks)
    }
    let start = MonotonicClock.nanoseconds()
    let requests = try group.enter(rank, RankGroup.Request(what: what, values: own))
    for (other, request) in requests.enumerated() {
      Self.copy(request.values, into: all, at: other * own.count)
    }
    group.exit(rank)
    count(what, since: start)
  }

  public func allToAll(
    _ values: UnsafeBufferPointer<Float>, counts: [Int],
    into received: UnsafeMutableBufferPointer<Float>, receivedCounts: [Int]
  ) throws(QuantError) {
    let what = try checked { () throws(QuantError) in
      try CollectiveRequest.allToAll(
        values.count, counts: counts, into: received.count, receivedCounts: receivedCounts,
        rank: rank, ranks: ranks)
    }
    let start = MonotonicClock.nanoseconds()
    let requests = try group.enter(rank, RankGroup.Request(what: what, values: values))
    var place = 0
    for request in requests {
      let first = request.what.counts[..<rank].reduce(0, +)
      let part = request.values[first..<first + request.what.counts[rank]]
      Self.copy(UnsafeBufferPointer(rebasing: part), into: received, at: place)
      place += part.count
    }
    group.exit(rank)
    count(what, since: start)
  }

  /// A request that this rank may make; an error of its arguments ends the others too.
  private func checked(
    _ request: () throws(QuantError) -> CollectiveRequest
  ) throws(QuantError) -> CollectiveRequest {
    do throws(QuantError) { return try request() } catch {
      group.fail(error)
      throw error
    }
  }

  private static func copy(
    _ values: UnsafeBufferPointer<Float>, into all: UnsafeMutableBufferPointer<Float>, at place: Int
  ) {
    guard let from = values.baseAddress, let to = all.baseAddress else { return }
    (to + place).update(from: from, count: values.count)
  }

  private func count(_ what: CollectiveRequest, since start: UInt64) {
    guard let sent = what.traffic(rank: rank, ranks: ranks) else { return }
    monitor.locked { counted.add(sent, seconds: MonotonicClock.seconds(since: start)) }
  }
}
