/// One link of the chain that a barrier-delimited step of one block goes through when it is alone.
public enum ChainLink: Sendable, Hashable {
  /// Loads from global memory that are in flight together, this many rounds after each other.
  case globalLoad(rounds: Int)
  /// Issue of the step's instructions with the compiler's own stalls, tensor instructions' time
  /// left out, cycles.
  case issue(Sourced)
  /// Block barriers.
  case barrier(Int)
  /// Shared loads whose result is waited for.
  case sharedLoad(Int)
  /// Tensor instructions of one warp, one after another at the pipe's rate.
  case matrix(MatrixShape, Int)
}

/// A sum over split-K parts by a kernel of its own, after the product.
public struct SplitSum: Sendable, Hashable {
  /// Parts that are added.
  public var parts: Int
  /// Elements of one part.
  public var elements: Int
  /// Bytes of an element, both read and written.
  public var bytesPerElement: Int

  /// A sum.
  public init(parts: Int, elements: Int, bytesPerElement: Int = 2) {
    self.parts = parts
    self.elements = elements
    self.bytesPerElement = bytesPerElement
  }

  /// Bytes of all parts.
  public var partialBytes: Double { Double(parts) * Double(elements) * Double(bytesPerElement) }
  /// Bytes that the sum reads and writes.
  public var trafficBytes: Double { partialBytes + Double(elements) * Double(bytesPerElement) }
}

/// How a kernel is launched and what its steps wait for: with the counters, all that timing needs.
public struct Launch: Sendable, Hashable {
  /// What errors and reports call it.
  public var name: String
  /// Blocks of the grid.
  public var blocks: Int
  /// Warps of a block.
  public var warpsPerBlock: Int
  /// Registers of a thread.
  public var registersPerThread: Sourced
  /// Shared memory of a block, bytes.
  public var sharedBytesPerBlock: Int
  /// Barrier-delimited steps of a block (K tiles).
  public var stepsPerBlock: Int
  /// What one step of one block goes through when alone.
  public var chain: [ChainLink]
  /// Instructions of one warp in one step as compiled, addresses and all; nil takes the counted
  /// ones.
  public var instructionsPerWarpStep: Sourced?
  /// Before and after the steps of a block, cycles that its own work does not hide.
  public var blockOverheadCycles: Sourced
  /// Copies in flight: 1 without a software pipeline; the global latency is divided by it.
  public var pipelineStages: Int
  /// Bytes of distinct memory that the grid reads or writes, split-K parts left out: the least
  /// that memory moves.
  public var distinctBytes: Int
  /// Share of the steps whose loads come from memory and not from the second-level cache.
  public var missShare: Double
  /// The sum over split-K parts, if there is one.
  public var splitSum: SplitSum?

  /// A launch.
  public init(
    name: String, blocks: Int, warpsPerBlock: Int, registersPerThread: Sourced,
    sharedBytesPerBlock: Int, stepsPerBlock: Int, chain: [ChainLink],
    instructionsPerWarpStep: Sourced? = nil,
    blockOverheadCycles: Sourced = Sourced(0, .assumed("prologue and epilogue left out")),
    pipelineStages: Int = 1, distinctBytes: Int, missShare: Double = 1,
    splitSum: SplitSum? = nil
  ) {
    self.name = name
    self.blocks = blocks
    self.warpsPerBlock = warpsPerBlock
    self.registersPerThread = registersPerThread
    self.sharedBytesPerBlock = sharedBytesPerBlock
    self.stepsPerBlock = stepsPerBlock
    self.chain = chain
    self.instructionsPerWarpStep = instructionsPerWarpStep
    self.blockOverheadCycles = blockOverheadCycles
    self.pipelineStages = pipelineStages
    self.distinctBytes = distinctBytes
    self.missShare = missShare
    self.splitSum = splitSum
  }

  /// The sourced numbers that are assumed or only recalled.
  var uncertainNumbers: [String] {
    var list: [(String, Sourced)] = [
      ("registers a thread", registersPerThread), ("block overhead", blockOverheadCycles),
    ]
    if let instructionsPerWarpStep { list.append(("instructions", instructionsPerWarpStep)) }
    for link in chain {
      if case .issue(let cycles) = link { list.append(("issue cycles of a step", cycles)) }
    }
    return list.filter { $0.1.provenance.isUncertain }.map {
      "\(name): \($0.0) \($0.1)"
    }
  }
}
