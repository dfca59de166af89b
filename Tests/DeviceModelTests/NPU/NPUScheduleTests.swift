import DeviceModel
import Testing

@Suite("Time on a simulated NPU")
struct NPUScheduleTests {
  /// A split device with round numbers: a cycle a 32 bytes from memory, no starts.
  private var spec: NPUSpec {
    var spec = NPUSpec.ascend910b2
    let test = Provenance.assumed("a test")
    spec.clock = Sourced(1, test)
    spec.copyStartCycles = Sourced(0, test)
    spec.cubeStartCycles = Sourced(0, test)
    spec.vectorStartCycles = Sourced(0, test)
    spec.flagCycles = Sourced(100, test)
    spec.launchMicroseconds = Sourced(0, test)
    spec.memoryRate = Sourced(1e9, test)
    return spec
  }

  /// Work for two units: the cube side loads and stores through global memory, the vector side loads
  /// what it stored.
  private struct Pair {
    let core: NPUCore
    let array: NPUGlobal
    let slot: NPUTile
    let l1: NPUTile
    let ub: [NPUTile]

    init(_ spec: NPUSpec) throws {
      core = try NPUCore(spec, carriesValues: false)
      array = try NPUGlobal(
        NPURegion("slots", .streamed, distinctBytes: 1 << 20), count: 1 << 18, elementBytes: 4,
        carriesValues: false)
      slot = try core.globalSlot("slot")
      l1 = try core.allocate(.l1, bytes: 65536, "l1")
      ub = [
        try core.allocate(.ub, unit: 1, bytes: 32768, "ub 1"),
        try core.allocate(.ub, unit: 2, bytes: 32768, "ub 2"),
      ]
    }

    func window(_ bytes: Int) -> GlobalWindow {
      GlobalWindow(offset: 0, rows: 1, rowPitch: 0, columns: bytes / 4)
    }

    func store(_ bytes: Int, unit: Int = 1) throws(DeviceError) {
      try core.storeRows(
        .vector(ub[unit - 1], count: bytes / 4), to: array, window(bytes), slot: slot)
    }

    func load(_ bytes: Int, unit: Int = 2) throws(DeviceError) {
      try core.loadRows(
        array, window(bytes), into: .vector(ub[unit - 1], count: bytes / 4), slot: slot)
    }

    func launch() -> NPULaunch {
      NPULaunch(
        name: "test", programs: [core.program], coresUsed: 1, counters: core.program.counters,
        peakBytes: core.peakBytes, workspaceBytes: 0, regions: [array.region])
    }

    func cycles(_ spec: NPUSpec, skips: Bool = true) throws -> Double {
      let report = NPULaunchReport(launches: [launch()])
      return try NPUEstimate(report, on: spec, skipsRepetitions: skips).kernels[0].coreMicroseconds
        * 1000
    }
  }

  @Test("One pipe does one thing at a time, two pipes go together, a flag joins them")
  func makespans() throws {
    // Two stores of 3200 bytes on one pipe: 100 cycles each at 32 bytes a cycle.
    let one = try Pair(spec)
    try one.core.block([0]) { () throws(DeviceError) in
      try one.store(3200)
      try one.store(3200)
    }
    #expect(try one.cycles(spec) == 200)
    // One on each of two units.
    let two = try Pair(spec)
    try two.core.block([0]) { () throws(DeviceError) in
      try two.store(3200)
      try two.store(3200, unit: 2)
    }
    #expect(try two.cycles(spec) == 100)
    // Store, flag of 100 cycles, load.
    let chain = try Pair(spec)
    try chain.core.block([0]) { () throws(DeviceError) in
      try chain.store(3200)
      try chain.core.handOver(flag: 7, from: [1], pipe: .store)
      try chain.core.wait(flag: 7, of: 1, unit: 2, pipe: .load)
      try chain.load(6400)
    }
    #expect(try chain.cycles(spec) == 100 + 100 + 200)
    #expect(chain.core.program.counters.handOvers == 1)
    #expect(chain.core.program.counters.flags == 1)
  }

  @Test("Without its flag a reader of another unit's slot is a race, as is a writer over a reader")
  func races() throws {
    let early = try Pair(spec)
    try early.core.block([0]) { () throws(DeviceError) in
      try early.store(3200)
      try early.load(3200)
    }
    #expect(
      #expect(throws: DeviceError.self) { try early.cycles(spec) }?.code == .race)
    let over = try Pair(spec)
    try over.core.block([0]) { () throws(DeviceError) in
      try over.load(3200)
      try over.store(3200)
    }
    #expect(#expect(throws: DeviceError.self) { try over.cycles(spec) }?.code == .race)
  }

  @Test("Within a unit a buffer that is written is waited for, and one that is read is not written")
  func hazards() throws {
    let pair = try Pair(spec)
    let values = UBMatrix.vector(pair.ub[0], count: 6400 / 4)
    try pair.core.block([0]) { () throws(DeviceError) in
      // Load 200, scale 1600 floats in 25 repeats, store 200: one after another.
      try pair.core.loadRows(pair.array, pair.window(6400), into: values)
      try pair.core.apply(.zeroInfinity, values, into: values)
      try pair.core.storeRows(values, to: pair.array, pair.window(6400))
      // The next load must wait until the store has read the buffer.
      try pair.core.loadRows(pair.array, pair.window(3200), into: .vector(pair.ub[0], count: 800))
    }
    // In place a bank is read and written: two cycles a repeat by the bank rule.
    #expect(try pair.cycles(spec) == 200 + 50 + 200 + 100)
    #expect(pair.core.program.counters.bankConflictCycles == 25)
  }

  @Test("Skipped repetitions end when walked ones do, with blocks that take turns")
  func repetitions() throws {
    for (rounds, period) in [(1, 2), (2, 2), (7, 2), (40, 2), (41, 4), (500, 2), (333, 6)] {
      let pair = try Pair(spec)
      for round in 0..<rounds {
        // Three kinds of blocks whose lengths differ, joined by flags.
        for kind in 0..<2 {
          let waits = round > 0 || kind == 1
          try pair.core.block([kind, round % (period / 2), waits ? 1 : 0]) {
            () throws(DeviceError) in
            try pair.core.loadRows(
              pair.array, pair.window(3200 * (kind + 1) + 32 * (round % (period / 2))),
              into: .vector(pair.ub[kind], count: 800 * (kind + 1) + 8 * (round % (period / 2))))
            try pair.core.apply(
              .exponential, .vector(pair.ub[kind], count: 512 + 64 * kind),
              into: .vector(pair.ub[kind], count: 512 + 64 * kind))
            try pair.core.handOver(flag: kind, from: [kind + 1], pipe: .vector)
            if waits {
              try pair.core.wait(flag: 1 - kind, of: 2 - kind, unit: kind + 1, pipe: .load)
            }
          }
          if round == 0, kind == 0 {
            // The first block waits for nothing; its key is its own.
            try pair.core.block([9]) { () throws(DeviceError) in try pair.store(64) }
          }
        }
      }
      pair.core.hintPeriods([period, 4 * period])
      #expect(try pair.cycles(spec) == pair.cycles(spec, skips: false), "\(rounds) of \(period)")
    }
  }

  @Test("The cache holds workspaces first, and what it does not hold goes to memory")
  func residence() throws {
    let core = try NPUCore(spec, carriesValues: false)
    let tile = try core.allocate(.l1, bytes: 65536, "l1")
    func array(_ name: String, _ use: NPURegion.Use, _ bytes: Int) throws -> NPUGlobal {
      try NPUGlobal(
        NPURegion(name, use, distinctBytes: bytes), count: bytes / 2, elementBytes: 2,
        carriesValues: false)
    }
    let workspace = try array("workspace", .workspace, 100 << 20)
    let again = try array("again", .reused, 60 << 20)
    let large = try array("large", .reused, 50 << 20)
    let once = try array("once", .streamed, 1 << 20)
    let window = GlobalWindow(offset: 0, rows: 64, rowPitch: 256, columns: 256)
    try core.block([0]) { () throws(DeviceError) in
      for array in [workspace, again, large, once] {
        try core.loadFractals(array, window, into: tile)
      }
    }
    var launch = NPULaunch(
      name: "test", programs: [core.program], coresUsed: 1, counters: core.program.counters,
      peakBytes: [:], workspaceBytes: 100 << 20,
      regions: [again, large, once, workspace].map(\.region))
    func kernel(_ spec: NPUSpec) throws -> NPUEstimate.Kernel {
      try NPUEstimate(NPULaunchReport(launches: [launch]), on: spec).kernels[0]
    }
    // 192 MiB hold 100 and 60, not 50 more: two windows at 110 bytes a cycle, two at 32.
    let first = try kernel(spec)
    #expect(first.residentRegions == ["again", "workspace"])
    #expect(first.memoryBytes == 3 * 32768)
    #expect(abs(first.coreMicroseconds * 1000 - (2 * 32768 / 110 + 2 * 1024)) < 0.01)
    var small = spec
    small.l2Bytes = Sourced(Double(99 << 20), .assumed("a test"))
    #expect(try kernel(small).residentRegions == ["again"])
    // The chip's memory rate bounds what cores cannot.
    var slow = spec
    slow.memoryRate = Sourced(1, .assumed("a test"))
    let bound = try kernel(slow)
    #expect(bound.bound == .memory)
    #expect(bound.microseconds == bound.memoryBytes / 1e3)
    launch.counters = NPUCounters()
    #expect(try kernel(slow).bound != .memory)
  }

  @Test("A scaled parameter changes itself alone")
  func scaling() {
    for parameter in NPUSpec.Parameter.allCases {
      let changed = NPUSpec.ascend910b2.scaled(parameter, by: 4)
      let differing = zip(NPUSpec.ascend910b2.numbers, changed.numbers).filter {
        $0.0.number.value != $0.1.number.value
      }
      #expect((1...2).contains(differing.count), "\(parameter)")
      #expect(differing.allSatisfy { $0.1.number.value == 4 * $0.0.number.value })
    }
  }
}
