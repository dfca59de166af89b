import CQuantKernels

extension PackedWeights {
  /// K of the pieces in which a panel is dequantised: 256 · 16 floats are 16 KiB, half of a level-1
  /// cache.
  private static let pieceColumns = 256

  /// Products with float32 activations, one ascending-k chain an output.
  func multiplyFloats(
    _ operands: Operands, workspace: Workspace, pool: WorkerPool
  ) throws(QuantError) {
    let padded = paddedColumns
    // One row needs no transposing, unless its padding would be read.
    let inPlace = operands.count == 1 && padded == columns
    if !inPlace {
      try workspace.reserveFloats(operands.tiles * PackedWeights.tileRows * padded)
      pool.run(
        parts: operands.tiles,
        TransposeTask(operands: operands, out: workspace.floats, columns: padded))
    }
    let x = inPlace ? operands.x : UnsafePointer(workspace.floats)
    let schedule = PanelSchedule(
      panels: operands.panels, threads: pool.threads, rows: operands.count,
      panelBytes: panelStride)
    if isDense, operands.count <= PackedWeights.directRows {
      pool.run(
        parts: schedule.parts,
        DenseTask(weights: self, operands: operands, x: x, schedule: schedule))
      return
    }
    let blockColumns = subgroups * 32
    let pieceBlocks = max(1, PackedWeights.pieceColumns / blockColumns)
    var task = DequantizingTask(
      weights: self, operands: operands, x: x, schedule: schedule, pieceBlocks: pieceBlocks,
      pieceFloats: pieceBlocks * blockColumns * PackedWeights.panelRows, scratch: workspace.panels)
    try workspace.reservePanels(task.bytesPerWorker * pool.threads)
    task.scratch = workspace.panels
    pool.run(parts: schedule.parts, task)
  }

  /// Rows of a tile as `[padded columns][rows]`.
  private struct TransposeTask: ParallelTask {
    let operands: Operands
    let out: UnsafeMutablePointer<Float>
    let columns: Int

    func run(part tile: Int, worker: Int) {
      let first = tile * PackedWeights.tileRows
      let rows = operands.rows(ofTile: tile)
      let to = out + first * columns
      qk_transpose(
        operands.x + first * operands.columns, operands.columns, rows, operands.columns, to)
      (to + operands.columns * rows)
        .update(repeating: 0, count: (columns - operands.columns) * rows)
    }
  }

  /// Dense weights converted in registers.
  private struct DenseTask: ParallelTask {
    unowned(unsafe) let weights: PackedWeights
    let operands: Operands
    let x: UnsafePointer<Float>
    let schedule: PanelSchedule

    func run(part: Int, worker: Int) {
      let range = schedule.range(of: part)
      let first = range.lowerBound
      let last = range.upperBound
      var arguments = qk_matmul_args()
      arguments.weights = weights.weightBytes(panel: first)
      arguments.panel_stride = weights.panelStride
      arguments.panels = last - first
      arguments.blocks = weights.blocks
      arguments.subgroups = weights.subgroups
      arguments.y_stride = operands.stride
      arguments.outputs = operands.outputs(first: first, last: last)
      // Dense kernels read none of these; a height that is split steps them all the same.
      arguments.x = UnsafeRawPointer(x).assumingMemoryBound(to: Int8.self)
      arguments.x_scale = x
      arguments.x_sum = x
      arguments.x_init = UnsafeRawPointer(x).assumingMemoryBound(to: Int32.self)
      let y = operands.y + first * PackedWeights.panelRows
      operands.forEachPiece(tallest: 16) { row, rows, done, height in
        arguments.x_rows = rows
        arguments.x_float = x + row * weights.paddedColumns + done
        arguments.y = y + (row + done) * operands.stride
        qk_matmul_entry(weights.kernels, weights.format, height)(&arguments)
      }
    }
  }

  /// Panels dequantised piece by piece along K; each worker keeps the piece and the sums of every
  /// row.
  private struct DequantizingTask: ParallelTask {
    unowned(unsafe) let weights: PackedWeights
    let operands: Operands
    let x: UnsafePointer<Float>
    let schedule: PanelSchedule
    let pieceBlocks: Int
    let pieceFloats: Int
    var scratch: UnsafeMutableRawPointer

    var sumFloats: Int { operands.tiles * PackedWeights.tileRows * PackedWeights.panelRows }
    var bytesPerWorker: Int { 4 * (pieceFloats + sumFloats) }

    func run(part: Int, worker: Int) {
      let piece = (scratch + worker * bytesPerWorker).assumingMemoryBound(to: Float.self)
      let sums = piece + pieceFloats
      let blockColumns = weights.subgroups * 32
      var arguments = qk_float_args()
      arguments.weights = UnsafePointer(piece)
      for panel in schedule.range(of: part) {
        sums.update(repeating: 0, count: sumFloats)
        for block in stride(from: 0, to: weights.blocks, by: pieceBlocks) {
          let count = min(pieceBlocks, weights.blocks - block)
          let bytes =
            weights.weightBytes(panel: panel)
            + block * qk_block_bytes(weights.format, weights.subgroups)
          qk_dequantize_entry(weights.kernels, weights.format)(
            bytes, count, weights.subgroups, piece)
          arguments.depth = count * blockColumns
          operands.forEachPiece(tallest: 16) { row, rows, done, height in
            arguments.x_rows = rows
            arguments.x = x + row * weights.paddedColumns + block * blockColumns * rows + done
            arguments.y = sums + (row + done) * PackedWeights.panelRows
            qk_float_entry(weights.kernels, height)(&arguments)
          }
        }
        let outputs = operands.outputs(first: panel, last: panel + 1)
        let y = operands.y + panel * PackedWeights.panelRows
        for row in 0..<operands.count {
          (y + row * operands.stride)
            .update(from: sums + row * PackedWeights.panelRows, count: outputs)
        }
      }
    }
  }
}
