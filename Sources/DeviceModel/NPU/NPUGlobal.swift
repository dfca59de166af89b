import CDeviceModel

/// An array in the global memory of a simulated NPU, with contents or, for runs that only count,
/// without. Cores run one after another; what one writes, the next may read.
@safe
public final class NPUGlobal: @unchecked Sendable {
  /// What the cache is told about it.
  public let region: NPURegion
  /// Elements.
  public let count: Int
  /// Bytes of an element: 1, 2 or 4.
  public let elementBytes: Int
  let bytes: UnsafeMutablePointer<UInt8>?

  /// An array of zeros.
  ///
  /// - Throws: ``DeviceError`` for a negative or overflowing size, an element of other than 1, 2 or
  ///   4 bytes, or no memory for the contents on this machine.
  public init(
    _ region: NPURegion, count: Int, elementBytes: Int, carriesValues: Bool
  ) throws(DeviceError) {
    let (size, overflow) = count.multipliedReportingOverflow(by: elementBytes)
    guard count >= 0, [1, 2, 4].contains(elementBytes), !overflow, size < 1 << 52 else {
      throw DeviceError(
        .invalidArgument, "global array \(region.name)",
        "\(count) elements of \(elementBytes) bytes",
        remedy: "use elements of 1, 2 or 4 bytes and a smaller size")
    }
    self.region = region
    self.count = count
    self.elementBytes = elementBytes
    guard carriesValues else {
      unsafe bytes = nil
      return
    }
    guard let memory = unsafe cdm_allocate(size) else {
      throw DeviceError(
        .outOfMemory, "global array \(region.name)", "\(size) bytes are not to be had",
        remedy: "simulate a smaller problem or count without values")
    }
    unsafe bytes = memory
  }

  deinit {
    if let bytes = unsafe bytes { unsafe cdm_release(bytes) }
  }

  /// Fills it from the start; what does not fit is left out. Without contents nothing happens.
  public func fill<Value: BitwiseCopyable>(_ values: [Value]) {
    guard let bytes = unsafe bytes else { return }
    unsafe values.withUnsafeBytes { source in
      guard let start = source.baseAddress else { return }
      unsafe UnsafeMutableRawPointer(bytes).copyMemory(
        from: start, byteCount: min(source.count, count * elementBytes))
    }
  }

  /// A copy of the contents as values of `type`; empty without contents.
  public func contents<Value: BitwiseCopyable>(as type: Value.Type) -> [Value] {
    guard let bytes = unsafe bytes else { return [] }
    let raw = UnsafeRawPointer(bytes)
    return (0..<count * elementBytes / MemoryLayout<Value>.stride).map {
      unsafe raw.loadUnaligned(fromByteOffset: $0 * MemoryLayout<Value>.stride, as: type)
    }
  }
}

/// A rectangle of a global array that a copy takes: `groups` times `rows` rows of `columns`
/// elements.
public struct GlobalWindow: Sendable, Hashable {
  /// The first element.
  public var offset: Int
  /// Groups of rows.
  public var groups: Int
  /// Elements from one group to the next.
  public var groupPitch: Int
  /// Rows of a group.
  public var rows: Int
  /// Elements from one row to the next.
  public var rowPitch: Int
  /// Elements of a row.
  public var columns: Int

  /// A window.
  public init(
    offset: Int, groups: Int = 1, groupPitch: Int = 0, rows: Int, rowPitch: Int, columns: Int
  ) {
    self.offset = offset
    self.groups = groups
    self.groupPitch = groupPitch
    self.rows = rows
    self.rowPitch = rowPitch
    self.columns = columns
  }

  /// Rows of all groups.
  public var allRows: Int { groups * rows }

  /// Elements from the start to the row.
  func start(_ row: Int) -> Int { offset + row / rows * groupPitch + row % rows * rowPitch }
}
