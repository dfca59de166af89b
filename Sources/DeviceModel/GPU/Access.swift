/// One warp-wide access to shared memory: the operation, the bytes a lane moves, the lanes that take
/// part and their byte addresses.
public struct Access: Sendable, Hashable {
  /// What the instruction does. The phases of a matrix instruction are its 8×8 matrices.
  public enum Operation: String, Sendable, Hashable, CaseIterable {
    /// A load.
    case load = "ld"
    /// A store.
    case store = "st"
    /// `ldmatrix`: a lane holds the address of a 16-byte row.
    case ldmatrix
    /// `stmatrix`.
    case stmatrix
    /// The write half of an asynchronous copy from global memory (`cp.async`, LDGSTS).
    case asyncCopy = "ldgsts"
    /// An atomic operation. The passes under contention are not published; counted as a store of
    /// the same addresses, to be read as a lower estimate.
    case atomic = "atom"
  }

  /// What the instruction does.
  public let operation: Operation
  /// Bytes that a lane moves: 1, 2, 4, 8 or 16.
  public let width: Int
  /// The lanes that take part; the addresses of others are never looked at.
  public let mask: LaneMask
  /// Byte addresses, multiples of `width`.
  public let addresses: Lanes<UInt32>

  /// A checked access.
  ///
  /// - Throws: ``DeviceError`` when the width is none of 1, 2, 4, 8, 16 (16 for matrix operations; 4,
  ///   8, 16 for asynchronous copies), the mask of a matrix operation is none of 0xFF, 0xFFFF and
  ///   0xFFFFFFFF, or an active lane's address is misaligned; it names the lane and the address.
  public init(
    _ operation: Operation, width: Int, mask: LaneMask = .all, addresses: Lanes<UInt32>
  ) throws(DeviceError) {
    let subject = "\(operation.rawValue) of \(width) bytes a lane"
    let isMatrix = operation == .ldmatrix || operation == .stmatrix
    guard isMatrix ? width == 16 : [1, 2, 4, 8, 16].contains(width),
      operation != .asyncCopy || width >= 4
    else {
      throw DeviceError(
        .invalidArgument, subject, "the instruction has no such width",
        remedy: isMatrix ? "use 16" : operation == .asyncCopy ? "use 4, 8 or 16" : "use 1…16")
    }
    guard !isMatrix || [0xFF, 0xFFFF, 0xFFFF_FFFF].contains(mask.rawValue) else {
      throw DeviceError(
        .invalidArgument, subject,
        "row addresses come from lanes 0–7, 0–15 or 0–31, not from mask \(mask.rawValue)",
        remedy: "use mask 0xFF for x1, 0xFFFF for x2, 0xFFFFFFFF for x4")
    }
    for lane in 0..<32 where mask[lane] && Int(addresses[lane]) % width != 0 {
      throw DeviceError(
        .misaligned, subject,
        "lane \(lane) has address \(addresses[lane]), no multiple of \(width)",
        remedy: "align the address", lane: lane, address: Int(addresses[lane]), limit: width)
    }
    self.init(unchecked: operation, width: width, mask: mask, addresses: addresses)
  }

  init(
    unchecked operation: Operation, width: Int, mask: LaneMask, addresses: Lanes<UInt32>
  ) {
    self.operation = operation
    self.width = width
    self.mask = mask
    self.addresses = addresses
  }

  /// Consecutive lanes that the hardware serves together: 32 for up to 4 bytes, 16 for 8, 8 for 16,
  /// so that a phase moves at most 128 bytes. Source: CUDA C++ Programming Guide; NVIDIA/cutlass
  /// issue 328.
  public var lanesPerPhase: Int { width <= 4 ? 32 : width == 8 ? 16 : 8 }
}
