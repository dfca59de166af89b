/// Memories of an NPU's core, and the one that all cores share.
public enum NPUMemory: String, Sendable, Hashable, CaseIterable {
  /// Global memory, seen through the second-level cache.
  case global = "gm"
  /// The cube's buffer in front of its operand buffers.
  case l1
  /// Left operand of the cube.
  case l0a
  /// Right operand of the cube.
  case l0b
  /// Sums of the cube.
  case l0c
  /// The vector unit's unified buffer.
  case ub
}

/// Ways that data goes between memories.
public enum NPUPath: Int, Sendable, Hashable, CaseIterable {
  /// Operands, global memory to L1.
  case globalToL1
  /// Global memory to a unified buffer.
  case globalToUB
  /// Left operands, L1 to L0A.
  case l1ToL0A
  /// Right operands, L1 to L0B.
  case l1ToL0B
  /// Split parts only: the fix-pipe writes sums to global memory.
  case l0cToGlobal
  /// Coupled parts only: sums go straight to the vector unit.
  case l0cToUB
  /// A unified buffer to global memory.
  case ubToGlobal
  /// Coupled parts only.
  case ubToL1

  /// As reports spell it.
  public var name: String {
    switch self {
    case .globalToL1: "gmToL1"
    case .globalToUB: "gmToUB"
    case .l1ToL0A: "l1ToL0A"
    case .l1ToL0B: "l1ToL0B"
    case .l0cToGlobal: "l0cToGM"
    case .l0cToUB: "l0cToUB"
    case .ubToGlobal: "ubToGM"
    case .ubToL1: "ubToL1"
    }
  }

  /// Whether the path reads or writes global memory.
  public var isGlobal: Bool { isGlobalRead || isGlobalWrite }
  /// Whether it reads global memory.
  public var isGlobalRead: Bool { self == .globalToL1 || self == .globalToUB }
  /// Whether it writes global memory.
  public var isGlobalWrite: Bool { self == .l0cToGlobal || self == .ubToGlobal }
}

/// Queues of a core, each of which does one operation at a time in the order of issue.
public enum NPUPipe: Int, Sendable, Hashable, CaseIterable {
  /// Loads from global memory.
  case load
  /// L1 to the operand buffers.
  case operand
  /// The cube.
  case cube
  /// Out of L0C.
  case fix
  /// The vector unit.
  case vector
  /// Stores from the unified buffer.
  case store

  /// The vendor's name.
  public var name: String {
    switch self {
    case .load: "MTE2"
    case .operand: "MTE1"
    case .cube: "M"
    case .fix: "FIXP"
    case .vector: "V"
    case .store: "MTE3"
    }
  }
}
