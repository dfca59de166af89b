import Synchronization

/// A run of a simulated device's global memory with real contents.
///
/// Addresses inside it count from its start, which stands on a 256-byte boundary as every allocation
/// of the CUDA runtime does. Blocks that run at the same time may read it freely; each byte that one
/// block writes belongs to that block until the launch ends.
@safe
public final class GlobalBuffer: @unchecked Sendable {
  /// What errors call it.
  public let name: String
  /// Its size.
  public let byteCount: Int
  let bytes: UnsafeMutablePointer<UInt8>
  /// Who touched each byte, while a launch runs with checks.
  private let owners = Mutex<Owners?>(nil)

  private struct Owners {
    /// Block that wrote the byte, plus 1.
    var writers: [Int32]
    /// Block that read it, plus 1; −1 for more than one.
    var readers: [Int32]
  }

  /// A buffer of zero bytes.
  ///
  /// - Throws: ``DeviceError`` when the size is negative or past 4 GiB, the simulated address range
  ///   of one buffer.
  public init(_ name: String, byteCount: Int) throws(DeviceError) {
    guard byteCount >= 0, byteCount <= Int(UInt32.max) else {
      throw DeviceError(
        .invalidArgument, "global buffer \(name)", "\(byteCount) bytes",
        remedy: "use 0 bytes to 4 GiB", limit: Int(UInt32.max))
    }
    self.name = name
    self.byteCount = byteCount
    unsafe bytes = .allocate(capacity: max(byteCount, 1))
    unsafe bytes.initialize(repeating: 0, count: max(byteCount, 1))
  }

  /// A buffer that holds a copy of `values`, little-endian as this machine stores them.
  public convenience init<Value: BitwiseCopyable>(
    _ name: String, _ values: [Value]
  ) throws(DeviceError) {
    try self.init(name, byteCount: values.count * MemoryLayout<Value>.stride)
    unsafe values.withUnsafeBytes { source in
      guard let start = source.baseAddress else { return }
      unsafe UnsafeMutableRawPointer(bytes).copyMemory(from: start, byteCount: byteCount)
    }
  }

  deinit { unsafe bytes.deallocate() }

  /// A copy of the contents as values of `type`; a rest that is no whole value is left out.
  public func contents<Value: BitwiseCopyable>(as type: Value.Type) -> [Value] {
    let count = byteCount / MemoryLayout<Value>.stride
    let raw = unsafe UnsafeRawPointer(bytes)
    return (0..<count).map {
      unsafe raw.loadUnaligned(fromByteOffset: $0 * MemoryLayout<Value>.stride, as: type)
    }
  }

  // MARK: Checks

  func beginChecks() {
    owners.withLock {
      $0 = Owners(
        writers: Array(repeating: 0, count: byteCount),
        readers: Array(repeating: 0, count: byteCount))
    }
  }

  func endChecks() { owners.withLock { $0 = nil } }

  /// Notes an access of `block`; the first lane that touches a byte of another block, at least one of
  /// them writing.
  func conflict(
    block: Int, addresses: Lanes<UInt32>, mask: LaneMask, width: Int, isStore: Bool
  ) -> (lane: Int, address: Int, block: Int)? {
    let me = Int32(truncatingIfNeeded: block + 1)
    return owners.withLock { owners in
      guard owners != nil else { return nil }
      for lane in 0..<32 where mask[lane] {
        for byte in Int(addresses[lane])..<Int(addresses[lane]) + width {
          let writer = owners!.writers[byte]
          if writer != 0, writer != me { return (lane, byte, Int(writer) - 1) }
          let reader = owners!.readers[byte]
          if isStore {
            if reader != 0, reader != me { return (lane, byte, Int(reader) - 1) }
            owners!.writers[byte] = me
          } else if reader != me {
            owners!.readers[byte] = reader == 0 ? me : -1
          }
        }
      }
      return nil
    }
  }

  /// Bytes of the sectors that any block read or wrote under checks.
  func touchedSectorBytes() -> (read: Int, written: Int) {
    owners.withLock { owners in
      guard let owners else { return (0, 0) }
      var read = 0
      var written = 0
      for start in stride(from: 0, to: byteCount, by: 32) {
        let end = min(start + 32, byteCount)
        if owners.readers[start..<end].contains(where: { $0 != 0 }) { read += 32 }
        if owners.writers[start..<end].contains(where: { $0 != 0 }) { written += 32 }
      }
      return (read, written)
    }
  }
}
