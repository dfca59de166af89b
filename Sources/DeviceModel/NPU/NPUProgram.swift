/// One operation of a pipe as timing sees it: what it costs and what it touches.
public struct NPUOperation: Sendable, Hashable {
  enum Kind: UInt8, Sendable { case copy, product, vector, exponential, set, wait }
  var kind: Kind
  var unit: UInt8
  var pipe: UInt8
  var path: UInt8 = 0
  /// Bytes of a copy, cycles of a product or of a vector instruction's repeats, a flag's number.
  var amount: Int32
  /// Region of global memory, −1 for none.
  var region: Int16 = -1
  /// Buffers that it writes and reads, −1 for none.
  var write: Int16 = -1
  var read0: Int16 = -1
  var read1: Int16 = -1
}

/// A part of global memory, as the cache sees it.
public struct NPURegion: Sendable, Hashable {
  /// How it is used.
  public enum Use: Sendable, Hashable {
    /// Read or written once: always memory.
    case streamed
    /// Read again and again while `liveBytes` of it are in use; the first read comes from memory.
    case reused
    /// Written and read by cores among each other; never has to reach memory while it fits.
    case workspace
  }
  /// What reports call it.
  public let name: String
  /// How it is used.
  public let use: Use
  /// Distinct bytes.
  public let distinctBytes: Int
  /// Bytes that are in use at a time.
  public let liveBytes: Int

  /// A region.
  public init(_ name: String, _ use: Use, distinctBytes: Int, liveBytes: Int? = nil) {
    self.name = name
    self.use = use
    self.distinctBytes = distinctBytes
    self.liveBytes = liveBytes ?? distinctBytes
  }
}

/// What one core does: blocks of operations, and the order in which they run.
public struct NPUProgram: Sendable, Hashable {
  /// Operations that are issued together, and what they count.
  struct Block: Sendable, Hashable {
    var operations: [NPUOperation]
    var counters: NPUCounters
  }
  /// A block and how often it runs in a row.
  struct Entry: Sendable, Hashable {
    var block: Int32
    var count: Int32
  }
  var blocks: [Block] = []
  var entries: [Entry] = []
  /// Which buffers are slots of global memory: no pipe waits for them but by flags.
  var isGlobalSlot: [Bool] = []
  /// Flag numbers are below this.
  var flagCount = 0
  /// Instruction streams.
  var units = 1
  /// Regions by the operations' numbers.
  var regions: [NPURegion] = []
  /// Distances, in entries, at which the order may repeat: hints that only save time.
  public var periods: [Int] = []

  /// What all of it counts.
  public var counters: NPUCounters {
    var runs = [Int](repeating: 0, count: blocks.count)
    for entry in entries { runs[Int(entry.block)] += Int(entry.count) }
    var sum = NPUCounters()
    for (block, count) in zip(blocks, runs) where count > 0 {
      sum.add(block.counters, times: count)
    }
    return sum
  }

  /// Operations that all of it issues.
  public var operationCount: Int {
    entries.reduce(0) { $0 + blocks[Int($1.block)].operations.count * Int($1.count) }
  }
}

/// One kernel on all cores.
public struct NPULaunch: Sendable {
  /// What reports call it.
  public var name: String
  /// Programs of cores: of all of them, or of the one with the most work alone.
  public var programs: [NPUProgram]
  /// Cores that have work.
  public var coresUsed: Int
  /// What all cores count.
  public var counters: NPUCounters
  /// The most bytes in use at a time of each buffer of a core.
  public var peakBytes: [NPUMemory: Int]
  /// Bytes of global memory through which cores exchange data.
  public var workspaceBytes: Int
  /// Regions of global memory.
  public var regions: [NPURegion]

  /// A launch.
  public init(
    name: String, programs: [NPUProgram], coresUsed: Int, counters: NPUCounters,
    peakBytes: [NPUMemory: Int], workspaceBytes: Int, regions: [NPURegion]
  ) {
    self.name = name
    self.programs = programs
    self.coresUsed = coresUsed
    self.counters = counters
    self.peakBytes = peakBytes
    self.workspaceBytes = workspaceBytes
    self.regions = regions
  }
}

/// What kernels did: what they counted, and what timing needs.
public struct NPULaunchReport: Sendable {
  /// Kernels in order; each begins when the one before has ended.
  public var launches: [NPULaunch]

  /// A report.
  public init(launches: [NPULaunch]) { self.launches = launches }

  /// What all kernels count.
  public var counters: NPUCounters {
    launches.reduce(into: NPUCounters()) { $0.add($1.counters) }
  }
  /// The most bytes in use at a time of each buffer of a core.
  public var peakBytes: [NPUMemory: Int] {
    launches.reduce(into: [:]) { $0.merge($1.peakBytes, uniquingKeysWith: max) }
  }
  /// The most bytes of global memory through which cores of one kernel exchange data.
  public var workspaceBytes: Int { launches.map(\.workspaceBytes).max() ?? 0 }
}
