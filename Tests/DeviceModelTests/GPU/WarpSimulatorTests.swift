import DeviceModel
import TestSupport
import Testing

/// Reverses each block's 64 words through shared memory; with a barrier, or without.
private struct Reverse: WarpKernel {
  typealias Registers = Lanes<UInt32>

  var name = "reverse"
  var sites = ["read", "put", "get", "write"]
  var blocks = 40
  var warpsPerBlock = 2
  var sharedBytesPerBlock = 256
  var hasBarrier = true
  let input: GlobalBuffer
  let output: GlobalBuffer

  var blockClasses: [BlockClass] { [BlockClass(representative: 3, count: blocks)] }
  func makeRegisters() -> Lanes<UInt32> { Lanes(repeating: 0) }

  func run(_ block: inout Block<Lanes<UInt32>>, pass: Int) throws(DeviceError) {
    let start = UInt32(256 * block.index)
    try block.eachWarp(barrier: hasBarrier) { (warp, value) throws(DeviceError) in
      let at = Lanes<UInt32>.each { 4 * (UInt32(32 * warp.index) + $0) }
      value = try warp.loadGlobal(from: input, at: at &+ start, site: 0)
      try warp.storeShared(value, at: at, site: 1)
    }
    try block.eachWarp { (warp, value) throws(DeviceError) in
      let at = Lanes<UInt32>.each { 4 * (UInt32(32 * warp.index) + $0) }
      value = try warp.loadShared(at: Lanes(repeating: 252) &- at, site: 2)
      try warp.storeGlobal(value, to: output, at: at &+ start, site: 3)
    }
  }
}

@Suite struct WarpSimulatorTests {
  private func reverse(blocks: Int = 40) throws -> Reverse {
    var kernel = Reverse(
      input: try GlobalBuffer("input", Array(0..<UInt32(64 * blocks))),
      output: try GlobalBuffer("output", byteCount: 256 * blocks))
    kernel.blocks = blocks
    return kernel
  }

  @Test func valuesAndCountersDoNotDependOnThreads() throws {
    var all: [Counters] = []
    for threads in [1, 2, 7] {
      let kernel = try reverse()
      let counters = try WarpSimulator(threads: threads).run(kernel)
      let values = kernel.output.contents(as: UInt32.self)
      for index in values.indices {
        #expect(values[index] == UInt32(index / 64 * 64 + 63 - index % 64))
      }
      all.append(counters)
    }
    #expect(all[0] == all[1])
    #expect(all[0] == all[2])
    let counters = all[0]
    #expect(counters.blocks == 40)
    #expect(counters.barriers == 80)
    #expect(counters.sharedMemory(.load).wavefronts == 80)
    #expect(counters.sharedMemory(.store).conflicts == 0)
    #expect(counters.globalLoads.sectors == 40 * 8)
    #expect(counters.globalStores.bytes == 40 * 256)
    #expect(counters.laneAccesses == 40 * 64 * 4)
    #expect(counters.sites.map(\.name) == ["read", "put", "get", "write"])
  }

  @Test func sampledEqualsFull() throws {
    let full = try WarpSimulator().run(try reverse())
    let sampled = try WarpSimulator().run(try reverse(), blocks: .classes)
    #expect(sampled.sharedMemory == full.sharedMemory)
    #expect(sampled.globalMemory == full.globalMemory)
    #expect(sampled.barriers == full.barriers)
    #expect(sampled.blocks == full.blocks)
    #expect(sampled.laneAccesses == full.laneAccesses)
  }

  @Test func additionIsAssociativeAndCommutative() throws {
    let parts = try [3, 8, 21].map { try WarpSimulator().run(try reverse(blocks: $0)) }
    #expect(parts[0] + parts[1] == parts[1] + parts[0])
    #expect((parts[0] + parts[1]) + parts[2] == parts[0] + (parts[1] + parts[2]))
    var doubled = parts[1]
    doubled.add(parts[1])
    var times = Counters(sites: parts[1].sites.map(\.name))
    times.add(parts[1], times: 2)
    #expect(doubled == times)
  }

  private func error(_ body: () throws -> Void) -> DeviceError? {
    do {
      try body()
      return nil
    } catch { return error as? DeviceError }
  }

  @Test func aMissingBarrierIsARace() throws {
    var kernel = try reverse()
    kernel.hasBarrier = false
    let found = try #require(error { _ = try WarpSimulator(checks: true).run(kernel) })
    #expect(found.code == .race)
    #expect(found.subject.contains("get"), "names the call site")
    #expect(found.lane == 0)
    #expect(error { _ = try WarpSimulator(checks: true).run(try reverse()) } == nil)
  }

  private func one(
    checks: Bool = true, _ body: @escaping @Sendable (inout Warp) throws(DeviceError) -> Void
  ) -> DeviceError? {
    error { _ = try WarpSimulator(checks: checks).run(OneWarp(body: body)) }
  }

  @Test func faultsNameTheLaneTheAddressAndTheLimit() throws {
    let lanes = Lanes<UInt32>.each { 4 * $0 }
    let odd = Lanes<UInt32>.each { $0 == 9 ? 38 : 4 * $0 }
    let misaligned = one(checks: false) { (warp) throws(DeviceError) in
      _ = try warp.loadShared(Lanes<UInt32>.self, at: odd, site: 0)
    }
    #expect(misaligned?.code == .misaligned)
    #expect(misaligned?.lane == 9)
    #expect(misaligned?.address == 38)
    #expect(misaligned?.description.contains("lane 9") == true)

    let far = Lanes<UInt32>.each { $0 == 30 ? 4096 : 4 * $0 }
    let outside = one(checks: false) { (warp) throws(DeviceError) in
      try warp.storeShared(lanes, at: far, site: 1)
    }
    #expect(outside?.code == .outOfRange)
    #expect(outside?.lane == 30)
    #expect(outside?.limit == 4096)
    // A masked lane's address is not looked at.
    #expect(
      one { (warp) throws(DeviceError) in
        try warp.storeShared(lanes, at: far, mask: .first(30), site: 1)
      } == nil)

    let buffer = try GlobalBuffer("weights", byteCount: 100)
    let global = one(checks: false) { (warp) throws(DeviceError) in
      _ = try warp.loadGlobal(Registers4.self, from: buffer, at: .each { 16 * $0 }, site: 2)
    }
    #expect(global?.code == .outOfRange)
    #expect(global?.lane == 6)
    #expect(global?.problem.contains("weights") == true)

    let unknown = one(checks: false) { (warp) throws(DeviceError) in
      _ = try warp.loadShared(Lanes<UInt32>.self, at: lanes, site: 9)
    }
    #expect(unknown?.code == .invalidArgument)
    let narrow = one(checks: false) { (warp) throws(DeviceError) in
      _ = try warp.loadShared(bytes: 3, at: lanes, site: 0)
    }
    #expect(narrow?.code == .invalidArgument)
  }

  @Test func overlappingStoresAndUnwrittenReadsAreFound() {
    let same = Lanes<UInt32>.each { 4 * ($0 / 2) }
    let overlap = one { (warp) throws(DeviceError) in
      try warp.storeShared(Lanes<UInt32>.laneIndex, at: same, site: 0)
    }
    #expect(overlap?.code == .overlap)
    #expect(overlap?.lane == 1)
    #expect(
      one { (warp) throws(DeviceError) in
        try warp.storeShared(Lanes<UInt32>(repeating: 7), at: same, site: 0)
      } == nil, "equal values do not matter")
    let unwritten = one { (warp) throws(DeviceError) in
      _ = try warp.loadShared(Lanes<UInt32>.self, at: same, site: 0)
    }
    #expect(unwritten?.code == .uninitialized)
  }

  @Test func anAsynchronousCopyMustBeWaitedFor() throws {
    let buffer = try GlobalBuffer("source", Array(0..<UInt32(256)))
    let lanes = Lanes<UInt32>.each { 16 * $0 }
    @Sendable func copy(_ warp: inout Warp) throws(DeviceError) {
      try warp.copyAsync(bytes: 16, from: buffer, at: lanes, toShared: lanes, site: 0)
    }
    for early in [true, false] {
      let found = one { (warp) throws(DeviceError) in
        try copy(&warp)
        warp.commitCopies()
        try warp.copyAsync(
          bytes: 16, from: buffer, at: lanes &+ 512, toShared: lanes &+ 512, site: 1)
        warp.commitCopies()
        warp.waitForCopies(pending: early ? 2 : 1)
        let value: Registers4 = try warp.loadShared(at: lanes, site: 2)
        #expect(value.r3 == .each { 4 * $0 + 3 })
      }
      #expect(found?.code == (early ? .pendingCopy : nil))
    }
    let uncommitted = one { (warp) throws(DeviceError) in
      try copy(&warp)
      warp.waitForCopies()
      _ = try warp.loadShared(Registers4.self, at: lanes, site: 2)
    }
    #expect(uncommitted?.code == .pendingCopy)
    let counters = try WarpSimulator().run(
      OneWarp(body: { (warp) throws(DeviceError) in
        try copy(&warp)
        warp.commitCopies()
        warp.waitForCopies()
      }))
    #expect(counters.sharedMemory(.asyncCopy).wavefronts == 4)
    #expect(counters.globalLoads.sectors == 16)
    #expect(counters.laneAccesses == 32)
    let width = one { (warp) throws(DeviceError) in
      try warp.copyAsync(bytes: 2, from: buffer, at: lanes, toShared: lanes, site: 0)
    }
    #expect(width?.code == .invalidArgument)
  }

  @Test func twoBlocksMustNotShareGlobalBytes() throws {
    struct Clash: WarpKernel {
      typealias Registers = Bool
      var name = "clash"
      var sites = ["write"]
      var blocks = 2
      var warpsPerBlock = 1
      var sharedBytesPerBlock = 0
      let output: GlobalBuffer
      func makeRegisters() -> Bool { false }
      func run(_ block: inout Block<Bool>, pass: Int) throws(DeviceError) {
        try block.eachWarp { (warp, _) throws(DeviceError) in
          try warp.storeGlobal(Lanes<UInt32>.laneIndex, to: output, at: .each { 4 * $0 }, site: 0)
        }
      }
    }
    let kernel = Clash(output: try GlobalBuffer("output", byteCount: 128))
    let found = error { _ = try WarpSimulator(checks: true).run(kernel) }
    #expect(found?.code == .race)
    #expect(found?.problem.contains("block 0") == true)
  }

  @Test func impossibleLaunchesAreRefused() throws {
    for change: (inout OneWarp) -> Void in [
      { $0.blocks = 0 }, { $0.blocks = -1 }, { $0.blocks = .max }, { $0.warpsPerBlock = 33 },
      { $0.warpsPerBlock = 0 }, { $0.sharedBytesPerBlock = -1 },
      { $0.sharedBytesPerBlock = 228 << 10 },
    ] {
      var kernel = OneWarp { (_) throws(DeviceError) in }
      change(&kernel)
      #expect(error { _ = try WarpSimulator().run(kernel) }?.code == .launch)
    }
    #expect(error { _ = try GlobalBuffer("huge", byteCount: 1 << 33) }?.code == .invalidArgument)
    #expect(error { _ = try GlobalBuffer("minus", byteCount: -1) }?.code == .invalidArgument)
  }

  @Test func cancellationEndsTheRun() throws {
    let kernel = try reverse()
    let simulator = WarpSimulator(threads: 2, isCancelled: { true })
    #expect(error { _ = try simulator.run(kernel) }?.code == .cancelled)
  }
}
