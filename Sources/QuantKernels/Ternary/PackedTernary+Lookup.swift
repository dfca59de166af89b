import CQuantKernels

extension PackedTernary {
  /// Rows whose tables are kept at a time: 16 bytes a column each, half a megabyte at K = 4096.
  private static let tableRows = 8

  func multiplyByLookup(
    _ x: UnsafePointer<Float>, count: Int, into y: UnsafeMutablePointer<Float>, outputStride: Int,
    workspace: Workspace, pool: WorkerPool
  ) throws(QuantError) {
    guard let lookup = format.lookup else { return }
    let block = min(count, PackedTernary.tableRows)
    let rowCodes = max(1, chunks) * chunkColumns
    let tableBytes = vectors * qk_lookup_table_bytes(lookup)
    try workspace.reserveActivations(block * rowCodes)
    try workspace.reservePanels(block * tableBytes)
    let schedule = PanelSchedule(
      panels: panels, threads: pool.threads, rows: count, panelBytes: panelStride)
    for first in stride(from: 0, to: count, by: block) {
      let rows = min(block, count - first)
      let activations = Activations(
        rows: rows, codes: workspace.codes, sums: workspace.initials, scales: workspace.scales,
        rowStride: rowCodes, chunkStride: chunkColumns)
      quantize(x + first * columns, activations, pool)
      let tables = Tables(
        lookup: lookup, activations: activations, bytes: workspace.panels, rowBytes: tableBytes)
      pool.run(parts: rows, BuildTask(weights: self, tables: tables))
      pool.run(
        parts: schedule.parts,
        LookupTask(
          weights: self, tables: tables, y: y + first * outputStride, stride: outputStride,
          schedule: schedule))
    }
  }

  private struct Tables {
    let lookup: qk_lookup_format
    let activations: Activations
    let bytes: UnsafeMutableRawPointer
    let rowBytes: Int

    func row(_ row: Int) -> UnsafeMutablePointer<UInt8> {
      (bytes + row * rowBytes).assumingMemoryBound(to: UInt8.self)
    }
  }

  private struct BuildTask: ParallelTask {
    unowned(unsafe) let weights: PackedTernary
    let tables: Tables

    func run(part row: Int, worker: Int) {
      let activations = tables.activations
      let factor = qk_lookup_build_entry(weights.lookups, tables.lookup)(
        activations.codes + row * activations.rowStride, weights.vectors, tables.row(row))
      activations.scales[row] *= factor
    }
  }

  private struct LookupTask: ParallelTask {
    unowned(unsafe) let weights: PackedTernary
    let tables: Tables
    let y: UnsafeMutablePointer<Float>
    let stride: Int
    let schedule: PanelSchedule

    func run(part: Int, worker: Int) {
      let range = schedule.range(of: part)
      let output = range.lowerBound * PackedTernary.panelRows
      var arguments = qk_lookup_args(
        weights: weights.panelBytes(range.lowerBound), panel_stride: weights.panelStride,
        panels: range.count, units: weights.vectors, tables: tables.row(0),
        table_stride: tables.rowBytes, rows: tables.activations.rows,
        scales: tables.activations.scales, w_scale: weights.scaleValues + output, y: y + output,
        y_stride: stride, outputs: weights.outputs(range))
      qk_lookup_entry(weights.lookups, tables.lookup)(&arguments)
    }
  }
}
