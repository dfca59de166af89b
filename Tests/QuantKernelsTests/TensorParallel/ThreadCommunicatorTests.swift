import DeviceModel
import QuantKernels
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Ranks that are threads: sums of the same bits everywhere, and an end to all when one fails.
@Suite struct ThreadCommunicatorTests {
  /// Each rank's vector: magnitudes far apart, so that the order of a sum shows in its bits.
  static func vector(rank: Int, count: Int) -> [Float] {
    var random = RepeatableRandom(seed: UInt64(17 + rank))
    return (0..<count).map { index in
      let scale: [Float] = [1e-6, 1, 1e6]
      return Float.random(in: -1...1, using: &random) * scale[(index + rank) % 3]
    }
  }

  /// The definition: ascending ranks, each sum rounded.
  static func expected(ranks: Int, count: Int) -> [UInt32] {
    let vectors = (0..<ranks).map { vector(rank: $0, count: count) }
    return (0..<count).map { index in
      vectors.dropFirst().reduce(vectors[0][index]) { $0 + $1[index] }.bitPattern
    }
  }

  private static func reduce(
    ranks: Int, count: Int, chunks: Int = 1, delay: @escaping @Sendable (Int) -> UInt32 = { _ in 0 }
  ) throws -> [[UInt32]] {
    try ThreadCommunicator.run(ranks: ranks) { communicator in
      var values = vector(rank: communicator.rank, count: count)
      usleep(delay(communicator.rank))
      try values.withUnsafeMutableBufferPointer { values in
        for chunk in 0..<chunks {
          let range = count * chunk / chunks..<count * (chunk + 1) / chunks
          try communicator.allReduce(UnsafeMutableBufferPointer(rebasing: values[range]))
        }
      }
      return values.map(\.bitPattern)
    }
  }

  @Test(arguments: [1, 2, 3, 4, 8, 16], [0, 1, 5, 1000, 5000])
  func sumsInOrderOfRanks(ranks: Int, count: Int) throws {
    let expected = Self.expected(ranks: ranks, count: count)
    for bits in try Self.reduce(ranks: ranks, count: count) { #expect(bits == expected) }
  }

  @Test(arguments: [1, 2, 3, 7, 64])
  func chunksDoNotMatter(chunks: Int) throws {
    for ranks in [2, 3, 8] {
      let expected = Self.expected(ranks: ranks, count: 1111)
      for bits in try Self.reduce(ranks: ranks, count: 1111, chunks: chunks) {
        #expect(bits == expected)
      }
    }
  }

  /// The first rank last, the last rank last, and evens before odds.
  @Test func arrivalOrderDoesNotMatter() throws {
    let expected = Self.expected(ranks: 4, count: 300)
    let orders: [@Sendable (Int) -> UInt32] = [
      { UInt32(3 - $0) * 2000 }, { UInt32($0) * 2000 }, { UInt32($0 % 2) * 3000 },
    ]
    for delay in orders {
      for bits in try Self.reduce(ranks: 4, count: 300, chunks: 3, delay: delay) {
        #expect(bits == expected)
      }
    }
  }

  /// 2 (G − 1)/G of the bytes, in 2 (G − 1) messages; nothing for one rank and for no values.
  @Test(arguments: [1, 2, 4, 8])
  func traffic(ranks: Int) throws {
    let all = try ThreadCommunicator.run(ranks: ranks) { communicator in
      var values = [Float](repeating: 1, count: 64)
      try values.withUnsafeMutableBufferPointer { try communicator.allReduce($0) }
      var none: [Float] = []
      try none.withUnsafeMutableBufferPointer { try communicator.allReduce($0) }
      return communicator.traffic
    }
    for traffic in all {
      #expect(traffic.bytes == 2 * (ranks - 1) * 64 * 4 / ranks)
      #expect(traffic.messages == 2 * (ranks - 1))
      #expect(traffic.collectives == (ranks == 1 ? 0 : 1))
    }
  }

  /// The modelled carrier counts what the modelled collective sends.
  @Test(arguments: CollectiveAlgorithm.allCases)
  func modelledTraffic(algorithm: CollectiveAlgorithm) throws {
    let collective = try Collective(topology: .ascend910B, algorithm: algorithm)
    let count = 8 * 6 * 10
    let all = try ThreadCommunicator.run(ranks: 8) { carrier in
      let communicator = try ModelledCommunicator(carrier, as: collective, bytesPerElement: 2)
      var values = Self.vector(rank: communicator.rank, count: count)
      try values.withUnsafeMutableBufferPointer { try communicator.allReduce($0) }
      try communicator.barrier()
      return (values.map(\.bitPattern), communicator.traffic)
    }
    let schedule = try CollectiveSchedule.allReduce(
      elements: count, algorithm: algorithm, on: .ascend910B)
    #expect(all.reduce(0) { $0 + $1.1.messages } == schedule.messages)
    for (rank, result) in all.enumerated() {
      #expect(result.0 == Self.expected(ranks: 8, count: count))
      #expect(result.1.bytes == 2 * schedule.elementsSent[rank])
      #expect(
        try result.1.modelledMicroseconds == collective.allReduceMicroseconds(bytes: 2 * 480))
      #expect(result.1.collectives == 1)
    }
    #expect(throws: QuantError.self) {
      try ThreadCommunicator.run(ranks: 2) { _ = try ModelledCommunicator($0, as: collective) }
    }
  }

  // MARK: Failures

  private struct Injected: Error {}

  private func failure(
    ranks: Int, _ body: @escaping @Sendable (ThreadCommunicator) throws -> Void
  ) -> QuantError? {
    do { _ = try ThreadCommunicator.run(ranks: ranks, body) } catch { return error }
    return nil
  }

  /// One rank throws while the others wait for it: the call ends, and says who and why.
  @Test(arguments: [0, 1, 5])
  func oneRankFails(bad: Int) {
    let error = failure(ranks: 6) { communicator in
      for turn in 0..<4 {
        if communicator.rank == bad, turn == 2 {
          throw QuantError(.invalidData, "weights", "damaged", remedy: "get them again")
        }
        var values = [Float](repeating: 1, count: 10)
        try values.withUnsafeMutableBufferPointer { try communicator.allReduce($0) }
      }
    }
    #expect(error?.code == .invalidData)
    #expect(error?.description == "rank \(bad), weights: damaged; get them again")
    let other = failure(ranks: 3) { communicator in
      if communicator.rank == 1 { throw Injected() }
      try communicator.barrier()
    }
    #expect(other?.code == .invalidArgument && other?.subject.hasPrefix("rank 1") == true)
  }

  @Test func everyRankSeesTheFailure() throws {
    let seen = try ThreadCommunicator.run(ranks: 4) { communicator -> QuantError? in
      do {
        if communicator.rank == 2 {
          communicator.abort(QuantError(.cancelled, "run", "stopped", remedy: "start it again"))
        }
        for _ in 0..<3 { try communicator.barrier() }
        return nil
      } catch { return error as? QuantError }
    }
    #expect(seen.allSatisfy { $0?.code == .cancelled })
  }

  @Test func ranksThatDisagree() {
    let sizes = failure(ranks: 3) { communicator in
      var values = [Float](repeating: 1, count: communicator.rank == 1 ? 9 : 10)
      try values.withUnsafeMutableBufferPointer { try communicator.allReduce($0) }
    }
    #expect(sizes?.code == .invalidArgument)
    #expect(sizes?.description.contains("all-reduce of 9") == true)
    let kinds = failure(ranks: 2) { communicator in
      if communicator.rank == 0 { return try communicator.barrier() }
      var values: [Float] = []
      try values.withUnsafeMutableBufferPointer { try communicator.allReduce($0) }
    }
    #expect(kinds?.code == .invalidArgument)
  }

  /// A rank that returns early, before or after the others have begun to wait.
  @Test(arguments: [0, 3000])
  func rankThatEndsEarly(microseconds: Int) {
    let error = failure(ranks: 3) { communicator in
      if communicator.rank == 2 {
        usleep(UInt32(microseconds))
        return
      }
      try communicator.barrier()
    }
    #expect(error?.description.contains("has ended while others wait") == true)
    #expect(error?.description.contains("rank 2") == true)
  }

  // MARK: All-gather and all-to-all

  @Test(arguments: [1, 2, 3, 4, 8, 16], [0, 1, 7, 1000])
  func gathersInOrderOfRanks(ranks: Int, count: Int) throws {
    let expected = (0..<ranks).flatMap { Self.vector(rank: $0, count: count).map(\.bitPattern) }
    let all = try ThreadCommunicator.run(ranks: ranks) { communicator in
      let own = Self.vector(rank: communicator.rank, count: count)
      var all = [Float](repeating: .nan, count: ranks * count)
      try own.withUnsafeBufferPointer { own in
        try all.withUnsafeMutableBufferPointer { try communicator.allGather(own, into: $0) }
      }
      return (all.map(\.bitPattern), communicator.traffic)
    }
    for (bits, traffic) in all {
      #expect(bits == expected)
      let isEmpty = ranks == 1 || count == 0
      #expect(traffic.collectives == (isEmpty ? 0 : 1))
      #expect(traffic.messages == (isEmpty ? 0 : ranks - 1))
      #expect(traffic.bytes == (isEmpty ? 0 : (ranks - 1) * count * 4))
    }
  }

  /// Rank a sends (a + 2 b) mod 5 values to rank b, each of which says whence, whither and which.
  @Test(arguments: [1, 2, 3, 4, 8])
  func exchangesParts(ranks: Int) throws {
    @Sendable func count(_ from: Int, _ to: Int) -> Int { (from + 2 * to) % 5 }
    @Sendable func values(_ from: Int, _ to: Int) -> [Float] {
      (0..<count(from, to)).map { Float(from * 10000 + to * 100 + $0) }
    }
    let all = try ThreadCommunicator.run(ranks: ranks) { communicator in
      let rank = communicator.rank
      let sent = (0..<ranks).flatMap { values(rank, $0) }
      let receivedCounts = (0..<ranks).map { count($0, rank) }
      var received = [Float](repeating: .nan, count: receivedCounts.reduce(0, +))
      try sent.withUnsafeBufferPointer { sent in
        try received.withUnsafeMutableBufferPointer {
          try communicator.allToAll(
            sent, counts: (0..<ranks).map { count(rank, $0) }, into: $0,
            receivedCounts: receivedCounts)
        }
      }
      return (received, communicator.traffic)
    }
    for (rank, result) in all.enumerated() {
      #expect(result.0 == (0..<ranks).flatMap { values($0, rank) })
      let sent = (0..<ranks).filter { $0 != rank }.map { count(rank, $0) }
      #expect(result.1.bytes == 4 * sent.reduce(0, +))
      #expect(result.1.messages == sent.count { $0 > 0 })
    }
  }

  /// Whole numbers of 64 bits from every rank, and the first one that is another.
  @Test(arguments: [1, 2, 5])
  func gathersNumbers(ranks: Int) throws {
    let all = try ThreadCarrier(ranks: ranks).run { communicator in
      try communicator.requireAgreement(.max - 5, on: "order")
      return try communicator.gather([UInt64.max - UInt64(communicator.rank), 7, 0])
    }
    #expect(all.count == ranks)
    for numbers in all { #expect(numbers == (0..<ranks).map { [UInt64.max - UInt64($0), 7, 0] }) }
    guard ranks > 1 else { return }
    let error = failure(ranks: ranks) { communicator in
      try communicator.requireAgreement(communicator.rank == ranks - 1 ? 1 << 63 : 0, on: "order")
    }
    #expect(error?.code == .invalidData)
    #expect(error?.description.contains("rank \(ranks - 1) has another one than rank 0") == true)
  }

  /// Threads of a machine are shared among its ranks, at least one each.
  @Test func threadsOfRanks() {
    #expect(ThreadCarrier(ranks: 2).threadsPerRank(of: 8) == 4)
    #expect(ThreadCarrier(ranks: 3).threadsPerRank(of: 8) == 2)
    #expect(ThreadCarrier(ranks: 16).threadsPerRank(of: 8) == 1)
    #expect(ThreadCarrier(ranks: 0).threadsPerRank(of: 8) == 8)
    let all = WorkerPool.processorCount
    #expect((1...all).contains(WorkerPool.usableProcessorCount))
    #expect(ThreadCarrier(ranks: 1).threadsPerRank(of: nil) == WorkerPool.usableProcessorCount)
    #expect(ThreadCarrier(ranks: all).threadsPerRank(of: nil) == 1)
  }

  /// The modelled carrier counts the modelled collective's messages, and the values still travel.
  @Test func modelledGathersAndExchanges() throws {
    let machine = try Topology.crossbar(devices: 4, link: .nvlink2, host: .pcie3)
    let collective = try Collective(topology: machine, algorithm: .ring)
    let all = try ThreadCommunicator.run(ranks: 4) { carrier in
      let communicator = try ModelledCommunicator(carrier, as: collective, bytesPerElement: 2)
      let own = [Float](repeating: Float(carrier.rank), count: 6)
      var gathered = [Float](repeating: -1, count: 24)
      try own.withUnsafeBufferPointer { own in
        try gathered.withUnsafeMutableBufferPointer { try communicator.allGather(own, into: $0) }
      }
      let afterGather = communicator.traffic
      let counts = [1, 2, 2, 1]
      let received = (0..<4).map { _ in counts[carrier.rank] }
      var exchanged = [Float](repeating: -1, count: received.reduce(0, +))
      try own.withUnsafeBufferPointer { own in
        try exchanged.withUnsafeMutableBufferPointer {
          try communicator.allToAll(own, counts: counts, into: $0, receivedCounts: received)
        }
      }
      return (gathered, exchanged, afterGather, communicator.traffic)
    }
    for (rank, result) in all.enumerated() {
      #expect(result.0 == (0..<24).map { Float($0 / 6) })
      let each = [1, 2, 2, 1][rank]
      #expect(result.1 == (0..<4 * each).map { Float($0 / each) })
      #expect(result.2.bytes == 3 * 6 * 2 && result.2.messages == 3)
      #expect(try result.2.modelledMicroseconds == collective.allGatherMicroseconds(bytes: 48))
      let sent = 6 - each
      #expect(result.3.bytes - result.2.bytes == sent * 2)
      #expect(result.3.collectives == 2)
      let time = try collective.allToAllMicroseconds(bytes: Double(2 * sent))
      #expect(abs(result.3.modelledMicroseconds - result.2.modelledMicroseconds - time) < 1e-9)
    }
  }

  /// Sizes that do not fit end all ranks, whoever notices.
  @Test func gathersThatDisagree() {
    let gathers = failure(ranks: 3) { communicator in
      let own = [Float](repeating: 1, count: communicator.rank == 1 ? 4 : 5)
      var all = [Float](repeating: 0, count: 3 * own.count)
      try own.withUnsafeBufferPointer { own in
        try all.withUnsafeMutableBufferPointer { try communicator.allGather(own, into: $0) }
      }
    }
    #expect(gathers?.code == .invalidArgument)
    #expect(gathers?.description.contains("all-gather of 4") == true)
    let room = failure(ranks: 2) { communicator in
      let own = [Float](repeating: 1, count: 4)
      var all = [Float](repeating: 0, count: communicator.rank == 1 ? 7 : 8)
      try own.withUnsafeBufferPointer { own in
        try all.withUnsafeMutableBufferPointer { try communicator.allGather(own, into: $0) }
      }
    }
    #expect(room?.subject.contains("rank 1") == true)
    for (sent, expected) in [([1, 2], [1, 2]), ([3, 0], [3, 3]), ([-1, 4], [3, 0])] {
      let error = failure(ranks: 2) { communicator in
        let values = [Float](repeating: 1, count: 3)
        var received = [Float](repeating: 0, count: expected.reduce(0, +))
        try values.withUnsafeBufferPointer { values in
          try received.withUnsafeMutableBufferPointer {
            try communicator.allToAll(
              values, counts: sent, into: $0, receivedCounts: expected)
          }
        }
      }
      #expect(error?.code == .invalidArgument, "\(sent) \(expected)")
    }
  }

  /// A rank that fails or ends while others gather.
  @Test func gathersWithoutARank() {
    let error = failure(ranks: 3) { communicator in
      if communicator.rank == 1 {
        throw QuantError(.invalidData, "weights", "damaged", remedy: "get them again")
      }
      var all = [Float](repeating: 0, count: 12)
      try [1, 2, 3, 4].withUnsafeBufferPointer { own in
        try all.withUnsafeMutableBufferPointer { try communicator.allGather(own, into: $0) }
      }
    }
    #expect(error?.description == "rank 1, weights: damaged; get them again")
  }

  @Test func numbersOfRanks() {
    for ranks in [0, -1, 257, Int.max] {
      #expect(failure(ranks: ranks) { _ in }?.code == .invalidArgument)
    }
    #expect(failure(ranks: 256) { try $0.barrier() } == nil)
  }
}
