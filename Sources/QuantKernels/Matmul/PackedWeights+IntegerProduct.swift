import CQuantKernels

extension PackedWeights {
  /// Rows up to which codes are unpacked in registers on every use. Above it a panel is unpacked
  /// once into a buffer that every tile of rows reads: the buffer's store and loads cost more than
  /// unpacking (about 3 of 19 vector operations of a 16-row tile) until three tiles share them.
  static let directRows = 32

  /// Bytes that a kernel with several rows fetches ahead; with one row the level's kernels know.
  static let prefetchBytes = 2048

  /// Products with int8 activations: quantise every tile, then run the panels.
  func multiplyIntegers(
    _ operands: Operands, workspace: Workspace, pool: WorkerPool
  ) throws(QuantError) {
    try workspace.reserveActivations(operands.tiles * PackedWeights.tileRows * paddedColumns)
    let direct = operands.count <= PackedWeights.directRows
    let plain = PlainPanel(self)
    if !direct { try workspace.reservePanels(plain.bytesPerWorker * pool.threads) }
    let activations = QuantizedActivations(
      codes: workspace.codes, scales: workspace.scales, sums: workspace.sums,
      initials: workspace.initials, columns: paddedColumns, step: Int(kernels.pointee.step))

    let quantize = QuantizeTask(weights: self, operands: operands, out: activations)
    if operands.tiles == 1 {
      quantize.run(part: 0, worker: 0)
    } else {
      pool.run(parts: operands.tiles, quantize)
    }
    let schedule = PanelSchedule(
      panels: operands.panels, threads: pool.threads, rows: operands.count,
      panelBytes: panelStride)
    if direct {
      let task = DirectTask(
        weights: self, operands: operands, activations: activations, schedule: schedule)
      pool.run(parts: schedule.parts, task)
    } else {
      let task = UnpackingTask(
        weights: self, operands: operands, activations: activations, schedule: schedule,
        plain: plain,
        scratch: workspace.panels)
      pool.run(parts: schedule.parts, task)
    }
  }

  /// Quantised rows in tiles of 16: the arrays of `qk_matmul_args`.
  struct QuantizedActivations {
    let codes: UnsafeMutablePointer<Int8>
    let scales: UnsafeMutablePointer<Float>
    let sums: UnsafeMutablePointer<Float>
    let initials: UnsafeMutablePointer<Int32>
    /// K padded to whole groups.
    let columns: Int
    /// Bytes of a row in one k step of the level's kernels.
    let step: Int

    var groups: Int { columns / 32 }

    /// Points `arguments` at row `first + done` of the tile that begins at row `first`.
    @inline(__always)
    func aim(_ arguments: inout qk_matmul_args, first: Int, done: Int) {
      arguments.x = UnsafePointer(codes + first * columns + step * done)
      arguments.x_scale = UnsafePointer(scales + first * groups + done)
      arguments.x_sum = UnsafePointer(sums + first * groups + done)
      arguments.x_init = UnsafePointer(initials + 2 * first * groups + done)
      // Integer kernels do not read it; a height that is split steps it all the same.
      arguments.x_float = UnsafePointer(scales)
    }
  }

  private struct QuantizeTask: ParallelTask {
    // Not counted: the caller holds the weights, and hundreds of counts a token are felt.
    unowned(unsafe) let weights: PackedWeights
    let operands: Operands
    let out: QuantizedActivations

    func run(part tile: Int, worker: Int) {
      let first = tile * PackedWeights.tileRows
      var arguments = qk_quantize_args()
      arguments.x = operands.x + first * operands.columns
      arguments.x_stride = operands.columns
      arguments.rows = operands.rows(ofTile: tile)
      arguments.columns = operands.columns
      arguments.groups = out.groups
      arguments.subgroups = weights.isKQuant ? 1 : weights.subgroups
      arguments.zero = weights.zero
      arguments.halves = weights.format == QK_Q6_K ? 1 : 0
      arguments.codes = out.codes + first * out.columns
      arguments.scale = out.scales + first * out.groups
      arguments.sum = out.sums + first * out.groups
      arguments.initial = out.initials + 2 * first * out.groups
      weights.kernels.pointee.quantize(&arguments)
    }
  }

  /// Panels whose codes are unpacked in registers.
  private struct DirectTask: ParallelTask {
    // Not counted: the caller holds the weights, and hundreds of counts a token are felt.
    unowned(unsafe) let weights: PackedWeights
    let operands: Operands
    let activations: QuantizedActivations
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
      arguments.prefetch =
        operands.count >= 8
        ? PackedWeights.prefetchBytes : Int(weights.kernels.pointee.row_prefetch)
      let y = operands.y + first * PackedWeights.panelRows
      operands.forEachPiece(tallest: 16) { row, rows, done, height in
        activations.aim(&arguments, first: row, done: done)
        arguments.x_rows = rows
        arguments.y = y + (row + done) * operands.stride
        qk_matmul_entry(weights.kernels, weights.format, height)(&arguments)
      }
    }
  }

  /// The unpacked form of one panel, and how many of them a worker keeps: activations that are larger than the level-2
  /// cache pass once for all of them.
  struct PlainPanel {
    let format: qk_format
    let blocks: Int
    let subgroups: Int
    let together: Int

    init(_ weights: PackedWeights) {
      format = qk_plain_format(weights.format)
      subgroups = weights.isKQuant ? 1 : weights.subgroups
      blocks = weights.paddedColumns / 32 / subgroups
      let bytes = blocks * qk_block_bytes(format, subgroups)
      let kernels = weights.kernels.pointee
      together = max(1, min(Int(kernels.plain_panels), Int(kernels.plain_bytes) / bytes))
    }

    var byteCount: Int { blocks * qk_block_bytes(format, subgroups) }
    var bytesPerWorker: Int { together * byteCount }
  }

  /// Panels that are unpacked once and used by every tile.
  private struct UnpackingTask: ParallelTask {
    // Not counted: the caller holds the weights, and hundreds of counts a token are felt.
    unowned(unsafe) let weights: PackedWeights
    let operands: Operands
    let activations: QuantizedActivations
    let schedule: PanelSchedule
    let plain: PlainPanel
    let scratch: UnsafeMutableRawPointer

    func run(part: Int, worker: Int) {
      let buffer = (scratch + worker * plain.bytesPerWorker).assumingMemoryBound(to: UInt8.self)
      var arguments = qk_matmul_args()
      arguments.weights = UnsafePointer(buffer)
      arguments.panel_stride = plain.byteCount
      arguments.blocks = plain.blocks
      arguments.subgroups = plain.subgroups
      arguments.y_stride = operands.stride
      let tallest = Int(weights.kernels.pointee.plain_height)
      let range = schedule.range(of: part)
      for first in stride(from: range.lowerBound, to: range.upperBound, by: plain.together) {
        let last = min(first + plain.together, range.upperBound)
        for panel in first..<last {
          qk_unpack_entry(weights.kernels, weights.format)(
            weights.weightBytes(panel: panel), weights.blocks, weights.subgroups,
            buffer + (panel - first) * plain.byteCount)
        }
        arguments.panels = last - first
        arguments.outputs = operands.outputs(first: first, last: last)
        let y = operands.y + first * PackedWeights.panelRows
        operands.forEachPiece(tallest: tallest) { row, rows, done, height in
          activations.aim(&arguments, first: row, done: done)
          arguments.x_rows = rows
          arguments.y = y + (row + done) * operands.stride
          qk_matmul_entry(weights.kernels, plain.format, height)(&arguments)
        }
      }
    }
  }
}
