import LanguageModel
import QuantKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// A real act-order block over ranks: what `bench tensor-parallel` times and checks.
struct TensorParallelCase {
  let shape: TensorParallelShape
  /// What runs the ranks.
  let carrier: any RankCarrier
  let schemes: [TensorParallelScheme]
  let counts: [Int]
  /// Workers of each rank.
  let threadsPerRank: Int
  let arithmetic: Arithmetic
  let seed: UInt64

  var ranks: Int { carrier.ranks }

  /// The offline pass, once.
  struct Offline {
    var seconds = 0.0
    /// How much the process's peak of resident memory grew.
    var peakBytes = 0
    /// Bytes of codes, scales and zero points of the block before it, one code a byte.
    var blockBytes = 0
  }

  /// One scheme at one M.
  struct Cell {
    let scheme: TensorParallelScheme
    let count: Int
    var microseconds = Timing()
    /// Time over TP-aware's of the same round.
    var ratios = Timing()
    var counters = TensorParallelCounters()
    /// The most that any rank sent.
    var bytesPerRank = 0
    /// Whether the outputs have the bits of the first scheme's.
    var isEqual = true
    /// The largest difference from it, relative to the largest output.
    var difference = 0.0
  }

  struct Result {
    let offline: Offline
    let cells: [Cell]
    /// Bytes of packed weights of one rank, by scheme.
    let weightBytes: [Int]
    /// The largest difference of the first scheme from the block on one rank, by plain products;
    /// nil where it was not asked for.
    let plainDifference: Double?
  }

  /// A block of random codes, with orders as calibration of no model in particular gives.
  func block() throws(QuantError) -> ActOrderMLP {
    var state = SeededRandom(seed: seed)
    func order(_ count: Int) throws(QuantError) -> [Int32] {
      var shape = shape
      shape.hidden = count
      let seed = state.next()
      return try shape.shuffledIndices(seed: seed).order.order
    }
    func matrix(_ rows: Int, _ columns: Int, _ order: [Int32]) throws(QuantError) -> Int4Matrix {
      try Interruption.check()
      let count = rows * columns
      let codes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
        var word: UInt64 = 0
        for index in 0..<count {
          if index % 16 == 0 { word = state.next() }
          buffer[index] = UInt8(truncatingIfNeeded: word & 15)
          word >>= 4
        }
        filled = count
      }
      let groups = count / shape.groupSize
      // Products of about the size of their inputs: 2/√K over the 4.6 of a random code.
      let scale = 0.4 / Float(columns).squareRoot()
      let scales = (0..<groups).map { _ in
        HalfPrecision.float(
          fromHalf: HalfPrecision.half(scale * (0.75 + 0.5 * Float(state.next() >> 40) * 0x1p-24)))
      }
      return try Int4Matrix(
        rows: rows, columns: columns, groupSize: shape.groupSize, codes: codes, scales: scales,
        offsets: .zeroPoints((0..<groups).map { _ in UInt8(6 + state.next() % 4) }),
        inputPermutation: order)
    }
    // Gate and up read the same inputs and have one order.
    let first = try order(shape.inputs)
    Console.progress("making weights")
    return try ActOrderMLP(
      gate: shape.isGated ? matrix(shape.hidden, shape.inputs, first) : nil,
      up: matrix(shape.hidden, shape.inputs, first),
      down: matrix(shape.outputs, shape.hidden, try order(shape.hidden)), activation: .silu)
  }

  /// Makes the block, times the offline pass, and runs the schemes in turn: every round runs each of
  /// them once, at each M.
  ///
  /// - Parameter comparesPlain: whether the first scheme is also held against plain products on one
  ///   rank.
  func measure(rounds: Int, comparesPlain: Bool) throws(QuantError) -> Result {
    try check()
    let block = try block()
    var offline = Offline()
    offline.blockBytes = [block.gate, block.up, block.down].reduce(0) { sum, matrix in
      guard let matrix else { return sum }
      return sum + matrix.codes.count + 5 * matrix.scales.count
    }
    let before = Self.peakResidentBytes
    Console.progress("offline pass")
    let start = MonotonicClock.nanoseconds()
    let moved = try block.movingInputOrder()
    offline.seconds = MonotonicClock.seconds(since: start)
    offline.peakBytes = Self.peakResidentBytes - before
    try Interruption.check()

    let inputs = inputs()
    Console.progress("cutting and packing for \(ranks) ranks")
    let (schemes, counts) = (schemes, counts)
    let (shape, arithmetic, threads) = (shape, arithmetic, threadsPerRank)
    let own = try carrier.run {
      communicator -> (cells: [Cell], first: [Float], weightBytes: [Int]) in
      let pool = WorkerPool(threads: threads)
      var layers: [TensorParallelMLP] = []
      for scheme in schemes {
        try Interruption.check()
        let shard = try MLPShard(
          scheme == .tpAware ? moved : block, scheme: scheme, rank: communicator.rank,
          ranks: communicator.ranks)
        layers.append(
          try TensorParallelMLP(
            shard, communicator: communicator, arithmetic: arithmetic, pool: pool))
      }
      var cells: [Cell] = []
      var firstOutput: [Float] = []
      for count in counts {
        let x = Array(inputs[..<(count * shape.inputs)])
        var outputs: [[Float]] = []
        for (layer, scheme) in zip(layers, schemes) {
          layer.resetCounters()
          outputs.append(try layer(x))
          var cell = Cell(scheme: scheme, count: count)
          cell.counters = layer.counters
          cell.bytesPerRank = layer.counters.traffic.bytes
          let first = outputs[0]
          cell.isEqual = zip(first, outputs[outputs.count - 1]).allSatisfy {
            $0.bitPattern == $1.bitPattern
          }
          cell.difference = Self.difference(outputs[outputs.count - 1], first)
          cells.append(cell)
        }
        if count == counts.last { firstOutput = outputs[0] }
        let own = cells.count - schemes.count
        for round in 0..<rounds {
          if communicator.rank == 0 {
            Console.progress("M = \(count), round \(round + 1) of \(rounds)")
          }
          try Interruption.check()
          var times = [Double](repeating: 0, count: schemes.count)
          // Each round begins with another scheme.
          for turn in schemes.indices {
            let index = (turn + round) % schemes.count
            try communicator.barrier()
            let start = MonotonicClock.nanoseconds()
            _ = try layers[index](x)
            try communicator.barrier()
            times[index] = MonotonicClock.seconds(since: start) * 1e6
            cells[own + index].microseconds.add(times[index])
          }
          if let aware = schemes.firstIndex(of: .tpAware) {
            for index in schemes.indices {
              cells[own + index].ratios.add(times[index] / times[aware])
            }
          }
        }
      }
      // What holds of all ranks.
      let all = try communicator.gather(
        cells.flatMap { [UInt64($0.bytesPerRank), $0.isEqual ? 1 : 0] })
      for index in cells.indices {
        cells[index].bytesPerRank = all.reduce(0) { max($0, Int($1[2 * index])) }
        cells[index].isEqual = all.allSatisfy { $0[2 * index + 1] == 1 }
      }
      return (cells, firstOutput, layers.map { $0.shard.weightBytes })
    }[0]
    return Result(
      offline: offline, cells: own.cells, weightBytes: own.weightBytes,
      plainDifference: comparesPlain && ProcessRanks.isFirst
        ? Self.difference(
          own.first,
          try plain(block, Array(inputs[..<((counts.last ?? 0) * shape.inputs)]))) : nil)
  }

  private func inputs() -> [Float] {
    var random = SplitRandom(seed: seed)
    return (0..<(counts.max() ?? 0) * shape.inputs).map { _ in random.normal() }
  }

  private func check() throws(QuantError) {
    for (name, value) in [
      ("--k", shape.inputs), ("--hidden", shape.hidden), ("--n", shape.outputs),
      ("--group", shape.groupSize),
    ] where !(1...1 << 20).contains(value) {
      throw QuantError(
        .invalidArgument, name, "is \(value)", remedy: "choose an extent of 1 to \(1 << 20)")
    }
    for count in counts where !(1...4096).contains(count) {
      throw QuantError(.invalidArgument, "--m", "is \(count)", remedy: "choose 1 to 4096")
    }
    guard !counts.isEmpty, !schemes.isEmpty else {
      throw QuantError(
        .invalidArgument, "--m and --schemes", "name nothing to run", remedy: "name at least one")
    }
    guard (1...ThreadCommunicator.mostRanks).contains(ranks) else {
      throw QuantError(
        .invalidArgument, "--ranks", "is \(ranks)",
        remedy: "choose 1 to \(ThreadCommunicator.mostRanks)")
    }
    // Ranks that do not divide, before anything large is made.
    let order = try shape.shuffledIndices(seed: seed)
    for scheme in schemes {
      _ = try TensorParallelPlan(
        shape: shape, count: 1, scheme: scheme, ranks: ranks, order: order)
    }
    let matrices = shape.isGated ? 3 : 2
    // Processes each make the block, threads share it.
    let copies = carrier is ThreadCarrier ? 1 : carrier.localRanks
    try MemoryRequirement.check(
      // Codes of the block and of its moved copy, one a byte, and packed parts for each scheme.
      MemoryRequirement.sum([
        [2 * matrices * copies + schemes.count * 2, shape.hidden, max(shape.inputs, shape.outputs)]
      ]), subject: "block", remedy: "use smaller extents or fewer schemes")
  }

  /// The block on one rank, by plain products.
  private func plain(_ block: ActOrderMLP, _ x: [Float]) throws(QuantError) -> [Float] {
    Console.progress("plain products")
    let pool = WorkerPool(threads: ranks * threadsPerRank)
    let up = try PackedWeights(block.up).matmul(x, arithmetic: arithmetic, pool: pool)
    var hidden = [Float](repeating: 0, count: up.count)
    let gate = try block.gate.map { gate throws(QuantError) in
      try PackedWeights(gate).matmul(x, arithmetic: arithmetic, pool: pool)
    }
    let ones = [Float](repeating: 1, count: up.count)
    VectorOperations.siluMultiply(
      gate ?? up, gate == nil ? ones : up, into: &hidden, count: up.count)
    return try PackedWeights(block.down).matmul(hidden, arithmetic: arithmetic, pool: pool)
  }

  private static func difference(_ found: [Float], _ expected: [Float]) -> Double {
    let largest = expected.reduce(Float.leastNormalMagnitude) { max($0, $1.magnitude) }
    return zip(found, expected).reduce(0) {
      max($0, Double(($1.0 - $1.1).magnitude / largest))
    }
  }

  /// The most memory that the process has held.
  private static var peakResidentBytes: Int {
    var usage = rusage()
    #if canImport(Glibc)
      getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
      return usage.ru_maxrss * 1024
    #else
      getrusage(RUSAGE_SELF, &usage)
      return usage.ru_maxrss
    #endif
  }
}
