import CQuantKernels

/// The keys and values of one attention layer, for positions 0 ..< ``count``.
///
/// Keys lie in blocks of 16 positions, transposed (`[block][element][16 positions]`), as the
/// kernels load them: a vector of scores is then a plain chain of multiply-adds, without sums
/// across lanes. Values lie row by row, padded to 16 elements. Memory is fixed by the capacity and
/// touched as it fills.
///
/// One writer at a time, and no reader meanwhile.
public final class KeyValueCache: @unchecked Sendable {
  let shape: KeyValueShape
  /// Positions that fit.
  public let capacity: Int
  /// Positions appended so far.
  public private(set) var count = 0

  /// How keys and values are stored.
  public var type: KeyValueType { shape.type }
  /// Key and value heads.
  public var keyValueHeads: Int { shape.heads }
  /// Elements of a key.
  public var headDimension: Int { shape.keyWidth }
  /// Elements of a value.
  public var valueDimension: Int { shape.valueWidth }

  private let buffer: AlignedBuffer
  private let blocks: Int
  private let kernels: UnsafePointer<qk_attention_kernels>
  private let instructionSet: InstructionSet

  /// Bytes set aside for keys and values.
  public var byteCount: Int { buffer.count }

  /// Bytes that one position takes, and that a decode step reads for every position it sees.
  public var bytesPerPosition: Int { shape.bytesPerPosition }

  /// - Parameters:
  ///   - keyValueHeads: heads of keys and values; a multiple of them are the query heads.
  ///   - headDimension: elements of a head's key, any number from 1 to 65536.
  ///   - valueDimension: elements of a head's value, likewise; nil: as many as of its key.
  ///   - capacity: positions, at least 1.
  ///   - type: how keys and values are stored.
  ///   - instructionSet: the kernels' instruction set; the best of this processor unless stated.
  /// - Throws: ``QuantError``: `.invalidArgument` for sizes that are no sizes, `.outOfMemory`.
  public init(
    type: KeyValueType, keyValueHeads: Int, headDimension: Int, valueDimension: Int? = nil,
    capacity: Int, instructionSet: InstructionSet = .best
  ) throws(QuantError) {
    shape = try KeyValueShape(
      type: type, heads: keyValueHeads, keyWidth: headDimension,
      valueWidth: valueDimension ?? headDimension)
    guard capacity >= 1 else {
      throw QuantError(
        .invalidArgument, "key-value cache", "\(capacity) positions", remedy: "use at least 1")
    }
    self.capacity = capacity
    blocks = (capacity - 1) / KeyValueShape.block + 1
    buffer = try AlignedBuffer(
      count: try shape.bytes(blocks: blocks, subject: "key-value cache"), for: "key-value cache")
    self.instructionSet = instructionSet
    kernels = qk_attention_kernels_for(instructionSet.kernelTableIdentifier)
  }

  /// Appends positions `self.count ..< self.count + count`.
  ///
  /// - Parameters:
  ///   - keys: `count × (keyValueHeads · headDimension)` floats, position by position.
  ///   - values: `count × (keyValueHeads · valueDimension)` floats.
  ///   - count: positions.
  /// - Throws: ``QuantError``, having changed nothing: `.invalidArgument` when they do not fit,
  ///   `.invalidData` when a number is NaN or infinite, or would be in this type.
  public func append(
    keys: UnsafePointer<Float>, values: UnsafePointer<Float>, count: Int
  ) throws(QuantError) {
    guard count >= 0, count <= capacity - self.count else {
      throw QuantError(
        .invalidArgument, "key-value cache",
        "\(count) positions where \(capacity - self.count) of \(capacity) are free",
        remedy: "make the cache larger, or truncate it")
    }
    let keyWidth = shape.heads * shape.keyWidth
    let valueWidth = shape.heads * shape.valueWidth
    try shape.requireFinite(
      "keys", keys, count * keyWidth, from: self.count, instructionSet: instructionSet)
    try shape.requireFinite(
      "values", values, count * valueWidth, from: self.count, instructionSet: instructionSet)
    let store = kernelOf(kernels.pointee.store, type)
    let view = view
    for head in 0..<shape.heads {
      var done = 0
      while done < count {
        let position = self.count + done
        let first = position % KeyValueShape.block
        let run = min(count - done, KeyValueShape.block - first)
        let block = position / KeyValueShape.block
        store(
          keys + done * keyWidth + head * shape.keyWidth, keyWidth,
          values + done * valueWidth + head * shape.valueWidth, valueWidth, first, run,
          shape.keyWidth, shape.valueWidth, view.keys(head: head, block: block),
          view.values(head: head, block: block))
        done += run
      }
    }
    self.count += count
  }

  /// The same from buffers whose sizes say how many positions there are.
  ///
  /// - Throws: ``QuantError`` `.invalidArgument` also when they are not whole positions of equal
  ///   number.
  public func append(
    keys: UnsafeBufferPointer<Float>, values: UnsafeBufferPointer<Float>
  ) throws(QuantError) {
    let count = try wholePositions(shape, keys: keys, values: values)
    guard let keyBase = keys.baseAddress, let valueBase = values.baseAddress else { return }
    try append(keys: keyBase, values: valueBase, count: count)
  }

  /// Forgets positions from `count` on; does nothing when there are none. O(1).
  public func truncate(to count: Int) { self.count = min(self.count, max(count, 0)) }

  /// Where kernels find the blocks.
  var view: KeyValueView {
    KeyValueView(
      shape: shape, count: count, capacity: blocks * KeyValueShape.block, base: buffer.base,
      blocksPerPage: blocks, pageBytes: 0, table: nil, smallPage: nil)
  }
}

/// Positions that the buffers hold.
///
/// - Throws: ``QuantError`` `.invalidArgument` when they are not whole ones, of equal number.
func wholePositions(
  _ shape: KeyValueShape, keys: UnsafeBufferPointer<Float>, values: UnsafeBufferPointer<Float>
) throws(QuantError) -> Int {
  let keyWidth = shape.heads * shape.keyWidth
  let valueWidth = shape.heads * shape.valueWidth
  guard keys.count % keyWidth == 0, values.count % valueWidth == 0,
    keys.count / keyWidth == values.count / valueWidth
  else {
    throw QuantError(
      .invalidArgument, "keys and values",
      "\(keys.count) and \(values.count) floats where multiples of \(keyWidth) and \(valueWidth) "
        + "are wanted",
      remedy: "give as many keys as values, in whole positions")
  }
  return keys.count / keyWidth
}

/// The kernel of a type from a table's row of them, which C arrays come as.
func kernelOf<Kernel>(
  _ row: (Kernel, Kernel, Kernel, Kernel, Kernel), _ type: KeyValueType
) -> Kernel {
  switch type {
  case .f32: row.0
  case .f16: row.1
  case .bf16: row.2
  case .q8_0: row.3
  case .q4_0: row.4
  }
}
