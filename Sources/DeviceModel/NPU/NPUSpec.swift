/// An NPU of cube and vector cores as the simulation and its timing see it; every number carries its
/// source.
public struct NPUSpec: Sendable, Hashable {
  /// How cube and vector unit are joined.
  public enum Coupling: String, Sendable, Hashable {
    /// One core has both: sums go from L0C to the unified buffer, and back from there to L1.
    case coupled
    /// Cores of their own that exchange data through global memory (its cache) only.
    case split
  }

  /// The name by which it is asked for: `ascend910b2`.
  public var identifier: String
  /// The name on the box.
  public var name: String
  /// How cube and vector unit are joined.
  public var coupling: Coupling
  /// The rule of the unified buffer's banks; nil where none is documented, and none is claimed.
  public var bankRule: UnifiedBufferBanks?
  /// AI cores: cubes.
  public var cores: Sourced
  /// Vector units of a cube.
  public var vectorUnits: Sourced
  /// GHz.
  public var clock: Sourced
  /// Binary16 multiply-adds of a cube a cycle.
  public var cubeRate: Sourced
  /// Binary16 peak, TFLOP/s.
  public var float16Peak: Sourced
  /// L1 of a cube, bytes.
  public var l1Bytes: Sourced
  /// L0A of a cube, bytes.
  public var l0aBytes: Sourced
  /// L0B of a cube, bytes.
  public var l0bBytes: Sourced
  /// L0C of a cube, bytes.
  public var l0cBytes: Sourced
  /// Unified buffer of a vector unit, bytes.
  public var ubBytes: Sourced
  /// Second-level cache of the chip, bytes.
  public var l2Bytes: Sourced
  /// Memory of the chip, bytes.
  public var memoryBytes: Sourced
  /// Memory rate of the chip, GB/s.
  public var memoryRate: Sourced
  /// What one core moves to or from memory, bytes a cycle.
  public var memoryPort: Sourced
  /// What one core reads from the cache, bytes a cycle.
  public var l2Read: Sourced
  /// What one core writes to the cache, bytes a cycle.
  public var l2Write: Sourced
  /// L1 to L0A, bytes a cycle.
  public var l1ToL0A: Sourced
  /// L1 to L0B, bytes a cycle.
  public var l1ToL0B: Sourced
  /// L0C to the unified buffer, bytes a cycle; coupled parts only.
  public var l0cToUB: Sourced
  /// Unified buffer to L1, bytes a cycle; coupled parts only.
  public var ubToL1: Sourced
  /// Unified buffer to global memory, bytes a cycle.
  public var ubToGlobal: Sourced
  /// From setting a flag to when its waiter goes on, cycles.
  public var flagCycles: Sourced
  /// What a copy takes beyond its bytes, cycles.
  public var copyStartCycles: Sourced
  /// What a product on the cube takes beyond its fractals, cycles.
  public var cubeStartCycles: Sourced
  /// What a vector operation takes beyond its repeats, cycles.
  public var vectorStartCycles: Sourced
  /// Cycles of a repeat of 256 bytes without a bank conflict.
  public var repeatCycles: Sourced
  /// The same for exponentials, logarithms and quotients.
  public var exponentialRepeatCycles: Sourced
  /// From one kernel to the next, µs.
  public var launchMicroseconds: Sourced

  /// Every number with its label and unit, in a fixed order: what `devices` prints.
  public var numbers: [(label: String, unit: String, number: Sourced)] {
    [
      ("AI cores", "", cores), ("vector units a core", "", vectorUnits), ("clock", "GHz", clock),
      ("cube, binary16", "multiply-adds/cycle", cubeRate),
      ("binary16 peak", "TFLOP/s", float16Peak), ("L1", "B", l1Bytes), ("L0A", "B", l0aBytes),
      ("L0B", "B", l0bBytes), ("L0C", "B", l0cBytes), ("unified buffer", "B", ubBytes),
      ("L2", "B", l2Bytes), ("memory", "B", memoryBytes), ("memory rate", "GB/s", memoryRate),
      ("memory port of a core", "B/cycle", memoryPort), ("L2 read of a core", "B/cycle", l2Read),
      ("L2 write of a core", "B/cycle", l2Write), ("L1 to L0A", "B/cycle", l1ToL0A),
      ("L1 to L0B", "B/cycle", l1ToL0B), ("L0C to unified buffer", "B/cycle", l0cToUB),
      ("unified buffer to L1", "B/cycle", ubToL1),
      ("unified buffer to global memory", "B/cycle", ubToGlobal), ("flag", "cycles", flagCycles),
      ("start of a copy", "cycles", copyStartCycles),
      ("start of a cube product", "cycles", cubeStartCycles),
      ("start of a vector operation", "cycles", vectorStartCycles),
      ("vector repeat", "cycles", repeatCycles),
      ("exponential repeat", "cycles", exponentialRepeatCycles),
      ("launch", "µs", launchMicroseconds),
    ]
  }

  /// Bytes of one core's buffer; for global memory the chip's.
  public func capacity(_ memory: NPUMemory) -> Int {
    switch memory {
    case .global: memoryBytes.count
    case .l1: l1Bytes.count
    case .l0a: l0aBytes.count
    case .l0b: l0bBytes.count
    case .l0c: l0cBytes.count
    case .ub: ubBytes.count
    }
  }

  /// Instruction streams of an AI core: one, or the cube's and each vector core's.
  public var unitsPerCore: Int { coupling == .coupled ? 1 : 1 + vectorUnits.count }

  public static func == (left: NPUSpec, right: NPUSpec) -> Bool {
    left.identifier == right.identifier && left.name == right.name
      && left.coupling == right.coupling && left.bankRule == right.bankRule
      && left.numbers.elementsEqual(right.numbers) { $0 == $1 }
  }

  public func hash(into hasher: inout Hasher) { hasher.combine(identifier) }

  /// - Throws: ``DeviceError`` with `.launch` naming the first number that no machine can have: no
  ///   cores, no buffer, a rate or a clock that is not positive, a cost that is negative.
  public func check() throws(DeviceError) {
    let positive: [(String, Sourced)] = [
      ("AI cores", cores), ("vector units a core", vectorUnits), ("clock", clock),
      ("cube rate", cubeRate), ("L1", l1Bytes), ("L0A", l0aBytes), ("L0B", l0bBytes),
      ("L0C", l0cBytes), ("unified buffer", ubBytes), ("memory", memoryBytes),
      ("memory rate", memoryRate), ("memory port", memoryPort), ("L2 read", l2Read),
      ("L2 write", l2Write), ("L1 to L0A", l1ToL0A), ("L1 to L0B", l1ToL0B),
      ("unified buffer to global memory", ubToGlobal), ("vector repeat", repeatCycles),
      ("exponential repeat", exponentialRepeatCycles),
    ]
    let joined: [(String, Sourced)] =
      coupling == .coupled ? [("L0C to unified buffer", l0cToUB), ("UB to L1", ubToL1)] : []
    for (label, number) in positive + joined
    where !(number.value > 0 && number.value.isFinite && number.value < 1e15) {
      throw DeviceError(
        .launch, "device \(identifier)", "\(label) is \(number.value)",
        remedy: "give it a positive number")
    }
    for (label, number) in [("AI cores", cores), ("vector units", vectorUnits)]
    where !(1...4096).contains(number.value) || number.value.rounded() != number.value {
      throw DeviceError(
        .launch, "device \(identifier)", "\(label): \(number.value)",
        remedy: "give it a whole number of 1 to 4096", limit: 4096)
    }
    guard coupling == .split || vectorUnits.value == 1, vectorUnits.value <= 8 else {
      throw DeviceError(
        .launch, "device \(identifier)", "\(vectorUnits.value) vector units a core",
        remedy: "a coupled core has 1, a split one at most 8", limit: 8)
    }
    for (label, number) in [
      ("L2", l2Bytes), ("flag", flagCycles), ("start of a copy", copyStartCycles),
      ("start of a cube product", cubeStartCycles),
      ("start of a vector operation", vectorStartCycles), ("launch", launchMicroseconds),
    ] where !(number.value >= 0 && number.value < 1e12) {
      throw DeviceError(
        .launch, "device \(identifier)", "\(label) is \(number.value)",
        remedy: "give it 0 or a positive number")
    }
  }
}

extension NPUSpec {
  /// Numbers that a sensitivity study varies: those without a source, and the rates and sizes on
  /// which the comparison of kernels rests.
  public enum Parameter: String, Sendable, Hashable, CaseIterable {
    /// Cost of a flag between cores.
    case flag = "flag cost"
    /// Bytes a second of global memory.
    case memory = "memory rate"
    /// Bytes a second of the L2 cache, read and written.
    case cacheRate = "L2 rates"
    /// Bytes of the L2 cache.
    case cacheSize = "L2 size"
    /// Cost of starting a copy.
    case copyStart = "start of a copy"
    /// Cost of starting a product on the matrix unit.
    case cubeStart = "start of a cube product"
    /// Cost of starting a vector operation.
    case vectorStart = "start of a vector operation"
    /// Cost of one repeat of a vector operation.
    case vectorRepeat = "vector repeat"
    /// Cost of one repeat of an exponential.
    case exponentialRepeat = "exponential repeat"
    /// Cost of launching a kernel.
    case launch = "launch"

    /// Whether the platform file of the part gives the number.
    public var isSourced: Bool { self == .cacheRate || self == .cacheSize }
  }

  /// The same device with one parameter multiplied.
  public func scaled(_ parameter: Parameter, by factor: Double) -> NPUSpec {
    .variant(of: self) {
      switch parameter {
      case .flag: $0.flagCycles = flagCycles.scaled(by: factor)
      case .memory:
        $0.memoryRate = memoryRate.scaled(by: factor)
        $0.memoryPort = memoryPort.scaled(by: factor)
      case .cacheRate:
        $0.l2Read = l2Read.scaled(by: factor)
        $0.l2Write = l2Write.scaled(by: factor)
      case .cacheSize: $0.l2Bytes = l2Bytes.scaled(by: factor)
      case .copyStart: $0.copyStartCycles = copyStartCycles.scaled(by: factor)
      case .cubeStart: $0.cubeStartCycles = cubeStartCycles.scaled(by: factor)
      case .vectorStart: $0.vectorStartCycles = vectorStartCycles.scaled(by: factor)
      case .vectorRepeat: $0.repeatCycles = repeatCycles.scaled(by: factor)
      case .exponentialRepeat:
        $0.exponentialRepeatCycles = exponentialRepeatCycles.scaled(by: factor)
      case .launch: $0.launchMicroseconds = launchMicroseconds.scaled(by: factor)
      }
    }
  }

  static func variant(of base: NPUSpec, _ change: (inout NPUSpec) -> Void) -> NPUSpec {
    var copy = base
    change(&copy)
    return copy
  }
}
