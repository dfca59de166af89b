import CQuantKernels

/// Products with the activations of llama.cpp's TQ types: each block of 256 inputs has a scale of
/// its own (Q8_K).
///
///     y = ((0 + dot₀ · (d₀ · w)) + dot₁ · (d₁ · w)) + …
///
/// with the blocks' exact integer sums dot, their scales d and the row's w, each operation on floats
/// rounded, in the order of blocks: the bits of llama.cpp's scalar code for TQ2_0 where that rounds
/// each operation too. Nearer to the float product than one scale a token, but not what a BitNet
/// network was trained with: lossy.
///
/// Source: ggml-org/llama.cpp `ggml/src/ggml-quants.c` (`quantize_row_q8_K_ref`), `ggml-cpu/quants.c`.
extension PackedTernary {
  /// Inputs that share an activation scale.
  static let blockColumns = Int(QK_Q8K_COLUMNS)
  /// Rows that share a pass over the weights: their codes of one block and sums of one panel,
  /// 512 · (256 + 128) bytes, stay in a second-level cache.
  private static let rowsOfPass = 512

  func multiplyByBlocks(
    _ x: UnsafePointer<Float>, count: Int, into y: UnsafeMutablePointer<Float>, outputStride: Int,
    workspace: Workspace, pool: WorkerPool
  ) throws(QuantError) {
    let pass = min(count, PackedTernary.rowsOfPass)
    let blocks = (columns + PackedTernary.blockColumns - 1) / PackedTernary.blockColumns
    // A scale and a sum for each 32 codes is more than each 256 need.
    try workspace.reserveActivations(pass * max(1, blocks) * PackedTernary.blockColumns)
    let scratchBytes = pass * PackedTernary.panelRows * (4 + 4)
    try workspace.reservePanels(scratchBytes * pool.threads)
    let schedule = PanelSchedule(
      panels: panels, threads: pool.threads, rows: count, panelBytes: panelStride)
    for first in stride(from: 0, to: count, by: pass) {
      let rows = min(pass, count - first)
      let codes = BlockCodes(
        rows: rows, codes: workspace.codes, sums: workspace.initials, scales: workspace.scales)
      pool.run(
        parts: rows,
        BlockQuantizeTask(weights: self, x: x + first * columns, out: codes))
      pool.run(
        parts: schedule.parts,
        BlockTask(
          weights: self, activations: codes, y: y + first * outputStride, stride: outputStride,
          schedule: schedule, scratch: workspace.panels, scratchBytes: scratchBytes))
    }
  }

  /// Codes `[blocks][rows][256]`, with a sum and a scale of each block and row.
  private struct BlockCodes {
    let rows: Int
    let codes: UnsafeMutablePointer<Int8>
    let sums: UnsafeMutablePointer<Int32>
    let scales: UnsafeMutablePointer<Float>
  }

  private struct BlockQuantizeTask: ParallelTask {
    unowned(unsafe) let weights: PackedTernary
    let x: UnsafePointer<Float>
    let out: BlockCodes

    func run(part row: Int, worker: Int) {
      var arguments = qk_q8k_quantize_args(
        x: x + row * weights.columns, columns: weights.columns,
        codes: out.codes + row * PackedTernary.blockColumns,
        block_stride: out.rows * PackedTernary.blockColumns, sums: out.sums + row,
        scales: out.scales + row, group_stride: out.rows)
      weights.kernels.pointee.quantize_blocks(&arguments)
    }
  }

  private struct BlockTask: ParallelTask {
    unowned(unsafe) let weights: PackedTernary
    let activations: BlockCodes
    let y: UnsafeMutablePointer<Float>
    let stride: Int
    let schedule: PanelSchedule
    let scratch: UnsafeMutableRawPointer
    let scratchBytes: Int

    func run(part: Int, worker: Int) {
      let range = schedule.range(of: part)
      let output = range.lowerBound * PackedTernary.panelRows
      let sums = scratch + worker * scratchBytes
      let totals = sums + activations.rows * PackedTernary.panelRows * 4
      var arguments = qk_ternary_blocks_args(
        weights: weights.panelBytes(range.lowerBound), panel_stride: weights.panelStride,
        panels: range.count, vectors: weights.vectors, x: activations.codes,
        rows: activations.rows, x_sum: activations.sums, x_scale: activations.scales,
        w_scale: weights.scaleValues + output, y: y + output, y_stride: stride,
        outputs: weights.outputs(range), sums: sums.assumingMemoryBound(to: Int32.self),
        totals: totals.assumingMemoryBound(to: Float.self))
      weights.kernels.pointee.matmul_blocks(&arguments)
    }
  }
}
