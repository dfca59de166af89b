import DeviceModel

/// The vector units' part: online softmax, rescale, output.
extension FusedNPUCore {
  private var log2E: Float { 1.442695040888963 }
  private var ln2: Float { 0.6931471805599453 }

  /// Rows of a unit in pieces, and the first float of each piece in the unit's row statistics.
  func pieces(
    _ tile: NPUQueryTile, _ index: Int
  ) -> [(rows: Range<Int>, first: Int)] {
    let rows = tile.rows(ofUnit: index, of: buffers.vectors.count)
    let size = plan.pieceRows
    return stride(from: rows.lowerBound, to: rows.upperBound, by: size).enumerated().map {
      (
        $0.element..<min(rows.upperBound, $0.element + size),
        $0.offset * (size >= 8 ? size : 8)
      )
    }
  }

  /// Scores of a stack to probabilities, piece by piece.
  func softmax(_ step: FusedNPUAttention.Step, unit index: Int) throws(DeviceError) {
    let vector = buffers.vectors[index]
    try core.wait(
      flag: Flag.scores + step.slot, of: 0, unit: vector.unit, pipe: isSplit ? .load : .fix)
    let keys = step.keys.count
    let pitch = (keys + 31) / 32 * 32
    for (number, piece) in pieces(step.tile, index).enumerated() {
      let rows = piece.rows
      let loaded = UBMatrix(
        vector.scores[(step.turns.pieces + number) % 2], rows: rows.count, columns: keys,
        pitch: pitch)
      let work = UBMatrix(vector.work, rows: rows.count, columns: keys, pitch: pitch)
      try loadScores(step, rows, into: loaded)
      let factor = attention.scale * (attention.options.powerOfTwoMaxima ? log2E : 1)
      try core.apply(.scale, loaded, .scalar(factor), into: work)
      try mask(step, rows, work, vector)
      func statistic(_ tile: NPUTile) -> UBMatrix {
        .vector(tile, first: piece.first, count: rows.count)
      }
      try normalize(
        step, loaded, work, vector, maximum: statistic(vector.maxima[step.place]),
        sum: statistic(vector.sums[step.place]), factor: statistic(vector.factors[step.slot]),
        found: statistic(vector.found), newMaximum: statistic(vector.newMaximum),
        safeMaximum: statistic(vector.safeMaximum))
      let halves = UBMatrix(
        vector.halves, rows: rows.count, columns: keys, pitch: pitch, elementBytes: 2)
      try core.convert(work, into: halves)
      if let exchange = attention.exchange {
        try core.storeRows(
          halves, to: exchange.probabilities,
          GlobalWindow(
            offset: slotStart(step.slot, elements: plan.firstLevelKeys)
              + rows.lowerBound * plan.firstLevelKeys,
            rows: rows.count, rowPitch: plan.firstLevelKeys, columns: keys),
          slot: buffers.probabilitySlots[step.slot])
      } else {
        try core.rowsToOperands(
          halves, into: buffers.probabilities[step.slot], matrixRows: step.tile.rows,
          row: rows.lowerBound)
      }
    }
  }

  private func loadScores(
    _ step: FusedNPUAttention.Step, _ rows: Range<Int>, into loaded: UBMatrix
  ) throws(DeviceError) {
    if let exchange = attention.exchange {
      try core.loadRows(
        exchange.scores,
        GlobalWindow(
          offset: slotStart(step.slot, elements: plan.firstLevelKeys)
            + rows.lowerBound * plan.firstLevelKeys,
          rows: rows.count, rowPitch: plan.firstLevelKeys, columns: loaded.columns),
        into: loaded, slot: buffers.scoreSlots[step.slot])
      return
    }
    let perSlot = plan.firstLevelKeys / plan.secondLevelKeys
    for (block, keys) in blocks(of: step).enumerated() {
      var part = loaded
      part.byte = block * plan.secondLevelKeys * 4
      part.columns = keys.count
      try core.sumsToVector(
        buffers.sums[step.slot * perSlot + block], matrixRows: step.tile.rows,
        row: rows.lowerBound, rows: rows.count, columns: keys.count, into: part)
    }
  }

  /// One step of the online softmax on a piece: m′ = max(m, rows' maxima), a = e^(m − m′),
  /// p = e^(s − m′), ℓ′ = a·ℓ + Σp. A row that has seen nothing has m′ = −∞ and takes 0 in its
  /// place, so that every p is 0. With maxima rounded up to powers of two all exponentials are of
  /// two, and a stays the exponent.
  private func normalize(
    _ step: FusedNPUAttention.Step, _ scratch: UBMatrix, _ work: UBMatrix,
    _ vector: FusedNPUBuffers.Vector, maximum: UBMatrix, sum: UBMatrix, factor: UBMatrix,
    found: UBMatrix, newMaximum: UBMatrix, safeMaximum: UBMatrix
  ) throws(DeviceError) {
    let isPowerOfTwo = attention.options.powerOfTwoMaxima
    if step.isFirst {
      try core.fill(maximum, -.infinity)
      try core.fill(sum, 0)
    }
    // The scores' own buffer is free for folding: they have gone to the work area.
    let folded = UBMatrix(scratch.tile, rows: work.rows, columns: 64)
    try core.reduceRows(sum: false, work, scratch: folded, into: found)
    if isPowerOfTwo { try core.apply(.ceiling, found, into: found) }
    try core.apply(.maximum, maximum, .matrix(found), into: newMaximum)
    try core.apply(.zeroInfinity, newMaximum, into: safeMaximum)
    try core.apply(.subtract, maximum, .matrix(safeMaximum), into: factor)
    if !isPowerOfTwo { try core.apply(.exponential, factor, into: factor) }
    try core.apply(.scale, newMaximum, .scalar(1), into: maximum)
    let spread = UBMatrix(vector.spread, rows: work.rows, columns: 8)
    try core.broadcast(safeMaximum, into: spread)
    try core.apply(.subtract, work, .perRow(spread), into: scratch)
    try core.apply(isPowerOfTwo ? .powerOfTwo : .exponential, scratch, into: work)
    try core.reduceRows(sum: true, work, scratch: folded, into: found)
    try core.apply(isPowerOfTwo ? .addExponent : .multiply, sum, .matrix(factor), into: sum)
    try core.apply(.add, sum, .matrix(found), into: sum)
  }

  /// −∞ into the masked scores of a piece.
  private func mask(
    _ step: FusedNPUAttention.Step, _ rows: Range<Int>, _ work: UBMatrix,
    _ vector: FusedNPUBuffers.Vector
  ) throws(DeviceError) {
    let rule = attention.options.mask
    for segment in step.tile.segments(rows) {
      func part(_ column: Int, _ columns: Int) -> UBMatrix {
        UBMatrix(
          work.tile, byte: ((segment.row - rows.lowerBound) * work.pitch + column) * 4,
          rows: segment.rows, columns: columns, pitch: work.pitch)
      }
      func bytes(_ columns: Int) -> UBMatrix {
        UBMatrix(
          vector.mask, rows: segment.rows, columns: columns, pitch: (columns + 31) / 32 * 32,
          elementBytes: 1)
      }
      if attention.options.maskMode == .full, let stored = attention.arrays.mask {
        let mask = bytes(step.keys.count)
        try core.loadRows(
          stored,
          GlobalWindow(
            offset: segment.position * attention.arrays.maskPitch + step.keys.lowerBound,
            rows: segment.rows, rowPitch: attention.arrays.maskPitch, columns: step.keys.count),
          into: mask)
        try core.maskByBytes(part(0, step.keys.count), mask: mask, complement: false)
        continue
      }
      for keys in blocks(of: step) {
        let views =
          rule.views(
            firstRow: segment.position, rows: segment.rows, firstKey: keys.lowerBound,
            keys: keys.count) ?? []
        let scores = part(keys.lowerBound - step.keys.lowerBound, keys.count)
        for view in views {
          if let triangle = attention.arrays.mask {
            let mask = bytes(keys.count)
            try core.loadRows(
              triangle,
              GlobalWindow(
                offset: view.firstRow * attention.arrays.maskPitch + view.firstColumn,
                rows: segment.rows, rowPitch: attention.arrays.maskPitch, columns: keys.count),
              into: mask)
            try core.maskByBytes(scores, mask: mask, complement: view.isComplement)
          } else {
            try core.maskByComparison(scores, delta: view.delta, complement: view.isComplement)
          }
        }
      }
    }
  }

  /// Rows of a unit in pieces of the products' buffer, which are whole pieces of the scores' or
  /// parts of one.
  private func productPieces(_ tile: NPUQueryTile, _ index: Int) -> [Range<Int>] {
    let rows = tile.rows(ofUnit: index, of: buffers.vectors.count)
    let size = max(8, FusedNPUPlan.productElements / outputPitch / 8 * 8)
    return stride(from: rows.lowerBound, to: rows.upperBound, by: size).map {
      $0..<min(rows.upperBound, $0 + size)
    }
  }

  /// A block of eight for each of the rows from a row statistic.
  private func spread(
    _ statistic: NPUTile, _ tile: NPUQueryTile, _ rows: Range<Int>, _ index: Int
  ) throws(DeviceError) -> UBMatrix {
    let vector = buffers.vectors[index]
    let unitRows = tile.rows(ofUnit: index, of: buffers.vectors.count)
    let size = plan.pieceRows
    var row = rows.lowerBound
    while row < rows.upperBound {
      let inUnit = row - unitRows.lowerBound
      // Statistics of eight rows and more a piece have no gaps.
      let count = size >= 8 ? rows.upperBound - row : min(rows.upperBound - row, size)
      try core.broadcast(
        .vector(statistic, first: size >= 8 ? inUnit : inUnit / size * 8, count: count),
        into: UBMatrix(
          vector.spread, byte: (row - rows.lowerBound) * 32, rows: count, columns: 8))
      row += count
    }
    return UBMatrix(vector.spread, rows: rows.count, columns: 8)
  }

  private func outputRows(_ tile: NPUQueryTile, _ rows: Range<Int>, _ index: Int) -> UBMatrix {
    let first = rows.lowerBound - tile.rows(ofUnit: index, of: buffers.vectors.count).lowerBound
    return UBMatrix(
      buffers.vectors[index].output, byte: first * outputPitch * 4, rows: rows.count,
      columns: width, pitch: outputPitch)
  }

  /// o′ = a·o + p·V; the first stack's product is the output.
  func update(_ step: FusedNPUAttention.Step, unit index: Int) throws(DeviceError) {
    let vector = buffers.vectors[index]
    try core.wait(
      flag: Flag.products + step.slot, of: 0, unit: vector.unit, pipe: isSplit ? .load : .fix)
    for rows in productPieces(step.tile, index) {
      let product = UBMatrix(
        vector.product, rows: rows.count, columns: width, pitch: outputPitch)
      if let exchange = attention.exchange {
        try core.loadRows(
          exchange.products,
          GlobalWindow(
            offset: slotStart(step.slot, elements: width) + rows.lowerBound * width,
            rows: rows.count, rowPitch: width, columns: width),
          into: product, slot: buffers.productSlots[step.slot])
      } else {
        try core.sumsToVector(
          buffers.product, matrixRows: step.tile.rows, row: rows.lowerBound, rows: rows.count,
          columns: width, into: product)
      }
      let output = outputRows(step.tile, rows, index)
      if step.isFirst {
        try core.apply(.scale, product, .scalar(1), into: output)
      } else {
        let factors = try spread(vector.factors[step.slot], step.tile, rows, index)
        let work = UBMatrix(vector.work, rows: rows.count, columns: width, pitch: outputPitch)
        let isPowerOfTwo = attention.options.powerOfTwoMaxima
        try core.apply(
          isPowerOfTwo ? .addExponent : .multiply, output, .perRow(factors), into: work)
        try core.apply(.add, work, .matrix(product), into: output)
        let unchanged: Float = isPowerOfTwo ? 0 : 1
        for row in 0..<rows.count {
          let factor = core.peek(
            UBMatrix(vector.spread, byte: row * 32, rows: 1, columns: 1))
          if let factor = factor.first, factor != unchanged { rescaledRows += 1 }
        }
      }
    }
  }

  /// o / ℓ, rounded to binary16, and m + ln ℓ; rows that saw nothing have 0 and −∞.
  func finish(_ tile: NPUQueryTile, place: Int, unit index: Int) throws(DeviceError) {
    let vector = buffers.vectors[index]
    for piece in pieces(tile, index) {
      func statistic(_ tile: NPUTile) -> UBMatrix {
        .vector(tile, first: piece.first, count: piece.rows.count)
      }
      let sums = statistic(vector.sums[place])
      let rest = statistic(vector.rest)
      let logarithm = statistic(vector.found)
      try core.apply(.oneZero, sums, into: rest)
      try core.apply(.logarithm, rest, into: logarithm)
      let maximum = statistic(vector.maxima[place])
      if attention.options.powerOfTwoMaxima {
        try core.apply(.scale, maximum, .scalar(ln2), into: maximum)
      }
      try core.apply(.add, maximum, .matrix(logarithm), into: logarithm)
      try storeRowSums(tile, piece, logarithm, index)
    }
    for rows in productPieces(tile, index) {
      let sums = try spread(vector.rest, tile, rows, index)
      let work = UBMatrix(vector.work, rows: rows.count, columns: width, pitch: outputPitch)
      try core.apply(.divide, outputRows(tile, rows, index), .perRow(sums), into: work)
      try store(work, tile, rows, vector)
    }
  }

  /// Output and row sums of a tile whose rows see no key.
  func finishEmpty(_ tile: NPUQueryTile, unit index: Int) throws(DeviceError) {
    let vector = buffers.vectors[index]
    for piece in pieces(tile, index) {
      let logarithm = UBMatrix.vector(vector.found, first: piece.first, count: piece.rows.count)
      try core.fill(logarithm, -.infinity)
      try storeRowSums(tile, piece, logarithm, index)
    }
    for rows in productPieces(tile, index) {
      let work = UBMatrix(vector.work, rows: rows.count, columns: width, pitch: outputPitch)
      try core.fill(work, 0)
      try store(work, tile, rows, vector)
    }
  }

  private func storeRowSums(
    _ tile: NPUQueryTile, _ piece: (rows: Range<Int>, first: Int), _ values: UBMatrix,
    _ index: Int
  ) throws(DeviceError) {
    let statistic = FusedNPUBuffers.statisticCount(plan, attention.spec)
    try core.storeRows(
      values, to: attention.arrays.rowSums,
      GlobalWindow(
        offset: (tile.number * buffers.vectors.count + index) * statistic + piece.first, rows: 1,
        rowPitch: 0, columns: piece.rows.count))
  }

  private func store(
    _ work: UBMatrix, _ tile: NPUQueryTile, _ rows: Range<Int>, _ vector: FusedNPUBuffers.Vector
  ) throws(DeviceError) {
    let halves = UBMatrix(
      vector.halves, rows: rows.count, columns: width, pitch: outputPitch, elementBytes: 2)
    try core.convert(work, into: halves)
    let heads = attention.shape.heads
    for segment in tile.segments(rows) {
      var part = halves
      part.byte = (segment.row - rows.lowerBound) * outputPitch * 2
      part.rows = segment.rows
      try core.storeRows(
        part, to: attention.arrays.output,
        GlobalWindow(
          offset: (segment.position * heads + segment.head) * width, rows: segment.rows,
          rowPitch: heads * width, columns: width))
    }
  }

  /// Where a row's m + ln ℓ stands among a tile's in global memory.
  static func rowSumOffset(
    _ tile: NPUQueryTile, row: Int, plan: FusedNPUPlan, spec: NPUSpec
  ) -> Int {
    let units = spec.coupling == .coupled ? 1 : spec.vectorUnits.wholeNumber
    let statistic = FusedNPUBuffers.statisticCount(plan, spec)
    for index in 0..<units {
      let rows = tile.rows(ofUnit: index, of: units)
      guard rows.contains(row) else { continue }
      let inUnit = row - rows.lowerBound
      let size = plan.pieceRows
      let first = size >= 8 ? inUnit : inUnit / size * 8 + inUnit % size
      return (tile.number * units + index) * statistic + first
    }
    return 0
  }
}
