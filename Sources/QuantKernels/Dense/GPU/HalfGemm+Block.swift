import DeviceModel

/// The text of a block.
extension HalfGemm {
  public func run(_ block: inout Block<Registers>, pass: Int) throws(DeviceError) {
    let place = place(block.index)
    if pass > 0 { return try addParts(place, &block) }
    try multiply(place, &block)
    if splits > 1 { try storeParts(place, &block) } else { try writeResult(place, &block) }
  }

  private func multiply(_ place: Place, _ block: inout Block<Registers>) throws(DeviceError) {
    let steps = place.steps.count
    try block.eachWarp { (warp, _) throws(DeviceError) in
      for step in 0..<tile.stages - 1 { try fetch(step, place, &warp) }
      warp.waitForCopies(pending: tile.stages - 2)
    }
    for step in 0..<steps {
      try block.eachWarp { (warp, registers) throws(DeviceError) in
        // Into the stage that the last barrier freed.
        try fetch(step + tile.stages - 1, place, &warp)
        for k16 in 0..<tile.inputs / 16 {
          try multiply(k16, stage: step % tile.stages, place, &warp, &registers)
        }
        warp.waitForCopies(pending: tile.stages - 2)
        warp.count(.control, 1)
      }
    }
  }

  private func fetch(_ step: Int, _ place: Place, _ warp: inout Warp) throws(DeviceError) {
    if step < place.steps.count {
      let stage = step % tile.stages * tile.stageBytes
      try copy(
        addresses.left, place.isLastRow, place.rowTile, from: input, step: step, stage, place,
        &warp, .leftCopy)
      try copy(
        addresses.right, place.isLastColumn, place.columnTile, from: weights, step: step, stage,
        place, &warp, .rightCopy)
      // Two 64-bit pointers step on.
      warp.count(.integer, 4)
    }
    warp.commitCopies()
  }

  private func copy(
    _ operand: HalfGemmAddresses.Operand, _ isLast: Bool, _ tileIndex: Int,
    from buffer: GlobalBuffer, step: Int, _ stage: Int, _ place: Place,
    _ warp: inout Warp, _ site: Site
  ) throws(DeviceError) {
    let base =
      tileIndex * operand.tileStride + (place.steps.lowerBound + step) * operand.stepStride
    let masks = (isLast ? operand.last : operand.full).copyMasks[warp.index]
    for (round, move) in operand.copies[warp.index].enumerated() {
      try warp.copyAsync(
        bytes: 16, from: buffer, at: move.from.moved(by: base), toShared: move.to.moved(by: stage),
        mask: masks[round], site: site.rawValue)
    }
  }

  private func multiply(
    _ k16: Int, stage: Int, _ place: Place, _ warp: inout Warp, _ registers: inout Registers
  ) throws(DeviceError) {
    let base = stage * tile.stageBytes
    let left = place.isLastRow ? addresses.left.last : addresses.left.full
    for (index, rows) in left.matrices[warp.index][k16].enumerated() {
      registers.left[index] = try warp.loadMatrix(
        .x4, at: rows.moved(by: base), site: Site.leftMatrix.rawValue)
    }
    let right = place.isLastColumn ? addresses.right.last : addresses.right.full
    for (index, rows) in right.matrices[warp.index][k16].enumerated() {
      let four = try warp.loadMatrix(.x4, at: rows.moved(by: base), site: Site.rightMatrix.rawValue)
      registers.right[index] = four
    }
    let columns = tile.warpColumnBlocks
    for row in 0..<tile.warpRowBlocks {
      for column in stride(from: 0, to: columns, by: 2) {
        try warp.multiply(
          registers.left[row], registers.right[column / 2], addingTo: &registers.sums,
          at: row * columns + column)
      }
    }
  }

  // MARK: The result

  private func writeResult(_ place: Place, _ block: inout Block<Registers>) throws(DeviceError) {
    try block.eachWarp { (warp, registers) throws(DeviceError) in
      let columns = tile.warpColumnBlocks
      for row in 0..<tile.warpRowBlocks {
        for column in 0..<columns {
          let sum = registers.sums[row * columns + column]
          let base = row * addresses.stageBlockRow + column * addresses.stageBlockColumn
          let stores = addresses.stageStores[warp.index]
          try warp.storeShared(
            Half2.pack(low: sum.c0, high: sum.c1), at: stores[0].moved(by: base),
            site: Site.stage.rawValue)
          try warp.storeShared(
            Half2.pack(low: sum.c2, high: sum.c3), at: stores[1].moved(by: base),
            site: Site.stage.rawValue)
        }
      }
      warp.count(.conversion, 4 * registers.sums.count)
    }
    let base = (place.rowTile * tile.rows * outputs + place.columnTile * tile.columns) * 2
    try block.eachWarp(barrier: false) { (warp, _) throws(DeviceError) in
      for (round, move) in addresses.results[warp.index].enumerated() {
        let mask = mask(
          addresses.resultRows[warp.index][round], addresses.resultColumns[warp.index][round],
          place)
        let row: Registers4 = try warp.loadShared(
          at: move.from, mask: mask, site: Site.stageLoad.rawValue)
        try warp.storeGlobal(
          row, to: product, at: move.to.moved(by: base), mask: mask, site: Site.store.rawValue)
      }
    }
  }

  /// Lanes whose row and column the matrix has.
  private func mask(
    _ rows: Lanes<UInt32>, _ columns: Lanes<UInt32>, _ place: Place
  ) -> LaneMask {
    if !place.isLastRow, !place.isLastColumn { return .all }
    let height = UInt32(place.isLastRow ? addresses.left.last.count : tile.rows)
    let width = UInt32(place.isLastColumn ? addresses.right.last.count : tile.columns)
    return LaneMask { rows[$0] < height && columns[$0] < width }
  }

  // MARK: Splits

  /// Bytes of an element of this tile's part in the workspace, `[splits, M, N]` float32.
  private func partOffset(
    _ rows: Lanes<UInt32>, _ columns: Lanes<UInt32>, split: Int, _ place: Place
  ) -> Lanes<UInt32> {
    let start =
      (split * self.rows * outputs + place.rowTile * tile.rows * outputs
        + place.columnTile * tile.columns) * 4
    let pitch = UInt32(truncatingIfNeeded: outputs * 4)
    var offsets = rows.mapWords { $0 &* pitch }
    for lane in 0..<32 { offsets[lane] &+= 4 &* columns[lane] }
    return offsets.moved(by: start)
  }

  private func storeParts(_ place: Place, _ block: inout Block<Registers>) throws(DeviceError) {
    try block.eachWarp(barrier: false) { (warp, registers) throws(DeviceError) in
      let columnBlocks = tile.warpColumnBlocks
      for row in 0..<tile.warpRowBlocks {
        for column in 0..<columnBlocks {
          let sum = registers.sums[row * columnBlocks + column]
          for half in 0..<2 {
            let rows = addresses.partRows[warp.index][half].moved(by: 16 * row)
            let columns = addresses.partColumns[warp.index][half].moved(by: 8 * column)
            let pair = Registers2(
              (half == 0 ? sum.c0 : sum.c2).asWords, (half == 0 ? sum.c1 : sum.c3).asWords)
            try warp.storeGlobal(
              pair, to: workspace,
              at: partOffset(rows, columns, split: place.split, place),
              mask: mask(rows, columns, place), site: Site.partStore.rawValue)
          }
        }
      }
    }
  }

  /// The splits of a tile share its elements: every `splits`-th round is this block's.
  private func addParts(_ place: Place, _ block: inout Block<Registers>) throws(DeviceError) {
    try block.eachWarp(barrier: false) { (warp, _) throws(DeviceError) in
      for round in addresses.sumRows[warp.index].indices where round % splits == place.split {
        let rows = addresses.sumRows[warp.index][round]
        let columns = addresses.sumColumns[warp.index][round]
        let mask = mask(rows, columns, place)
        var sum = [Lanes<Float>](repeating: Lanes(), count: 4)
        for split in 0..<splits {
          let part: Registers4 = try warp.loadGlobal(
            from: workspace, at: partOffset(rows, columns, split: split, place), mask: mask,
            site: Site.partLoad.rawValue)
          for element in 0..<4 {
            let value = part[element].asFloats
            sum[element] = split == 0 ? value : sum[element].plus(value)
          }
        }
        warp.count(.float, 4 * (splits - 1))
        warp.count(.conversion, 4)
        let halves = Registers2(
          Half2.pack(low: sum[0], high: sum[1]), Half2.pack(low: sum[2], high: sum[3]))
        // float32 to binary16: half the bytes of the first split's part.
        let offsets = partOffset(rows, columns, split: 0, place).mapWords { $0 &>> 1 }
        try warp.storeGlobal(
          halves, to: product, at: offsets, mask: mask, site: Site.store.rawValue)
      }
    }
  }
}
