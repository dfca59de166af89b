/// Somewhere to write bytes one after another: a file that is being made, or memory.
public protocol ByteSink: AnyObject {
  /// Bytes written so far.
  var position: Int { get }

  /// Appends all of `bytes`, which are free to change when the call returns.
  ///
  /// - Throws: ``QuantError`` when they cannot be written.
  func write(_ bytes: UnsafeRawBufferPointer) throws(QuantError)
}

extension ByteSink {
  /// Appends an array's bytes.
  ///
  /// - Throws: ``QuantError`` when they cannot be written.
  public func write(_ bytes: [UInt8]) throws(QuantError) {
    try bytes.withUnsafeBufferPointer { bytes throws(QuantError) in
      try write(UnsafeRawBufferPointer(bytes))
    }
  }

  /// Appends zeros until the position is a multiple of `alignment`, which is at least 1.
  ///
  /// - Throws: ``QuantError`` when they cannot be written.
  public func pad(toMultipleOf alignment: Int) throws(QuantError) {
    let excess = position % max(alignment, 1)
    guard excess > 0 else { return }
    var missing = alignment - excess
    let zeros = [UInt8](repeating: 0, count: min(missing, 4096))
    while missing > 0 {
      let count = min(missing, zeros.count)
      try write(count == zeros.count ? zeros : Array(zeros[..<count]))
      missing -= count
    }
  }
}

/// Collects what is written in an array.
public final class MemorySink: ByteSink {
  /// What was written so far.
  public private(set) var bytes: [UInt8] = []

  /// A sink that nothing was written to.
  public init() {}

  public var position: Int { bytes.count }

  public func write(_ bytes: UnsafeRawBufferPointer) throws(QuantError) {
    self.bytes.append(contentsOf: bytes)
  }
}
