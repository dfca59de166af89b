import Synchronization

/// Who touched each global byte in one pass of a checked run.
///
/// Blocks of a pass run in any order, so a byte that one of them writes must be no other's.
final class GlobalChecks: Sendable {
  /// A class, so that its arrays change in place behind the dictionary.
  private final class Owners {
    /// Block that wrote the byte, plus 1.
    var writers: [Int32]
    /// Block that read it, plus 1; −1 for more than one.
    var readers: [Int32]

    init(bytes: Int) {
      writers = Array(repeating: 0, count: bytes)
      readers = writers
    }
  }

  private let buffers = Mutex<[ObjectIdentifier: Owners]>([:])

  /// Notes an access of `block`; the first lane that touches a byte of another block, at least one of
  /// them writing.
  func conflict(
    _ buffer: GlobalBuffer, block: Int, addresses: Lanes<UInt32>, mask: LaneMask, width: Int,
    isStore: Bool
  ) -> (lane: Int, address: Int, block: Int)? {
    let me = Int32(truncatingIfNeeded: block + 1)
    return buffers.withLock { buffers in
      let key = ObjectIdentifier(buffer)
      let owners = buffers[key] ?? Owners(bytes: buffer.byteCount)
      buffers[key] = owners
      for lane in 0..<32 where mask[lane] {
        for byte in Int(addresses[lane])..<Int(addresses[lane]) + width {
          let writer = owners.writers[byte]
          if writer != 0, writer != me { return (lane, byte, Int(writer) - 1) }
          let reader = owners.readers[byte]
          if isStore {
            if reader > 0, reader != me { return (lane, byte, Int(reader) - 1) }
            if reader < 0 { return (lane, byte, block) }
            owners.writers[byte] = me
          } else if reader != me {
            owners.readers[byte] = reader == 0 ? me : -1
          }
        }
      }
      return nil
    }
  }
}
