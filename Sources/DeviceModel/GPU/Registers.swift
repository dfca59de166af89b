/// Registers of a warp that an access fills or empties: one, two or four 32-bit words a lane,
/// register after register.
public protocol LaneRegisters: Sendable, BitwiseCopyable {
  /// Bytes a lane.
  static var bytesPerLane: Int { get }
  /// All zero.
  init()
}

extension SIMD32: LaneRegisters where Scalar == UInt32 {
  public static var bytesPerLane: Int { 4 }
}

/// Two words a lane: an 8-byte access, the B operand of `mma.m16n8k16`.
public struct Registers2: LaneRegisters, Equatable {
  public static var bytesPerLane: Int { 8 }
  /// Register 0.
  public var r0 = Lanes<UInt32>()
  /// Register 1.
  public var r1 = Lanes<UInt32>()

  public init() {}

  /// From two registers.
  @inlinable
  public init(_ r0: Lanes<UInt32>, _ r1: Lanes<UInt32>) {
    self.r0 = r0
    self.r1 = r1
  }
}

/// Four words a lane: a 16-byte access, the A operand of `mma.m16n8k16`.
public struct Registers4: LaneRegisters, Equatable {
  public static var bytesPerLane: Int { 16 }
  /// Register 0.
  public var r0 = Lanes<UInt32>()
  /// Register 1.
  public var r1 = Lanes<UInt32>()
  /// Register 2.
  public var r2 = Lanes<UInt32>()
  /// Register 3.
  public var r3 = Lanes<UInt32>()

  public init() {}

  /// From four registers.
  @inlinable
  public init(
    _ r0: Lanes<UInt32>, _ r1: Lanes<UInt32>, _ r2: Lanes<UInt32>, _ r3: Lanes<UInt32>
  ) {
    self.r0 = r0
    self.r1 = r1
    self.r2 = r2
    self.r3 = r3
  }

  /// Register `index` modulo 4.
  @inlinable
  public subscript(index: Int) -> Lanes<UInt32> {
    get {
      switch index & 3 {
      case 0: r0
      case 1: r1
      case 2: r2
      default: r3
      }
    }
    set {
      switch index & 3 {
      case 0: r0 = newValue
      case 1: r1 = newValue
      case 2: r2 = newValue
      default: r3 = newValue
      }
    }
  }
}

/// The accumulator of `mma.m16n8k16`: four float32 a lane, element i at row g + 8·(i div 2), column
/// 2t + i mod 2.
public struct FloatAccumulator: Sendable, Equatable {
  /// Element 0.
  public var c0 = Lanes<Float>()
  /// Element 1.
  public var c1 = Lanes<Float>()
  /// Element 2.
  public var c2 = Lanes<Float>()
  /// Element 3.
  public var c3 = Lanes<Float>()

  /// All zero.
  public init() {}

  /// Element `index` modulo 4.
  @inlinable
  public subscript(index: Int) -> Lanes<Float> {
    get {
      switch index & 3 {
      case 0: c0
      case 1: c1
      case 2: c2
      default: c3
      }
    }
    set {
      switch index & 3 {
      case 0: c0 = newValue
      case 1: c1 = newValue
      case 2: c2 = newValue
      default: c3 = newValue
      }
    }
  }
}

/// The accumulator of `mma.m16n8k32`: four int32 a lane, placed as ``FloatAccumulator``'s.
public struct IntegerAccumulator: Sendable, Equatable {
  /// Element 0.
  public var c0 = Lanes<Int32>()
  /// Element 1.
  public var c1 = Lanes<Int32>()
  /// Element 2.
  public var c2 = Lanes<Int32>()
  /// Element 3.
  public var c3 = Lanes<Int32>()

  /// All zero.
  public init() {}
}

/// The accumulator of Volta's `mma.m8n8k4`: eight float32 a lane, placed by
/// ``Fragment/voltaCFloat``.
public struct VoltaAccumulator: Sendable, Equatable {
  /// Elements 0…3.
  public var low = FloatAccumulator()
  /// Elements 4…7.
  public var high = FloatAccumulator()

  /// All zero.
  public init() {}
}
