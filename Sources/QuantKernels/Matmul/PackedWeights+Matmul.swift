extension PackedWeights {
  /// `y = x · Wᵀ`: the product of `x`, `[M × columns]` row-major, by these weights.
  ///
  /// Row i of the result is the same bits as the product of row i alone, for every number of rows
  /// and threads.
  ///
  /// - Parameters:
  ///   - x: M rows of `columns` finite floats; M may be 0.
  ///   - arithmetic: `fast` (int8 activations per group of 32) or `exact` (float32).
  ///   - pool: the workers to use.
  /// - Returns: `[M × rows]` floats, row-major.
  /// - Throws: ``QuantError`` when `x` is no whole number of rows or holds NaN or infinity, or
  ///   memory is short.
  /// - Complexity: O(M · rows · columns).
  public func matmul(
    _ x: [Float], arithmetic: Arithmetic = .fast, pool: WorkerPool = .standard
  ) throws(QuantError) -> [Float] {
    guard x.count % columns == 0 else {
      throw QuantError(
        .invalidArgument, "matmul by \(rows)×\(columns) weights",
        "\(x.count) input values are no whole number of rows of \(columns)",
        remedy: "pass M · \(columns) values, row-major")
    }
    if let bad = x.firstIndex(where: { !$0.isFinite }) {
      throw QuantError(
        .invalidArgument, "matmul by \(rows)×\(columns) weights",
        "input \(x[bad]) at row \(bad / columns), column \(bad % columns)",
        remedy: "activations must be finite; look for the layer that made it")
    }
    let count = x.count / columns
    let (size, overflow) = count.multipliedReportingOverflow(by: rows)
    guard !overflow, size < Int.max / 8 else {
      throw QuantError(
        .outOfMemory, "matmul by \(rows)×\(columns) weights", "the result's size overflows",
        remedy: "multiply fewer rows at a time")
    }
    if count == 0 { return [] }
    let workspace = Workspace()
    var failure: QuantError?
    let y = [Float](unsafeUninitializedCapacity: size) { output, filled in
      filled = 0
      x.withUnsafeBufferPointer { input in
        guard let to = output.baseAddress, let from = input.baseAddress else { return }
        do throws(QuantError) {
          try multiply(
            from, count: count, into: to, outputStride: rows, arithmetic: arithmetic,
            workspace: workspace, pool: pool)
          filled = size
        } catch { failure = error }
      }
    }
    if let failure { throw failure }
    return y
  }
}

extension Int4Matrix {
  /// `y = x · Wᵀ` on this CPU: packs the matrix for the best instruction set and multiplies.
  ///
  /// To multiply more than once, pack once: `PackedWeights(matrix)`.
  ///
  /// - Parameters and errors: as ``PackedWeights/matmul(_:arithmetic:pool:)``.
  /// - Complexity: O(M · rows · columns), and O(rows · columns) for the packing.
  public func matmul(
    _ x: [Float], arithmetic: Arithmetic = .fast, pool: WorkerPool = .standard
  ) throws(QuantError) -> [Float] {
    try PackedWeights(self).matmul(x, arithmetic: arithmetic, pool: pool)
  }
}
