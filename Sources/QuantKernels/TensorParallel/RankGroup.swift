/// Where the ranks of a ``ThreadCommunicator`` meet.
///
/// A collective has two doors. Before the first every rank says what it came for; the last to come
/// opens it. Between the doors each rank does its share with the memory of all. The second opens
/// when all have finished; nothing between them can fail, so whoever has passed the first waits for
/// the second even when a rank has failed meanwhile, and no rank takes its memory away from under
/// another.
final class RankGroup: @unchecked Sendable {
  /// What a rank comes with.
  struct Request {
    let what: CollectiveRequest
    /// What the others may read: the rank's values, or the vectors that an all-reduce adds up.
    let values: UnsafeBufferPointer<Float>
    /// What others may write; in an all-reduce the same memory.
    var sums = UnsafeMutableBufferPointer<Float>(start: nil, count: 0)
  }

  let ranks: Int
  private let monitor = Monitor()
  private var failure: QuantError?
  private var requests: [Request?]
  private var hasLeft: [Bool]
  private var arrived = 0
  private var finished = 0
  private var opened = 0
  private var closed = 0

  init(ranks: Int) {
    self.ranks = ranks
    requests = [Request?](repeating: nil, count: ranks)
    hasLeft = [Bool](repeating: false, count: ranks)
  }

  /// The first error of any rank.
  var firstFailure: QuantError? { monitor.locked { failure } }

  /// Ends what ranks wait for with an error, unless there is one already.
  func fail(_ error: QuantError) {
    monitor.locked { failLocked(error) }
  }

  private func failLocked(_ error: QuantError) {
    if failure == nil { failure = error }
    monitor.signal()
  }

  /// A rank has ended: it takes part in nothing any more.
  func leave(_ rank: Int) {
    monitor.locked {
      hasLeft[rank] = true
      if arrived > 0 { failLocked(Self.isMissing(rank)) }
    }
  }

  private static func isMissing(_ rank: Int) -> QuantError {
    QuantError(
      .invalidArgument, "rank \(rank)", "has ended while others wait for it in a collective",
      remedy: "call the same collectives on every rank")
  }

  /// Comes to the first door and passes it with all others; what they all came with is returned.
  func enter(_ rank: Int, _ request: Request) throws(QuantError) -> [Request] {
    try monitor.locked { () throws(QuantError) in
      if let failure { throw failure }
      guard requests[rank] == nil else {
        let error = QuantError(
          .invalidArgument, "rank \(rank)", "calls two collectives at once",
          remedy: "call them from one thread, one after the other")
        failLocked(error)
        throw error
      }
      if let gone = hasLeft.firstIndex(of: true) {
        let error = Self.isMissing(gone)
        failLocked(error)
        throw error
      }
      requests[rank] = request
      arrived += 1
      if arrived < ranks {
        let turn = opened
        while opened == turn, failure == nil { monitor.wait() }
        // Once open, the door has been passed, whatever failed since.
        if opened == turn, let failure {
          requests[rank] = nil
          arrived -= 1
          throw failure
        }
      } else {
        if let error = CollectiveRequest.disagreement(among: requests.compactMap { $0?.what }) {
          requests[rank] = nil
          arrived -= 1
          failLocked(error)
          throw error
        }
        arrived = 0
        opened += 1
        monitor.signal()
      }
      return requests.compactMap { $0 }
    }
  }

  /// Comes to the second door and returns when all have.
  func exit(_ rank: Int) {
    monitor.locked {
      finished += 1
      if finished < ranks {
        let turn = closed
        while closed == turn { monitor.wait() }
      } else {
        finished = 0
        for index in requests.indices { requests[index] = nil }
        closed += 1
        monitor.signal()
      }
    }
  }
}
