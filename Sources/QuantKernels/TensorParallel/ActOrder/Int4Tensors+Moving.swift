/// Permutations and shards of packed tensors, in every public format: nibbles, zero points and
/// scales move from place to place and are not looked at, so that stored values keep their meaning
/// (zero points minus one of old GPTQ included).
extension Int4Tensors {
  /// The same layer with its outputs in another order: output i of the result is output
  /// `order.order[i]` of this one.
  ///
  /// - Throws: ``QuantError`` `.invalidArgument` for an order of another number of outputs.
  /// - Complexity: O(rows · columns).
  public func permutingOutputs(_ order: Permutation) throws(QuantError) -> Int4Tensors {
    guard order.count == rows else {
      throw QuantError(
        .invalidArgument, "\(format.rawValue) tensors",
        "an order of \(order.count) for \(rows) outputs", remedy: "pass one entry an output")
    }
    return try moving(
      outputs: order.order.map { Int($0) }, inputs: nil, groups: Array(0..<columns / groupSize),
      indices: groupIndices)
  }

  /// The layer with its inputs sorted by group, and the order in which its products take them; this
  /// one and nil where they are sorted already.
  ///
  /// - Throws: ``QuantError`` as ``GroupIndices``.
  /// - Complexity: O(rows · columns).
  public func sortingInputs() throws(QuantError) -> (tensors: Int4Tensors, order: Permutation?) {
    guard let groupIndices else { return (self, nil) }
    let groups = columns / groupSize
    let checked = try GroupIndices(groupIndices, inputs: columns, groups: groups)
    if checked.isOrdered { return (self, nil) }
    let sorted = try moving(
      outputs: Array(0..<rows), inputs: checked.order.order.map { Int($0) },
      groups: Array(0..<groups), indices: nil)
    return (sorted, checked.order)
  }

  /// The outputs of `rank` of `ranks`: column-parallel.
  ///
  /// - Throws: ``QuantError`` `.invalidArgument` for a rank that is not there, `.unsupported` for
  ///   ranks that do not divide the outputs into whole blocks of the format (8; Marlin 64, QUICK
  ///   128).
  public func outputShard(rank: Int, ranks: Int) throws(QuantError) -> Int4Tensors {
    let cut = try TensorParallelCut(rows, by: ranks, "outputs of \(format.rawValue) tensors")
    let block =
      switch format {
      case .awq, .gptq, .gptqV2: 8
      case .marlin: 64
      case .quick: 128
      }
    try cut.requireMultiple(of: block, "the format packs \(block) together")
    return try moving(
      outputs: Array(try cut.range(of: rank)), inputs: nil,
      groups: Array(0..<columns / groupSize), indices: groupIndices)
  }

  /// The inputs of `rank` of `ranks`, with their groups: row-parallel.
  ///
  /// - Throws: ``QuantError`` as ``outputShard(rank:ranks:)``, and `.unsupported` for a group that
  ///   would lie on two ranks or inputs that are not sorted by group.
  public func inputShard(rank: Int, ranks: Int) throws(QuantError) -> Int4Tensors {
    let cut = try TensorParallelCut(columns, by: ranks, "inputs of \(format.rawValue) tensors")
    try cut.requireMultiple(of: groupSize, "a group would lie on two ranks")
    if try sortingInputs().order != nil {
      throw QuantError(
        .unsupported, "\(format.rawValue) tensors", "inputs are not sorted by group",
        remedy: "sort them first (sortingInputs)")
    }
    let range = try cut.range(of: rank)
    return try moving(
      outputs: Array(0..<rows), inputs: Array(range),
      groups: Array(range.lowerBound / groupSize..<range.upperBound / groupSize), indices: nil)
  }

  /// Elements of the given outputs, inputs (nil: all) and groups, in that order.
  private func moving(
    outputs: [Int], inputs: [Int]?, groups: [Int], indices: [Int32]?
  ) throws(QuantError) -> Int4Tensors {
    let inputs = inputs ?? Array(0..<columns)
    let old = try Layouts(format, rows: rows, columns: columns, groups: columns / groupSize)
    let new = try Layouts(
      format, rows: outputs.count, columns: inputs.count, groups: groups.count)
    let moved = old.weights.moveNibbles(weights, to: new.weights, rows: outputs, columns: inputs)
    let movedScales = old.scales.moveHalves(scales, to: new.scales, rows: outputs, columns: groups)
    var movedZeros: [UInt32] = []
    if let from = old.zeroPoints, let to = new.zeroPoints {
      movedZeros = from.moveNibbles(zeroPoints, to: to, rows: outputs, columns: groups)
    }
    func shape(_ old: [Int], _ from: (Int, Int), _ to: (Int, Int)) -> [Int] {
      old.isEmpty ? [] : [old[0] * to.0 / from.0, old[1] * to.1 / from.1]
    }
    let groupCount = columns / groupSize
    return try Int4Tensors(
      format: format, weights: moved,
      weightShape: shape(weightShape, (columns, rows), (inputs.count, outputs.count)),
      scales: movedScales,
      scaleShape: shape(scaleShape, (groupCount, rows), (groups.count, outputs.count)),
      zeroPoints: movedZeros,
      zeroPointShape: shape(zeroPointShape, (groupCount, rows), (groups.count, outputs.count)),
      groupIndices: indices)
  }
}

extension InterleavedLayout {
  /// 4-bit elements of this order's words in the places of another order: element (n, k) there is
  /// element (rows[n], columns[k]) here. Padding is 0.
  fileprivate func moveNibbles(
    _ words: [UInt32], to other: InterleavedLayout, rows: [Int], columns: [Int]
  ) -> [UInt32] {
    var result = [UInt32](repeating: 0, count: (other.byteCount + 3) / 4)
    forEachMove(to: other, rows: rows, columns: columns) { from, to in
      let code = words[from >> 5] >> UInt32(from & 31) & 15
      result[to >> 5] |= code << UInt32(to & 31)
    }
    return result
  }

  /// The same of 16-bit elements.
  fileprivate func moveHalves(
    _ halves: [UInt16], to other: InterleavedLayout, rows: [Int], columns: [Int]
  ) -> [UInt16] {
    var result = [UInt16](repeating: 0, count: other.byteCount / 2)
    forEachMove(to: other, rows: rows, columns: columns) { from, to in
      result[to >> 4] = halves[from >> 4]
    }
    return result
  }

  private func forEachMove(
    to other: InterleavedLayout, rows: [Int], columns: [Int], _ move: (Int, Int) -> Void
  ) {
    let (fromRows, fromColumns) = (rowOffsets(), columnOffsets())
    let (toRows, toColumns) = (other.rowOffsets(), other.columnOffsets())
    for (n, row) in rows.enumerated() {
      for (k, column) in columns.enumerated() {
        let from = fromRows[row] + fromColumns[column]
        let to = toRows[n] + toColumns[k]
        for copy in other.copyOffsets { move(from, to + copy) }
      }
    }
  }
}
