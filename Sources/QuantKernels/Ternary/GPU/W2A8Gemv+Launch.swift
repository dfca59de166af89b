import DeviceModel

extension W2A8Gemv: MatmulKernel {
  public var warpSteps: Int { blocks * warpsPerBlock * (inputs / 128) }
  public var sitesOutsideLoop: Set<String> { ["store"] }

  /// No shared memory, no barrier: loads of several steps are in flight.
  public func launch(on device: DeviceSpec) -> Launch {
    Launch(
      name: name, blocks: blocks, warpsPerBlock: warpsPerBlock,
      registersPerThread: Sourced(40, .assumed("sixteen operands, a sum, addresses, loads ahead")),
      sharedBytesPerBlock: 0, stepsPerBlock: inputs / 128,
      chain: [
        .globalLoad(rounds: 1),
        .issue(Sourced(40, .assumed("shift, lop3, subtraction and four dependent dp4a"))),
      ],
      blockOverheadCycles: Sourced(100, .assumed("three shuffles, conversion, store")),
      pipelineStages: inputs < 4 * 128 ? 1 : 4,
      distinctBytes: inputs + layout.byteCount + outputs * 2)
  }
}
