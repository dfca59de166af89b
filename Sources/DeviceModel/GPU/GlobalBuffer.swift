import CDeviceModel

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

  /// A buffer of zero bytes.
  ///
  /// - Throws: ``DeviceError`` when the size is negative or past 4 GiB, the simulated address range
  ///   of one buffer, or this machine has no memory for it.
  public init(_ name: String, byteCount: Int) throws(DeviceError) {
    guard byteCount >= 0, byteCount <= Int(UInt32.max) else {
      throw DeviceError(
        .invalidArgument, "global buffer \(name)", "\(byteCount) bytes",
        remedy: "use 0 bytes to 4 GiB", limit: Int(UInt32.max))
    }
    self.name = name
    self.byteCount = byteCount
    guard let memory = unsafe cdm_allocate(byteCount) else {
      throw DeviceError(
        .outOfMemory, "global buffer \(name)", "\(byteCount) bytes are not to be had",
        remedy: "simulate a smaller problem")
    }
    unsafe bytes = unsafe memory
  }

  /// A buffer that holds a copy of `values`, little-endian as this machine stores them.
  ///
  /// - Throws: ``DeviceError`` as ``init(_:byteCount:)``.
  public convenience init<Value: BitwiseCopyable>(
    _ name: String, _ values: [Value]
  ) throws(DeviceError) {
    try self.init(name, byteCount: values.count * MemoryLayout<Value>.stride)
    unsafe values.withUnsafeBytes { source in
      guard let start = source.baseAddress else { return }
      unsafe UnsafeMutableRawPointer(bytes).copyMemory(from: start, byteCount: byteCount)
    }
  }

  deinit { unsafe cdm_release(bytes) }

  /// A copy of the contents as values of `type`; a rest that is no whole value is left out.
  public func contents<Value: BitwiseCopyable>(as type: Value.Type) -> [Value] {
    let count = byteCount / MemoryLayout<Value>.stride
    let raw = unsafe UnsafeRawPointer(bytes)
    return (0..<count).map {
      unsafe raw.loadUnaligned(fromByteOffset: $0 * MemoryLayout<Value>.stride, as: type)
    }
  }
}
