import QuantKernels
import TestSupport
import Testing

/// The offline pass and what it refuses; heads.
@Suite struct ActOrderMLPTests {
  private func refusal(_ body: () throws -> Void) -> QuantError? {
    do { try body() } catch { return error as? QuantError }
    return nil
  }

  private static let example = ActOrderCase(
    inputs: 64, hidden: 256, outputs: 24, isGated: true, activation: .silu, hasBias: true,
    numbers: .random, seed: 21)

  @Test func passMovesEverythingOnce() throws {
    let block = try Self.example.block()
    let order = block.hiddenOrder
    let moved = try block.movingInputOrder()
    #expect(moved.movedOrder == order.checksum && moved.down.inputPermutation == nil)
    #expect(moved.up.inputPermutation == block.up.inputPermutation)
    #expect(moved.down.codes == block.down.codes && moved.down.scales == block.down.scales)
    for channel in 0..<256 {
      let source = Int(order.order[channel])
      #expect(moved.upBias?[channel] == block.upBias?[source])
      #expect(moved.gateBias?[channel] == block.gateBias?[source])
      #expect(moved.hiddenScale?[channel] == block.hiddenScale?[source])
      for input in [0, 33, 63] {
        #expect(moved.up[channel, input] == block.up[source, input])
        #expect(moved.gate?[channel, input] == block.gate?[source, input])
      }
    }
    #expect(moved.checksum != block.checksum)
    let again = refusal { _ = try moved.movingInputOrder() }
    #expect(again?.code == .invalidArgument && again?.problem.contains("already") == true)
  }

  @Test func secondConsumersAreRefused() throws {
    let block = try Self.example.block()
    let error = refusal { _ = try block.movingInputOrder(consumers: ["down", "adapter"]) }
    #expect(error?.code == .unsupported && error?.problem.contains("adapter") == true)
  }

  @Test func blocksThatDoNotFit() throws {
    let block = try Self.example.block()
    let gate = try #require(block.gate)
    let half = try block.up.rows(0..<128)
    func code(
      gate: Int4Matrix? = gate, up: Int4Matrix = block.up, down: Int4Matrix = block.down,
      gateBias: [Float]? = nil, upBias: [Float]? = nil, downBias: [Float]? = nil,
      scale: [Float]? = nil, moved: UInt64? = nil
    ) -> QuantError.Code? {
      refusal {
        _ = try ActOrderMLP(
          gate: gate, up: up, down: down, gateBias: gateBias, upBias: upBias, downBias: downBias,
          hiddenScale: scale, activation: .silu, movedOrder: moved)
      }?.code
    }
    #expect(code() == nil)
    // The order of down has another length than up has outputs.
    #expect(code(gate: half, up: half) == .invalidArgument)
    #expect(code(gate: half) == .invalidArgument)
    #expect(code(gate: nil, gateBias: [Float](repeating: 0, count: 256)) == .invalidArgument)
    #expect(code(upBias: [1]) == .invalidArgument)
    #expect(code(downBias: [Float](repeating: .nan, count: 24)) == .invalidArgument)
    #expect(code(scale: [Float](repeating: .infinity, count: 256)) == .invalidArgument)
    // A moved up beside the original down: the marker of a file tells.
    #expect(code(moved: block.hiddenOrder.checksum) == .invalidData)
  }

  @Test func shardsRefuseWhatDoesNotDivide() throws {
    let block = try Self.example.block()
    let moved = try block.movingInputOrder()
    func code(
      _ scheme: TensorParallelScheme, rank: Int = 0, ranks: Int, block: ActOrderMLP? = nil
    ) -> QuantError.Code? {
      refusal {
        _ = try MLPShard(
          block ?? (scheme == .tpAware ? moved : try Self.example.block()), scheme: scheme,
          rank: rank, ranks: ranks)
      }?.code
    }
    for scheme in TensorParallelScheme.allCases {
      #expect(code(scheme, ranks: 8) == nil)
      for ranks in [0, -1, .min] { #expect(code(scheme, ranks: ranks) == .invalidArgument) }
      for ranks in [3, 257, 512, .max] { #expect(code(scheme, ranks: ranks) == .unsupported) }
      // 4 outputs are no word of packed zero points.
      #expect(code(scheme, ranks: 64) == .unsupported)
      // 16 channels are half a group: only local sort, which has parts of all, takes them.
      #expect(code(scheme, ranks: 16) == (scheme == .localSort ? nil : .unsupported))
      #expect(code(scheme, rank: 8, ranks: 8) == .invalidArgument)
      #expect(code(scheme, rank: -1, ranks: 8) == .invalidArgument)
    }
    // Scheme and pass must fit.
    #expect(code(.tpAware, ranks: 2, block: block) == .invalidArgument)
    for scheme in [TensorParallelScheme.naive, .allToAll, .localSort] {
      #expect(code(scheme, ranks: 2, block: moved) == .invalidArgument)
    }
  }

  /// Qwen's 13696 channels in groups of 128 are 107 groups: two ranks would share one.
  @Test func straddlingGroupsAreRefused() throws {
    let shape = TensorParallelShape(inputs: 128, hidden: 13696, outputs: 128)
    let order = try shape.shuffledIndices(seed: 1)
    for scheme in TensorParallelScheme.allCases {
      let error = refusal {
        _ = try TensorParallelPlan(shape: shape, count: 1, scheme: scheme, ranks: 2, order: order)
      }
      #expect(error?.code == (scheme == .localSort ? nil : .unsupported))
    }
    let wide = try Int4Matrix(
      rows: 8, columns: 13696, groupSize: 128, codes: [UInt8](repeating: 8, count: 8 * 13696),
      scales: [Float](repeating: 1, count: 8 * 107), offsets: .symmetric)
    let error = refusal { _ = try wide.inputShard(rank: 0, ranks: 2) }
    #expect(error?.code == .unsupported && error?.problem.contains("6848") == true)
    #expect(
      refusal { _ = try wide.inputShard(rank: 0, ranks: 107) } == nil)
    // Hidden channels that are no whole groups at all.
    #expect(
      refusal {
        _ = try TensorParallelShape(inputs: 64, hidden: 100, outputs: 8).shuffledIndices(seed: 1)
      }?.code == .unsupported)
  }

  /// One P1 for gate and up: two orders do not fuse, and work apart with two gathers.
  @Test func gateOfAnotherOrder() throws {
    let example = TensorParallelSchemesTests.integers[0]
    var random = RepeatableRandom(seed: 22)
    let other = ActOrderCase.Layer(
      rows: example.hidden, columns: example.inputs, group: 32, numbers: .integers,
      indices: ActOrderCase.shuffledIndices(example.inputs, group: 32, using: &random),
      using: &random)
    let block = try ActOrderMLP(
      gate: other.matrix(), up: example.up.matrix(), down: example.down.matrix(),
      activation: .identity)
    let fused = refusal { _ = try MLPShard(block, scheme: .naive, rank: 0, ranks: 2) }
    #expect(fused?.code == .invalidArgument)
    let x = example.x.map(Double.init)
    let gates = other.product(x, count: 17)
    let hidden = zip(gates, example.up.product(x, count: 17)).map { $0 * $1 }
    let expected = example.down.product(hidden, count: 17).map { Float($0) }
    for scheme in TensorParallelScheme.allCases {
      let result = try ActOrderCase.run(
        block, scheme, ranks: 4, x: example.x, fusesGate: false)[0]
      #expect(result.y == expected)
      if scheme == .tpAware {
        #expect(result.counters.gatheredElements == 2 * 17 * example.inputs)
      }
    }
  }

  @Test func badInputs() throws {
    let block = try Self.example.block()
    var nan = [Float](repeating: 1, count: 64)
    nan[3] = .nan
    for x in [[], [Float](repeating: 1, count: 63), nan] {
      let error = refusal { _ = try ActOrderCase.run(block, .naive, ranks: 2, x: x) }
      #expect(error?.code == .invalidArgument)
    }
  }

  /// A rank with another file, scheme or order is named on all ranks before anything is computed.
  @Test func ranksThatDisagree() throws {
    let block = try Self.example.block()
    let other = try ActOrderCase(
      inputs: 64, hidden: 256, outputs: 24, isGated: true, activation: .silu, hasBias: true,
      numbers: .random, seed: 23
    ).block()
    let moved = try block.movingInputOrder()
    let reordered = try ActOrderMLP(
      gate: moved.gate, up: moved.up, down: moved.down, gateBias: moved.gateBias,
      upBias: moved.upBias, downBias: moved.downBias, hiddenScale: moved.hiddenScale,
      activation: moved.activation, movedOrder: 7)
    let pairs: [(ActOrderMLP, TensorParallelScheme, ActOrderMLP, TensorParallelScheme)] = [
      (block, .naive, other, .naive), (block, .naive, moved, .tpAware),
      (block, .naive, block, .localSort), (moved, .tpAware, reordered, .tpAware),
    ]
    for (first, scheme, second, otherScheme) in pairs {
      let errors = refusal {
        _ = try ThreadCommunicator.run(ranks: 4) { communicator in
          let isOdd = communicator.rank == 1
          let shard = try MLPShard(
            isOdd ? second : first, scheme: isOdd ? otherScheme : scheme,
            rank: communicator.rank, ranks: 4)
          _ = try TensorParallelMLP(
            shard, communicator: communicator, pool: WorkerPool(threads: 1))
        }
      }
      #expect(errors?.code == .invalidData)
      #expect(errors?.problem.contains("rank 1") == true)
    }
    // A shard of another rank.
    let wrong = refusal {
      _ = try ThreadCommunicator.run(ranks: 2) { communicator in
        let shard = try MLPShard(block, scheme: .naive, rank: 0, ranks: 2)
        let layer = try TensorParallelMLP(
          shard, communicator: communicator, pool: WorkerPool(threads: 1))
        _ = try layer([Float](repeating: 1, count: 64))
      }
    }
    #expect(wrong?.code == .invalidArgument)
  }

  // MARK: Heads

  /// Values and output projection: attention with weights of its own per head between them.
  private static func attended(
    value: Int4Matrix, output: Int4Matrix, heads: Int, keyValueHeads: Int, dimension: Int,
    x: [Float]
  ) throws -> [Float] {
    let values = try value.matmul(x, arithmetic: .exact)
    let tokens = x.count / value.columns
    var mixed = [Float](repeating: 0, count: heads * dimension)
    for head in 0..<heads {
      let shared = head / (heads / keyValueHeads)
      for channel in 0..<dimension {
        // A weight of each token that depends on the query head: small integers.
        for token in 0..<tokens {
          mixed[head * dimension + channel] +=
            Float((head + token) % 3 - 1)
            * values[token * value.rows + shared * dimension + channel]
        }
      }
    }
    return try output.matmul(mixed, arithmetic: .exact)
  }

  /// Orders inside heads, the same for heads that share their values.
  private static func headOrder(
    heads: Int, keyValueHeads: Int, dimension: Int, seed: UInt64
  ) -> [Int32] {
    var random = RepeatableRandom(seed: seed)
    let orders = (0..<keyValueHeads).map { _ in
      (0..<dimension).map { Int32($0) }.shuffled(using: &random)
    }
    return (0..<heads).flatMap { head in
      orders[head / (heads / keyValueHeads)].map { Int32(head * dimension) + $0 }
    }
  }

  @Test(arguments: [(4, 4), (8, 2), (4, 1)])
  func headConstrainedOrdersMove(heads: Int, keyValueHeads: Int) throws {
    let dimension = 64
    var random = RepeatableRandom(seed: 31)
    let order = Self.headOrder(
      heads: heads, keyValueHeads: keyValueHeads, dimension: dimension, seed: 32)
    // Two groups a head, in the order of quantization: a column's group follows its place.
    var indices = [Int32](repeating: 0, count: heads * dimension)
    for (place, input) in order.enumerated() { indices[Int(input)] = Int32(place / 32) }
    let sorted = try GroupIndices(indices, inputs: indices.count, groups: indices.count / 32)
    let output = ActOrderCase.Layer(
      rows: 24, columns: indices.count, group: 32, numbers: .integers, indices: indices,
      using: &random)
    let value = ActOrderCase.Layer(
      rows: keyValueHeads * dimension, columns: 64, group: 32, numbers: .integers,
      indices: ActOrderCase.shuffledIndices(64, group: 32, using: &random), using: &random)
    let x = (0..<5 * 64).map { _ in Float(Int.random(in: -1...1, using: &random)) }
    let plainOutput = try output.matrix()
    #expect(plainOutput.inputPermutation == sorted.order.order)
    let (movedValue, movedOutput) = try HeadOrder.moving(
      value: value.matrix(), output: plainOutput, heads: heads, keyValueHeads: keyValueHeads,
      headDimension: dimension)
    #expect(movedOutput.inputPermutation == nil)
    func attended(_ value: Int4Matrix, _ output: Int4Matrix) throws -> [Float] {
      try Self.attended(
        value: value, output: output, heads: heads, keyValueHeads: keyValueHeads,
        dimension: dimension, x: x)
    }
    let expected = try attended(value.matrix(), plainOutput)
    #expect(try attended(movedValue, movedOutput) == expected)
    // Moving one of the two alone is seen.
    #expect(try attended(value.matrix(), movedOutput) != expected)
    #expect(try attended(movedValue, plainOutput) != expected)
  }

  /// Falling sums over the query heads that share values, in every head alike; equal ones stay.
  @Test(arguments: [(4, 4), (8, 2), (4, 1), (1, 1)])
  func fallingOrdersStayInsideHeads(heads: Int, keyValueHeads: Int) throws {
    let dimension = 16
    var random = RepeatableRandom(seed: 34)
    let sizes = (0..<heads * dimension).map { _ in Double(Int.random(in: 0...3, using: &random)) }
    let order = try HeadOrder.falling(
      sizes, heads: heads, keyValueHeads: keyValueHeads, headDimension: dimension)
    let values = try HeadOrder(
      Permutation(order.order), heads: heads, keyValueHeads: keyValueHeads,
      headDimension: dimension
    ).values
    let sharing = heads / keyValueHeads
    for shared in 0..<keyValueHeads {
      let channels = values.order[shared * dimension..<(shared + 1) * dimension].map {
        Int($0) - shared * dimension
      }
      let keys = channels.map { channel in
        (0..<sharing).reduce(0.0) {
          $0 + sizes[(shared * sharing + $1) * dimension + channel]
        }
      }
      for place in 1..<dimension {
        #expect(keys[place - 1] >= keys[place])
        if keys[place - 1] == keys[place] { #expect(channels[place - 1] < channels[place]) }
      }
    }
    #expect(order.isIdentity == false)
    let error = refusal {
      _ = try HeadOrder.falling(
        sizes, heads: heads + 1, keyValueHeads: keyValueHeads, headDimension: dimension)
    }
    #expect(error?.code == .invalidArgument)
  }

  @Test func ordersThatCrossHeads() throws {
    func code(_ order: [Int32], heads: Int = 4, keyValueHeads: Int = 2, dimension: Int = 4)
      -> QuantError?
    {
      refusal {
        _ = try HeadOrder(
          Permutation(order), heads: heads, keyValueHeads: keyValueHeads,
          headDimension: dimension)
      }
    }
    let good = Self.headOrder(heads: 4, keyValueHeads: 2, dimension: 4, seed: 33)
    #expect(code(good) == nil)
    var crossing = good
    crossing.swapAt(3, 4)
    #expect(code(crossing)?.problem.contains("would move to head") == true)
    var differing = good
    differing.swapAt(4, 5)
    #expect(code(differing)?.problem.contains("share values") == true)
    // Whole heads in another order cross too.
    #expect(code(Array(good[4...]) + Array(good[..<4])) != nil)
    // Without sharing the same order is fine.
    #expect(code(differing, keyValueHeads: 4) == nil)
    for (heads, keyValueHeads, dimension) in [
      (4, 3, 4), (0, 1, 4), (4, 2, 5), (4, 0, 4), (2, 1, 4),
    ] {
      #expect(
        code(good, heads: heads, keyValueHeads: keyValueHeads, dimension: dimension)?.code
          == .invalidArgument)
    }
  }
}
