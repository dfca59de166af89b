import CQuantKernels

/// How a ``KeyValueCache`` stores its numbers.
public enum KeyValueType: String, Sendable, Equatable, CaseIterable {
  case f32
  case f16

  public var bytesPerElement: Int { self == .f32 ? 4 : 2 }

  /// The largest magnitude that stays finite: a float halfway to 2¹⁶ from the largest half rounds
  /// to infinity.
  var largestStorable: Float { self == .f32 ? .greatestFiniteMagnitude : Float(65520).nextDown }
}

/// The keys and values of one attention layer, for positions 0 ..< ``count``.
///
/// Keys lie in blocks of 16 positions, transposed (`[block][element][16 positions]`), as the
/// kernels load them: a vector of scores is then a plain chain of multiply-adds, without sums
/// across lanes. Values lie row by row, padded with zeros to 16 elements. Memory is fixed by the
/// capacity and touched as it fills.
///
/// One writer at a time, and no reader meanwhile.
public final class KeyValueCache: @unchecked Sendable {
  public let type: KeyValueType
  public let keyValueHeads: Int
  public let headDimension: Int
  /// Positions that fit.
  public let capacity: Int
  /// Positions appended so far.
  public private(set) var count = 0

  /// Elements between the values of two positions.
  let valueStride: Int
  private let buffer: AlignedBuffer
  // Bytes of one head's keys, of one head's values, and of all keys.
  private let keyHeadBytes: Int
  private let valueHeadBytes: Int
  private let keyBytes: Int
  private let kernels: UnsafePointer<qk_attention_kernels>
  private let instructionSet: InstructionSet

  /// Bytes set aside for keys and values.
  public var byteCount: Int { keyBytes + keyValueHeads * valueHeadBytes }

  /// Bytes that one position takes, and that a decode step reads for every position it sees.
  public var bytesPerPosition: Int {
    keyValueHeads * (headDimension + valueStride) * type.bytesPerElement
  }

  /// - Parameters:
  ///   - keyValueHeads: heads of keys and values; a multiple of them are the query heads.
  ///   - headDimension: elements of a head's key and of its value, any number from 1 to 65536.
  ///   - capacity: positions, at least 1.
  /// - Throws: ``QuantError``: `.invalidArgument` for sizes that are no sizes, `.outOfMemory`.
  public init(
    type: KeyValueType, keyValueHeads: Int, headDimension: Int, capacity: Int,
    instructionSet: InstructionSet = .best
  ) throws(QuantError) {
    guard keyValueHeads >= 1, headDimension >= 1, headDimension <= 65536, capacity >= 1 else {
      throw QuantError(
        .invalidArgument, "key-value cache",
        "\(keyValueHeads) heads of \(headDimension) elements for \(capacity) positions",
        remedy: "use at least 1 head and position, and 1 to 65536 elements")
    }
    valueStride = (headDimension + 15) / 16 * 16
    // Kernels read keys in blocks of 16 positions; tiles of halves are converted 64 at a time.
    let (rounded, overflows) = capacity.addingReportingOverflow(63)
    let positions = rounded / 64 * 64
    let widest = 2 * type.bytesPerElement * valueStride
    let (perHead, overflowsHead) = positions.multipliedReportingOverflow(by: widest)
    let (_, overflowsAll) = perHead.multipliedReportingOverflow(by: keyValueHeads)
    guard !overflows, !overflowsHead, !overflowsAll else {
      throw QuantError(
        .outOfMemory, "key-value cache",
        "\(capacity) positions of \(keyValueHeads) × \(headDimension) exceed the address space",
        remedy: "use a shorter context")
    }
    self.type = type
    self.keyValueHeads = keyValueHeads
    self.headDimension = headDimension
    self.capacity = capacity
    keyHeadBytes = positions * headDimension * type.bytesPerElement
    valueHeadBytes = positions * valueStride * type.bytesPerElement
    keyBytes = keyValueHeads * keyHeadBytes
    buffer = try AlignedBuffer(
      count: keyBytes + keyValueHeads * valueHeadBytes, for: "key-value cache")
    self.instructionSet = instructionSet
    kernels = qk_attention_kernels_for(instructionSet.kernelTableIdentifier)
  }

  /// Appends positions `self.count ..< self.count + count`.
  ///
  /// - Parameters:
  ///   - keys: `count × (keyValueHeads · headDimension)` floats, position by position; `values`
  ///     likewise.
  /// - Throws: ``QuantError``, having changed nothing: `.invalidArgument` when they do not fit,
  ///   `.invalidData` when a number is NaN or infinite, or would be in half precision.
  public func append(
    keys: UnsafePointer<Float>, values: UnsafePointer<Float>, count: Int
  ) throws(QuantError) {
    guard count >= 0, count <= capacity - self.count else {
      throw QuantError(
        .invalidArgument, "key-value cache",
        "\(count) positions where \(capacity - self.count) of \(capacity) are free",
        remedy: "make the cache larger, or truncate it")
    }
    let width = keyValueHeads * headDimension
    try requireFinite("keys", keys, count * width)
    try requireFinite("values", values, count * width)
    for head in 0..<keyValueHeads {
      let keyBase = self.keys(head: head)
      let valueBase = self.values(head: head)
      let offset = head * headDimension
      switch type {
      case .f32:
        kernels.pointee.store_float(
          keys + offset, values + offset, width, self.count, count, headDimension, valueStride,
          keyBase.assumingMemoryBound(to: Float.self), valueBase.assumingMemoryBound(to: Float.self)
        )
      case .f16:
        kernels.pointee.store_half(
          keys + offset, values + offset, width, self.count, count, headDimension, valueStride,
          keyBase.assumingMemoryBound(to: UInt16.self),
          valueBase.assumingMemoryBound(to: UInt16.self))
      }
    }
    self.count += count
  }

  /// A masked key counts with weight 0, and 0 · ∞ is not 0: only finite numbers may come in.
  private func requireFinite(
    _ name: String, _ source: UnsafePointer<Float>, _ count: Int
  ) throws(QuantError) {
    guard
      VectorOperations.areWithin(
        type.largestStorable, source, count: count, instructionSet: instructionSet)
    else {
      throw QuantError(
        .invalidData, name, "not finite in \(type.rawValue) at positions from \(self.count) on",
        remedy: type == .f16 ? "use an f32 cache" : "look for NaN or infinity in the weights")
    }
  }

  /// The same from buffers whose sizes say how many positions there are.
  ///
  /// - Throws: ``QuantError`` `.invalidArgument` also when they are not whole positions of equal
  ///   number.
  public func append(
    keys: UnsafeBufferPointer<Float>, values: UnsafeBufferPointer<Float>
  ) throws(QuantError) {
    let width = keyValueHeads * headDimension
    guard keys.count == values.count, keys.count % width == 0 else {
      throw QuantError(
        .invalidArgument, "keys and values",
        "\(keys.count) and \(values.count) floats where multiples of \(width) are wanted",
        remedy: "give as many keys as values, in whole positions")
    }
    guard let keyBase = keys.baseAddress, let valueBase = values.baseAddress else { return }
    try append(keys: keyBase, values: valueBase, count: keys.count / width)
  }

  /// Forgets positions from `count` on; does nothing when there are none. O(1).
  public func truncate(to count: Int) { self.count = min(self.count, max(count, 0)) }

  func keys(head: Int) -> UnsafeMutableRawPointer { buffer.base + head * keyHeadBytes }

  func values(head: Int) -> UnsafeMutableRawPointer {
    buffer.base + keyBytes + head * valueHeadBytes
  }
}
