#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

extension PackedWeights {
  /// The same weights in memory of their own: benchmarks rotate through copies, so that weights
  /// come from memory and not from a cache.
  ///
  /// - Throws: ``QuantError`` (`outOfMemory`) when memory is short.
  /// - Complexity: O(`byteCount`).
  package func copied() throws(QuantError) -> PackedWeights {
    let copy = try PackedWeights(
      rows: rows, columns: columns, typeName: typeName, format: format, blocks: blocks,
      subgroups: subgroups, instructionSet: instructionSet, inputPermutation: inputPermutation,
      name: "copy")
    memcpy(copy.storage.base, storage.base, min(storage.count, copy.storage.count))
    return copy
  }
}
