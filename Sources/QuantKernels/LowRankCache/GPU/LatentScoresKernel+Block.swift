import DeviceModel

/// The text of a block.
extension LatentScoresKernel {
  func run(_ block: inout Block<Registers>, pass: Int) throws(DeviceError) {
    let place = place(block.index)
    let ahead = tile.stages - 1
    // Scales are wanted before the first codes are unpacked.
    try block.eachWarp(barrier: latents.isPacked) { (warp, _) throws(DeviceError) in
      if way != .direct { try loadQueries(place, pass: 0, &warp) }
      try loader.loadScales(
        unit: place.unit, first: place.first, to: addresses.scaleStart, &warp)
    }
    if ahead > 0 {
      try block.eachWarp(barrier: false) { (warp, registers) throws(DeviceError) in
        for step in 0..<min(ahead, steps) {
          try fetch(step, place, &warp, &registers)
          try settle(step, place, &warp, registers)
        }
        for _ in min(ahead, steps)..<max(ahead, min(ahead, steps)) { warp.commitCopies() }
      }
    }
    for step in 0..<steps {
      try block.eachWarp { (warp, registers) throws(DeviceError) in
        if ahead == 0 {
          try fetch(step, place, &warp, &registers)
          try settle(step, place, &warp, registers)
        }
        warp.waitForCopies(pending: max(0, ahead - 1))
        warp.count(.control, 1)
      }
      let isLast = (step + 1) % loader.chunks == 0
      // Without a pipeline the buffer is filled again next: everyone has to be done with it.
      try block.eachWarp(barrier: ahead == 0 || (isLast && tile.columnWarps > 1)) {
        (warp, registers) throws(DeviceError) in
        if ahead > 0 {
          if step + ahead < steps {
            try fetch(step + ahead, place, &warp, &registers)
          } else {
            warp.commitCopies()
          }
        }
        try multiply(step, &warp, &registers)
        if ahead > 0, step + ahead < steps {
          try settle(step + ahead, place, &warp, registers)
        }
        if isLast { try finish(step / loader.chunks, place, &warp, &registers) }
      }
      if isLast, tile.columnWarps > 1 {
        try block.eachWarp(barrier: false) { (warp, _) throws(DeviceError) in
          try addParts(step / loader.chunks, place, &warp)
        }
      }
    }
  }

  private func lanes(_ value: (Int) -> Int) -> Lanes<UInt32> {
    .each { UInt32(truncatingIfNeeded: value(Int($0))) }
  }

  // MARK: Operands

  /// A head's queries, in the order of its pairs, to shared memory. Anew for every head: the room is
  /// that of one.
  private func loadQueries(
    _ place: Place, pass: Int, _ warp: inout Warp
  ) throws(DeviceError) {
    let units = queries.pitch / 8
    let rows = rowsPerPass
    let base = queries.offset(set: place.head + pass, row: place.query)
    for round in 0..<(rows * units + 32 * tile.warps - 1) / (32 * tile.warps) {
      func unit(_ lane: Int) -> Int { (round * tile.warps + warp.index) * 32 + lane }
      let mask = LaneMask { unit($0) < rows * units }
      let words: Registers4 = try warp.loadGlobal(
        from: queries.buffer, at: lanes { base + unit($0) * 16 }, mask: mask,
        site: Site.queryLoad.rawValue)
      try warp.storeShared(
        words, at: lanes { addresses.queryStart + unit($0) * 16 }, mask: mask,
        site: Site.queryStore.rawValue)
    }
  }

  private func latentSlot(_ step: Int) -> Int {
    let isResident = headsInTurn > 1
    return (isResident ? step % loader.chunks : step % tile.stages) * addresses.latentBytes
  }

  private func fetch(
    _ step: Int, _ place: Place, _ warp: inout Warp, _ registers: inout Registers
  ) throws(DeviceError) {
    let chunk = step % loader.chunks
    registers.words = LatentTile.Words()
    // Later heads find the latents where the first one left them.
    if step < loader.chunks {
      registers.words = try loader.fetch(
        unit: place.unit, chunk: chunk, first: place.first, to: latentSlot(step), &warp)
    }
    let set = way == .direct ? place.unit : place.head + step / loader.chunks
    let base = right.offset(set: set, row: 0) + chunk * tile.depth * 2
    let start = addresses.rightStart + step % tile.stages * addresses.rightBytes
    for round in addresses.rightUnits[warp.index] {
      let mask = LaneMask { Int(round.rows[$0]) < right.paddedRows }
      try warp.copyAsync(
        bytes: 16, from: right.buffer,
        at: lanes { base + Int(round.rows[$0]) * right.pitch * 2 + Int(round.columns[$0]) * 2 },
        toShared: round.to.moved(by: start), mask: mask, site: Site.rightLoad.rawValue)
    }
    warp.commitCopies()
    warp.count(.integer, 2)
  }

  private func settle(
    _ step: Int, _ place: Place, _ warp: inout Warp, _ registers: Registers
  ) throws(DeviceError) {
    try loader.settle(
      registers.words, chunk: step % loader.chunks, first: place.first, to: latentSlot(step),
      scales: addresses.scaleStart, &warp)
  }

  // MARK: Products

  private func multiply(
    _ step: Int, _ warp: inout Warp, _ registers: inout Registers
  ) throws(DeviceError) {
    if step % loader.chunks == 0 {
      for index in registers.sums.indices { registers.sums[index] = FloatAccumulator() }
    }
    let latentSlot = latentSlot(step)
    let rightSlot = addresses.rightStart + step % tile.stages * addresses.rightBytes
    let leftAddresses = addresses.left[warp.index % tile.rowWarps]
    let rightAddresses = addresses.right[warp.index / tile.rowWarps]
    for depth in 0..<tile.depth / product.depth {
      var left: [Registers4] = []
      for block in 0..<rowBlocks {
        left.append(
          try product.load(
            &warp, at: leftAddresses[block][depth].moved(by: latentSlot),
            site: Site.leftOperand.rawValue))
      }
      for column in 0..<columnBlocks {
        let operand = try product.load(
          &warp, at: rightAddresses[column][depth].moved(by: rightSlot),
          site: Site.rightOperand.rawValue)
        for block in 0..<rowBlocks {
          try product.multiply(
            &warp, left[block], operand, into: &registers.sums,
            block: block * columnBlocks + column)
        }
      }
    }
    warp.count(.control, 1)
  }

  /// The position in the tile of a lane's row.
  private func row(_ warp: Int, _ block: Int, _ slot: Int, _ lane: Int) -> Int {
    (warp % tile.rowWarps * rowBlocks + block) * product.rows
      + product.place(lane: lane, element: 2 * slot).row
  }

  /// A block of columns' first.
  private func column(_ warp: Int, _ block: Int) -> Int {
    (warp / tile.rowWarps * columnBlocks + block) * product.columns
  }

  private func finish(
    _ pass: Int, _ place: Place, _ warp: inout Warp, _ registers: inout Registers
  ) throws(DeviceError) {
    if way == .direct {
      return try storeDirect(place, &warp, registers)
    }
    try turn(pass, place, &warp, &registers)
    try dot(pass, place, &warp, registers)
  }

  // MARK: Direct scores

  private func storeDirect(
    _ place: Place, _ warp: inout Warp, _ registers: Registers
  ) throws(DeviceError) {
    for block in 0..<rowBlocks {
      for column in 0..<columnBlocks {
        for element in 0..<8 {
          let first = self.column(warp.index, column)
          let at = (0..<32).map { product.place(lane: $0, element: element) }
          let position = (0..<32).map {
            place.first + row(warp.index, block, WarpProduct.slot(element), $0)
          }
          let mask = LaneMask {
            first + at[$0].column < right.rows && position[$0] < latents.positions
          }
          let value = registers.sums[2 * (block * columnBlocks + column) + element / 4][element % 4]
          try storeScores(
            value, rows: (0..<32).map { place.unit * right.rows + first + at[$0].column },
            positions: position, mask: mask, &warp)
        }
      }
    }
    warp.count(.float, 8 * rowBlocks * columnBlocks)
    warp.count(.conversion, 8 * rowBlocks * columnBlocks)
  }

  /// Scaled scores as halves: `rows` are query heads.
  private func storeScores(
    _ value: Lanes<Float>, rows: [Int], positions: [Int], mask: LaneMask, _ warp: inout Warp
  ) throws(DeviceError) {
    var scaled = Lanes<Float>()
    for lane in 0..<32 { scaled[lane] = value[lane] * scale }
    let halves = Half2.pack(low: scaled, high: scaled).mapWords { $0 & 0xFFFF }
    try warp.storeGlobal(
      halves, bytes: 2, to: scores.buffer,
      at: lanes { scores.offset(head: rows[$0], row: 0) + 2 * positions[$0] }, mask: mask,
      site: Site.score.rawValue)
  }

  // MARK: Rebuilt keys

  /// Adds the bias and turns pairs by their positions, in place.
  private func turn(
    _ pass: Int, _ place: Place, _ warp: inout Warp, _ registers: inout Registers
  ) throws(DeviceError) {
    for column in 0..<columnBlocks {
      for half in 0..<2 {
        // Elements 2e and 2e + 1 of the low or the high eight columns.
        let first = (0..<32).map {
          self.column(warp.index, column) + product.place(lane: $0, element: 4 * half).column
        }
        var bias = Registers2()
        if let buffer = right.bias {
          let base = (place.head + pass) * right.paddedRows
          bias = try warp.loadGlobal(
            from: buffer, at: lanes { 4 * (base + first[$0]) }, site: Site.bias.rawValue)
        }
        let biases = (bias.r0.asFloats, bias.r1.asFloats)
        for block in 0..<rowBlocks {
          for slot in 0..<2 {
            let at = 2 * (block * columnBlocks + column) + half
            var real = registers.sums[at][2 * slot]
            var imaginary = registers.sums[at][2 * slot + 1]
            for lane in 0..<32 {
              let turn = phases.turn(
                pair: first[lane] / 2,
                position: firstPosition + place.first + row(warp.index, block, slot, lane))
              var x = real[lane] + biases.0[lane]
              var y = imaginary[lane] + biases.1[lane]
              if phases.roundsKeys {
                x = HalfPrecision.float(fromHalf: HalfPrecision.half(x))
                y = HalfPrecision.float(fromHalf: HalfPrecision.half(y))
              }
              real[lane] = x * turn.cosine - y * turn.sine
              imaginary[lane] = x * turn.sine + y * turn.cosine
            }
            registers.sums[at][2 * slot] = real
            registers.sums[at][2 * slot + 1] = imaginary
          }
        }
      }
    }
    let pairs = 4 * rowBlocks * columnBlocks
    countTurn(pairs, &warp)
  }

  /// A pair: a product and a fused one for either element; sine and cosine; and their angle: float32
  /// one product, fixed point two wide multiply-adds and a conversion. Rounded keys and turns are
  /// converted there and back.
  private func countTurn(_ pairs: Int, _ warp: inout Warp) {
    warp.count(.float, (right.bias == nil ? 4 : 6) * pairs)
    switch phases {
    case .none: break
    case .float32:
      warp.count(.float, pairs)
      warp.count(.special, 2 * pairs)
      warp.count(.conversion, 4 * pairs)
    case .fixedPoint:
      warp.count(.integer, 2 * pairs)
      warp.count(.conversion, pairs)
      warp.count(.special, 2 * pairs)
    }
  }

  /// Products of turned keys with each query, gathered over lanes and, where warps share a row,
  /// through shared memory.
  private func dot(
    _ pass: Int, _ place: Place, _ warp: inout Warp, _ registers: Registers
  ) throws(DeviceError) {
    for query in 0..<rowsPerPass {
      var sums = Array(repeating: Lanes<Float>(), count: 2 * rowBlocks)
      for column in 0..<columnBlocks {
        for half in 0..<2 {
          let pair: Lanes<UInt32> = try warp.loadShared(
            at: lanes { lane in
              let element =
                self.column(warp.index, column)
                + product.place(lane: lane, element: 4 * half).column
              return addresses.queryStart + 2 * (query * queries.pitch + element)
            }, site: Site.queryRead.rawValue)
          let numbers = Half2.unpack(pair)
          for block in 0..<rowBlocks {
            for slot in 0..<2 {
              let at = 2 * (block * columnBlocks + column) + half
              let x = registers.sums[at][2 * slot]
              let y = registers.sums[at][2 * slot + 1]
              var sum = sums[2 * block + slot]
              for lane in 0..<32 {
                sum[lane] += x[lane] * numbers.low[lane] + y[lane] * numbers.high[lane]
              }
              sums[2 * block + slot] = sum
            }
          }
        }
      }
      warp.count(.float, 8 * rowBlocks * columnBlocks)
      warp.count(.conversion, 4 * columnBlocks)
      for block in 0..<rowBlocks {
        for slot in 0..<2 {
          let sum = LaneMath.reduce(sums[2 * block + slot], over: product.rowDistances, &warp) {
            $0 + $1
          }
          let rows = (0..<32).map { row(warp.index, block, slot, $0) }
          // The first lane of each quad has the row's sum, as all four do.
          let mask = LaneMask { $0 % 4 == 0 }
          guard tile.columnWarps > 1 else {
            try storeScores(
              sum, rows: (0..<32).map { _ in queryHead(place, pass, query) },
              positions: rows.map { place.first + $0 },
              mask: LaneMask { mask[$0] && place.first + rows[$0] < latents.positions }, &warp)
            continue
          }
          try warp.storeShared(
            sum.asWords,
            at: lanes { part(warp.index / tile.rowWarps, query, rows[$0]) }, mask: mask,
            site: Site.partStore.rawValue)
        }
      }
    }
    warp.count(.float, 2 * rowBlocks * rowsPerPass)
    warp.count(.conversion, 2 * rowBlocks * rowsPerPass)
  }

  private func queryHead(_ place: Place, _ pass: Int, _ query: Int) -> Int {
    (place.head + pass) * queries.rows + place.query + query
  }

  private func part(_ columnWarp: Int, _ query: Int, _ row: Int) -> Int {
    addresses.partStart + 4 * ((columnWarp * rowsPerPass + query) * tile.positions + row)
  }

  /// Adds what the warps of a row have, and loads the next head's queries.
  private func addParts(_ pass: Int, _ place: Place, _ warp: inout Warp) throws(DeviceError) {
    let all = rowsPerPass * tile.positions
    for round in 0..<(all + 32 * tile.warps - 1) / (32 * tile.warps) {
      func item(_ lane: Int) -> Int { (round * tile.warps + warp.index) * 32 + lane }
      let there = LaneMask { item($0) < all }
      guard there.rawValue != 0 else { continue }
      var sum = Lanes<Float>()
      for columnWarp in 0..<tile.columnWarps {
        let words: Lanes<UInt32> = try warp.loadShared(
          at: lanes { lane in
            let at = min(item(lane), all - 1)
            return part(columnWarp, at / tile.positions, at % tile.positions)
          }, mask: there, site: Site.partLoad.rawValue)
        sum = sum.plus(words.asFloats)
      }
      try storeScores(
        sum,
        rows: (0..<32).map { lane in
          queryHead(place, pass, min(item(lane), all - 1) / tile.positions)
        },
        positions: (0..<32).map { place.first + item($0) % tile.positions },
        mask: LaneMask {
          there[$0] && place.first + item($0) % tile.positions < latents.positions
        }, &warp)
      warp.count(.float, tile.columnWarps + 1)
      warp.count(.conversion, 1)
    }
    // Read last before the barrier behind the parts, and next after the one before the next products.
    if pass + 1 < headsInTurn { try loadQueries(place, pass: pass + 1, &warp) }
  }
}
