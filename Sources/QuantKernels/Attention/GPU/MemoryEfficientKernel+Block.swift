import DeviceModel

/// The text of a block.
extension MemoryEfficientKernel {
  public func run(_ block: inout Block<Registers>, pass: Int) throws(DeviceError) {
    let place = place(block.index)
    for index in place.order {
      let isMasked = index >= place.full
      try multiplyScores(index, place, &block)
      try softmax(index, place, isMasked: isMasked, &block)
      try multiplyValues(index, place, isMasked: isMasked, &block)
    }
    try writeOutput(place, &block)
  }

  // MARK: Slices into shared memory

  private func load(
    _ staging: MemoryEfficientAddresses.Staging, from buffer: GlobalBuffer, base: Int, rows: Int,
    firstColumn: Int, _ warp: inout Warp, _ site: Site
  ) throws(DeviceError) -> [Registers4] {
    var words: [Registers4] = []
    for round in staging.rows.indices {
      let mask = LaneMask {
        Int(staging.rows[round][$0]) < rows
          && firstColumn + Int(staging.columns[round][$0]) < shape.pitch
      }
      words.append(
        try warp.loadGlobal(
          from: buffer, at: staging.from[round].moved(by: base), mask: mask,
          site: site.rawValue))
    }
    warp.count(.integer, 2)
    return words
  }

  private func store(
    _ words: [Registers4], _ staging: MemoryEfficientAddresses.Staging, stage: Int,
    _ warp: inout Warp, _ site: Site
  ) throws(DeviceError) {
    for (round, word) in words.enumerated() {
      let to = staging.to[round]
      if to.count == 1 {
        try warp.storeShared(word, at: to[0].moved(by: stage), site: site.rawValue)
      } else {
        try warp.storeShared(
          Registers2(word.r0, word.r1), at: to[0].moved(by: stage), site: site.rawValue)
        try warp.storeShared(
          Registers2(word.r2, word.r3), at: to[1].moved(by: stage), site: site.rawValue)
      }
    }
  }

  private func operand(
    _ pair: MemoryEfficientAddresses.Pair, stage: Int, _ warp: inout Warp, _ site: Site
  ) throws(DeviceError) -> [Registers2] {
    let words: Registers4 = try warp.loadShared(
      at: pair.address.moved(by: stage), site: site.rawValue)
    let low = Registers2(words.r0, words.r1)
    let high = Registers2(words.r2, words.r3)
    return pair.swapped ? [high, low] : [low, high]
  }

  // MARK: Scores

  private func multiplyScores(
    _ index: Int, _ place: Place, _ block: inout Block<Registers>
  ) throws(DeviceError) {
    let slices = shape.tileWidth / 32
    let headBytes = place.head * shape.pitch * 2
    let keyBytes =
      index * keys * addresses.keyRow + place.head / shape.group * shape.pitch * 2
    func fetch(_ slice: Int, _ warp: inout Warp, _ registers: inout Registers)
      throws(DeviceError)
    {
      registers.left = try load(
        addresses.queries[warp.index], from: buffers.queries,
        base: place.firstRow * addresses.queryRow + headBytes + slice * 64, rows: place.rows,
        firstColumn: slice * 32, &warp, .queryLoad)
      registers.right = try load(
        addresses.keyRows[warp.index], from: buffers.keys, base: keyBytes + slice * 64,
        rows: shape.keyLength - index * keys, firstColumn: slice * 32, &warp, .keyLoad)
    }
    func put(_ slice: Int, _ warp: inout Warp, _ registers: Registers) throws(DeviceError) {
      let stage = slice % 2 * addresses.scoreStage
      try store(
        registers.left.map(buffers.query), addresses.queries[warp.index], stage: stage, &warp,
        .queryStore)
      try store(
        registers.right, addresses.keyRows[warp.index], stage: stage, &warp, .keyStore)
    }
    try block.eachWarp { (_, registers) throws(DeviceError) in
      for index in registers.scores.indices { registers.scores[index] = FloatAccumulator() }
    }
    try block.eachWarp { (warp, registers) throws(DeviceError) in
      try fetch(0, &warp, &registers)
      try put(0, &warp, registers)
    }
    for slice in 0..<slices {
      try block.eachWarp { (warp, registers) throws(DeviceError) in
        if slice + 1 < slices { try fetch(slice + 1, &warp, &registers) }
        let stage = slice % 2 * addresses.scoreStage
        for k4 in 0..<8 {
          let left = try operand(
            addresses.queryOperands[warp.index][k4], stage: stage, &warp, .queryOperand)
          let right = try operand(
            addresses.keyOperands[warp.index][k4], stage: stage, &warp, .keyOperand)
          for row in 0..<2 {
            for column in 0..<2 {
              try warp.multiplyVolta(
                left[row], right[column], addingTo: &registers.scores,
                at: 2 * (2 * row + column))
            }
          }
        }
        if slice + 1 < slices { try put(slice + 1, &warp, registers) }
        warp.count(.control, 1)
      }
    }
  }

  // MARK: Softmax

  private func row(_ warp: Int, _ state: Int, _ lane: Int) -> Int {
    warp % addresses.warpRows * 32
      + CutlassVoltaTile.place(
        lane: lane, element: state % 2 * 2, rowBlock: state / 2, columnBlock: 0
      ).row
  }

  /// The elements of a row state: accumulator entry and element.
  private static func elements(_ state: Int) -> [(entry: Int, element: Int, column: Int)] {
    (0..<2).flatMap { column in
      (0..<8).filter { WarpProduct.slot($0) == state % 2 }.map {
        (2 * (2 * (state / 2) + column) + $0 / 4, $0, column)
      }
    }
  }

  private func softmax(
    _ index: Int, _ place: Place, isMasked: Bool, _ block: inout Block<Registers>
  ) throws(DeviceError) {
    let factor = buffers.scale * 1.442_695_04
    try block.eachWarp { (warp, registers) throws(DeviceError) in
      let first = index * keys + warp.index / addresses.warpRows * 32
      for state in 0..<4 {
        let limits = (0..<32).map {
          shape.visibleKeys(row: place.firstRow + row(warp.index, state, $0)) - first
        }
        var top = Lanes<Float>(repeating: -.infinity)
        for at in Self.elements(state) {
          if isMasked {
            for lane in 0..<32 {
              let column = CutlassVoltaTile.place(
                lane: lane, element: at.element, rowBlock: 0, columnBlock: at.column
              ).column
              if column >= limits[lane] {
                registers.scores[at.entry][at.element][lane] = -.infinity
              }
            }
          }
          top = LaneMath.zip(top, registers.scores[at.entry][at.element], LaneMath.larger)
        }
        top = LaneMath.reduce(
          top, over: CutlassVoltaTile.rowDistances, &warp, LaneMath.larger)
        // One lane of those that hold the row writes it.
        let writers = LaneMask { $0 & 0b1010 == 0 }
        try warp.storeShared(
          top.asWords,
          at: addresses.maxima[warp.index][state].moved(
            by: warp.index / addresses.warpRows * addresses.maximumColumn),
          mask: writers, site: Site.maximum.rawValue)
      }
      warp.count(.float, 32)
      warp.count(.integer, isMasked ? 64 : 0)
    }
    try block.eachWarp { (warp, registers) throws(DeviceError) in
      for state in 0..<4 {
        var top = registers.maxima[state]
        for column in 0..<addresses.warpColumns {
          let other: Lanes<UInt32> = try warp.loadShared(
            at: addresses.maxima[warp.index][state].moved(by: column * addresses.maximumColumn),
            site: Site.maximumLoad.rawValue)
          top = LaneMath.zip(top, other.asFloats, LaneMath.larger)
        }
        let base = LaneMath.zip(top, top) { value, _ in
          value == -.infinity ? 0 : value * factor
        }
        let shrink = LaneMath.zip(registers.maxima[state], base) { old, base in
          LaneMath.exp2(Float(Double(old) * Double(factor) - Double(base)))
        }
        registers.maxima[state] = top
        var sum = LaneMath.zip(registers.sums[state], shrink) { $0 * $1 }
        for at in Self.elements(state) {
          let p = LaneMath.zip(registers.scores[at.entry][at.element], base) { score, base in
            LaneMath.exp2(Float(Double(score) * Double(factor) - Double(base)))
          }
          registers.scores[at.entry][at.element] = p
          sum = sum.plus(p)
          registers.output[at.entry][at.element] = LaneMath.zip(
            registers.output[at.entry][at.element], shrink
          ) { $0 * $1 }
        }
        registers.sums[state] = sum
      }
      // Multiply-add and sum a score, a product an output; maxima over warps and three a row.
      warp.count(.float, 96 + 4 * (addresses.warpColumns + 3))
      warp.count(.special, 36)
      warp.count(.conversion, 32)
      warp.count(.integer, 16)
      for row in 0..<2 {
        for column in 0..<2 {
          for word in 0..<4 {
            let sums = registers.scores[2 * (2 * row + column) + word / 2]
            try warp.storeShared(
              Half2.pack(low: sums[word % 2 * 2], high: sums[word % 2 * 2 + 1]),
              at: addresses.probabilities[warp.index][row][column][word],
              site: Site.probabilities.rawValue)
          }
        }
      }
    }
  }

  // MARK: Values

  private func multiplyValues(
    _ index: Int, _ place: Place, isMasked: Bool, _ block: inout Block<Registers>
  ) throws(DeviceError) {
    // The last block's slices of keys that there are.
    let present = min(keys, shape.keyLength - index * keys)
    let slices = (present + 31) / 32
    let base = place.head / shape.group * shape.pitch * 2
    func fetch(_ slice: Int, _ warp: inout Warp, _ registers: inout Registers)
      throws(DeviceError)
    {
      registers.right = try load(
        addresses.values[warp.index], from: buffers.values,
        base: base + (index * keys + slice * 32) * addresses.keyRow, rows: present - slice * 32,
        firstColumn: 0, &warp, .valueLoad)
    }
    func put(_ slice: Int, _ warp: inout Warp, _ registers: Registers) throws(DeviceError) {
      try store(
        registers.right, addresses.values[warp.index], stage: slice % 2 * addresses.valueStage,
        &warp, .valueStore)
    }
    try block.eachWarp { (warp, registers) throws(DeviceError) in
      try fetch(0, &warp, &registers)
      try put(0, &warp, registers)
    }
    for slice in 0..<slices {
      try block.eachWarp { (warp, registers) throws(DeviceError) in
        if slice + 1 < slices { try fetch(slice + 1, &warp, &registers) }
        for k4 in 0..<8 {
          let left = try operand(
            addresses.probabilityOperands[warp.index][8 * slice + k4], stage: 0, &warp,
            .probabilityOperand)
          var values: Registers4 = try warp.loadShared(
            at: addresses.valueOperands[warp.index][k4].moved(
              by: slice % 2 * addresses.valueStage),
            site: Site.valueOperand.rawValue)
          if isMasked, LaneMath.hasNonFinite(values) {
            let split = LaneMath.split(values)
            values = split.finite
            try mark(
              split.marks, firstKey: index * keys + slice * 32 + 4 * k4, place, &warp,
              &registers)
          }
          try multiply(left, values, &warp, into: &registers.output)
        }
        if slice + 1 < slices { try put(slice + 1, &warp, registers) }
        warp.count(.control, 1)
      }
    }
  }

  private func multiply(
    _ left: [Registers2], _ values: Registers4, _ warp: inout Warp,
    into sums: inout [FloatAccumulator]
  ) throws(DeviceError) {
    let right = [Registers2(values.r0, values.r1), Registers2(values.r2, values.r3)]
    for row in 0..<2 {
      for column in 0..<2 {
        try warp.multiplyVolta(
          left[row], right[column], addingTo: &sums, at: 2 * (2 * row + column),
          rowMajorB: true)
      }
    }
  }

  /// As ``FlashAttentionKernel`` does it.
  private func mark(
    _ marks: Registers4, firstKey: Int, _ place: Place, _ warp: inout Warp,
    _ registers: inout Registers
  ) throws(DeviceError) {
    let left = (0..<2).map { block in
      let words = (0..<2).map { word in
        Lanes<UInt32>.each { lane in
          let seat = CutlassVoltaTile.seat(Int(lane))
          let row =
            warp.index % addresses.warpRows * 32
            + CutlassVoltaTile.spread(seat.t, block: block, group: seat.row)
          let visible =
            shape.visibleKeys(row: place.firstRow + row) - firstKey - 2 * word
          return (visible > 0 ? 0x3C00 : 0) | (visible > 1 ? 0x3C00_0000 : 0)
        }
      }
      return Registers2(words[0], words[1])
    }
    var counts = [FloatAccumulator](repeating: FloatAccumulator(), count: 8)
    try multiply(left, marks, &warp, into: &counts)
    for (entry, count) in counts.enumerated() {
      for element in 0..<4 {
        registers.output[entry][element] = LaneMath.zip(
          registers.output[entry][element], count[element]
        ) { $1 > 0 ? .nan : $0 }
      }
    }
  }

  // MARK: Output

  private func writeOutput(
    _ place: Place, _ block: inout Block<Registers>
  ) throws(DeviceError) {
    try block.eachWarp { (warp, registers) throws(DeviceError) in
      for state in 0..<4 {
        let sum = LaneMath.reduce(
          registers.sums[state], over: CutlassVoltaTile.rowDistances, &warp
        ) { $0 + $1 }
        try warp.storeShared(
          sum.asWords,
          at: addresses.maxima[warp.index][state].moved(
            by: warp.index / addresses.warpRows * addresses.maximumColumn),
          mask: LaneMask { $0 & 0b1010 == 0 }, site: Site.maximum.rawValue)
      }
    }
    try block.eachWarp { (warp, registers) throws(DeviceError) in
      for state in 0..<4 {
        var sum = Lanes<Float>()
        for column in 0..<addresses.warpColumns {
          let part: Lanes<UInt32> = try warp.loadShared(
            at: addresses.maxima[warp.index][state].moved(by: column * addresses.maximumColumn),
            site: Site.maximumLoad.rawValue)
          sum = sum.plus(part.asFloats)
        }
        for at in Self.elements(state) {
          registers.output[at.entry][at.element] = LaneMath.zip(
            registers.output[at.entry][at.element], sum
          ) { $0 * ($1 == 0 ? 1 : 1 / $1) }
        }
      }
      for row in 0..<2 {
        for column in 0..<2 {
          for word in 0..<4 {
            let sums = registers.output[2 * (2 * row + column) + word / 2]
            try warp.storeShared(
              Half2.pack(low: sums[word % 2 * 2], high: sums[word % 2 * 2 + 1]),
              at: addresses.stages[warp.index][row][column][word], site: Site.stage.rawValue)
          }
        }
      }
      warp.count(.float, 32 + 4 * addresses.warpColumns)
      warp.count(.special, 4)
      warp.count(.conversion, 32)
    }
    let base = place.firstRow * addresses.queryRow + place.head * shape.pitch * 2
    try block.eachWarp(barrier: false) { (warp, _) throws(DeviceError) in
      let result = addresses.results[warp.index]
      for round in result.rows.indices {
        let mask = LaneMask {
          Int(result.rows[round][$0]) < place.rows
            && Int(result.columns[round][$0]) < shape.pitch
        }
        let words: Registers4 = try warp.loadShared(
          at: result.to[round][0], mask: mask, site: Site.stageLoad.rawValue)
        try warp.storeGlobal(
          words, to: buffers.output, at: result.from[round].moved(by: base), mask: mask,
          site: Site.output.rawValue)
      }
    }
  }
}
