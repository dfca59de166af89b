/// What a simulated kernel did: additive, independent of the order in which blocks ran, and free of
/// any notion of time.
///
/// Named after Nsight Compute's metrics, for the whole grid: `wavefronts` are
/// `l1tex__data_pipe_lsu_wavefronts_mem_shared`, `conflicts` its bank conflicts without arbitration,
/// `sectors` `l1tex__t_sectors`, `requests` `l1tex__t_requests`.
public struct Counters: Sendable, Equatable {
  /// Traffic of shared memory.
  public struct SharedMemory: Sendable, Equatable {
    /// Warp instructions.
    public var instructions = 0
    /// Passes of the data stage.
    public var wavefronts = 0
    /// Passes that a conflict-free layout would take.
    public var ideal = 0
    /// Bytes that active lanes moved.
    public var bytes = 0
    /// Passes beyond the least.
    public var conflicts: Int { wavefronts - ideal }

    /// All zero.
    public init() {}
  }

  /// Traffic of global memory, as the warps ask for it.
  public struct GlobalMemory: Sendable, Equatable {
    /// Warp instructions with an active lane.
    public var requests = 0
    /// 32-byte sectors asked for, summed over requests.
    public var sectors = 0
    /// 128-byte lines asked for, summed over requests.
    public var lines = 0
    /// Bytes that active lanes asked for.
    public var bytes = 0

    /// All zero.
    public init() {}
  }

  /// Everything that one access of the kernel's text did.
  public struct Site: Sendable, Equatable {
    /// The access's name in the kernel.
    public let name: String
    /// Shared-memory operation of the last access; nil when the site never touched shared memory.
    public var operation: Access.Operation?
    /// Whether the site's global accesses were stores.
    public var isGlobalStore = false
    /// Shared-memory traffic.
    public var shared = SharedMemory()
    /// Global-memory traffic.
    public var global = GlobalMemory()
    /// Lanes that took part, summed over accesses.
    public var laneAccesses = 0
    /// The first shared access, for a picture of its banks. The order of blocks does not change it:
    /// it is the one of the lowest block.
    public var example: Access?
    /// The block that `example` is from.
    var exampleBlock = Int.max

    /// A site without accesses.
    public init(_ name: String) { self.name = name }
  }

  /// Per access of the kernel's text, in the kernel's order.
  public var sites: [Site]
  /// Tensor-core instructions by shape.
  public var matrixInstructions: [MatrixShape: Int] = [:]
  /// Other warp instructions that the kernel declared, by class.
  public var instructions: [InstructionClass: Int] = [:]
  /// Block-wide barriers, counted once a block.
  public var barriers = 0
  /// Blocks that ran.
  public var blocks = 0

  /// Counters of a kernel whose accesses have these names, all zero.
  public init(sites: [String] = []) { self.sites = sites.map(Site.init) }

  /// Shared-memory traffic of all sites.
  public var sharedMemory: SharedMemory { sharedMemory { _ in true } }

  /// Shared-memory traffic of one operation.
  public func sharedMemory(_ operation: Access.Operation) -> SharedMemory {
    sharedMemory { $0.operation == operation }
  }

  private func sharedMemory(where include: (Site) -> Bool) -> SharedMemory {
    sites.reduce(into: SharedMemory()) { total, site in
      if include(site) { total.add(site.shared, times: 1) }
    }
  }

  /// Global loads and the global half of asynchronous copies.
  public var globalLoads: GlobalMemory {
    sites.reduce(into: GlobalMemory()) { total, site in
      if !site.isGlobalStore { total.add(site.global, times: 1) }
    }
  }

  /// Global stores.
  public var globalStores: GlobalMemory {
    sites.reduce(into: GlobalMemory()) { total, site in
      if site.isGlobalStore { total.add(site.global, times: 1) }
    }
  }

  /// Loads and stores.
  public var globalMemory: GlobalMemory {
    var total = globalLoads
    total.add(globalStores, times: 1)
    return total
  }

  /// Lanes that took part in memory accesses, summed.
  public var laneAccesses: Int { sites.reduce(0) { $0 + $1.laneAccesses } }

  /// Tensor-core instructions of every shape.
  public var matrixInstructionCount: Int { matrixInstructions.values.reduce(0, +) }

  /// Adds another run's counters, each `times` over: sites by position (the two are of one kernel).
  ///
  /// Associative and commutative, so the order in which blocks run does not matter.
  public mutating func add(_ other: Counters, times: Int = 1) {
    for (index, site) in other.sites.enumerated() {
      guard index < sites.count else {
        var copy = Site(site.name)
        copy.add(site, times: times)
        sites.append(copy)
        continue
      }
      sites[index].add(site, times: times)
    }
    for (shape, count) in other.matrixInstructions {
      matrixInstructions[shape, default: 0] += count * times
    }
    for (kind, count) in other.instructions { instructions[kind, default: 0] += count * times }
    barriers += other.barriers * times
    blocks += other.blocks * times
  }

  /// The sum of two runs.
  public static func + (left: Counters, right: Counters) -> Counters {
    var sum = left
    sum.add(right)
    return sum
  }
}

extension Counters.SharedMemory {
  mutating func add(_ other: Self, times: Int) {
    instructions += other.instructions * times
    wavefronts += other.wavefronts * times
    ideal += other.ideal * times
    bytes += other.bytes * times
  }
}

extension Counters.GlobalMemory {
  mutating func add(_ other: Self, times: Int) {
    requests += other.requests * times
    sectors += other.sectors * times
    lines += other.lines * times
    bytes += other.bytes * times
  }
}

extension Counters.Site {
  mutating func add(_ other: Self, times: Int) {
    shared.add(other.shared, times: times)
    global.add(other.global, times: times)
    laneAccesses += other.laneAccesses * times
    operation = operation ?? other.operation
    isGlobalStore = isGlobalStore || other.isGlobalStore
    if other.exampleBlock < exampleBlock {
      example = other.example
      exampleBlock = other.exampleBlock
    }
  }
}

/// Shapes of tensor-core instructions.
public enum MatrixShape: String, Sendable, Hashable, CaseIterable {
  /// `mma.m16n8k16` of binary16 with float32 sums.
  case m16n8k16
  /// `mma.m16n8k32` of int8 with int32 sums.
  case m16n8k32
  /// Volta's `mma.m8n8k4`, four products a warp.
  case m8n8k4

  /// Multiply-adds of one warp instruction.
  public var multiplyAdds: Int {
    switch self {
    case .m16n8k16: 16 * 8 * 16
    case .m16n8k32: 16 * 8 * 32
    case .m8n8k4: 4 * 8 * 8 * 4
    }
  }
}

/// Classes of warp instructions other than memory and tensor ones, by the pipe that runs them.
public enum InstructionClass: String, Sendable, Hashable, CaseIterable {
  /// Pairs of binary16: add, multiply, fused.
  case half2
  /// float32 add, multiply, fused.
  case float
  /// Integer and logic, address arithmetic, `lop3`, shifts, moves, `prmt`.
  case integer
  /// Integer dot product `dp4a`.
  case dot
  /// Conversions between formats.
  case conversion
  /// Exponential, reciprocal and the like.
  case special
  /// Shuffles.
  case shuffle
  /// Branches, predicates, loop control.
  case control
}
