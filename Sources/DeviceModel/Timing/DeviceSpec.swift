/// A GPU as the timing layers see it; every number carries its source.
public struct DeviceSpec: Sendable, Hashable {
  /// The name by which it is asked for: `a100-80`.
  public var identifier: String
  /// The name on the box.
  public var name: String
  /// Compute capability as a decimal: 8.6.
  public var capability: Sourced
  /// Streaming multiprocessors.
  public var multiprocessors: Sourced
  /// Clock of the published peaks, GHz.
  public var boostClock: Sourced
  /// Clock that a kernel is timed at, GHz: below boost where a power limit is known to bind.
  public var sustainedClock: Sourced
  /// Shared memory of a multiprocessor that blocks can have, bytes.
  public var sharedPerMultiprocessor: Sourced
  /// The most shared memory of one block, bytes.
  public var sharedPerBlock: Sourced
  /// Shared memory that the system takes from each block's share, bytes.
  public var sharedReservedPerBlock: Sourced
  /// 32-bit registers of a multiprocessor.
  public var registers: Sourced
  /// Resident warps of a multiprocessor.
  public var warps: Sourced
  /// Resident blocks of a multiprocessor.
  public var blocks: Sourced
  /// Sub-cores of a multiprocessor; each issues one instruction a cycle.
  public var subCores: Sourced
  /// Second-level cache, bytes.
  public var l2Bytes: Sourced
  /// What a multiprocessor reads from the second-level cache a cycle while all do, bytes.
  public var l2BytesPerCycle: Sourced
  /// Peak of the memory, GB/s.
  public var dramPeak: Sourced
  /// Share of `dramPeak` that streaming code reaches.
  public var dramShare: Sourced
  /// Dense binary16 tensor peak with float32 sums, TFLOP/s.
  public var float16Peak: Sourced
  /// Multiply-adds a cycle a multiprocessor through `mma.sync`, binary16 with float32 sums.
  public var tensorFloat32Sums: Sourced
  /// The same with binary16 sums.
  public var tensorFloat16Sums: Sourced
  /// The same for int8; 0 where there is none.
  public var tensorInt8: Sourced
  /// The same through warpgroup instructions, where the part has them.
  public var tensorWarpgroup: Sourced?
  /// Cycles that a load-store instruction holds the unit at the least.
  public var loadStoreCycles: Sourced
  /// Cycles that a shared store takes beyond its wavefronts.
  public var sharedStoreExtraCycles: Sourced
  /// Passes of the data stage that a 32-byte sector arriving from the second-level cache takes.
  public var fillPassesPerSector: Sourced
  /// Latency of a conflict-free shared load of 4 bytes a lane or an `ldmatrix`, cycles.
  public var sharedLatency: Sourced
  /// Latency of a shared load of 16 bytes a lane, cycles.
  public var wideSharedLatency: Sourced
  /// Latency of a load that hits the first-level cache, cycles.
  public var l1Latency: Sourced
  /// Latency of the slowest loads that hit the second-level cache, cycles.
  public var l2Latency: Sourced
  /// Latency of the slowest loads that go to memory, idle, cycles.
  public var dramLatency: Sourced
  /// From an `mma.m16n8k16` to its result, cycles.
  public var matrixLatency: Sourced
  /// Cost of a block barrier that nobody waits at, cycles.
  public var barrierLatency: Sourced
  /// From one small kernel to the next in a stream, µs.
  public var launchMicroseconds: Sourced
  /// NVLink, both ways together, GB/s; 0 where there is none.
  public var nvlink: Sourced
  /// PCI Express, one way, GB/s.
  public var pcie: Sourced

  /// Every number with its label and unit, in a fixed order: what `devices` prints.
  public var numbers: [(label: String, unit: String, number: Sourced)] {
    var list: [(label: String, unit: String, number: Sourced)] = [
      ("compute capability", "", capability),
      ("multiprocessors", "", multiprocessors),
      ("boost clock", "GHz", boostClock),
      ("sustained clock", "GHz", sustainedClock),
      ("shared memory a multiprocessor", "B", sharedPerMultiprocessor),
      ("shared memory a block", "B", sharedPerBlock),
      ("shared memory reserved a block", "B", sharedReservedPerBlock),
      ("registers", "", registers),
      ("warps", "", warps),
      ("blocks", "", blocks),
      ("sub-cores", "", subCores),
      ("L2", "B", l2Bytes),
      ("L2 read a multiprocessor", "B/cycle", l2BytesPerCycle),
      ("memory peak", "GB/s", dramPeak),
      ("memory share reached", "", dramShare),
      ("float16 tensor peak", "TFLOP/s", float16Peak),
      ("tensor, float32 sums", "multiply-adds/cycle", tensorFloat32Sums),
      ("tensor, float16 sums", "multiply-adds/cycle", tensorFloat16Sums),
      ("tensor, int8", "multiply-adds/cycle", tensorInt8),
      ("load-store instruction", "cycles", loadStoreCycles),
      ("shared store beyond wavefronts", "cycles", sharedStoreExtraCycles),
      ("fill of a sector", "passes", fillPassesPerSector),
      ("shared load latency", "cycles", sharedLatency),
      ("16-byte shared load latency", "cycles", wideSharedLatency),
      ("L1 latency", "cycles", l1Latency),
      ("L2 latency", "cycles", l2Latency),
      ("memory latency", "cycles", dramLatency),
      ("mma latency", "cycles", matrixLatency),
      ("barrier", "cycles", barrierLatency),
      ("launch", "µs", launchMicroseconds),
      ("NVLink", "GB/s", nvlink),
      ("PCI Express", "GB/s", pcie),
    ]
    if let tensorWarpgroup {
      list.append(("tensor, warpgroup", "multiply-adds/cycle", tensorWarpgroup))
    }
    return list
  }

  /// Multiply-adds a cycle a multiprocessor of an instruction shape.
  public func tensorRate(_ shape: MatrixShape) -> Sourced {
    switch shape {
    case .m16n8k16, .m8n8k4: tensorFloat32Sums
    case .m16n8k32: tensorInt8
    }
  }

  /// What streaming code reads from memory, GB/s.
  public var dramBandwidth: Double { dramPeak.value * dramShare.value }

  public static func == (left: DeviceSpec, right: DeviceSpec) -> Bool {
    left.identifier == right.identifier && left.name == right.name
      && left.numbers.elementsEqual(right.numbers) { $0 == $1 }
  }

  public func hash(into hasher: inout Hasher) { hasher.combine(identifier) }
}

extension DeviceSpec {
  /// FLOP of binary16 products with float32 sums for each byte that streams from memory: the
  /// machine's balance.
  public var flopPerByte: Double {
    2 * tensorFloat32Sums.value * multiprocessors.value * sustainedClock.value / dramBandwidth
  }

  /// The device with tensor rate and memory bandwidth scaled, everything else as it is.
  public func scaled(compute: Double, bandwidth: Double) -> DeviceSpec {
    var copy = self
    copy.tensorFloat32Sums = tensorFloat32Sums.scaled(by: compute)
    copy.dramPeak = dramPeak.scaled(by: bandwidth)
    return copy
  }
}
