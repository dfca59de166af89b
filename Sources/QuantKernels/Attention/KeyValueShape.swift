import CQuantKernels

/// Type and widths of keys and values, and the sizes that follow: what contiguous and paged caches
/// share.
struct KeyValueShape: Sendable, Equatable {
  let type: KeyValueType
  let heads: Int
  let keyWidth: Int
  let valueWidth: Int

  /// Positions of a block, the unit in which kernels read.
  static let block = Int(QK_ATTENTION_BLOCK)

  /// - Throws: ``QuantError`` `.invalidArgument` for sizes that are no sizes.
  init(type: KeyValueType, heads: Int, keyWidth: Int, valueWidth: Int) throws(QuantError) {
    guard heads >= 1, 1...65536 ~= keyWidth, 1...65536 ~= valueWidth else {
      throw QuantError(
        .invalidArgument, "key-value cache",
        "\(heads) heads of \(keyWidth) key and \(valueWidth) value elements",
        remedy: "use at least 1 head, and 1 to 65536 elements")
    }
    self.type = type
    self.heads = heads
    self.keyWidth = keyWidth
    self.valueWidth = valueWidth
  }

  var valueStride: Int { qk_value_stride(valueWidth) }
  var keyBlockBytes: Int { qk_key_block_bytes(type.kernelType, keyWidth) }
  var valueBlockBytes: Int { qk_value_block_bytes(type.kernelType, valueWidth) }

  /// Bytes of a position's keys and values, all heads, rounded up.
  var bytesPerPosition: Int {
    (heads * (keyBlockBytes + valueBlockBytes) + Self.block - 1) / Self.block
  }

  /// Bytes of `blocks` blocks of all heads.
  ///
  /// - Throws: ``QuantError`` `.outOfMemory` when no address holds them.
  func bytes(blocks: Int, subject: String) throws(QuantError) -> Int {
    let (perHead, overflows) = blocks.multipliedReportingOverflow(
      by: keyBlockBytes + valueBlockBytes)
    let (all, overflowsAll) = perHead.multipliedReportingOverflow(by: heads)
    guard !overflows, !overflowsAll else {
      throw QuantError(
        .outOfMemory, subject,
        "\(blocks) blocks of 16 positions of \(heads) × \(keyWidth) exceed the address space",
        remedy: "use a shorter context")
    }
    return all
  }

  /// A masked key counts with weight 0, and 0 · ∞ is not 0: only finite numbers may come in.
  func requireFinite(
    _ name: String, _ source: UnsafePointer<Float>, _ count: Int, from position: Int,
    instructionSet: InstructionSet
  ) throws(QuantError) {
    guard
      VectorOperations.areWithin(
        type.largestStorable, source, count: count, instructionSet: instructionSet)
    else {
      throw QuantError(
        .invalidData, name, "not finite in \(type.rawValue) at positions from \(position) on",
        remedy: type == .f32 ? "look for NaN or infinity in the weights" : "use an f32 cache")
    }
  }
}
