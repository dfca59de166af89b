/// A kernel for simulated warps: what its author writes.
///
/// A kernel is a value that holds its buffers and layouts. ``run(_:pass:)`` is the text of one block;
/// it moves data through the block's warps and declares what its arithmetic costs.
public protocol WarpKernel: Sendable {
  /// What a warp keeps between barriers.
  associatedtype Registers: Sendable

  /// What errors and reports call it.
  var name: String { get }
  /// A name for each access in the kernel's text; an access gives its index.
  var sites: [String] { get }
  /// Blocks of the grid.
  var blocks: Int { get }
  /// Warps of a block.
  var warpsPerBlock: Int { get }
  /// Shared memory that a block asks for, in bytes.
  var sharedBytesPerBlock: Int { get }
  /// Passes over the grid that are ordered among each other, 1 for most kernels. A chain of locks
  /// through global memory (Marlin's reduction) is as many passes as the chain is long; registers
  /// outlive them.
  var passes: Int { get }
  /// Blocks that stand for others that do the same accesses elsewhere, for runs that only count.
  var blockClasses: [BlockClass] { get }

  /// A warp's registers when its block starts.
  func makeRegisters() -> Registers
  /// One block, in one pass.
  ///
  /// - Throws: ``DeviceError`` of an access that the device would not do, or for a program at
  ///   fault.
  func run(_ block: inout Block<Registers>, pass: Int) throws(DeviceError)
}

/// Blocks of a grid whose counters are equal.
public struct BlockClass: Sendable, Hashable {
  /// The block that is run.
  public let representative: Int
  /// How many blocks it stands for, itself among them.
  public let count: Int

  /// A class.
  public init(representative: Int, count: Int) {
    self.representative = representative
    self.count = count
  }
}

extension WarpKernel {
  /// One.
  public var passes: Int { 1 }
  /// Each block for itself.
  public var blockClasses: [BlockClass] {
    (0..<max(0, blocks)).map { BlockClass(representative: $0, count: 1) }
  }
}
