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

/// How panels are dealt to workers: the first parts are long forward streams, later ones ever
/// shorter, so that workers finish within about a panel of each other without cutting the streams
/// up.
///
/// A part takes one in `2 · threads` of the panels that are left (guided self-scheduling). Parts
/// are fixed ranges, handed out in order.
///
/// A few rows wait for memory, and a part that begins anew waits for its first lines and fetches some
/// kilobytes beyond its end: then a part takes one in `threads`, and 96 KiB at least, which are 2 µs
/// of a core's bandwidth (SmolLM2-135M on two Zen 5 cores decodes 1.1 to 1.25 times as fast; beside
/// another process about the same).
struct PanelSchedule {
  let panels: Int
  let threads: Int
  let parts: Int
  /// The fewest panels of a part; 0 where arithmetic binds.
  private let least: Int

  /// Rows up to which memory binds.
  static let fewRows = 4

  /// - Parameters:
  ///   - rows: of activations, which multiply every panel.
  ///   - panelBytes: of weights.
  init(panels: Int, threads: Int, rows: Int, panelBytes: Int) {
    self.panels = panels
    self.threads = threads
    // Every worker has a part all the same.
    least =
      rows > Self.fewRows
      ? 0
      : min(
        (Self.leastBytes + panelBytes - 1) / max(panelBytes, 1), (panels + threads - 1) / threads)
    var first = 0
    var parts = 0
    while first < panels {
      first += Self.length(left: panels - first, threads, least)
      parts += 1
    }
    self.parts = parts
  }

  private static let leastBytes = 96 << 10

  private static func length(left: Int, _ threads: Int, _ least: Int) -> Int {
    if threads == 1 { return left }
    if least == 0 { return max(1, left / (2 * threads)) }
    let length = max(least, (left + threads - 1) / threads)
    // What would be less than half of a part goes along.
    return left - length < (least + 1) / 2 ? left : length
  }

  /// The panels of a part. Complexity: O(parts), which are a few dozen.
  func range(of part: Int) -> Range<Int> {
    var first = 0
    for _ in 0..<part { first += Self.length(left: panels - first, threads, least) }
    return first..<first + Self.length(left: panels - first, threads, least)
  }
}
