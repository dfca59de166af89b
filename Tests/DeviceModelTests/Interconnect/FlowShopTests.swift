import DeviceModel
import TestSupport
import Testing

@Suite("Chunks that compute and communicate")
struct FlowShopTests {
  private func permutations(_ items: [Int]) -> [[Int]] {
    if items.count <= 1 { return [items] }
    return items.indices.flatMap { index -> [[Int]] in
      var rest = items
      let item = rest.remove(at: index)
      return permutations(rest).map { [item] + $0 }
    }
  }

  /// Makespan from the definition, on its own.
  private func makespan(_ jobs: [FlowShop.Job], _ order: [Int]) -> Double {
    var worst = 0.0
    for split in order.indices {
      let compute = order[...split].reduce(0) { $0 + jobs[$1].compute }
      let communicate = order[split...].reduce(0) { $0 + jobs[$1].communicate }
      worst = max(worst, compute + communicate)
    }
    return worst
  }

  @Test("Johnson's order is no worse than any other, up to seven chunks")
  func johnson() throws {
    var random = RepeatableRandom(seed: 3)
    for count in 0...7 {
      for _ in 0..<(count == 7 ? 8 : 30) {
        // Small whole numbers, so that ties come up.
        let jobs = (0..<count).map { _ in
          FlowShop.Job(
            compute: Double(Int.random(in: 0...9, using: &random)),
            communicate: Double(Int.random(in: 0...9, using: &random)))
        }
        let shop = try FlowShop(jobs)
        let best = permutations(Array(0..<count)).map { makespan(jobs, $0) }.min() ?? 0
        let timeline = try shop.timeline()
        #expect(timeline.makespan == best)
        #expect(shop.lowerBound <= best)
        #expect(timeline.exposed == best - jobs.reduce(0) { $0 + $1.compute })
      }
    }
  }

  @Test("Timelines overlap nothing that one machine does, and start nothing early")
  func timelines() throws {
    let shop = try FlowShop([
      FlowShop.Job(compute: 3, communicate: 5), FlowShop.Job(compute: 1, communicate: 2),
      FlowShop.Job(compute: 4, communicate: 0), FlowShop.Job(compute: 0, communicate: 1),
    ])
    for order in permutations([0, 1, 2, 3]) {
      let timeline = try shop.timeline(order: order)
      for index in 1..<4 {
        #expect(timeline.compute[index].lowerBound == timeline.compute[index - 1].upperBound)
        #expect(
          timeline.communicate[index].lowerBound >= timeline.communicate[index - 1].upperBound)
      }
      for index in 0..<4 {
        #expect(timeline.communicate[index].lowerBound >= timeline.compute[index].upperBound)
      }
      #expect(timeline.makespan == makespan(shop.jobs, order))
    }
  }

  @Test("Equal chunks take C/T + (T − 1) max(C, A)/T + A/T, which is the bound")
  func equalChunks() throws {
    for (compute, communicate) in [(100.0, 40.0), (40, 100), (50, 50)] {
      for count in 1...10 {
        let parts = Double(count)
        let shop = try FlowShop(
          [FlowShop.Job](
            repeating: FlowShop.Job(compute: compute / parts, communicate: communicate / parts),
            count: count))
        let expected =
          compute / parts + (parts - 1) * max(compute, communicate) / parts + communicate / parts
        #expect(abs(try shop.timeline().makespan - expected) < 1e-9)
        #expect(abs(shop.lowerBound - expected) < 1e-9)
      }
    }
  }

  @Test("Bad times and orders are refused; no chunks take no time")
  func edges() throws {
    for bad in [-1, Double.nan, .infinity] {
      #expect(throws: DeviceError.self) {
        try FlowShop([FlowShop.Job(compute: bad, communicate: 0)])
      }
      #expect(throws: DeviceError.self) {
        try FlowShop([FlowShop.Job(compute: 0, communicate: bad)])
      }
    }
    let shop = try FlowShop([FlowShop.Job(compute: 1, communicate: 1)])
    for order in [[], [1], [0, 0], [-1]] {
      #expect(throws: DeviceError.self) { try shop.timeline(order: order) }
    }
    let empty = try FlowShop([])
    #expect(try empty.timeline().makespan == 0)
    #expect(empty.lowerBound == 0 && empty.johnsonOrder.isEmpty)
  }

  // MARK: Cutting rows

  /// Causal rows: later ones compute longer; α for every chunk, and a start for its kernels.
  private func causal(
    alpha: Double, rate: Double, start: Double = 0
  ) -> (Range<Int>) throws(DeviceError) -> FlowShop.Job {
    { rows throws(DeviceError) in
      let keys = rows.reduce(0.0) { $0 + Double($1 + 1) }
      return FlowShop.Job(
        compute: rows.isEmpty ? 0 : start + keys * 0.01,
        communicate: rows.isEmpty ? 0 : alpha + Double(rows.count) * rate)
    }
  }

  @Test(
    "The chosen cut is never above one chunk, and exposes at most 1.05 times what it must",
    arguments: [0.0, 1, 20], [0.01, 0.5, 2.56, 10])
  func chosen(alpha: Double, rate: Double) throws {
    for rows in [1, 2, 7, 64, 512] {
      let cost = causal(alpha: alpha, rate: rate, start: 1)
      let plan = try OverlapPlanner(mostChunks: 12).best(rows: rows, cost: cost)
      #expect(plan.timeline.makespan <= plan.unchunked)
      #expect(plan.timeline.exposed <= 1.05 * plan.exposedBound + 1e-9 * plan.timeline.makespan)
      #expect(plan.chunks.first?.lowerBound == 0 && plan.chunks.last?.upperBound == rows)
      #expect(Set(plan.orderedChunks) == Set(plan.chunks))
      // No number of equal chunks is better.
      for count in 1...12 {
        let planner = OverlapPlanner()
        let equal = try planner.plan(
          rows: rows, chunks: planner.equalChunks(rows: rows, chunks: count), cost: cost)
        #expect(plan.timeline.makespan <= equal.timeline.makespan * (1 + 1e-9))
      }
    }
  }

  @Test("Without α no number of chunks is above one", arguments: [0.01, 0.5, 2.56, 10])
  func noLatency(rate: Double) throws {
    let planner = OverlapPlanner()
    for rows in [1, 3, 50, 100] {
      for count in [1, 2, 3, 7, 50, 1000] {
        let plan = try planner.plan(
          rows: rows, chunks: planner.equalChunks(rows: rows, chunks: count),
          cost: causal(alpha: 0, rate: rate))
        #expect(plan.timeline.makespan <= plan.unchunked * (1 + 1e-12))
      }
    }
  }

  /// Computation of 1,313 µs, communication of 256: what cannot hide is about the last chunk's.
  @Test("A small last chunk hides more of causal rows than equal ones")
  func lastChunk() throws {
    let cost = causal(alpha: 2, rate: 0.5)
    let plan = try OverlapPlanner(mostChunks: 8).best(rows: 512, cost: cost)
    let planner = OverlapPlanner()
    let equal = try (1...8).map {
      try planner.plan(
        rows: 512, chunks: planner.equalChunks(rows: 512, chunks: $0), cost: cost
      ).timeline.exposed
    }.min()
    #expect(plan.timeline.exposed < 0.5 * (equal ?? 0))
    let last = try #require(plan.orderedChunks.last)
    #expect(plan.chunks.allSatisfy { $0.count >= last.count })
  }

  @Test("More chunks than rows are as many as rows; no rows give no chunk; bad cuts are refused")
  func edgesOfRows() throws {
    let planner = OverlapPlanner()
    #expect(try planner.equalChunks(rows: 3, chunks: 10) == [0..<1, 1..<2, 2..<3])
    #expect(try planner.equalChunks(rows: 0, chunks: 4).isEmpty)
    #expect(try planner.equalChunks(rows: 10, chunks: 3).map(\.count).reduce(0, +) == 10)
    let cost = causal(alpha: 1, rate: 1)
    let empty = try planner.best(rows: 0, cost: cost)
    #expect(empty.chunks.isEmpty && empty.timeline.makespan == 0 && empty.unchunked == 0)
    #expect(try OverlapPlanner(mostChunks: 64).best(rows: 2, cost: cost).chunks.count <= 2)
    let coarse = try OverlapPlanner(granularity: 16).best(rows: 100, cost: cost)
    #expect(coarse.chunks.dropLast().allSatisfy { $0.upperBound % 16 == 0 })
    for (rows, chunks) in [(-1, 1), (1, 0), (1, -3)] {
      #expect(throws: DeviceError.self) { try planner.equalChunks(rows: rows, chunks: chunks) }
    }
    #expect(throws: DeviceError.self) {
      try OverlapPlanner(mostChunks: 0).best(rows: 4, cost: cost)
    }
    #expect(throws: DeviceError.self) {
      try OverlapPlanner(granularity: 0).best(rows: 4, cost: cost)
    }
    for bad in [[0..<2], [0..<2, 3..<4], [1..<4], [0..<2, 1..<4], [0..<4, 4..<4], [0..<5]] {
      #expect(throws: DeviceError.self, "\(bad)") {
        try planner.plan(rows: 4, chunks: bad, cost: cost)
      }
    }
    #expect(throws: DeviceError.self) {
      try planner.best(rows: 4) { _ throws(DeviceError) in
        FlowShop.Job(compute: .nan, communicate: 0)
      }
    }
  }
}
