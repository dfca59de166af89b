import QuantKernels
import TestSupport

/// A gated act-order block of random codes and orders.
func actOrderBlock() throws -> ActOrderMLP {
  var random = RepeatableRandom(seed: 11)
  let (inputs, hidden, outputs, group) = (512, 1792, 512, 32)
  func matrix(_ rows: Int, _ columns: Int, _ order: [Int32]) throws -> Int4Matrix {
    try Int4Matrix(
      rows: rows, columns: columns, groupSize: group,
      codes: (0..<rows * columns).map { _ in .random(in: 0...15, using: &random) },
      scales: (0..<rows * columns / group).map { _ in
        HalfPrecision.float(
          fromHalf: HalfPrecision.half(.random(in: 0.002..<0.02, using: &random)))
      },
      offsets: .zeroPoints(
        (0..<rows * columns / group).map { _ in .random(in: 3...13, using: &random) }),
      inputPermutation: order)
  }
  let first = (0..<Int32(inputs)).shuffled(using: &random)
  let second = (0..<Int32(hidden)).shuffled(using: &random)
  return try ActOrderMLP(
    gate: matrix(hidden, inputs, first), up: matrix(hidden, inputs, first),
    down: matrix(outputs, hidden, second),
    downBias: random.normals(outputs), activation: .silu)
}

/// One rank's outputs and counters of all schemes.
struct SchemesResult: Sendable, Equatable {
  var bits: [[UInt32]] = []
  var counters: [[Int]] = []

  static func run(
    _ block: ActOrderMLP, _ moved: ActOrderMLP, _ communicator: any Communicator
  ) throws -> SchemesResult {
    var result = SchemesResult()
    let pool = WorkerPool(threads: 1)
    for arithmetic in Arithmetic.allCases {
      for scheme in TensorParallelScheme.allCases {
        let shard = try MLPShard(
          scheme == .tpAware ? moved : block, scheme: scheme, rank: communicator.rank,
          ranks: communicator.ranks)
        let layer = try TensorParallelMLP(
          shard, communicator: communicator, arithmetic: arithmetic, pool: pool)
        for count in [1, 4, 16, 17] {
          var random = RepeatableRandom(seed: 3)
          layer.resetCounters()
          result.bits.append(try layer(random.normals(count * shard.inputs)).map(\.bitPattern))
          let counters = layer.counters
          result.counters.append([
            counters.gatheredElements, counters.largestIntermediate, counters.groupSwitches,
            counters.scaleBytes, counters.traffic.collectives, counters.traffic.messages,
            counters.traffic.bytes,
          ])
        }
      }
    }
    return result
  }
}

/// The four schemes on processes against threads: bits and counters; and TP-aware against naive.
func compareSchemes(_ communicator: any Communicator) throws -> String {
  let block = try actOrderBlock()
  let moved = try block.movingInputOrder()
  let found = try SchemesResult.run(block, moved, communicator)
  let expected = try ThreadCommunicator.run(ranks: communicator.ranks) {
    try SchemesResult.run(block, moved, $0)
  }
  try require(
    found == expected[communicator.rank], "rank \(communicator.rank) has other bits or counters")
  let schemes = TensorParallelScheme.allCases
  for (index, bits) in found.bits.enumerated() {
    let (turn, count) = (index / 4 % schemes.count, index % 4)
    guard schemes[turn] != .localSort else { continue }
    let naive = found.bits[index / (4 * schemes.count) * 4 * schemes.count + count]
    try require(bits == naive, "\(schemes[turn]) has other bits than naive")
  }
  return "\(communicator.ranks) ranks: \(found.bits.count) products of four schemes have threads' "
    + "bits and counters"
}
