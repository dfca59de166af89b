import DeviceModel
import QuantKernels
import TestSupport
import Testing

/// Attention and projection over ranks, chunk by chunk.
@Suite struct TiledAllReduceTests {
  private static func bits(_ output: TiledAllReduce.Output) -> [UInt32] {
    output.values.map(\.bitPattern)
  }

  private static func equal(_ rows: Int, _ chunks: Int) throws -> [Range<Int>] {
    try OverlapPlanner().equalChunks(rows: rows, chunks: chunks)
  }

  @Test(arguments: [1, 2, 4, 8])
  func matchesFloat64AndOneRank(ranks: Int) throws {
    for layer in [
      ShardedLayer(), ShardedLayer(heads: 16, keyValueHeads: 8, dimension: 5, width: 7),
    ] {
      let (expected, tolerance) = layer.reference(ranks: ranks)
      let (_, single) = layer.reference(ranks: 1)
      let output = try layer.run(ranks: ranks, chunks: Self.equal(40, 3))[0].values
      let whole = try layer.run(ranks: 1, chunks: [0..<40])[0].values
      for index in expected.indices {
        #expect((Double(output[index]) - expected[index]).magnitude <= tolerance[index])
        #expect(
          (Double(output[index]) - Double(whole[index])).magnitude
            <= tolerance[index] + single[index])
      }
    }
  }

  /// The same bits on every rank, for every cut, order of chunks, and repetition.
  @Test(arguments: [2, 4, 8])
  func chunksAndArrivalDoNotMatter(ranks: Int) throws {
    let layer = ShardedLayer()
    let expected = Self.bits(try layer.run(ranks: ranks, chunks: [0..<40])[0])
    var cuts = try [1, 2, 3, 7, 40].map { try Self.equal(40, $0) }
    cuts.append([25..<40, 0..<1, 1..<25])
    cuts.append([39..<40, 0..<39])
    for chunks in cuts {
      for output in try layer.run(ranks: ranks, chunks: chunks) {
        #expect(Self.bits(output) == expected)
        #expect(output.chunks.map(\.rows) == chunks)
        for chunk in output.chunks {
          #expect(chunk.communicate.lowerBound >= chunk.compute.upperBound)
        }
        #expect(output.exposedSeconds >= 0 && output.makespan >= output.computeSeconds)
        // The ring's share of all bytes, up to the rounding of every chunk's parts.
        let bytes = 2 * (ranks - 1) * 40 * 24 * 4 / ranks
        #expect((output.traffic.bytes - bytes).magnitude <= chunks.count * 4 * ranks)
        #expect(output.traffic.collectives == chunks.count)
      }
    }
  }

  /// A decode step over a filled cache is the same as that row of a prompt.
  @Test func lastRowAlone() throws {
    let layer = ShardedLayer()
    let whole = try layer.run(ranks: 4, chunks: Self.equal(40, 5))[0].values
    let row = try layer.run(ranks: 4, first: 39, chunks: [0..<1])[0].values
    #expect(row == Array(whole[(39 * 24)...]))
  }

  @Test func oneRankSendsNothing() throws {
    let output = try ShardedLayer().run(ranks: 1, chunks: Self.equal(40, 4))[0]
    #expect(output.traffic.collectives == 0 && output.traffic.bytes == 0)
    #expect(output.chunks.allSatisfy { $0.communicate.isEmpty })
  }

  @Test func noRows() throws {
    for ranks in [1, 2] {
      for output in try ShardedLayer().run(ranks: ranks, first: 40, chunks: []) {
        #expect(output.values.isEmpty && output.makespan == 0)
      }
    }
  }

  /// Modelled links count what the schedule of their collective sends for every chunk.
  @Test func modelledLinks() throws {
    let layer = ShardedLayer(width: 48)
    let collective = try Collective(topology: .dgx1V100, algorithm: .ring)
    let chunks = try Self.equal(40, 4)
    let outputs = try layer.run(ranks: 8, chunks: chunks) {
      try ModelledCommunicator($0, as: collective, bytesPerElement: 2)
    }
    let schedule = try CollectiveSchedule.allReduce(
      elements: 10 * 48, algorithm: .ring, on: .dgx1V100)
    let time = try collective.allReduceMicroseconds(bytes: 10 * 48 * 2)
    for (rank, output) in outputs.enumerated() {
      #expect(output.traffic.bytes == 4 * 2 * schedule.elementsSent[rank])
      #expect(abs(output.traffic.modelledMicroseconds - 4 * time) < 1e-9)
    }
  }

  // MARK: Errors

  private func failure(_ body: () throws -> Void) -> QuantError? {
    do { try body() } catch { return error as? QuantError }
    return nil
  }

  /// A carrier that fails at its n-th collective on one rank.
  private final class Failing: Communicator, @unchecked Sendable {
    let carrier: ThreadCommunicator
    var left: Int
    init(_ carrier: ThreadCommunicator, after: Int) {
      self.carrier = carrier
      left = after
    }
    var rank: Int { carrier.rank }
    var ranks: Int { carrier.ranks }
    var traffic: CommunicationTraffic { carrier.traffic }
    func allReduce(_ values: UnsafeMutableBufferPointer<Float>) throws(QuantError) {
      left -= 1
      if left < 0 { throw QuantError(.invalidData, "link", "cut", remedy: "mend it") }
      try carrier.allReduce(values)
    }
    func allGather(
      _ own: UnsafeBufferPointer<Float>, into all: UnsafeMutableBufferPointer<Float>
    ) throws(QuantError) { try carrier.allGather(own, into: all) }
    func allToAll(
      _ values: UnsafeBufferPointer<Float>, counts: [Int],
      into received: UnsafeMutableBufferPointer<Float>, receivedCounts: [Int]
    ) throws(QuantError) {
      try carrier.allToAll(values, counts: counts, into: received, receivedCounts: receivedCounts)
    }
    func barrier() throws(QuantError) { try carrier.barrier() }
    func abort(_ error: QuantError) { carrier.abort(error) }
  }

  /// A sender that fails in the middle ends all ranks, whose senders wait for it.
  @Test(arguments: [0, 1, 3])
  func sendersThatFail(after: Int) throws {
    let layer = ShardedLayer()
    let chunks = try Self.equal(40, 4)
    let error = failure {
      _ = try layer.run(ranks: 4, chunks: chunks) { carrier -> any Communicator in
        if carrier.rank == 2 { return Failing(carrier, after: after) }
        return carrier
      }
    }
    #expect(error?.code == .invalidData)
    #expect(error?.problem == "cut")
  }

  /// A rank whose computation fails ends the senders of the others, which wait for its chunk.
  @Test func computationsThatFail() throws {
    let layer = ShardedLayer()
    let chunks = try Self.equal(40, 4)
    let error = failure {
      _ = try ThreadCommunicator.run(ranks: 2) { communicator in
        let shard = try AttentionShard(
          layer.layer, rank: communicator.rank, ranks: 2, projection: layer.projection,
          capacity: 40)
        // The second rank's cache lacks the last rows.
        let tokens = communicator.rank == 0 ? 40 : 25
        let width = layer.layer.keyValueHeads * layer.layer.headDimension
        try shard.append(
          keys: Array(layer.keys[..<(tokens * width)]),
          values: Array(layer.values[..<(tokens * width)]))
        _ = try TiledAllReduce.run(
          shard, queries: shard.ownQueries(of: layer.queries), count: 40, firstPosition: 0,
          options: layer.options, chunks: chunks, communicator: communicator,
          pool: WorkerPool(threads: 1))
      }
    }
    #expect(error?.description.contains("attention positions") == true)
  }

  @Test func badCalls() throws {
    let layer = ShardedLayer()
    for chunks in [
      [], [0..<39], [0..<41], [0..<20, 21..<40], [0..<20, 19..<40], [0..<40, 0..<40],
      [0..<40, 40..<40], [1..<40],
    ] {
      for ranks in [1, 2] {
        #expect(
          failure { _ = try layer.run(ranks: ranks, chunks: chunks) }?.code == .invalidArgument,
          "\(chunks)")
      }
    }
    func shard(
      heads: Int = 8, keyValueHeads: Int = 8, dimension: Int = 8, width: Int = 24, rank: Int = 0,
      ranks: Int = 2, weights: Int = 24 * 64
    ) -> QuantError.Code? {
      failure {
        _ = try AttentionShard(
          AttentionShard.Layer(
            heads: heads, keyValueHeads: keyValueHeads, headDimension: dimension, width: width),
          rank: rank, ranks: ranks, projection: [Float](repeating: 0, count: weights), capacity: 4)
      }?.code
    }
    #expect(shard() == nil)
    #expect(shard(ranks: 3) == .unsupported)
    #expect(shard(ranks: 0) == .invalidArgument)
    #expect(shard(rank: 2) == .invalidArgument)
    #expect(shard(rank: -1) == .invalidArgument)
    #expect(shard(heads: 7) == .invalidArgument)
    #expect(shard(heads: Int.max, keyValueHeads: 1) == .invalidArgument)
    #expect(shard(keyValueHeads: 0) == .invalidArgument)
    #expect(shard(dimension: 0) == .invalidArgument)
    #expect(shard(dimension: Int.max) == .invalidArgument)
    #expect(shard(width: Int.max) == .invalidArgument)
    #expect(shard(weights: 5) == .invalidArgument)
    let good = try AttentionShard(
      layer.layer, rank: 1, ranks: 2, projection: layer.projection, capacity: 40)
    #expect(failure { try good.append(keys: [1], values: [1]) }?.code == .invalidArgument)
    #expect(failure { _ = try good.ownQueries(of: [1]) }?.code == .invalidArgument)
    // A share of another rank, and queries of another size.
    #expect(
      failure {
        _ = try ThreadCommunicator.run(ranks: 2) { communicator in
          _ = try TiledAllReduce.run(
            good, queries: [], count: 0, firstPosition: 0, options: layer.options, chunks: [],
            communicator: communicator, pool: WorkerPool(threads: 1))
        }
      }?.code == .invalidArgument)
    for count in [-1, 1, Int.max, Int.max / 32 + 1] {
      #expect(
        failure {
          _ = try ThreadCommunicator.run(ranks: 2) { communicator in
            let shard = try AttentionShard(
              layer.layer, rank: communicator.rank, ranks: 2, projection: layer.projection,
              capacity: 4)
            _ = try TiledAllReduce.run(
              shard, queries: [], count: count, firstPosition: 0, options: layer.options,
              chunks: [], communicator: communicator, pool: WorkerPool(threads: 1))
          }
        }?.code == .invalidArgument)
    }
  }

  // MARK: The model

  private func model(
    alpha: Double = 1, topology: Topology = .ascend910B
  ) throws -> AttentionLayerTime {
    try AttentionLayerTime(
      layer: AttentionShard.Layer(heads: 64, keyValueHeads: 64, headDimension: 128, width: 8192),
      device: .ascend910B,
      collective: Collective(
        topology: topology.scaled(latency: alpha), algorithm: .ring,
        start: Collective.ringStart.scaled(by: alpha)))
  }

  /// Flop and bytes of chunks add up to those of all rows, but for what every chunk reads again.
  @Test func workOfChunks() throws {
    let model = try model()
    let chunks = try Self.equal(1000, 7)
    let parts = chunks.reduce(0) { $0 + model.flop(rows: $1) }
    #expect(abs(parts / model.flop(rows: 0..<1000) - 1) < 1e-12)
    // 8 heads of 128 see 1 + 2 + 3 keys for scores and sums; then 3 rows of 1024 · 8192.
    let flop = Double(4 * 1024 * 6 + 2 * 3 * 1024 * 8192)
    #expect(model.flop(rows: 0..<3) == flop)
    let elements: Int = 3 * (2 * 1024 + 8192) + 2 * 3 * 1024 + 1024 * 8192
    #expect(model.bytes(rows: 0..<3) == Double(2 * elements))
  }

  @Test(arguments: [512, 4096, 32768])
  func plans(rows: Int) throws {
    let model = try model()
    let plan = try model.plan(rows: rows)
    #expect(plan.timeline.makespan <= plan.unchunked)
    #expect(plan.timeline.exposed <= 1.05 * plan.exposedBound + 1e-9 * plan.timeline.makespan)
    let free = try self.model(alpha: 0).plan(rows: rows)
    #expect(free.timeline.makespan <= free.unchunked)
    let one = try self.model(topology: Topology.ring(devices: 1, link: .hccs910B, host: .pcie3))
    let alone = try one.plan(rows: rows)
    #expect(alone.chunks == [0..<rows] && alone.timeline.exposed == 0)
  }

  @Test func badModels() throws {
    let collective = try Collective(topology: .ascend910B, algorithm: .ring)
    for layer in [
      AttentionShard.Layer(heads: 12, keyValueHeads: 12, headDimension: 128, width: 8192),
      AttentionShard.Layer(heads: 0, keyValueHeads: 1, headDimension: 128, width: 8192),
      AttentionShard.Layer(heads: 8, keyValueHeads: 8, headDimension: 128, width: 0),
    ] {
      #expect(throws: QuantError.self) {
        try AttentionLayerTime(layer: layer, device: .v100, collective: collective)
      }
    }
    #expect(throws: QuantError.self) { try model().plan(rows: -1) }
    #expect(throws: QuantError.self) { try model().plan(rows: 4, chunks: [0..<3]) }
  }
}
