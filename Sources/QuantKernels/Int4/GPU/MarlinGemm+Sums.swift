import DeviceModel

/// The ends of a slice: sums over warps and over blocks, and the result.
extension MarlinGemm {
  /// Sums the warps that share columns, pairwise through shared memory, into the first layer's.
  func sumInBlock(_ block: inout Block<Registers>) throws(DeviceError) {
    let warpColumns = tile.columns / 64
    let layers = Self.warps / warpColumns
    for rows in 0..<tile16Rows {
      var distance = layers / 2
      while distance > 0 {
        try block.eachWarp(warpColumns * distance..<2 * warpColumns * distance) {
          (warp, registers) throws(DeviceError) in
          let layer = warp.index / warpColumns
          for index in 0..<8 {
            let write = slot(layer - distance, index, warp.index)
            if distance < layers / 2 {
              let own: Registers4 = try warp.loadShared(
                at: slot(layer, index, warp.index), site: Site.sumLoad.rawValue)
              let other: Registers4 = try warp.loadShared(at: write, site: Site.sumLoad.rawValue)
              for element in 0..<4 {
                let part = own[element].asFloats.plus(other[element].asFloats)
                registers.sums[8 * rows + index][element] =
                  registers.sums[8 * rows + index][element].plus(part)
              }
              warp.count(.float, 8)
            }
            try warp.storeShared(
              Self.words(registers.sums[8 * rows + index]), at: write,
              site: Site.sumStore.rawValue)
          }
        }
        distance /= 2
      }
      try block.eachWarp(0..<warpColumns) { (warp, registers) throws(DeviceError) in
        for index in 0..<8 {
          let part: Registers4 = try warp.loadShared(
            at: slot(0, index, warp.index), site: Site.sumLoad.rawValue)
          for element in 0..<4 {
            registers.sums[8 * rows + index][element] =
              registers.sums[8 * rows + index][element].plus(part[element].asFloats)
          }
        }
        warp.count(.float, 32)
      }
    }
  }

  private func slot(_ layer: Int, _ index: Int, _ warp: Int) -> Lanes<UInt32> {
    addresses.sumPlaces[warp].moved(
      by: layer * addresses.sumSlotBytes + index * addresses.sumStepBytes)
  }

  /// Adds the block's part to what earlier turns left in C, and unless it is the last, leaves the
  /// sum there, in binary16 and in the order of the accumulators.
  func sumInMemory(_ place: Place, _ block: inout Block<Registers>) throws(DeviceError) {
    let lock = Lanes<UInt32>(repeating: UInt32(truncatingIfNeeded: place.slice.column * 4))
    let thread = LaneMask(rawValue: 1)
    try block.eachWarp(0..<1) { (warp, _) throws(DeviceError) in
      let _: Lanes<UInt32> = try warp.loadGlobal(
        from: locks, at: lock, mask: thread, site: Site.lockLoad.rawValue)
    }
    let base = place.output
    let isFirst = place.slice.turn == 0
    try block.eachWarp(0..<tile.columns / 64) { (warp, registers) throws(DeviceError) in
      let copies = addresses.reduceCopies[warp.index]
      let masks = place.panel.reduceMasks
      if !isFirst {
        for (round, copy) in copies.enumerated() {
          try warp.copyAsync(
            bytes: 16, from: product, at: copy.from.moved(by: base), toShared: copy.to,
            mask: masks[round], site: Site.reduceCopy.rawValue)
        }
        warp.commitCopies()
        warp.waitForCopies()
      }
      for (round, copy) in copies.enumerated() {
        let sum = 8 * (round / 4)
        let element = round % 4
        if !isFirst {
          let before: Registers4 = try warp.loadShared(
            at: copy.to, mask: masks[round], site: Site.reduceLoad.rawValue)
          for pair in 0..<4 {
            let (low, high) = Half2.unpack(before[pair])
            for (index, part) in [(sum + 2 * pair, low), (sum + 2 * pair + 1, high)] {
              registers.sums[index][element] = registers.sums[index][element].plus(part)
            }
          }
          warp.count(.conversion, 8)
          warp.count(.float, 8)
        }
        if !place.slice.isLast {
          var halves = Registers4()
          for pair in 0..<4 {
            halves[pair] = Half2.pack(
              low: registers.sums[sum + 2 * pair][element],
              high: registers.sums[sum + 2 * pair + 1][element])
          }
          warp.count(.conversion, 8)
          try warp.storeGlobal(
            halves, to: product, at: copy.from.moved(by: base), mask: masks[round],
            site: Site.reduceStore.rawValue)
        }
      }
    }
    try block.eachWarp(0..<1, barrier: false) { (warp, _) throws(DeviceError) in
      // The last turn resets the lock for the next launch.
      let turn = place.slice.isLast ? 0 : place.slice.turn + 1
      try warp.storeGlobal(
        Lanes(repeating: UInt32(turn)), to: locks, at: lock, mask: thread,
        site: Site.lockStore.rawValue)
    }
  }

  /// Writes the sums as rows, through shared memory so that a warp writes whole lines.
  func writeResult(_ place: Place, _ block: inout Block<Registers>) throws(DeviceError) {
    try block.eachWarp(0..<tile.columns / 64) { (warp, registers) throws(DeviceError) in
      for rows in 0..<tile16Rows {
        let down = rows * addresses.resultBlockStride
        for index in 0..<8 {
          let sum = registers.sums[8 * rows + index]
          var halves = Registers2(
            Half2.pack(low: sum.c0, high: sum.c1), Half2.pack(low: sum.c2, high: sum.c3))
          if !isGrouped {
            let scales = index < 4 ? registers.scales.0 : registers.scales.1
            halves.r0 = Half2.multiply(halves.r0, scales[index & 3])
            halves.r1 = Half2.multiply(halves.r1, scales[index & 3])
          }
          let stores = addresses.resultStores[warp.index]
          try warp.storeShared(
            halves.r0, at: stores[2 * index].moved(by: down), site: Site.resultStage.rawValue)
          try warp.storeShared(
            halves.r1, at: stores[2 * index + 1].moved(by: down), site: Site.resultStage.rawValue)
        }
      }
      warp.count(.conversion, 32 * tile16Rows)
      if !isGrouped { warp.count(.half2, 16 * tile16Rows) }
    }
    let base = place.output
    try block.eachWarp { (warp, _) throws(DeviceError) in
      for (round, copy) in addresses.resultCopies[warp.index].enumerated() {
        let mask = place.panel.resultMasks[warp.index][round]
        let row: Registers4 = try warp.loadShared(
          at: copy.from, mask: mask, site: Site.resultLoad.rawValue)
        try warp.storeGlobal(
          row, to: product, at: copy.to.moved(by: base), mask: mask, site: Site.resultStore.rawValue
        )
      }
    }
  }

  /// The same bits: four floats a lane and four words a lane lie alike.
  private static func words(_ sum: FloatAccumulator) -> Registers4 {
    unsafeBitCast(sum, to: Registers4.self)
  }
}
