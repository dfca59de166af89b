import CQuantKernels

extension PackedTernary {
  /// `y = x · Wᵀ`: the product of `x`, `[M × columns]` row-major, by these weights.
  ///
  /// Row i of the result is the same bits as the product of row i alone, for every number of rows
  /// and threads. A row with NaN or infinity gives a row of NaN.
  ///
  /// - Parameters:
  ///   - x: M rows of `columns` floats; M may be 0.
  ///   - count: M, where `columns` is 0 and `x` cannot tell.
  ///   - pool: the workers to use.
  /// - Returns: `[M × rows]` floats, row-major.
  /// - Throws: ``QuantError`` when `x` is no whole number of rows, or memory is short.
  /// - Complexity: O(M · rows · columns).
  public func matmul(
    _ x: [Float], count: Int? = nil, pool: WorkerPool = .standard
  ) throws(QuantError) -> [Float] {
    let subject = "matmul by \(rows)×\(columns) ternary weights"
    let tokens = count ?? (columns == 0 ? 0 : x.count / columns)
    let (values, overflowIn) = tokens.multipliedReportingOverflow(by: columns)
    guard tokens >= 0, !overflowIn, values == x.count else {
      throw QuantError(
        .invalidArgument, subject, "\(x.count) input values are no whole rows of \(columns)",
        remedy: "pass M · \(columns) values, row-major")
    }
    let (size, overflow) = tokens.multipliedReportingOverflow(by: rows)
    guard !overflow, size < Int.max / 8 else {
      throw QuantError(
        .outOfMemory, subject, "the result's size overflows",
        remedy: "multiply fewer rows at a time")
    }
    if size == 0 { return [] }
    let workspace = Workspace()
    var failure: QuantError?
    let y = [Float](unsafeUninitializedCapacity: size) { output, filled in
      filled = 0
      x.withUnsafeBufferPointer { input in
        guard let to = output.baseAddress else { return }
        let nothing = UnsafePointer(to)  // never read: K is 0
        do throws(QuantError) {
          try multiply(
            input.baseAddress ?? nothing, count: tokens, into: to, outputStride: rows,
            workspace: workspace, pool: pool)
          filled = size
        } catch { failure = error }
      }
    }
    if let failure { throw failure }
    return y
  }

  /// Rows that share a pass over the weights, of `count`: as many as have codes of up to 512 KiB,
  /// which every panel reads again and a second-level cache of 1 MiB keeps beside their sums (Zen 5,
  /// 512 rows: 0.90 of the dot products' peak where all at once, 1 and 2 MiB of codes, reach 0.69 and
  /// 0.83), and 64 at least, of which unpacking a panel takes a fortieth. Blocks are about equal.
  private func blockRows(_ count: Int) -> Int {
    let bytes = max(1, chunks) * chunkColumns
    let most = max(64, min(512, (512 << 10) / bytes))
    let blocks = (count + most - 1) / most
    return min(count, (((count + blocks - 1) / blocks) + 7) / 8 * 8)
  }
  /// Rows that one worker quantizes at a time.
  private static let quantizedRows = 8

  /// `y[i, n] = Σ_k x[i, k] · w[n, k]` for `i < count`; see ``matmul(_:count:pool:)``.
  ///
  /// - Parameters:
  ///   - x: `[count × columns]` floats, row-major.
  ///   - y: `[count × outputStride]` floats; `rows` of each row are written.
  ///   - workspace: scratch, used by one call at a time.
  /// - Throws: ``QuantError`` (`outOfMemory`) when the workspace cannot grow; never after a call of
  ///   the same shape.
  package func multiply(
    _ x: UnsafePointer<Float>, count: Int, into y: UnsafeMutablePointer<Float>, outputStride: Int,
    workspace: Workspace, pool: WorkerPool
  ) throws(QuantError) {
    if count <= 0 || rows == 0 { return }
    if format.lookup != nil {
      try multiplyByLookup(
        x, count: count, into: y, outputStride: outputStride, workspace: workspace, pool: pool)
      return
    }
    if format == .blockQuantized {
      try multiplyByBlocks(
        x, count: count, into: y, outputStride: outputStride, workspace: workspace, pool: pool)
      return
    }
    let block = blockRows(count)
    // At least a chunk a row, so that scales and sums have room where K is 0.
    try workspace.reserveActivations(block * max(1, chunks) * chunkColumns)
    let sumBytes = block * PackedTernary.panelRows * Int(QK_TERNARY_SUMS) * 4
    try workspace.reservePanels(sumBytes * pool.threads)
    let schedule = PanelSchedule(
      panels: panels, threads: pool.threads, rows: block, panelBytes: panelStride)
    for first in stride(from: 0, to: count, by: block) {
      let rows = min(block, count - first)
      let activations = Activations(
        rows: rows, codes: workspace.codes, sums: workspace.initials, scales: workspace.scales,
        rowStride: chunkColumns, chunkStride: rows * chunkColumns)
      quantize(x + first * columns, activations, pool)
      pool.run(
        parts: schedule.parts,
        PanelTask(
          weights: self, activations: activations, y: y + first * outputStride,
          stride: outputStride, schedule: schedule, scratch: workspace.panels, sumBytes: sumBytes))
    }
  }

  /// Rows of int8 codes with their sums and scales.
  struct Activations {
    let rows: Int
    let codes: UnsafeMutablePointer<Int8>
    let sums: UnsafeMutablePointer<Int32>
    let scales: UnsafeMutablePointer<Float>
    /// Bytes from a row to the next in a chunk, and from a row's chunk to its next.
    let rowStride: Int
    let chunkStride: Int
  }

  func quantize(_ x: UnsafePointer<Float>, _ out: Activations, _ pool: WorkerPool) {
    let task = QuantizeTask(weights: self, x: x, out: out)
    let parts = (out.rows + PackedTernary.quantizedRows - 1) / PackedTernary.quantizedRows
    pool.run(parts: parts, task)
  }

  private struct QuantizeTask: ParallelTask {
    // Not counted: the caller holds the weights, and hundreds of counts a token are felt.
    unowned(unsafe) let weights: PackedTernary
    let x: UnsafePointer<Float>
    let out: Activations

    func run(part: Int, worker: Int) {
      let first = part * PackedTernary.quantizedRows
      for row in first..<min(out.rows, first + PackedTernary.quantizedRows) {
        var arguments = qk_ternary_quantize_args(
          x: x + row * weights.columns, columns: weights.columns, chunks: weights.chunks,
          codes: out.codes + row * out.rowStride, chunk_stride: out.chunkStride,
          sum: out.sums + row, scale: out.scales + row)
        weights.kernels.pointee.quantize(&arguments)
      }
    }
  }

  private struct PanelTask: ParallelTask {
    unowned(unsafe) let weights: PackedTernary
    let activations: Activations
    let y: UnsafeMutablePointer<Float>
    let stride: Int
    let schedule: PanelSchedule
    let scratch: UnsafeMutableRawPointer
    let sumBytes: Int

    func run(part: Int, worker: Int) {
      let range = schedule.range(of: part)
      let output = range.lowerBound * PackedTernary.panelRows
      var arguments = qk_ternary_args(
        weights: weights.panelBytes(range.lowerBound), panel_stride: weights.panelStride,
        panels: range.count, vectors: weights.vectors, x: activations.codes,
        rows: activations.rows, x_sum: activations.sums, x_scale: activations.scales,
        w_scale: weights.scaleValues + output, y: y + output, y_stride: stride,
        outputs: weights.outputs(range),
        sums: (scratch + worker * sumBytes).assumingMemoryBound(to: Int32.self))
      qk_ternary_entry(weights.kernels, weights.format.panel)(&arguments)
    }
  }
}
