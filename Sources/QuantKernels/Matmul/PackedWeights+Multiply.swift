import CQuantKernels

extension PackedWeights {
  /// Rows up to which the codes are unpacked in registers on every use. Above it a panel is unpacked once into a
  /// buffer and used by every tile of rows: unpacking costs about 3 of every 19 vector operations of a 16-row tile,
  /// while the buffer's store and load cost more than that until two tiles share them.
  static let directRows = 32

  /// Rows of a tile of activations.
  static let tileRows = 16

  /// K of the pieces in which exact products dequantise a panel: 256 · 16 floats are 16 KiB, half of a level-1 cache.
  private static let exactDepth = 256

  /// `y[i, n] = Σ_k x[i, k] · w[n, k]` for `i < count`.
  ///
  /// Row i's result is the same bits for every `count` and every number of threads: each output is computed by one
  /// fixed expression over its row alone.
  ///
  /// - Parameters:
  ///   - x: `[count × columns]` floats, row-major.
  ///   - y: `[count × outputStride]` floats; `rows` of each row are written.
  ///   - workspace: scratch, used by one call at a time.
  /// - Throws: ``QuantError`` (`outOfMemory`) when the workspace cannot grow; never after a call of the same shape.
  /// - Complexity: O(count · rows · columns).
  package func multiply(
    _ x: UnsafePointer<Float>, count: Int, into y: UnsafeMutablePointer<Float>, outputStride: Int,
    arithmetic: Arithmetic = .fast, workspace: Workspace, pool: WorkerPool
  ) throws(QuantError) {
    if count <= 0 { return }
    var x = x
    if let permutation = inputPermutation {
      try workspace.reservePermuted(count * columns)
      let sorted = workspace.permuted
      for row in 0..<count {
        for (column, source) in permutation.enumerated() {
          sorted[row * columns + column] = x[row * columns + Int(source)]
        }
      }
      x = UnsafePointer(sorted)
    }
    let target = Target(x: x, count: count, y: y, stride: outputStride)
    if isDense || arithmetic == .exact {
      try multiplyFloats(target, workspace: workspace, pool: pool)
    } else {
      try multiplyIntegers(target, workspace: workspace, pool: pool)
    }
  }

  private struct Target: @unchecked Sendable {
    let x: UnsafePointer<Float>
    let count: Int
    let y: UnsafeMutablePointer<Float>
    let stride: Int

    var tiles: Int { (count + PackedWeights.tileRows - 1) / PackedWeights.tileRows }
    func rows(ofTile tile: Int) -> Int {
      min(PackedWeights.tileRows, count - tile * PackedWeights.tileRows)
    }
  }

  /// Cuts the panels into parts: a few a worker so that a late one can be helped, and none without need, since each part
  /// is a forward stream of its own.
  private func panelsPerPart(_ pool: WorkerPool) -> Int {
    pool.threads == 1 ? panels : max(1, panels / (pool.threads * 4))
  }

  // MARK: int8 activations

  private func multiplyIntegers(
    _ target: Target, workspace: Workspace, pool: WorkerPool
  ) throws(QuantError) {
    let padded = paddedColumns
    let groups = padded / 32
    let halves = format == QK_Q6_K
    let tiles = target.tiles
    try workspace.reserveActivations(tiles * PackedWeights.tileRows * padded)
    let direct = target.count <= PackedWeights.directRows
    let plain = qk_plain_format(format)
    let plainSubgroups = isKQuant ? 1 : subgroups
    let plainBlocks = groups / plainSubgroups
    let plainBytes = plainBlocks * qk_block_bytes(plain, plainSubgroups)
    if !direct { try workspace.reservePanels(plainBytes * pool.threads) }

    let codes = workspace.codes
    let scales = workspace.scales
    let sums = workspace.sums
    let initials = workspace.initials
    let scratch = workspace.panels

    @inline(__always)
    func quantize(tile: Int) {
      let first = tile * PackedWeights.tileRows
      var arguments = qk_quantize_args()
      arguments.x = target.x + first * columns
      arguments.x_stride = columns
      arguments.rows = target.rows(ofTile: tile)
      arguments.columns = columns
      arguments.groups = groups
      arguments.subgroups = isKQuant ? 1 : subgroups
      arguments.zero = zero
      arguments.halves = halves ? 1 : 0
      arguments.codes = codes + first * padded
      arguments.scale = scales + first * groups
      arguments.sum = sums + first * groups
      arguments.initial = initials + 2 * first * groups
      kernels.pointee.quantize(&arguments)
    }
    if tiles == 1 {
      quantize(tile: 0)
    } else {
      pool.run(parts: tiles) { tile, _ in quantize(tile: tile) }
    }

    /// Every tile against the panels that `arguments` names, by kernels of at most `tallest` rows.
    @inline(__always)
    func products(
      _ arguments: inout qk_matmul_args, _ format: qk_format, tallest: Int,
      output: UnsafeMutablePointer<Float>
    ) {
      for tile in 0..<tiles {
        let first = tile * PackedWeights.tileRows
        let rows = target.rows(ofTile: tile)
        arguments.x_rows = rows
        var done = 0
        while done < rows {
          // A kernel of 16 rows takes its stride from the tile, so it needs a full one.
          var height = tallest
          while height > rows - done { height /= 2 }
          arguments.x = UnsafePointer(codes + first * padded + 4 * done)
          arguments.x_scale = UnsafePointer(scales + first * groups + done)
          arguments.x_sum = UnsafePointer(sums + first * groups + done)
          arguments.x_init = UnsafePointer(initials + 2 * first * groups + done)
          arguments.x_float = UnsafePointer(scales)
          arguments.y = output + (first + done) * target.stride
          qk_matmul_entry(kernels, format, height)(&arguments)
          done += height
        }
      }
    }

    let span = panelsPerPart(pool)
    let parts = (panels + span - 1) / span
    pool.run(parts: parts) { part, worker in
      let first = part * span
      let last = min(first + span, panels)
      var arguments = qk_matmul_args()
      arguments.panel_stride = panelStride
      arguments.y_stride = target.stride
      if direct {
        arguments.weights = weightBytes(panel: first)
        arguments.panels = last - first
        arguments.blocks = blocks
        arguments.subgroups = subgroups
        arguments.outputs = min(
          rows - first * PackedWeights.panelRows, (last - first) * PackedWeights.panelRows)
        arguments.prefetch = target.count >= 8 ? 2048 : 0
        products(
          &arguments, format, tallest: 16, output: target.y + first * PackedWeights.panelRows)
        return
      }
      let buffer = (scratch + worker * plainBytes).assumingMemoryBound(to: UInt8.self)
      arguments.weights = UnsafePointer(buffer)
      arguments.panels = 1
      arguments.blocks = plainBlocks
      arguments.subgroups = plainSubgroups
      for panel in first..<last {
        qk_unpack_entry(kernels, format)(weightBytes(panel: panel), blocks, subgroups, buffer)
        arguments.outputs = min(rows - panel * PackedWeights.panelRows, PackedWeights.panelRows)
        products(
          &arguments, plain, tallest: 8, output: target.y + panel * PackedWeights.panelRows)
      }
    }
  }

  // MARK: float32 activations

  private func multiplyFloats(
    _ target: Target, workspace: Workspace, pool: WorkerPool
  ) throws(QuantError) {
    let padded = paddedColumns
    let tiles = target.tiles
    // One row needs no transposing, unless its padding would be read.
    let inPlace = target.count == 1 && padded == columns
    if !inPlace { try workspace.reserveFloats(tiles * PackedWeights.tileRows * padded) }
    let floats = workspace.floats
    if !inPlace {
      pool.run(parts: tiles) { tile, _ in
        let first = tile * PackedWeights.tileRows
        let rows = target.rows(ofTile: tile)
        let out = floats + first * padded
        qk_transpose(target.x + first * columns, columns, rows, columns, out)
        (out + columns * rows).update(repeating: 0, count: (padded - columns) * rows)
      }
    }
    let x = inPlace ? target.x : UnsafePointer(floats)
    let span = panelsPerPart(pool)
    let parts = (panels + span - 1) / span

    if isDense, target.count <= PackedWeights.directRows {
      pool.run(parts: parts) { part, _ in
        let first = part * span
        let last = min(first + span, panels)
        var arguments = qk_matmul_args()
        arguments.panel_stride = panelStride
        arguments.y_stride = target.stride
        arguments.weights = weightBytes(panel: first)
        arguments.panels = last - first
        arguments.blocks = blocks
        arguments.subgroups = subgroups
        arguments.outputs = min(
          rows - first * PackedWeights.panelRows, (last - first) * PackedWeights.panelRows)
        // Dense kernels read neither; a height that is split steps them all the same.
        arguments.x = UnsafeRawPointer(x).assumingMemoryBound(to: Int8.self)
        arguments.x_scale = x
        arguments.x_sum = x
        arguments.x_init = UnsafeRawPointer(x).assumingMemoryBound(to: Int32.self)
        for tile in 0..<tiles {
          let firstRow = tile * PackedWeights.tileRows
          let tileRows = target.rows(ofTile: tile)
          arguments.x_rows = tileRows
          var done = 0
          while done < tileRows {
            var height = 16
            while height > tileRows - done { height /= 2 }
            arguments.x_float = x + firstRow * padded + done
            arguments.y =
              target.y + (firstRow + done) * target.stride + first * PackedWeights.panelRows
            qk_matmul_entry(kernels, format, height)(&arguments)
            done += height
          }
        }
      }
      return
    }

    // Each worker keeps a piece of a panel as floats and the sums of all rows against that panel.
    let blockColumns = subgroups * 32
    let stepBlocks = max(1, PackedWeights.exactDepth / blockColumns)
    let pieceFloats = stepBlocks * blockColumns * PackedWeights.panelRows
    let sumFloats = tiles * PackedWeights.tileRows * PackedWeights.panelRows
    try workspace.reservePanels(4 * (pieceFloats + sumFloats) * pool.threads)
    let scratch = workspace.panels
    pool.run(parts: parts) { part, worker in
      let piece = (scratch + worker * 4 * (pieceFloats + sumFloats)).assumingMemoryBound(
        to: Float.self)
      let sums = piece + pieceFloats
      var arguments = qk_float_args()
      arguments.weights = UnsafePointer(piece)
      for panel in (part * span)..<min((part + 1) * span, panels) {
        sums.update(repeating: 0, count: sumFloats)
        var block = 0
        while block < blocks {
          let count = min(stepBlocks, blocks - block)
          let bytes = weightBytes(panel: panel) + block * qk_block_bytes(format, subgroups)
          qk_dequantize_entry(kernels, format)(bytes, count, subgroups, piece)
          arguments.depth = count * blockColumns
          for tile in 0..<tiles {
            let firstRow = tile * PackedWeights.tileRows
            let tileRows = target.rows(ofTile: tile)
            arguments.x_rows = tileRows
            var done = 0
            while done < tileRows {
              var height = 16
              while height > tileRows - done { height /= 2 }
              arguments.x = x + firstRow * padded + block * blockColumns * tileRows + done
              arguments.y = sums + (firstRow + done) * PackedWeights.panelRows
              qk_float_entry(kernels, height)(&arguments)
              done += height
            }
          }
          block += count
        }
        let outputs = min(rows - panel * PackedWeights.panelRows, PackedWeights.panelRows)
        for row in 0..<target.count {
          (target.y + row * target.stride + panel * PackedWeights.panelRows)
            .update(from: sums + row * PackedWeights.panelRows, count: outputs)
        }
      }
    }
  }

  private func weightBytes(panel: Int) -> UnsafePointer<UInt8> {
    UnsafePointer((storage.base + panel * panelStride).assumingMemoryBound(to: UInt8.self))
  }
}
