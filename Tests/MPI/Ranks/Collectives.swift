import QuantKernels
import TestSupport

/// What a carrier gave one rank: all bits, and what it counted.
struct CollectiveResult: Sendable, Equatable {
  var bits: [UInt32] = []
  var traffic: [[Int]] = []

  /// The whole program of collectives on one rank: sums whose bits depend on their order, gathers,
  /// exchanges of unequal parts, none, one and many values, inside and beyond what travels with the
  /// request, in one piece and in several.
  static func run(_ communicator: any Communicator) throws -> CollectiveResult {
    var result = CollectiveResult()
    let (rank, ranks) = (communicator.rank, communicator.ranks)
    func note(_ values: [Float]) {
      result.bits += values.map(\.bitPattern)
      let traffic = communicator.traffic
      result.traffic.append([traffic.collectives, traffic.messages, traffic.bytes])
    }
    for count in [0, 1, 3, 7, 8, 1000, 5001, 70_001, 300_000] {
      var values = vector(rank: rank, count: count)
      try values.withUnsafeMutableBufferPointer { try communicator.allReduce($0) }
      note(values)
      let own = vector(rank: rank + 100, count: count / 3)
      var all = [Float](repeating: .nan, count: own.count * ranks)
      try own.withUnsafeBufferPointer { own in
        try all.withUnsafeMutableBufferPointer { try communicator.allGather(own, into: $0) }
      }
      note(all)
      try communicator.barrier()
      // Some pairs have nothing for one another.
      func part(_ from: Int, _ to: Int) -> Int { (from + 2 * to) % 5 * (count / 4) }
      let counts = (0..<ranks).map { part(rank, $0) }
      let receivedCounts = (0..<ranks).map { part($0, rank) }
      let sent = vector(rank: rank + 200, count: counts.reduce(0, +))
      var received = [Float](repeating: .nan, count: receivedCounts.reduce(0, +))
      try sent.withUnsafeBufferPointer { sent in
        try received.withUnsafeMutableBufferPointer {
          try communicator.allToAll(sent, counts: counts, into: $0, receivedCounts: receivedCounts)
        }
      }
      note(received)
    }
    try communicator.requireAgreement(0xFEDC_BA98_7654_3210, on: "a number")
    return result
  }

  /// Magnitudes far apart, so that the order of a sum shows in its bits.
  private static func vector(rank: Int, count: Int) -> [Float] {
    var random = RepeatableRandom(seed: UInt64(17 + rank))
    return (0..<count).map { index in
      let scale: [Float] = [1e-6, 1, 1e6]
      return Float.random(in: -1...1, using: &random) * scale[(index + rank) % 3]
    }
  }
}

/// Collectives of processes against those of threads: bits, and messages and bytes after each.
func compareCollectives(_ communicator: any Communicator) throws -> String {
  let found = try CollectiveResult.run(communicator)
  let expected = try ThreadCommunicator.run(ranks: communicator.ranks) {
    try CollectiveResult.run($0)
  }
  try require(
    found.bits == expected[communicator.rank].bits, "rank \(communicator.rank) has other bits")
  try require(
    found.traffic == expected[communicator.rank].traffic,
    "rank \(communicator.rank) counts \(found.traffic), threads \(expected[communicator.rank].traffic)"
  )
  return
    "\(communicator.ranks) ranks: \(found.bits.count) values of collectives have threads' bits, "
    + "traffic is equal"
}
