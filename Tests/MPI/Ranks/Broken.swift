import QuantKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Work in which rank 1 goes wrong after some collectives.
///
/// - Returns: what is printed if nobody noticed.
func goWrong(_ communicator: any Communicator, _ how: String) throws -> String {
  func reduce(_ count: Int) throws {
    var values = [Float](repeating: 1, count: count)
    try values.withUnsafeMutableBufferPointer { try communicator.allReduce($0) }
  }
  for _ in 0..<5 { try reduce(100) }
  let isBad = communicator.rank == min(1, communicator.ranks - 1)
  switch how {
  case "throws" where isBad:
    throw QuantError(.invalidData, "weights", "damaged", remedy: "get them again")
  case "aborts" where isBad:
    communicator.abort(QuantError(.invalidData, "weights", "spoilt", remedy: "get them again"))
    return "aborted"
  case "returns" where isBad: return "returned"
  case "exits" where isBad: exit(0)
  case "dies" where isBad: kill(getpid(), SIGKILL)
  case "traps" where isBad: fatalError("a trap")
  case "stops" where isBad: kill(getpid(), SIGSTOP)
  case "computes" where isBad: sleep(5)
  case "kind" where isBad: try communicator.barrier()
  case "size" where isBad: try reduce(99)
  case "large" where isBad: try reduce(99_999)
  case "counts", "arguments":
    let ranks = communicator.ranks
    var counts = [Int](repeating: 3, count: ranks)
    let received = [Int](repeating: 3, count: ranks)
    if isBad {
      (counts[0], counts[1]) = how == "counts" ? (2, 4) : (-1, 7)
    }
    let values = [Float](repeating: 1, count: 3 * ranks)
    var room = values
    try values.withUnsafeBufferPointer { values in
      try room.withUnsafeMutableBufferPointer {
        try communicator.allToAll(values, counts: counts, into: $0, receivedCounts: received)
      }
    }
  case "order":
    // Ranks with the same weights in different orders of hidden channels.
    let block = try actOrderBlock()
    let moved = try block.movingInputOrder()
    let scheme = isBad ? TensorParallelScheme.localSort : .tpAware
    let shard = try MLPShard(
      isBad ? block : moved, scheme: scheme, rank: communicator.rank, ranks: communicator.ranks)
    _ = try TensorParallelMLP(shard, communicator: communicator, pool: WorkerPool(threads: 1))
  default: break
  }
  for _ in 0..<50 { try reduce(100) }
  return "nobody noticed"
}
