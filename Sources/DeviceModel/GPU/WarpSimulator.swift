import Dispatch
import Synchronization

/// Runs kernels block by block on this machine's processors: real values, exact counters.
public struct WarpSimulator: Sendable {
  /// Prices shared accesses.
  public var policy: BankPolicy
  /// Looks for races, uninitialized and early reads, and overlapping stores; some ten times slower.
  public var checks: Bool
  /// Blocks that run at the same time. The result and the counters do not depend on it.
  public var threads: Int
  /// Asked between blocks; true ends the run with ``DeviceError/Code/cancelled``.
  public var isCancelled: @Sendable () -> Bool

  /// A simulator.
  public init(
    policy: BankPolicy = .m1, checks: Bool = false, threads: Int = 1,
    isCancelled: @escaping @Sendable () -> Bool = { false }
  ) {
    self.policy = policy
    self.checks = checks
    self.threads = max(1, min(threads, 256))
    self.isCancelled = isCancelled
  }

  /// Which blocks run.
  public enum Selection: Sendable {
    /// All of them: buffers hold the kernel's result afterwards.
    case all
    /// One of each ``BlockClass``, its counters multiplied: for dense kernels, whose addresses do not
    /// depend on data, the counters of the whole grid. Buffers hold the results of those blocks
    /// only.
    case classes
  }

  /// Runs the kernel and returns its counters for the whole grid.
  ///
  /// - Throws: ``DeviceError``: the kernel's own with the lowest block number, or `.launch` when the
  ///   grid, the warps or the shared memory are not positive or past what any device holds (2³¹ − 1
  ///   blocks, 32 warps, 227 KiB; a device's own limits are checked where a device is named).
  public func run<Kernel: WarpKernel>(
    _ kernel: Kernel, blocks selection: Selection = .all
  ) throws(DeviceError) -> Counters {
    try execute(kernel, blocks: selection).counters
  }

  /// Counts the whole grid from one block of each class.
  ///
  /// - Returns: the counters, and how many lanes' accesses were simulated to get them.
  /// - Throws: as ``run(_:blocks:)``.
  public func count<Kernel: WarpKernel>(
    _ kernel: Kernel
  ) throws(DeviceError) -> (counters: Counters, simulatedLaneAccesses: Int) {
    try execute(kernel, blocks: .classes)
  }

  private func execute<Kernel: WarpKernel>(
    _ kernel: Kernel, blocks selection: Selection
  ) throws(DeviceError) -> (counters: Counters, simulatedLaneAccesses: Int) {
    try requireLaunchable(kernel)
    let classes: [BlockClass] =
      switch selection {
      case .all: (0..<kernel.blocks).map { BlockClass(representative: $0, count: 1) }
      case .classes: kernel.blockClasses
      }
    for entry in classes where entry.representative < 0 || entry.representative >= kernel.blocks {
      throw DeviceError(
        .launch, kernel.name, "block \(entry.representative) of \(kernel.blocks)",
        remedy: "correct the kernel's block classes", limit: kernel.blocks)
    }
    let registers = KeptRegisters<Kernel.Registers>()
    var total = Counters(sites: kernel.sites)
    var simulated = 0
    for pass in 0..<max(1, kernel.passes) {
      let result = try runPass(kernel, classes: classes, pass: pass, registers: registers)
      total.add(result.counters)
      simulated += result.simulatedLaneAccesses
    }
    total.blocks = classes.reduce(0) { $0 + $1.count }
    return (total, simulated)
  }

  private func runPass<Kernel: WarpKernel>(
    _ kernel: Kernel, classes: [BlockClass], pass: Int,
    registers kept: KeptRegisters<Kernel.Registers>
  ) throws(DeviceError) -> (counters: Counters, simulatedLaneAccesses: Int) {
    let shared = PassState(sites: kernel.sites)
    let globalChecks = checks ? GlobalChecks() : nil
    let workers = min(threads, classes.count)
    let next = Atomic<Int>(0)
    func work() {
      let worker = Worker(kernel, policy: policy, checks: globalChecks)
      // Blocks of one multiplicity are counted together. Most runs have only one, so counters are
      // taken where it changes.
      var counted: [Int: Counters] = [:]
      var multiplicity = 1
      func take() {
        counted[multiplicity, default: Counters(sites: kernel.sites)]
          .add(worker.takeCounters(kernel))
      }
      while true {
        let at = next.add(1, ordering: .relaxed).oldValue
        guard at < classes.count, !shared.hasFailed else { break }
        let block = classes[at].representative
        if classes[at].count != multiplicity {
          take()
          multiplicity = classes[at].count
        }
        do throws(DeviceError) {
          if isCancelled() {
            throw DeviceError(.cancelled, kernel.name, "cancelled", remedy: "run it again")
          }
          let before = pass == 0 ? nil : kept.take(block)
          let after = try worker.run(kernel, block: block, pass: pass, registers: before)
          if pass + 1 < kernel.passes { kept.keep(after, block) }
        } catch {
          shared.fail(block, error)
          break
        }
      }
      take()
      var sum = Counters(sites: kernel.sites)
      for (count, counters) in counted { sum.add(counters, times: count) }
      shared.add(sum, simulated: counted.values.reduce(0) { $0 + $1.laneAccesses })
    }
    if workers <= 1 {
      work()
    } else {
      withoutActuallyEscaping(work) { work in
        nonisolated(unsafe) let work = work
        DispatchQueue.concurrentPerform(iterations: workers) { _ in unsafe work() }
      }
    }
    return try shared.result()
  }

  private func requireLaunchable<Kernel: WarpKernel>(_ kernel: Kernel) throws(DeviceError) {
    func refuse(_ what: String, _ value: Int, _ limit: Int) -> DeviceError {
      DeviceError(
        .launch, kernel.name, "\(value) \(what); 1 to \(limit) are possible",
        remedy: "change the launch", limit: limit)
    }
    guard kernel.blocks > 0, kernel.blocks <= Int(Int32.max) else {
      throw refuse("blocks", kernel.blocks, Int(Int32.max))
    }
    guard kernel.warpsPerBlock > 0, kernel.warpsPerBlock <= 32 else {
      throw refuse("warps a block", kernel.warpsPerBlock, 32)
    }
    guard kernel.sharedBytesPerBlock >= 0, kernel.sharedBytesPerBlock <= 227 << 10 else {
      throw refuse("shared bytes a block", kernel.sharedBytesPerBlock, 227 << 10)
    }
  }
}

/// Registers of blocks between two passes.
private final class KeptRegisters<Registers: Sendable>: Sendable {
  private let blocks = Mutex<[Int: [Registers]]>([:])

  func take(_ block: Int) -> [Registers]? { blocks.withLock { $0.removeValue(forKey: block) } }

  func keep(_ registers: [Registers], _ block: Int) {
    blocks.withLock { $0[block] = registers }
  }
}

/// What the workers of a pass have in common.
private final class PassState: Sendable {
  private struct State {
    var counters: Counters
    var simulated = 0
    var failure: (block: Int, error: DeviceError)?
  }
  private let state: Mutex<State>
  private let failed = Atomic<Bool>(false)

  init(sites: [String]) { state = Mutex(State(counters: Counters(sites: sites))) }

  var hasFailed: Bool { failed.load(ordering: .relaxed) }

  func add(_ counters: Counters, simulated: Int) {
    state.withLock {
      $0.counters.add(counters)
      $0.simulated += simulated
    }
  }

  func fail(_ block: Int, _ error: DeviceError) {
    failed.store(true, ordering: .relaxed)
    state.withLock {
      if let failure = $0.failure, failure.block <= block { return }
      $0.failure = (block, error)
    }
  }

  func result() throws(DeviceError) -> (counters: Counters, simulatedLaneAccesses: Int) {
    let state = state.withLock { $0 }
    if let failure = state.failure { throw failure.error }
    return (state.counters, state.simulated)
  }
}

/// One thread's block: its memory and tallies are used over and over.
private final class Worker<Kernel: WarpKernel> {
  private let tally: Tally
  private var block: Block<Kernel.Registers>
  private var barriers = 0

  init(_ kernel: Kernel, policy: BankPolicy, checks: GlobalChecks?) {
    tally = Tally(sites: kernel.sites.count)
    let warp = Warp(
      policy: policy, checks: checks,
      shared: SharedMemory(byteCount: kernel.sharedBytesPerBlock, checks: checks != nil),
      tally: tally, kernelName: kernel.name, siteNames: kernel.sites)
    block = Block(warp: warp, warps: kernel.warpsPerBlock)
  }

  deinit { tally.deallocate() }

  func run(
    _ kernel: Kernel, block index: Int, pass: Int, registers: [Kernel.Registers]?
  ) throws(DeviceError) -> [Kernel.Registers] {
    block.index = index
    block.warp.block = index
    block.warp.epoch = 0
    block.barriers = 0
    block.warp.shared.reset()
    block.registers = registers ?? (0..<block.warpCount).map { _ in kernel.makeRegisters() }
    if block.warp.isChecked {
      block.queues = Array(repeating: AsyncCopyQueue(), count: block.warpCount)
    }
    try kernel.run(&block, pass: pass)
    barriers += block.barriers
    return block.registers
  }

  /// The counters so far, which start again from zero.
  func takeCounters(_ kernel: Kernel) -> Counters {
    var counters = tally.counters(names: kernel.sites)
    counters.barriers = barriers
    barriers = 0
    tally.reset()
    return counters
  }
}
