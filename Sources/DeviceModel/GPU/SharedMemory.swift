/// A block's shared memory: bytes, and under checks a shadow that knows who touched each of them.
@safe
final class SharedMemory {
  let byteCount: Int
  let bytes: UnsafeMutablePointer<UInt8>
  /// One entry a byte under checks, else none.
  private var shadow: [Shadow]

  private struct Shadow {
    /// Barrier interval of the last write and the warp that wrote; −1 for never.
    var writeEpoch: Int32 = -1
    var writer: UInt8 = 0
    /// An asynchronous copy of `writer` that was not waited for covers the byte.
    var isPending = false
    /// Barrier interval of the last reads and the warps that read in it.
    var readEpoch: Int32 = -1
    var readers: UInt32 = 0
  }

  /// What is wrong with touching a byte.
  enum Fault {
    case race(warp: Int)
    case uninitialized
    case pending(warp: Int)
  }

  init(byteCount: Int, checks: Bool) {
    self.byteCount = byteCount
    unsafe bytes = .allocate(capacity: max(byteCount, 1))
    unsafe bytes.initialize(repeating: 0, count: max(byteCount, 1))
    shadow = checks ? Array(repeating: Shadow(), count: byteCount) : []
  }

  deinit { unsafe bytes.deallocate() }

  /// Forgets everything, for the next block. What shared memory holds when a block starts is
  /// undefined; zeros keep runs repeatable.
  func reset() {
    unsafe bytes.update(repeating: 0, count: byteCount)
    for byte in shadow.indices { shadow[byte] = Shadow() }
  }

  /// Notes an access of `warp` in barrier interval `epoch`; the first fault, with its lane.
  func check(
    _ addresses: Lanes<UInt32>, mask: LaneMask, width: Int, isStore: Bool, warp: Int, epoch: Int,
    isPending: Bool = false
  ) -> (fault: Fault, lane: Int, address: Int)? {
    guard !shadow.isEmpty else { return nil }
    let epoch = Int32(truncatingIfNeeded: epoch)
    let me = UInt8(truncatingIfNeeded: warp)
    for lane in 0..<32 where mask[lane] {
      for byte in Int(addresses[lane])..<Int(addresses[lane]) + width {
        var entry = shadow[byte]
        if entry.isPending { return (.pending(warp: Int(entry.writer)), lane, byte) }
        if entry.writeEpoch == epoch, entry.writer != me {
          return (.race(warp: Int(entry.writer)), lane, byte)
        }
        if isStore {
          let others = entry.readEpoch == epoch ? entry.readers & ~(1 << UInt32(me & 31)) : 0
          if others != 0 { return (.race(warp: others.trailingZeroBitCount), lane, byte) }
          entry.writeEpoch = epoch
          entry.writer = me
          entry.isPending = isPending
        } else {
          if entry.writeEpoch < 0 { return (.uninitialized, lane, byte) }
          if entry.readEpoch != epoch { entry.readers = 0 }
          entry.readEpoch = epoch
          entry.readers |= 1 << UInt32(me & 31)
        }
        shadow[byte] = entry
      }
    }
    return nil
  }

  /// The bytes of a copy that its warp waited for are written as of `epoch`.
  func settle(_ addresses: Lanes<UInt32>, mask: LaneMask, width: Int, epoch: Int) {
    guard !shadow.isEmpty else { return }
    for lane in 0..<32 where mask[lane] {
      for byte in Int(addresses[lane])..<Int(addresses[lane]) + width {
        shadow[byte].isPending = false
        shadow[byte].writeEpoch = Int32(truncatingIfNeeded: epoch)
      }
    }
  }
}
