/// Blocks of a launch that a multiprocessor holds at a time, and why not more.
public struct Occupancy: Sendable, Hashable {
  /// What limits residency.
  public enum Limit: String, Sendable, Hashable {
    /// Shared memory of the multiprocessor.
    case sharedMemory
    /// Registers of the multiprocessor.
    case registers
    /// Resident warps.
    case warps
    /// Resident blocks.
    case blocks
  }

  /// Resident blocks of a multiprocessor.
  public let residentBlocks: Int
  /// Resident warps of a multiprocessor.
  public let residentWarps: Int
  /// The tightest limit.
  public let limit: Limit
  /// Blocks that each limit alone would allow.
  public let allowed: [Limit: Int]

  /// How often a launch fills a device, checked against every limit of it.
  ///
  /// Registers are given out in units of 256 a warp (kokkos/kokkos pull request 5624), shared
  /// memory with the device's reserve a block.
  ///
  /// - Throws: ``DeviceError`` with `.launch`, the limit and the value, when the grid is empty or
  ///   too large or one block does not fit.
  public static func of(_ launch: Launch, on spec: DeviceSpec) throws(DeviceError) -> Occupancy {
    func refuse(_ what: String, _ value: Int, _ limit: Int) -> DeviceError {
      DeviceError(
        .launch, "\(launch.name) on \(spec.identifier)",
        "\(value) \(what), the device holds \(limit)", remedy: "change the tile or the grid",
        limit: limit)
    }
    func require(_ what: String, _ value: Int, _ least: Int, _ limit: Int) throws(DeviceError) {
      guard value >= least, value <= limit else { throw refuse(what, value, limit) }
    }
    for (label, value) in [
      ("multiprocessors", spec.multiprocessors), ("sub-cores", spec.subCores),
      ("sustained clock", spec.sustainedClock), ("memory", spec.dramPeak),
      ("memory share", spec.dramShare), ("L2 rate", spec.l2BytesPerCycle),
    ] where !(value.value > 0 && value.value < 1e12) {
      throw DeviceError(
        .invalidArgument, spec.identifier, "\(label) is \(value.value)",
        remedy: "give a positive number")
    }
    try require("blocks in the grid", launch.blocks, 1, Int(Int32.max))
    try require("warps a block", launch.warpsPerBlock, 1, 32)
    try require("steps a block", launch.stepsPerBlock, 1, Int(Int32.max))
    try require("pipeline stages", launch.pipelineStages, 1, 64)
    try require(
      "shared bytes a block", launch.sharedBytesPerBlock, 0, spec.sharedPerBlock.count)
    let perThread = launch.registersPerThread.value
    guard perThread >= 1, perThread <= 255 else {
      throw refuse("registers a thread", Int(perThread.isFinite ? perThread : 0), 255)
    }
    let overhead = launch.blockOverheadCycles.value
    let instructions = launch.instructionsPerWarpStep?.value ?? 0
    guard overhead >= 0, overhead < 1e12, instructions >= 0, instructions < 1e12 else {
      throw DeviceError(
        .launch, launch.name, "overhead \(overhead), instructions \(instructions)",
        remedy: "give numbers of cycles and instructions")
    }
    guard launch.missShare >= 0, launch.missShare <= 1, launch.distinctBytes >= 0 else {
      throw DeviceError(
        .launch, launch.name, "miss share \(launch.missShare), bytes \(launch.distinctBytes)",
        remedy: "give a share of 0 to 1 and a count of bytes")
    }
    let registersOfBlock =
      Int((perThread / 8).rounded(.up)) * 8 * 32 * launch.warpsPerBlock
    try require("registers a block", registersOfBlock, 1, spec.registers.count)
    let sharedOfBlock = launch.sharedBytesPerBlock + spec.sharedReservedPerBlock.count
    let allowed: [Limit: Int] = [
      .sharedMemory: sharedOfBlock == 0
        ? Int.max : spec.sharedPerMultiprocessor.count / sharedOfBlock,
      .registers: spec.registers.count / registersOfBlock,
      .warps: spec.warps.count / launch.warpsPerBlock,
      .blocks: spec.blocks.count,
    ]
    let order: [Limit] = [.sharedMemory, .registers, .warps, .blocks]
    var tightest = Limit.blocks
    for limit in order where allowed[limit, default: 0] < allowed[tightest, default: 0] {
      tightest = limit
    }
    let resident = allowed[tightest, default: 0]
    guard resident > 0 else { throw refuse("blocks by \(tightest.rawValue)", 1, 0) }
    return Occupancy(
      residentBlocks: resident, residentWarps: resident * launch.warpsPerBlock, limit: tightest,
      allowed: allowed)
  }
}
