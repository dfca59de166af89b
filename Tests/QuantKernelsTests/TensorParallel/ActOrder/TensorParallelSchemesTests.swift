import TestSupport
import Testing

@testable import QuantKernels

/// The four schemes: the same numbers, of which only the way differs.
@Suite struct TensorParallelSchemesTests {
  static let ranks = [1, 2, 4, 8]
  static let counts = [1, 2, 4, 8, 16, 17]

  /// Integers small enough that every sum is exact, with and without gate and biases.
  static let integers: [ActOrderCase] = [
    ActOrderCase(
      inputs: 96, hidden: 256, outputs: 40, isGated: true, activation: .identity, hasBias: true,
      numbers: .integers, seed: 1),
    ActOrderCase(
      inputs: 64, hidden: 512, outputs: 24, isGated: false, activation: .squaredReLU,
      hasBias: false, numbers: .integers, seed: 2),
    // A sixteenth of Llama-70B's and of Granite-20B's extents.
    ActOrderCase(
      inputs: 512, hidden: 1792, outputs: 512, isGated: true, activation: .identity,
      hasBias: false, numbers: .integers, seed: 3),
    ActOrderCase(
      inputs: 384, hidden: 1536, outputs: 384, isGated: false, activation: .identity,
      hasBias: true, numbers: .integers, seed: 4),
  ]

  static let random: [ActOrderCase] = [
    ActOrderCase(
      inputs: 128, hidden: 512, outputs: 64, isGated: true, activation: .silu, hasBias: true,
      numbers: .random, seed: 5),
    ActOrderCase(
      inputs: 512, hidden: 1792, outputs: 512, isGated: true, activation: .silu, hasBias: false,
      numbers: .random, seed: 6),
    ActOrderCase(
      inputs: 384, hidden: 1536, outputs: 384, isGated: false, activation: .gelu, hasBias: true,
      numbers: .random, seed: 7),
  ]

  /// All schemes, all numbers of ranks and rows: exactly the unsharded, unpermuted reference.
  @Test(arguments: 0..<4)
  func integersAreExact(index: Int) throws {
    let example = Self.integers[index]
    #expect(example.expected.allSatisfy { abs($0) < 0x1p24 })
    #expect(Set(example.expected).count > 10)
    let block = try example.block()
    for ranks in Self.ranks {
      for scheme in TensorParallelScheme.allCases {
        for count in index < 2 ? Self.counts : [1, 17] {
          let x = Array(example.x[..<(count * example.inputs)])
          let expected = example.expected[..<(count * example.outputs)].map { Float($0) }
          for result in try ActOrderCase.run(block, scheme, ranks: ranks, x: x) {
            #expect(result.y == expected, "\(scheme), \(ranks) ranks, \(count) rows")
          }
        }
      }
    }
  }

  /// On any numbers TP-aware has the bits of naive and of all-to-all, in both arithmetics; and all are
  /// near the reference.
  @Test(arguments: 0..<3)
  func schemesAgreeBitForBit(index: Int) throws {
    let example = Self.random[index]
    let block = try example.block()
    for arithmetic in Arithmetic.allCases {
      for ranks in Self.ranks {
        for count in index == 0 ? Self.counts : [1, 17] {
          let x = Array(example.x[..<(count * example.inputs)])
          func bits(_ scheme: TensorParallelScheme) throws -> [[UInt32]] {
            try ActOrderCase.run(block, scheme, ranks: ranks, x: x, arithmetic: arithmetic).map {
              $0.y.map(\.bitPattern)
            }
          }
          let naive = try bits(.naive)
          #expect(naive.allSatisfy { $0 == naive[0] })
          #expect(try bits(.tpAware) == naive, "\(arithmetic), \(ranks) ranks, \(count) rows")
          #expect(try bits(.allToAll) == naive)
          let local = try ActOrderCase.run(
            block, .localSort, ranks: ranks, x: x, arithmetic: arithmetic)[0].y
          guard arithmetic == .exact else { continue }
          for found in [naive[0].map { Float(bitPattern: $0) }, local] {
            let expected = example.expected[..<found.count]
            let size = expected.reduce(0) { $0 + abs($1) }
            let error = zip(found, expected).reduce(0) { $0 + abs(Double($1.0) - $1.1) }
            #expect(error / size < 1e-5, "mean relative error \(error / size)")
          }
        }
      }
    }
  }

  /// What a rank computes under TP-aware is its part of the permuted channels, bit for bit.
  @Test(arguments: ranks)
  func hiddenChannelsAreThePermutedOnes(ranks: Int) throws {
    let example = Self.random[0]
    let block = try example.block()
    let moved = try block.movingInputOrder()
    let count = 3
    let x = Array(example.x[..<(count * example.inputs)])
    func hidden(_ block: ActOrderMLP, _ scheme: TensorParallelScheme, _ ranks: Int) throws
      -> [[Float]]
    {
      try ThreadCommunicator.run(ranks: ranks) { communicator in
        let shard = try MLPShard(block, scheme: scheme, rank: communicator.rank, ranks: ranks)
        let layer = try TensorParallelMLP(
          shard, communicator: communicator, pool: WorkerPool(threads: 1))
        return try x.withUnsafeBufferPointer { x in
          let pointer = try layer.hiddenChannels(#require(x.baseAddress), count: count)
          return Array(UnsafeBufferPointer(start: pointer, count: count * shard.ownHidden))
        }
      }
    }
    let whole = try hidden(block, .naive, 1)[0]
    let part = example.hidden / ranks
    let order = block.hiddenOrder.order
    for (rank, own) in try hidden(moved, .tpAware, ranks).enumerated() {
      let expected = (0..<count * part).map { index in
        whole[index / part * example.hidden + Int(order[rank * part + index % part])]
      }
      #expect(own.map(\.bitPattern) == expected.map(\.bitPattern))
    }
  }

  /// One matrix for gate and up, or two: the same bits.
  @Test(arguments: TensorParallelScheme.allCases)
  func fusedGateIsTheSame(scheme: TensorParallelScheme) throws {
    let example = Self.random[0]
    let block = try example.block()
    let x = Array(example.x[..<(2 * example.inputs)])
    for ranks in Self.ranks {
      let fused = try ActOrderCase.run(block, scheme, ranks: ranks, x: x, arithmetic: .fast)
      let apart = try ActOrderCase.run(
        block, scheme, ranks: ranks, x: x, fusesGate: false, arithmetic: .fast)
      for (one, other) in zip(fused, apart) {
        #expect(one.y.map(\.bitPattern) == other.y.map(\.bitPattern))
        #expect(one.counters.gatheredElements == other.counters.gatheredElements)
      }
    }
  }

  /// With one rank: the plain kernels, one after the other.
  @Test(arguments: Arithmetic.allCases)
  func oneRankIsThePlainKernel(arithmetic: Arithmetic) throws {
    let example = Self.random[2]
    let block = try example.block()
    let x = Array(example.x[..<(3 * example.inputs)])
    var hidden = try PackedWeights(block.up).matmul(x, arithmetic: arithmetic)
    let bias = try #require(block.upBias)
    let scale = try #require(block.hiddenScale)
    let ones = [Float](repeating: 1, count: example.hidden)
    for row in 0..<3 {
      var channels = Array(hidden[row * example.hidden..<(row + 1) * example.hidden])
      for i in channels.indices { channels[i] += bias[i] }
      VectorOperations.geluMultiply(
        channels, ones, into: &hidden[row * example.hidden], count: example.hidden)
    }
    for i in hidden.indices { hidden[i] *= scale[i % example.hidden] }
    var y = try PackedWeights(block.down).matmul(hidden, arithmetic: arithmetic)
    let last = try #require(block.downBias)
    for i in y.indices { y[i] += last[i % example.outputs] }
    for scheme in [TensorParallelScheme.naive, .allToAll, .tpAware] {
      let found = try ActOrderCase.run(block, scheme, ranks: 1, x: x, arithmetic: arithmetic)[0].y
      #expect(found.map(\.bitPattern) == y.map(\.bitPattern), "\(scheme)")
    }
  }

  // MARK: What must fail

  /// No exchange and unmoved columns: wrong, with one rank as with several.
  @Test(arguments: ranks)
  func forgettingTheMoveIsSeen(ranks: Int) throws {
    let example = Self.integers[0]
    let block = try example.block()
    let broken = try ActOrderMLP(
      gate: block.gate, up: block.up, down: block.down.withoutInputPermutation(),
      gateBias: block.gateBias, upBias: block.upBias, downBias: block.downBias,
      hiddenScale: block.hiddenScale, activation: block.activation, movedOrder: 1)
    let y = try ActOrderCase.run(broken, .tpAware, ranks: ranks, x: example.x)[0].y
    #expect(y != example.expected.map { Float($0) })
    #expect(zip(y, example.expected).count { Double($0) != $1 } > y.count / 2)
  }

  /// Codes that move without their scales, zero points, bias or factors: each is seen.
  @Test func movingHalfIsSeen() throws {
    let example = Self.integers[0]
    let block = try example.block()
    let moved = try block.movingInputOrder()
    let expected = example.expected.map { Float($0) }
    func output(
      up: Int4Matrix, bias: [Float]? = moved.upBias, scale: [Float]? = moved.hiddenScale
    ) throws -> [Float] {
      let block = try ActOrderMLP(
        gate: moved.gate, up: up, down: moved.down, gateBias: moved.gateBias, upBias: bias,
        downBias: moved.downBias, hiddenScale: scale, activation: moved.activation,
        movedOrder: moved.movedOrder)
      return try ActOrderCase.run(block, .tpAware, ranks: 2, x: example.x)[0].y
    }
    func mixed(scales: [Float], offsets: Int4Matrix.Offsets) throws -> Int4Matrix {
      try Int4Matrix(
        rows: moved.up.rows, columns: moved.up.columns, groupSize: moved.up.groupSize,
        codes: moved.up.codes, scales: scales, offsets: offsets,
        inputPermutation: moved.up.inputPermutation)
    }
    #expect(try output(up: moved.up) == expected)
    #expect(
      try output(up: mixed(scales: block.up.scales, offsets: moved.up.offsets)) != expected)
    #expect(
      try output(up: mixed(scales: moved.up.scales, offsets: block.up.offsets)) != expected)
    #expect(try output(up: moved.up, bias: block.upBias) != expected)
    #expect(try output(up: moved.up, scale: block.hiddenScale) != expected)
  }

  /// A joined matrix cut as one block gives one rank all of the gate: the halves must be cut first.
  @Test func cuttingTheFusedMatrixIsSeen() throws {
    let example = Self.random[0]
    let block = try example.block()
    let joined = try Int4Matrix.joined([#require(block.gate), block.up])
    let right = try Int4Matrix.joined([
      #require(block.gate).outputShard(rank: 0, ranks: 2), block.up.outputShard(rank: 0, ranks: 2),
    ])
    #expect(try joined.outputShard(rank: 0, ranks: 2) != right)
  }

  // MARK: Counters

  @Test(arguments: ranks, [1, 16])
  func countersAreThePublishedOnes(ranks: Int, count: Int) throws {
    let example = Self.random[1]
    let block = try example.block()
    let (k, n, outputs) = (example.inputs, example.hidden, example.outputs)
    let x = Array(example.x[..<(count * k)])
    let own = n / ranks
    for scheme in TensorParallelScheme.allCases {
      let results = try ActOrderCase.run(block, scheme, ranks: ranks, x: x)
      let plan = try TensorParallelPlan(
        shape: .init(inputs: k, hidden: n, outputs: outputs, groupSize: 32), count: count,
        scheme: scheme, ranks: ranks, order: GroupIndices(block.down), bytesPerElement: 4)
      for (rank, result) in results.enumerated() {
        let counters = result.counters
        let hop =
          switch scheme {
          case .naive: count * n
          case .allToAll: 2 * count * own
          case .localSort: count * own
          case .tpAware: 0
          }
        #expect(counters.gatheredElements == count * k + hop)
        #expect(counters.largestIntermediate == count * (scheme == .naive ? n : own))
        let traffic = counters.traffic
        let isExchanging = scheme == .naive || scheme == .allToAll
        #expect(traffic.collectives == (ranks == 1 ? 0 : isExchanging ? 2 : 1))
        let reduced = 2 * (ranks - 1) * count * outputs * 4 / ranks
        if scheme != .allToAll {
          let gathered = scheme == .naive ? (ranks - 1) * count * own * 4 : 0
          #expect(traffic.bytes == reduced + gathered)
        } else {
          #expect(traffic.bytes <= reduced + (ranks - 1) * count * own * 4)
        }
        // The plan, which computes no product, counts the same.
        #expect(plan.gatheredElements == counters.gatheredElements)
        #expect(plan.largestIntermediate == counters.largestIntermediate)
        #expect(plan.ranks[rank].bytes == traffic.bytes, "\(scheme) \(rank)")
        #expect(plan.ranks[rank].groupSwitches == counters.groupSwitches)
        #expect(plan.ranks[rank].scaleBytes == counters.scaleBytes)
        #expect(plan.collectives == traffic.collectives)
        switch scheme {
        case .localSort:
          #expect(counters.groupSwitches <= n / 32 && counters.groupSwitches > own / 32 - 1)
        default: #expect(counters.groupSwitches == own / 32)
        }
      }
    }
  }

  /// The counters of §5 and §6 of the digest: a ring's bytes in binary16, and Llama-70B's scales.
  @Test func knownBytes() throws {
    let llama = TensorParallelShape.llama70B
    var random = RepeatableRandom(seed: 8)
    let indices = try GroupIndices(
      ActOrderCase.shuffledIndices(llama.hidden, group: 128, using: &random),
      inputs: llama.hidden, groups: llama.hidden / 128)
    #expect(GroupIndices.switches(indices.indices) > 28_400)
    #expect(GroupIndices.switches(indices.indices.sorted()) == 224)
    let expected: [(ranks: Int, count: Int, gathered: Int, reduced: Int)] = [
      (2, 1, 28672, 16384), (2, 16, 458_752, 262_144), (4, 1, 43008, 24576),
      (8, 1, 50176, 28672), (8, 16, 802_816, 458_752),
    ]
    for row in expected {
      func plan(_ scheme: TensorParallelScheme) throws -> TensorParallelPlan {
        try TensorParallelPlan(
          shape: llama, count: row.count, scheme: scheme, ranks: row.ranks, order: indices,
          bytesPerElement: 2)
      }
      let (naive, aware) = (try plan(.naive), try plan(.tpAware))
      #expect(naive.bytesPerRank == row.gathered + row.reduced)
      #expect(aware.bytesPerRank == row.reduced)
      #expect(naive.collectives == 2 && aware.collectives == 1)
      let saved = 1 - Double(aware.bytesPerRank) / Double(naive.bytesPerRank)
      #expect(abs(saved - 0.636) < 0.0005)
      // All-to-all moves an all-gather's T-th part, but for chance.
      let all = try plan(.allToAll).bytesPerRank - row.reduced
      #expect(abs(Double(all) * Double(row.ranks) / Double(row.gathered) - 1) < 0.1)
      #expect(
        try plan(.localSort).bytesPerRank == row.reduced)
    }
    let granite = try TensorParallelPlan(
      shape: .granite20B, count: 16, scheme: .naive, ranks: 8,
      order: GroupIndices(
        (0..<24576).map { Int32($0 / 128) }, inputs: 24576, groups: 192), bytesPerElement: 2)
    #expect(granite.bytesPerRank == 1_032_192)
    let eight = try TensorParallelPlan(
      shape: llama, count: 1, scheme: .tpAware, ranks: 8, order: indices, bytesPerElement: 2)
    #expect(eight.groupSwitches == 28 && eight.scaleBytes == 458_752)
    let local = try TensorParallelPlan(
      shape: llama, count: 1, scheme: .localSort, ranks: 8, order: indices, bytesPerElement: 2)
    #expect(local.groupSwitches == 224 && local.scaleBytes == 3_670_016)
  }

  /// Without act-order all schemes gather nothing, and the offline pass changes no byte.
  @Test func withoutActOrderNothingMoves() throws {
    let example = ActOrderCase(
      inputs: 64, hidden: 256, outputs: 24, isGated: true, activation: .identity, hasBias: true,
      numbers: .integers, hasOrder: false, seed: 9)
    let block = try example.block()
    #expect(block.hiddenOrder.isIdentity && block.up.inputPermutation == nil)
    let moved = try block.movingInputOrder()
    #expect(moved.up == block.up && moved.gate == block.gate && moved.down == block.down)
    #expect(moved.upBias == block.upBias && moved.hiddenScale == block.hiddenScale)
    let result = try ActOrderCase.run(block, .tpAware, ranks: 4, x: example.x)[0]
    #expect(result.y == example.expected.map { Float($0) })
    #expect(result.counters.gatheredElements == 0)
  }
}
