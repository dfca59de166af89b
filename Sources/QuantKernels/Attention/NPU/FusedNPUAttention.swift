import DeviceModel

/// Forward attention in one kernel on a simulated NPU: the cube multiplies, vector units keep the
/// online softmax, and both run a software pipeline over first-level blocks of keys ("stacks").
///
/// Of each stack the cube computes the scores in second-level blocks and hands them over; the vector
/// units hand the probabilities back; the cube multiplies them with the values, summing over the
/// second-level blocks in L0C, and hands the product over, which is added to the rescaled output. On
/// a split part all three go through slots in global memory, on a coupled one through L0C and L1.
///
/// Sources: FastAttention (arXiv 2410.16663), §3; MinghuasLab/flash-attention-npu for the sizes and
/// the order of the pipeline.
struct FusedNPUAttention {
  let spec: NPUSpec
  let shape: NPUAttentionShape
  let options: NPUAttentionOptions
  let plan: FusedNPUPlan
  let tiles: NPUAttentionTiles
  let carriesValues: Bool
  let arrays: NPUAttentionArrays
  /// Slots between cores of a split part, core after core: scores, probabilities, products.
  let exchange: (scores: NPUGlobal, probabilities: NPUGlobal, products: NPUGlobal)?
  let coresUsed: Int

  var scale: Float { options.scale ?? 1 / Float(shape.headDimension).squareRoot() }

  init(
    _ shape: NPUAttentionShape, _ options: NPUAttentionOptions, on spec: NPUSpec,
    carriesValues: Bool
  ) throws {
    self.shape = shape
    self.options = options
    self.spec = spec
    self.carriesValues = carriesValues
    let plan = try FusedNPUPlan(shape, options, on: spec)
    self.plan = plan
    let tiles = NPUAttentionTiles(
      shape, blockRows: plan.blockRows, mask: options.maskMode == .full ? nil : options.mask,
      blockKeys: plan.secondLevelKeys)
    self.tiles = tiles
    let cores = spec.cores.wholeNumber
    coresUsed = min(cores, tiles.count)
    arrays = try NPUAttentionArrays(
      shape, options, liveHeads: tiles.liveHeads(cores: cores),
      tileExtents: (tiles.positionsPerTile, plan.secondLevelKeys),
      rowSumCount: tiles.count * FusedNPUBuffers.rowSumPitch(plan, spec),
      carriesValues: carriesValues)
    if spec.coupling == .split {
      let used = max(1, coresUsed)
      func slots(_ name: String, _ elements: Int, _ bytes: Int) throws(DeviceError) -> NPUGlobal {
        let count = used * plan.slots * plan.blockRows * elements
        return try NPUGlobal(
          NPURegion(name, .workspace, distinctBytes: count * bytes), count: count,
          elementBytes: bytes, carriesValues: carriesValues)
      }
      exchange = (
        try slots(NPUAttentionArrays.Name.scores, plan.firstLevelKeys, 4),
        try slots(NPUAttentionArrays.Name.probabilities, plan.firstLevelKeys, 2),
        try slots(NPUAttentionArrays.Name.products, shape.headDimension, 4)
      )
    } else {
      exchange = nil
    }
  }

  /// Bytes of the slots of all cores.
  var workspaceBytes: Int {
    guard let exchange else { return 0 }
    return exchange.scores.region.distinctBytes + exchange.probabilities.region.distinctBytes
      + exchange.products.region.distinctBytes
  }

  /// One stack of one tile.
  struct Step {
    var tile: NPUQueryTile
    /// Its keys.
    var keys: Range<Int>
    var isFirst: Bool
    var isLast: Bool
    /// Where its scores and probabilities stand.
    var slot: Int
    /// Where its tile's queries and statistics stand.
    var place: Int
    /// Which of two buffers each of its parts takes first.
    var turns = Turns()
  }

  /// Buffers that are used in turn, across stacks too: 0 or 1, the one that is next.
  struct Turns: Hashable {
    /// Keys and their operands.
    var keys = 0
    /// Probabilities, values and their operands.
    var values = 0
    /// Halves of L0C.
    var sums = 0
    /// Pieces of scores in the unified buffers.
    var pieces = 0

    var bits: Int { keys + 2 * values + 4 * sums + 8 * pieces }
  }

  /// Runs all cores with values, or counts all tiles and records the core with the most work.
  func run() throws(DeviceError) -> (launch: NPULaunch, rescaledRows: Int) {
    let lists = tiles.assigned(to: max(1, coresUsed))
    var programs: [NPUProgram] = []
    var peaks: [NPUMemory: Int] = [:]
    var counters = NPUCounters()
    var rescaledRows = 0
    if carriesValues {
      for (number, list) in lists.enumerated() where !list.isEmpty {
        let core = try FusedNPUCore(self, number: number)
        try core.run(list)
        counters.add(core.core.program.counters)
        rescaledRows += core.rescaledRows
        peaks.merge(core.core.peakBytes, uniquingKeysWith: max)
        programs.append(core.core.program)
      }
    } else {
      func work(_ list: [NPUQueryTile]) -> Int {
        list.reduce(0) { $0 + $1.keys.count + plan.blockRows }
      }
      let busiest = lists.indices.max { (work(lists[$0]), $1) < (work(lists[$1]), $0) }
      if let busiest, !lists[busiest].isEmpty {
        let core = try FusedNPUCore(self, number: busiest)
        try core.run(lists[busiest])
        programs.append(core.core.program)
        peaks = core.core.peakBytes
        counters = try core.count(tiles.classes)
      }
    }
    let regions =
      arrays.regions
      + [exchange?.scores, exchange?.probabilities, exchange?.products].compactMap { $0?.region }
    return (
      NPULaunch(
        name: options.kernel.rawValue, programs: programs, coresUsed: coresUsed,
        counters: counters, peakBytes: peaks, workspaceBytes: workspaceBytes, regions: regions),
      rescaledRows
    )
  }
}
