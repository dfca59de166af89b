/// The memory of a simulated device or host: what is reserved, and the most that was.
public struct MemoryPool: Sendable, Hashable {
  /// Whose memory.
  public let name: String
  /// Bytes that it has.
  public let capacity: Int
  /// Bytes reserved now.
  public private(set) var used = 0
  /// The most that was reserved at once.
  public private(set) var peak = 0

  /// An empty memory.
  ///
  /// - Throws: ``DeviceError`` `.invalidArgument` for a negative capacity.
  public init(name: String, capacity: Int) throws(DeviceError) {
    guard capacity >= 0 else {
      throw DeviceError(
        .invalidArgument, "memory of \(name)", "\(capacity) bytes", remedy: "use at least 0")
    }
    self.name = name
    self.capacity = capacity
  }

  /// Bytes left.
  public var free: Int { capacity - used }

  /// Takes bytes.
  ///
  /// - Throws: ``DeviceError`` `.outOfMemory` when they do not fit, `.invalidArgument` when they are
  ///   negative; nothing changes.
  public mutating func reserve(_ bytes: Int, for purpose: String) throws(DeviceError) {
    guard bytes >= 0 else {
      throw DeviceError(
        .invalidArgument, "memory of \(name)", "\(bytes) bytes for \(purpose)",
        remedy: "use at least 0")
    }
    guard bytes <= free else {
      throw DeviceError(
        .outOfMemory, "memory of \(name)",
        "\(purpose) takes \(bytes) bytes where \(free) of \(capacity) are free",
        remedy: "keep less of it there", limit: capacity)
    }
    used += bytes
    peak = max(peak, used)
  }

  /// Gives bytes back.
  ///
  /// - Throws: ``DeviceError`` `.invalidArgument` for more than were taken; nothing changes.
  public mutating func release(_ bytes: Int) throws(DeviceError) {
    guard bytes >= 0, bytes <= used else {
      throw DeviceError(
        .invalidArgument, "memory of \(name)", "\(bytes) bytes given back of \(used)",
        remedy: "give back what was taken")
    }
    used -= bytes
  }
}
