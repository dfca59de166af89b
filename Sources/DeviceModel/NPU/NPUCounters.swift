/// What a program did on an NPU. Addition is associative and commutative; nothing depends on time.
public struct NPUCounters: Sendable, Hashable {
  /// Bytes by ``NPUPath``.
  private var pathBytes = [Int](repeating: 0, count: NPUPath.allCases.count)
  /// Bytes read from and written to each region of global memory, by name.
  public internal(set) var regionReads: [String: Int] = [:]
  /// Bytes written to each region of global memory, by name.
  public internal(set) var regionWrites: [String: Int] = [:]
  /// Products issued to cubes.
  public internal(set) var products = 0
  /// Cycles of the cubes: ceil(m/16) · ceil(n/16) · ceil(k/16) a product.
  public internal(set) var cubeCycles = 0
  /// Vector instructions.
  public internal(set) var vectorInstructions = 0
  /// Their repeats, of at most 256 bytes.
  public internal(set) var vectorRepeats = 0
  /// Cycles beyond one a repeat, by bank conflicts of the unified buffer; 0 where no rule is known.
  public internal(set) var bankConflictCycles = 0
  /// Points at which one side hands a block to the other.
  public internal(set) var handOvers = 0
  /// Flags set.
  public internal(set) var flags = 0
  /// Whatever else a kernel counts, by name.
  public internal(set) var marks: [String: Int] = [:]

  /// Nothing yet.
  public init() {}

  /// Bytes that went along a path.
  public func bytes(_ path: NPUPath) -> Int { pathBytes[path.rawValue] }

  /// Repeats and what conflicts add.
  public var vectorCycles: Int { vectorRepeats + bankConflictCycles }

  /// Bytes read from global memory.
  public var globalReadBytes: Int { bytes(.globalToL1) + bytes(.globalToUB) }
  /// Bytes written to global memory.
  public var globalWriteBytes: Int { bytes(.l0cToGlobal) + bytes(.ubToGlobal) }

  mutating func move(_ bytes: Int, _ path: NPUPath, region: String?) {
    pathBytes[path.rawValue] += bytes
    guard let region else { return }
    if path.isGlobalRead { regionReads[region, default: 0] += bytes }
    if path.isGlobalWrite { regionWrites[region, default: 0] += bytes }
  }

  /// Adds `count` times what `other` holds.
  public mutating func add(_ other: NPUCounters, times count: Int = 1) {
    for index in pathBytes.indices { pathBytes[index] += other.pathBytes[index] * count }
    for (name, bytes) in other.regionReads { regionReads[name, default: 0] += bytes * count }
    for (name, bytes) in other.regionWrites { regionWrites[name, default: 0] += bytes * count }
    for (name, value) in other.marks { marks[name, default: 0] += value * count }
    products += other.products * count
    cubeCycles += other.cubeCycles * count
    vectorInstructions += other.vectorInstructions * count
    vectorRepeats += other.vectorRepeats * count
    bankConflictCycles += other.bankConflictCycles * count
    handOvers += other.handOvers * count
    flags += other.flags * count
  }

  /// The sums of both sides' counts.
  public static func + (left: NPUCounters, right: NPUCounters) -> NPUCounters {
    var sum = left
    sum.add(right)
    return sum
  }
}
