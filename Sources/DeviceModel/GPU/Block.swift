/// A running block: its warps, their registers, and its shared memory.
///
/// A block is bulk-synchronous. Warps run one after another between barriers, so a run is repeatable,
/// and what hardware would leave to chance (an access of two warps to the same bytes without a
/// barrier) is found by checks and not by luck.
public struct Block<Registers> {
  /// The block's number in the grid.
  public internal(set) var index = 0
  /// The warps' registers, as ``WarpKernel/makeRegisters()`` made them.
  public internal(set) var registers: [Registers] = []
  var warp: Warp
  var queues: [AsyncCopyQueue]
  var barriers = 0

  init(warp: Warp, warps: Int) {
    self.warp = warp
    queues = Array(repeating: AsyncCopyQueue(), count: warps)
  }

  /// Runs `body` for each warp, then passes a block-wide barrier (`__syncthreads`).
  ///
  /// - Parameters:
  ///   - range: the warps that take part; all of them by default.
  ///   - barrier: false where the kernel's text has no barrier behind the code.
  ///   - body: gets the warp and its registers.
  /// - Throws: ``DeviceError`` of `body`; `.invalidArgument` for a warp that the block has not.
  @inlinable
  public mutating func eachWarp(
    _ range: Range<Int>? = nil, barrier: Bool = true,
    _ body: (inout Warp, inout Registers) throws(DeviceError) -> Void
  ) throws(DeviceError) {
    for number in range ?? 0..<warpCount {
      try withWarp(number, body)
    }
    if barrier { passBarrier() }
  }

  /// Warps of the block.
  public var warpCount: Int { queues.count }

  @usableFromInline
  mutating func withWarp(
    _ number: Int, _ body: (inout Warp, inout Registers) throws(DeviceError) -> Void
  ) throws(DeviceError) {
    guard queues.indices.contains(number) else {
      throw DeviceError(
        .invalidArgument, "\(warp.kernelName), block \(index)", "warp \(number) of \(warpCount)",
        remedy: "name warps that the launch has", limit: warpCount)
    }
    warp.index = number
    if warp.isChecked { swap(&warp.copies, &queues[number]) }
    defer { if warp.isChecked { swap(&warp.copies, &queues[number]) } }
    try body(&warp, &registers[number])
  }

  @usableFromInline
  mutating func passBarrier() {
    barriers += 1
    warp.epoch += 1
  }
}
