extension PackedTernary {
  /// Packs a ternary matrix for one instruction set's kernels, by integer moves only.
  ///
  /// - Throws: ``QuantError`` when this processor does not run `instructionSet`, K is past
  ///   ``maximumColumns``, or memory is short.
  /// - Complexity: O(rows · columns).
  public convenience init(
    _ matrix: TernaryMatrix, format: Format = .twoBit, instructionSet: InstructionSet = .best,
    pool: WorkerPool = .standard
  ) throws(QuantError) {
    let scales: [Float] =
      switch matrix.scales {
      case .tensor(let scale): [scale]
      case .rows(let values): values
      }
    try self.init(
      TernaryCodes(
        rows: matrix.rows, columns: matrix.columns, codes: matrix.codes, scales: scales),
      format: format, instructionSet: instructionSet, pool: pool)
  }
}
