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
      RankGroup.Request(kind: .barrier, values: UnsafeBufferPointer(start: nil, count: 0)))
    group.exit(rank)
  }

  public func allReduce(_ values: UnsafeMutableBufferPointer<Float>) throws(QuantError) {
    let start = MonotonicClock.nanoseconds()
    let all = try group.enter(
      rank,
      RankGroup.Request(
        kind: .allReduce, values: UnsafeBufferPointer(values), sums: values))
    let own = Self.part(rank, of: ranks, count: values.count)
    Self.sum(all.map(\.sums), over: own)
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

  public func allGather(
    _ own: UnsafeBufferPointer<Float>, into all: UnsafeMutableBufferPointer<Float>
  ) throws(QuantError) {
    let (wanted, overflows) = own.count.multipliedReportingOverflow(by: ranks)
    guard !overflows, all.count == wanted else {
      throw refused("all-gather of \(own.count) values into \(all.count) of \(ranks) ranks")
    }
    let start = MonotonicClock.nanoseconds()
    let requests = try group.enter(rank, RankGroup.Request(kind: .allGather, values: own))
    for (other, request) in requests.enumerated() {
      Self.copy(request.values, into: all, at: other * own.count)
    }
    group.exit(rank)
    if ranks == 1 || own.isEmpty { return }
    count(messages: ranks - 1, floats: (ranks - 1) * own.count, since: start)
  }

  public func allToAll(
    _ values: UnsafeBufferPointer<Float>, counts: [Int],
    into received: UnsafeMutableBufferPointer<Float>, receivedCounts: [Int]
  ) throws(QuantError) {
    guard Self.cuts(values.count, counts, ranks), Self.cuts(received.count, receivedCounts, ranks)
    else {
      throw refused(
        "all-to-all of \(values.count) values in \(counts.count) parts, for \(received.count) in "
          + "\(receivedCounts.count)")
    }
    let start = MonotonicClock.nanoseconds()
    let requests = try group.enter(
      rank,
      RankGroup.Request(
        kind: .allToAll, values: values, counts: counts, receivedCounts: receivedCounts))
    var place = 0
    for request in requests {
      let first = request.counts[..<rank].reduce(0, +)
      let part = request.values[first..<first + request.counts[rank]]
      Self.copy(UnsafeBufferPointer(rebasing: part), into: received, at: place)
      place += part.count
    }
    group.exit(rank)
    var sent = counts
    sent[rank] = 0
    let floats = sent.reduce(0, +)
    if ranks == 1 || values.isEmpty { return }
    count(messages: sent.count { $0 > 0 }, floats: floats, since: start)
  }

  /// An error of this rank's arguments, which ends the others too.
  private func refused(_ problem: String) -> QuantError {
    let error = QuantError(
      .invalidArgument, "rank \(rank)", problem,
      remedy: "pass counts for every rank that add up to the values")
    group.fail(error)
    return error
  }

  private static func cuts(_ count: Int, _ parts: [Int], _ ranks: Int) -> Bool {
    guard parts.count == ranks else { return false }
    var left = count
    for part in parts {
      guard part >= 0, part <= left else { return false }
      left -= part
    }
    return left == 0
  }

  private static func copy(
    _ values: UnsafeBufferPointer<Float>, into all: UnsafeMutableBufferPointer<Float>, at place: Int
  ) {
    guard let from = values.baseAddress, let to = all.baseAddress else { return }
    (to + place).update(from: from, count: values.count)
  }

  private func count(messages: Int, floats: Int, since start: UInt64) {
    monitor.locked {
      counted.collectives += 1
      counted.seconds += MonotonicClock.seconds(since: start)
      counted.messages += messages
      counted.bytes += floats * MemoryLayout<Float>.size
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
