import DeviceModel

/// The text of a block.
extension FlashAttentionKernel {
  public func run(_ block: inout Block<Registers>, pass: Int) throws(DeviceError) {
    let place = place(block.index)
    let tiles = place.tiles
    let lowest = tiles.full - place.fullRun
    try block.eachWarp { (warp, _) throws(DeviceError) in
      try loadQueries(place, &warp)
      if tiles.visible > 0 { try loadKeys(tiles.visible - 1, place, &warp) }
      warp.waitForCopies()
    }
    for index in stride(from: tiles.visible - 1, through: lowest, by: -1) {
      let isMasked = index >= tiles.full
      try block.eachWarp { (warp, registers) throws(DeviceError) in
        // Volta: into registers now, into shared memory behind the scores.
        let values = try fetch(
          addresses.values[warp.index], from: buffers.values, tile: index, place, &warp,
          .valueLoad, .valueStore)
        try multiplyScores(&warp, &registers)
        softmax(index, place, isMasked: isMasked, &warp, &registers)
        try settle(values, addresses.values[warp.index], &warp, .valueStore)
        warp.waitForCopies()
        warp.count(.control, 1)
      }
      try block.eachWarp { (warp, registers) throws(DeviceError) in
        let keys =
          index > lowest
          ? try fetch(
            addresses.keys[warp.index], from: buffers.keys, tile: index - 1, place, &warp,
            .keyLoad, .keyStore) : []
        rescale(&warp, &registers)
        try multiplyValues(index, place, isMasked: isMasked, &warp, &registers)
        try settle(keys, addresses.keys[warp.index], &warp, .keyStore)
        warp.waitForCopies()
        warp.count(.control, 1)
      }
    }
    try block.eachWarp(barrier: false) { (warp, registers) throws(DeviceError) in
      try writeOutput(place, &warp, &registers)
    }
  }

  // MARK: Operands into shared memory

  private func loadQueries(_ place: Place, _ warp: inout Warp) throws(DeviceError) {
    let staging = addresses.queries[warp.index]
    let base = place.firstRow * addresses.queryRow + place.head * shape.pitch * 2
    for round in staging.rows.indices {
      let mask = LaneMask {
        Int(staging.rows[round][$0]) < place.tiles.rows
          && Int(staging.columns[round][$0]) < shape.pitch
      }
      let words: Registers4 = try warp.loadGlobal(
        from: buffers.queries, at: staging.from[round].moved(by: base), mask: mask,
        site: Site.queryLoad.rawValue)
      try warp.storeShared(
        buffers.query(words), at: staging.to[round], site: Site.queryStore.rawValue)
    }
    warp.count(.integer, 4)
  }

  private func loadKeys(_ tile: Int, _ place: Place, _ warp: inout Warp) throws(DeviceError) {
    let words = try fetch(
      addresses.keys[warp.index], from: buffers.keys, tile: tile, place, &warp, .keyLoad,
      .keyStore)
    try settle(words, addresses.keys[warp.index], &warp, .keyStore)
  }

  /// A tile of keys or values on its way: Volta's registers, which ``settle(_:_:_:_:)`` stores, or
  /// asynchronous copies, which need no more than waiting. Rows and columns that there are not
  /// become zeros.
  private func fetch(
    _ staging: FlashAttentionAddresses.Staging, from buffer: GlobalBuffer, tile index: Int,
    _ place: Place, _ warp: inout Warp, _ load: Site, _ store: Site
  ) throws(DeviceError) -> [Registers4] {
    let rows = min(tile.keys, shape.keyLength - index * tile.keys)
    let base =
      index * tile.keys * addresses.keyRow + place.head / shape.group * shape.pitch * 2
    var words: [Registers4] = []
    for round in staging.rows.indices {
      let mask =
        rows == tile.keys && shape.pitch == shape.tileWidth && isWhole
        ? LaneMask.all
        : LaneMask {
          Int(staging.rows[round][$0]) < rows && Int(staging.columns[round][$0]) < shape.pitch
        }
      let from = staging.from[round].moved(by: base)
      guard product.family == .ampere else {
        words.append(
          try warp.loadGlobal(from: buffer, at: from, mask: mask, site: load.rawValue))
        continue
      }
      try warp.copyAsync(
        bytes: 16, from: buffer, at: from, toShared: staging.to[round], mask: mask,
        site: load.rawValue)
      let rest = storeMask(staging, round).subtracting(mask)
      try warp.storeShared(
        Registers4(), at: staging.to[round], mask: rest, site: store.rawValue)
    }
    warp.commitCopies()
    // Two 64-bit pointers step on.
    warp.count(.integer, 4)
    return words
  }

  private func settle(
    _ words: [Registers4], _ staging: FlashAttentionAddresses.Staging, _ warp: inout Warp,
    _ site: Site
  ) throws(DeviceError) {
    for (round, word) in words.enumerated() {
      try warp.storeShared(
        word, at: staging.to[round], mask: storeMask(staging, round), site: site.rawValue)
    }
  }

  /// Whether a tile of keys is a whole number of rounds.
  private var isWhole: Bool { tile.keys * shape.tileWidth / 8 % (32 * tile.warps) == 0 }

  private func storeMask(_ staging: FlashAttentionAddresses.Staging, _ round: Int) -> LaneMask {
    isWhole ? .all : LaneMask { Int(staging.rows[round][$0]) < tile.keys }
  }

  // MARK: Scores

  private func multiplyScores(
    _ warp: inout Warp, _ registers: inout Registers
  ) throws(DeviceError) {
    let queries = addresses.queryOperands[warp.index]
    if isHalf {
      for index in registers.halfScores.indices { registers.halfScores[index] = Registers4() }
    } else {
      for index in registers.scores.indices { registers.scores[index] = FloatAccumulator() }
    }
    for step in queries[0].indices {
      var left: [Registers4] = []
      for block in 0..<rowBlocks {
        left.append(
          try product.load(&warp, at: queries[block][step], site: Site.queryOperand.rawValue))
      }
      for keyBlock in 0..<keyBlocks {
        let right = try product.load(
          &warp, at: addresses.keyOperands[keyBlock][step], site: Site.keyOperand.rawValue)
        for block in 0..<rowBlocks {
          let index = block * keyBlocks + keyBlock
          guard isHalf else {
            try product.multiply(
              &warp, left[block], right, into: &registers.scores, block: index)
            continue
          }
          warp.multiplyVolta(
            Registers2(left[block].r0, left[block].r1), Registers2(right.r0, right.r1),
            addingToHalves: &registers.halfScores[index])
          warp.multiplyVolta(
            Registers2(left[block].r2, left[block].r3), Registers2(right.r2, right.r3),
            addingToHalves: &registers.halfScores[index])
        }
      }
    }
    guard isHalf else { return }
    for (index, halves) in registers.halfScores.enumerated() {
      for word in 0..<4 {
        let pair = Half2.unpack(halves[word])
        registers.scores[2 * index + word / 2][word % 2 * 2] = pair.low
        registers.scores[2 * index + word / 2][word % 2 * 2 + 1] = pair.high
      }
    }
    warp.count(.conversion, 8 * registers.halfScores.count)
  }

  /// The row in the block's tile that a lane's slot of a row block is.
  private func row(_ warp: Int, _ block: Int, _ slot: Int, _ lane: Int) -> Int {
    let at =
      isHalf
      ? product.halfPlace(lane: lane, element: 0) : product.place(lane: lane, element: 2 * slot)
    return 32 * warp + block * product.rows + at.row
  }

  /// How many keys of a tile each lane's row sees; at least 0.
  private func limits(
    _ index: Int, _ place: Place, _ warp: Int, _ block: Int, _ slot: Int
  ) -> [Int] {
    (0..<32).map { lane in
      max(
        0,
        shape.visibleKeys(row: place.firstRow + row(warp, block, slot, lane))
          - index * tile.keys)
    }
  }

  /// Scores to P in place, new maxima and sums, and the factors by which the output shrinks.
  private func softmax(
    _ index: Int, _ place: Place, isMasked: Bool, _ warp: inout Warp,
    _ registers: inout Registers
  ) {
    // 2^(s·c − m·c) with c = scale · log₂e: one fused multiply-add a score.
    let factor = buffers.scale * 1.442_695_04
    let elements = (0..<slots).map { slot in
      (0..<8).filter { isHalf || WarpProduct.slot($0) == slot }
    }
    let columns = (0..<8).map { element in
      (0..<32).map { lane in
        isHalf
          ? product.halfPlace(lane: lane, element: element).column
          : product.place(lane: lane, element: element).column
      }
    }
    for block in 0..<rowBlocks {
      for slot in 0..<slots {
        let limits = isMasked ? limits(index, place, warp.index, block, slot) : []
        let state = block * slots + slot
        var top = registers.maxima[state]
        for keyBlock in 0..<keyBlocks {
          for element in elements[slot] {
            let at = 2 * (block * keyBlocks + keyBlock) + element / 4
            var values = registers.scores[at][element]
            if isMasked {
              for lane in 0..<32
              where keyBlock * product.columns + columns[element][lane] >= limits[lane] {
                values[lane] = -.infinity
              }
              registers.scores[at][element] = values
            }
            top = LaneMath.zip(top, values, LaneMath.larger)
          }
        }
        top = LaneMath.reduce(
          top, over: isHalf ? product.halfRowDistances : product.rowDistances, &warp,
          LaneMath.larger)
        // With no key seen yet the maximum is −∞, and 0 in its place keeps −∞ − (−∞) away.
        let base = LaneMath.zip(top, top) { value, _ in
          value == -.infinity ? 0 : value * factor
        }
        let shrink = LaneMath.zip(registers.maxima[state], base) { old, base in
          LaneMath.exp2(Self.fused(old, factor, base))
        }
        registers.maxima[state] = top
        var sum = LaneMath.zip(registers.sums[state], shrink) { $0 * $1 }
        for keyBlock in 0..<keyBlocks {
          for element in elements[slot] {
            let at = 2 * (block * keyBlocks + keyBlock) + element / 4
            let p = LaneMath.zip(registers.scores[at][element], base) { score, base in
              LaneMath.exp2(Self.fused(score, factor, base))
            }
            sum = sum.plus(p)
            registers.scores[at][element] = p
          }
        }
        registers.sums[state] = sum
        registers.factors[state] = shrink
      }
    }
    let scores = 8 * rowBlocks * keyBlocks
    // Maximum, multiply-add, sum; compare and select where masked. A row: two products, a fused one.
    warp.count(.float, 3 * scores + 4 * rowBlocks * slots)
    warp.count(.special, scores + rowBlocks * slots)
    warp.count(.integer, (isMasked ? 2 * scores : 0) + rowBlocks * slots)
    // To pairs: one instruction a pair from compute capability 8.0 on, before it two and a `prmt`.
    warp.count(.conversion, product.family == .ampere ? scores / 2 : scores)
    warp.count(.integer, product.family == .ampere ? 0 : scores / 2)
  }

  /// a·b − c, rounded once but for double rounding: a product of two floats is exact in a double.
  @inline(__always)
  private static func fused(_ a: Float, _ b: Float, _ c: Float) -> Float {
    Float(Double(a) * Double(b) - Double(c))
  }

  // MARK: Output

  /// Values by row slot of the float32 accumulators, from those by row of the scores.
  private func bySlot(_ values: [Lanes<Float>], _ block: Int, _ warp: inout Warp)
    -> [Lanes<Float>]
  {
    guard isHalf else { return Array(values[2 * block..<2 * block + 2]) }
    // Row t₀ + 2v + 4t₂ is lane t₀ + 2v + 4t₂ of the quad-pair's: bit 1 of the lane is the slot.
    return (0..<2).map { slot in
      warp.shuffle(
        values[block].asWords,
        from: Lanes<UInt32>.each { $0 & ~2 | UInt32(slot) << 1 }
      ).asFloats
    }
  }

  private func scaleOutput(
    _ block: Int, by factors: [Lanes<Float>], _ registers: inout Registers
  ) {
    for index in 0..<2 * outputBlocks {
      for element in 0..<4 {
        let at = 2 * block * outputBlocks + index
        registers.output[at][element] = LaneMath.zip(
          registers.output[at][element], factors[WarpProduct.slot(element)]
        ) { $0 * $1 }
      }
    }
  }

  private func rescale(_ warp: inout Warp, _ registers: inout Registers) {
    for block in 0..<rowBlocks {
      scaleOutput(block, by: bySlot(registers.factors, block, &warp), &registers)
    }
    warp.count(.float, 8 * rowBlocks * outputBlocks)
  }

  private func multiplyValues(
    _ index: Int, _ place: Place, isMasked: Bool, _ warp: inout Warp,
    _ registers: inout Registers
  ) throws(DeviceError) {
    let steps = product.columns / product.valueKeys
    for keyBlock in 0..<keyBlocks {
      var left: [[Lanes<UInt32>]] = []
      for block in 0..<rowBlocks {
        let at = 2 * (block * keyBlocks + keyBlock)
        let words = (0..<4).map { word in
          let sums = registers.scores[at + word / 2]
          return Half2.pack(low: sums[word % 2 * 2], high: sums[word % 2 * 2 + 1])
        }
        left.append(product.family == .ampere ? words : exchange(words, &warp))
      }
      for step in 0..<steps {
        for (load, address) in addresses.valueOperands[keyBlock * steps + step].enumerated() {
          var values = try product.loadValues(
            &warp, at: address, site: Site.valueOperand.rawValue)
          let block0 = load * product.blocksPerValueLoad
          if isMasked {
            // An exponent of all ones: an and and a compare a half, and a vote.
            warp.count(.integer, 16)
            warp.count(.control, 1)
            if LaneMath.hasNonFinite(values) {
              let split = LaneMath.split(values)
              values = split.finite
              try mark(
                split.marks, index, place, keyBlock: keyBlock, step: step, block0: block0, &warp,
                &registers)
            }
          }
          for block in 0..<rowBlocks {
            try product.multiplyValues(
              &warp, left[block], step: step, values, into: &registers.output,
              block: block * outputBlocks + block0)
          }
        }
      }
    }
  }

  /// Makes the output NaN in the rows that see a marked value, in its column: the product of ones for
  /// visible keys and the marks counts the marks that a row sees.
  private func mark(
    _ marks: Registers4, _ index: Int, _ place: Place, keyBlock: Int, step: Int, block0: Int,
    _ warp: inout Warp, _ registers: inout Registers
  ) throws(DeviceError) {
    let first = index * tile.keys + keyBlock * product.columns
    for block in 0..<rowBlocks {
      let ones = (0..<product.leftWords).map { word in
        Lanes<UInt32>.each { lane in
          let at = product.leftPlace(lane: Int(lane), word: word)
          let visible =
            shape.visibleKeys(
              row: place.firstRow + 32 * warp.index + block * product.rows + at.row)
            - first - at.column
          return (visible > 0 ? 0x3C00 : 0) | (visible > 1 ? 0x3C00_0000 : 0)
        }
      }
      var counts = Array(
        repeating: FloatAccumulator(), count: 2 * product.blocksPerValueLoad)
      try product.multiplyValues(&warp, ones, step: step, marks, into: &counts, block: 0)
      for (offset, count) in counts.enumerated() {
        for element in 0..<4 {
          let at = 2 * (block * outputBlocks + block0) + offset
          registers.output[at][element] = LaneMath.zip(
            registers.output[at][element], count[element]
          ) { $1 > 0 ? .nan : $0 }
        }
      }
      warp.count(.integer, 4 * product.leftWords + 16 * counts.count)
    }
  }

  private func writeOutput(
    _ place: Place, _ warp: inout Warp, _ registers: inout Registers
  ) throws(DeviceError) {
    for block in 0..<rowBlocks {
      let inverse = (0..<slots).map { slot in
        let sum = LaneMath.reduce(
          registers.sums[block * slots + slot],
          over: isHalf ? product.halfRowDistances : product.rowDistances, &warp
        ) { $0 + $1 }
        // A row that sees nothing has no sum, and an output of zeros.
        return LaneMath.zip(sum, sum) { sum, _ in sum == 0 ? 1 : 1 / sum }
      }
      let byBlock = Array(repeating: Lanes<Float>(), count: block * slots) + inverse
      scaleOutput(block, by: bySlot(byBlock, block, &warp), &registers)
      try stage(block, &warp, registers)
    }
    warp.count(.special, rowBlocks * slots)
    warp.count(.float, 8 * rowBlocks * outputBlocks)
    warp.count(.conversion, 8 * rowBlocks * outputBlocks)
    let staging = addresses.queries[warp.index]
    let base = place.firstRow * addresses.queryRow + place.head * shape.pitch * 2
    for round in staging.rows.indices {
      let mask = LaneMask {
        Int(staging.rows[round][$0]) < place.tiles.rows
          && Int(staging.columns[round][$0]) < shape.pitch
      }
      let words: Registers4 = try warp.loadShared(
        at: staging.to[round], mask: mask, site: Site.stageLoad.rawValue)
      try warp.storeGlobal(
        words, to: buffers.output, at: staging.from[round].moved(by: base), mask: mask,
        site: Site.output.rawValue)
    }
  }

  /// The rows of a warp into its own part of the queries' place.
  private func stage(
    _ block: Int, _ warp: inout Warp, _ registers: Registers
  ) throws(DeviceError) {
    func words(_ index: Int) -> [Lanes<UInt32>] {
      (0..<4).map { word in
        let sums = registers.output[2 * (block * outputBlocks + index) + word / 2]
        return Half2.pack(low: sums[word % 2 * 2], high: sums[word % 2 * 2 + 1])
      }
    }
    let stages = addresses.stages[warp.index][block]
    if product.family == .ampere {
      for index in 0..<outputBlocks {
        for (pair, word) in words(index).enumerated() {
          try warp.storeShared(word, at: stages[index][pair], site: Site.stage.rawValue)
        }
      }
      return
    }
    for load in stages.indices {
      let first = WarpProduct.rowExchange(words(2 * load), &warp)
      let second = WarpProduct.rowExchange(words(2 * load + 1), &warp)
      for half in 0..<2 {
        try warp.storeShared(
          Registers4(first[2 * half], first[2 * half + 1], second[2 * half], second[2 * half + 1]),
          at: stages[load][half], site: Site.stage.rawValue)
      }
    }
  }
}
