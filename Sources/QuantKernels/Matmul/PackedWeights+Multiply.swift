extension PackedWeights {
  /// Rows of a tile of activations.
  static let tileRows = 16

  /// `y[i, n] = Σ_k x[i, k] · w[n, k]` for `i < count`.
  ///
  /// Row i's result is the same bits for every `count` and every number of threads: each output is
  /// computed by one fixed expression over its row alone.
  ///
  /// - Parameters:
  ///   - x: `[count × columns]` floats, row-major.
  ///   - y: `[count × outputStride]` floats; `outputs` of each row are written.
  ///   - outputs: the first so many of the `rows` products; nil: all.
  ///   - workspace: scratch, used by one call at a time.
  /// - Throws: ``QuantError`` (`outOfMemory`) when the workspace cannot grow; never after a call of
  ///   the same shape.
  /// - Complexity: O(count · rows · columns).
  package func multiply(
    _ x: UnsafePointer<Float>, count: Int, into y: UnsafeMutablePointer<Float>, outputStride: Int,
    outputs: Int? = nil, arithmetic: Arithmetic = .fast, workspace: Workspace, pool: WorkerPool
  ) throws(QuantError) {
    if count <= 0 { return }
    var x = x
    if let permutation = inputPermutation {
      try workspace.reservePermuted(count * columns)
      let sorted = workspace.permuted
      for row in 0..<count {
        for column in 0..<columns {
          sorted[row * columns + column] = x[row * columns + Int(permutation[column])]
        }
      }
      x = UnsafePointer(sorted)
    }
    let operands = Operands(
      x: x, columns: columns, count: count, y: y, stride: outputStride,
      outputs: min(outputs ?? rows, rows))
    if isDense || arithmetic == .exact {
      try multiplyFloats(operands, workspace: workspace, pool: pool)
    } else {
      try multiplyIntegers(operands, workspace: workspace, pool: pool)
    }
  }

  /// The two sides of a product, in tiles of 16 rows.
  struct Operands {
    let x: UnsafePointer<Float>
    let columns: Int
    let count: Int
    let y: UnsafeMutablePointer<Float>
    /// Floats between rows of y.
    let stride: Int
    /// Columns of y.
    let outputs: Int

    var panels: Int { (outputs + PackedWeights.panelRows - 1) / PackedWeights.panelRows }
    var tiles: Int { (count + PackedWeights.tileRows - 1) / PackedWeights.tileRows }

    /// Outputs of panels `first..<last`, without what the last has of others and of padding.
    func outputs(first: Int, last: Int) -> Int {
      min(outputs - first * PackedWeights.panelRows, (last - first) * PackedWeights.panelRows)
    }

    func rows(ofTile tile: Int) -> Int {
      min(PackedWeights.tileRows, count - tile * PackedWeights.tileRows)
    }

    /// Calls `body(first row, rows of its tile, offset in the tile, height)` for pieces of every
    /// tile whose heights are those of the kernels: 16, 8, 4, 2 or 1, at most `tallest`.
    @inline(__always)
    func forEachPiece(
      tallest: Int, _ body: (_ first: Int, _ rows: Int, _ done: Int, _ height: Int) -> Void
    ) {
      for tile in 0..<tiles {
        let rows = rows(ofTile: tile)
        var done = 0
        while done < rows {
          var height = tallest
          while height > rows - done { height /= 2 }
          body(tile * PackedWeights.tileRows, rows, done, height)
          done += height
        }
      }
    }
  }

  func weightBytes(panel: Int) -> UnsafePointer<UInt8> {
    UnsafePointer((storage.base + panel * panelStride).assumingMemoryBound(to: UInt8.self))
  }
}
