/// What a rank comes for: the same on every rank, or no collective takes place.
package struct CollectiveRequest: Sendable, Equatable {
  package enum Kind: String, Sendable, CaseIterable {
    case allReduce = "all-reduce"
    case allGather = "all-gather"
    case allToAll = "all-to-all"
    case barrier
  }

  package let kind: Kind
  /// Values of this rank.
  package let count: Int
  /// Of an all-to-all: how much goes to each rank and comes from it, `[ranks]`.
  package let counts: [Int]
  package let receivedCounts: [Int]

  package init(_ kind: Kind, count: Int, counts: [Int] = [], receivedCounts: [Int] = []) {
    self.kind = kind
    self.count = count
    self.counts = counts
    self.receivedCounts = receivedCounts
  }

  /// The first two ranks that did not come for the same, when all have come; nil: they did.
  package static func disagreement(among requests: [CollectiveRequest]) -> QuantError? {
    for (rank, request) in requests.enumerated() {
      // In an all-to-all every pair has its own counts; else equal to rank 0's is equal to all.
      for other in request.kind == .allToAll ? requests.indices : 0..<1 {
        if let problem = request.disagreement(rank, with: requests[other], of: other) {
          return QuantError(
            .invalidArgument, "rank \(rank)", problem,
            remedy: "call the same collectives with the same sizes on every rank")
        }
      }
    }
    return nil
  }

  /// Why two ranks' requests are no one collective; nil when they are.
  private func disagreement(
    _ rank: Int, with other: CollectiveRequest, of otherRank: Int
  ) -> String? {
    if kind != other.kind || (kind != .allToAll && count != other.count) {
      return
        "came for \(kind.rawValue) of \(count) values where rank \(otherRank) came for "
        + "\(other.kind.rawValue) of \(other.count)"
    }
    if kind == .allToAll, counts[otherRank] != other.receivedCounts[rank] {
      return "sends \(counts[otherRank]) values to rank \(otherRank), which expects "
        + "\(other.receivedCounts[rank])"
    }
    return nil
  }

  // MARK: What one rank can tell by itself

  /// A request for an all-gather.
  ///
  /// - Throws: ``QuantError`` `.invalidArgument` when `all` is not as long as all ranks' values.
  package static func allGather(
    _ own: Int, into all: Int, rank: Int, ranks: Int
  ) throws(QuantError) -> CollectiveRequest {
    let (wanted, overflows) = own.multipliedReportingOverflow(by: ranks)
    guard !overflows, all == wanted else {
      throw refused(rank, "all-gather of \(own) values into \(all) of \(ranks) ranks")
    }
    return CollectiveRequest(.allGather, count: own)
  }

  /// A request for an all-to-all.
  ///
  /// - Throws: ``QuantError`` `.invalidArgument` when the counts do not add up to the values.
  package static func allToAll(
    _ values: Int, counts: [Int], into received: Int, receivedCounts: [Int], rank: Int, ranks: Int
  ) throws(QuantError) -> CollectiveRequest {
    guard cuts(values, counts, ranks), cuts(received, receivedCounts, ranks) else {
      throw refused(
        rank,
        "all-to-all of \(values) values in \(counts.count) parts, for \(received) in "
          + "\(receivedCounts.count)")
    }
    return CollectiveRequest(
      .allToAll, count: values, counts: counts, receivedCounts: receivedCounts)
  }

  private static func refused(_ rank: Int, _ problem: String) -> QuantError {
    QuantError(
      .invalidArgument, "rank \(rank)", problem,
      remedy: "pass counts for every rank that add up to the values")
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

  // MARK: Shares and traffic, the same for every carrier

  /// The elements of an all-reduce that a rank adds up: nearly equal parts, the first ones longer.
  package static func part(_ rank: Int, of ranks: Int, count: Int) -> Range<Int> {
    let (each, rest) = count.quotientAndRemainder(dividingBy: ranks)
    func edge(_ rank: Int) -> Int { rank * each + min(rank, rest) }
    return edge(rank)..<edge(rank + 1)
  }

  /// What `rank` of `ranks` sends of values; nil when the collective has nothing to send.
  package func traffic(rank: Int, ranks: Int) -> CommunicationTraffic? {
    if ranks == 1 || count == 0 { return nil }
    var traffic = CommunicationTraffic()
    traffic.collectives = 1
    var floats = 0
    switch kind {
    case .barrier: return nil
    case .allReduce:
      let own = Self.part(rank, of: ranks, count: count)
      for other in 0..<ranks where other != rank {
        // My terms of the part that another adds up, then my sums to it.
        let theirs = Self.part(other, of: ranks, count: count)
        traffic.messages += (theirs.isEmpty ? 0 : 1) + (own.isEmpty ? 0 : 1)
        floats += theirs.count + own.count
      }
    case .allGather:
      traffic.messages = ranks - 1
      floats = (ranks - 1) * count
    case .allToAll:
      for (other, part) in counts.enumerated() where other != rank && part > 0 {
        traffic.messages += 1
        floats += part
      }
    }
    traffic.bytes = floats * MemoryLayout<Float>.size
    return traffic
  }
}

/// The sum that every carrier makes of the ranks' vectors.
package enum OrderedSum {
  /// Elements that are summed up before any is stored, so that a term may be the result's memory.
  package static let block = 1024

  /// Adds up `count` elements in ascending order of terms, ((x₀ + x₁) + x₂) + …, each sum rounded to
  /// float32.
  ///
  /// - Parameter store: gets the sums of a block, its first element's index and how many they are.
  package static func add(
    _ terms: [UnsafePointer<Float>], count: Int,
    store: (_ sums: UnsafePointer<Float>, _ start: Int, _ count: Int) -> Void
  ) {
    withUnsafeTemporaryAllocation(of: Float.self, capacity: block) { sums in
      guard let base = sums.baseAddress else { return }
      for start in stride(from: 0, to: count, by: block) {
        let length = min(block, count - start)
        for index in 0..<length { base[index] = terms[0][start + index] }
        for term in terms.dropFirst() {
          for index in 0..<length { base[index] += term[start + index] }
        }
        store(UnsafePointer(base), start, length)
      }
    }
  }
}

extension CommunicationTraffic {
  /// Adds what a collective has sent, `seconds` long.
  package mutating func add(_ other: CommunicationTraffic, seconds: Double) {
    collectives += other.collectives
    messages += other.messages
    bytes += other.bytes
    self.seconds += seconds
  }
}
