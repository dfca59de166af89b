import DeviceModel

extension HalfGemm: MatmulKernel {
  public var warpSteps: Int {
    let steps = inputs / tile.inputs
    return rowTiles * columnTiles * tile.warps * steps
  }

  public var sitesOutsideLoop: Set<String> { Set(sites[Site.stage.rawValue...]) }

  /// All stages but one in flight, one barrier a step.
  public func launch(on device: DeviceSpec) -> Launch {
    let steps = inputs / tile.inputs
    let accumulators = 4 * tile.warpRowBlocks * tile.warpColumnBlocks
    return Launch(
      name: name, blocks: blocks, warpsPerBlock: warpsPerBlock,
      registersPerThread: Sourced(
        Double(min(255, accumulators + 90)),
        .assumed("\(accumulators) accumulators, and 90 for fragments and addresses")),
      sharedBytesPerBlock: sharedBytesPerBlock, stepsPerBlock: (steps + splits - 1) / splits,
      chain: [
        .globalLoad(rounds: 1), .barrier(1), .sharedLoad(1),
        .matrix(.m16n8k16, tile.inputs / 16 * tile.warpRowBlocks * tile.warpColumnBlocks),
      ],
      blockOverheadCycles: Sourced(
        0, .assumed("the first steps' latency is hidden by the blocks before")),
      pipelineStages: tile.stages - 1,
      distinctBytes: (rows * inputs + outputs * inputs + rows * outputs) * 2,
      missShare: 1 / Double(rowTiles),
      splitSum: splits > 1
        ? SplitSum(parts: splits, elements: rows * outputs, bytesPerElement: 4) : nil)
  }

  /// Without the sum over splits, which the launch's `splitSum` stands for.
  public func timedCounters(_ counters: Counters) -> Counters {
    guard splits > 1 else { return counters }
    var counters = counters
    for site in [Site.partLoad, .store] {
      counters.sites[site.rawValue] = Counters.Site(sites[site.rawValue])
    }
    return counters
  }
}
