/// What a decode step's kernels read.
struct LowRankDecodeOperands {
  /// Numbers for it, checked.
  struct Contents {
    let shape: LowRankFactors.Shape
    let headsPerGroup: Int
    let keys: [LowRankFactors.Group]
    let values: [LowRankFactors.Group]
    let rotary: LowRankLayer.Rotary
    let queries: [Float]
    let keyLatents: [Float]
    let valueLatents: [Float]
    let scale: Float?
    let positions: Int

    init(
      _ factors: LowRankFactors, layer: Int, rotary: LowRankLayer.Rotary?, queries: [Float],
      keyLatents: [Float], valueLatents: [Float], scale: Float?
    ) throws(QuantError) {
      func refuse(
        _ what: String, _ problem: String, _ remedy: String,
        _ code: QuantError.Code = .invalidArgument
      ) -> QuantError {
        QuantError(code, "low-rank decode step: \(what)", problem, remedy: remedy)
      }
      guard factors.layers.indices.contains(layer) else {
        throw refuse("layer", "\(layer) of \(factors.layers.count)", "name one of them")
      }
      guard factors.keyMode == .rebuilt else {
        throw refuse(
          "keys", "factors of \(factors.keyMode.rawValue) keys", "use rebuilt keys", .unsupported)
      }
      let shape = factors.shape
      keys = factors.layers[layer].keys
      values = factors.layers[layer].values
      for (name, groups) in [("keys", keys), ("values", values)]
      where Set(groups.map(\.rank)).count != 1 {
        throw refuse(
          name, "ranks \(groups.map(\.rank)) of the groups",
          "the simulated kernels take one rank for all groups", .unsupported)
      }
      let angles = rotary ?? LowRankLayer.Rotary(frequencies: [])
      guard angles.frequencies.count == shape.rotaryPairs, angles.magnitude.isFinite,
        angles.frequencies.allSatisfy({ $0.isFinite && abs($0) <= 64 })
      else {
        throw refuse(
          "rotary embedding",
          "\(angles.frequencies.count) angles for \(shape.rotaryPairs) pairs, or not all finite",
          "pass the model's own")
      }
      self.rotary = angles
      let keyWidth = keys.reduce(0) { $0 + $1.rank }
      let valueWidth = values.reduce(0) { $0 + $1.rank }
      guard queries.count == shape.queryHeads * shape.headDimension,
        keyLatents.count % keyWidth == 0, !keyLatents.isEmpty,
        valueLatents.count == keyLatents.count / keyWidth * valueWidth
      else {
        throw refuse(
          "sizes",
          "\(queries.count) queries, \(keyLatents.count) and \(valueLatents.count) latents",
          "give \(shape.queryHeads * shape.headDimension), and whole positions of \(keyWidth) and "
            + "\(valueWidth), at least one")
      }
      guard scale?.isFinite ?? true else {
        throw refuse("scale", "\(scale ?? 0)", "use 1/√headDimension")
      }
      self.shape = shape
      headsPerGroup = factors.headsPerGroup
      self.queries = queries
      self.keyLatents = keyLatents
      self.valueLatents = valueLatents
      self.scale = scale
      positions = keyLatents.count / keyWidth
    }

    func shape(
      keyType: LatentType, valueType: LatentType, firstPosition: Int
    ) throws(QuantError) -> LowRankDecodeShape {
      try LowRankDecodeShape(
        positions: positions, firstPosition: firstPosition, queryHeads: shape.queryHeads,
        keyValueHeads: shape.keyValueHeads, headDimension: shape.headDimension,
        headsPerGroup: headsPerGroup, keyRank: keys[0].rank, valueRank: values[0].rank,
        keyType: keyType, valueType: valueType, rotaryDimension: shape.rotaryDimension)
    }

    /// The head's element of each column of an operand: rotated pairs side by side, then the rest.
    var elementOfColumn: [Int] {
      var order: [Int] = []
      for pair in 0..<shape.rotaryPairs {
        let (a, b) = shape.elements(ofPair: pair)
        order += [a, b]
      }
      let turned = Set(order)
      return order + (0..<shape.headDimension).filter { !turned.contains($0) }
    }

    func query(_ head: Int, _ element: Int) -> Float {
      queries[head * shape.headDimension + element]
    }

    /// Whole heads, `[positions × heads · d_h]`, rebuilt on the host; keys turned.
    func heads(_ groups: [LowRankFactors.Group], _ latents: [Float], first: Int?) -> [Float] {
      let d = shape.headDimension
      let width = shape.keyValueHeads * d
      let rank = groups[0].rank
      var out = [Float](repeating: 0, count: positions * width)
      for position in 0..<positions {
        for (index, group) in groups.enumerated() {
          let from = (position * groups.count + index) * rank
          for row in 0..<headsPerGroup * d {
            var sum = group.bias?[row] ?? 0
            for latent in 0..<rank { sum += group.up[row * rank + latent] * latents[from + latent] }
            out[position * width + index * headsPerGroup * d + row] = sum
          }
        }
        guard let first else { continue }
        let phases = RotaryPhases.fixedPoint(rotary.frequencies, magnitude: rotary.magnitude)
        for pair in 0..<shape.rotaryPairs {
          let turn = phases.turn(pair: pair, position: first + position)
          let (a, b) = shape.elements(ofPair: pair)
          for head in 0..<shape.keyValueHeads {
            let at = position * width + head * d
            let (x, y) = (out[at + a], out[at + b])
            out[at + a] = x * turn.cosine - y * turn.sine
            out[at + b] = x * turn.sine + y * turn.cosine
          }
        }
      }
      return out
    }
  }

  let keys: DeviceLatents
  let values: DeviceLatents
  /// Of rebuilding a set a key-value head; of direct scores nil.
  let up: DecodeOperand?
  /// Of direct scores what positions are multiplied with, a set a unit; else a key-value head's queries.
  let queries: DecodeOperand
  /// Late up-projection of values, a set a key-value head; nil where values are whole.
  let valueUp: DecodeOperand?
  let way: LatentScoresKernel.Way
  let tile: LatentScoresKernel.Tile
  let phases: RotaryPhases
  let scale: Float

  /// - Parameter contents: nil for zeros that only count.
  init(
    _ shape: LowRankDecodeShape, kernel: LowRankGPUKernel, contents: Contents?
  ) throws(QuantError) {
    let d = shape.headDimension
    let s = shape.headsPerGroup
    let group = shape.queriesPerHead
    scale = contents?.scale ?? 1 / Float(d).squareRoot()
    let frequencies =
      contents?.rotary.frequencies
      ?? LowRankLayer.Rotary(dimension: shape.rotaryDimension).frequencies
    let magnitude = contents?.rotary.magnitude ?? 1
    func latents(
      _ name: String, _ values: [Float]?, _ type: LatentType, units: Int, width: Int
    ) throws(QuantError) -> DeviceLatents {
      guard let values else {
        return try DeviceLatents(
          zeros: name, type: type, units: units, positions: shape.positions, width: width)
      }
      return try DeviceLatents(
        name, values, type: type, units: units, positions: shape.positions, width: width)
    }
    if kernel == .dense {
      keys = try latents(
        "keys",
        contents.map { $0.heads($0.keys, $0.keyLatents, first: shape.firstPosition) },
        .f16, units: shape.keyValueHeads, width: d)
      values = try latents(
        "values", contents.map { $0.heads($0.values, $0.valueLatents, first: nil) }, .f16,
        units: shape.keyValueHeads, width: d)
      up = nil
      valueUp = nil
      way = .direct
      tile = .direct
      phases = .none
      queries = try DecodeOperand(
        "queries", sets: shape.keyValueHeads, rows: group, columns: d, rowStep: 16, columnStep: 64,
        value: contents.map { contents -> (Int, Int, Int) -> Float in
          { contents.query($0 * group + $1, $2) }
        })
      return
    }
    keys = try latents(
      "latents of keys", contents?.keyLatents, shape.keyType, units: shape.groups,
      width: shape.keyRank)
    values = try latents(
      "latents of values", contents?.valueLatents, shape.valueType, units: shape.groups,
      width: shape.valueRank)
    valueUp = try DecodeOperand(
      "up-projection of values", sets: shape.keyValueHeads, rows: d, columns: shape.valueRank,
      rowStep: 1, columnStep: 8,
      bias: contents.flatMap { contents -> ((Int, Int) -> Float)? in
        guard contents.values.contains(where: { $0.bias != nil }) else { return nil }
        return { contents.values[$0 / s].bias?[$0 % s * d + $1] ?? 0 }
      },
      value: contents.map { contents -> (Int, Int, Int) -> Float in
        let rank = shape.valueRank
        return { contents.values[$0 / s].up[($0 % s * d + $1) * rank + $2] }
      })
    guard shape.hasRotary || contents?.keys.contains(where: { $0.bias != nil }) == true else {
      // Nothing stands between a query and the up-projection: it meets latents as they are.
      up = nil
      way = .direct
      tile = .direct
      phases = .none
      queries = try DecodeOperand(
        "queries over latents", sets: shape.groups, rows: shape.queriesPerGroup,
        columns: shape.keyRank, rowStep: 16, columnStep: 64,
        value: contents.map { contents -> (Int, Int, Int) -> Float in
          let rank = shape.keyRank
          return { unit, row, latent in
            let up = contents.keys[unit].up
            let head = row / group
            return (0..<d).reduce(Float(0)) { sum, element in
              sum + contents.query(unit * s * group + row, element)
                * up[(head * d + element) * rank + latent]
            }
          }
        })
      return
    }
    if kernel == .palu {
      way = .rebuild(headsPerBlock: 1)
      tile = .palu(headsPerGroup: s)
      phases = .float32(frequencies, magnitude: magnitude)
    } else {
      way = .rebuild(headsPerBlock: s)
      tile = .group(width: shape.keyRank)
      phases = .fixedPoint(frequencies, magnitude: magnitude)
    }
    let order = contents?.elementOfColumn ?? []
    let rowStep = 16 * tile.columnWarps
    up = try DecodeOperand(
      "up-projection of keys", sets: shape.keyValueHeads, rows: d, columns: shape.keyRank,
      rowStep: rowStep, columnStep: tile.depth,
      bias: contents.flatMap { contents -> ((Int, Int) -> Float)? in
        guard contents.keys.contains(where: { $0.bias != nil }) else { return nil }
        return { contents.keys[$0 / s].bias?[$0 % s * d + order[$1]] ?? 0 }
      },
      value: contents.map { contents -> (Int, Int, Int) -> Float in
        let rank = shape.keyRank
        return { contents.keys[$0 / s].up[($0 % s * d + order[$1]) * rank + $2] }
      })
    // A row of queries is as wide as the padded rows of the up-projection.
    let padded = (d + rowStep - 1) / rowStep * rowStep
    queries = try DecodeOperand(
      "queries", sets: shape.keyValueHeads, rows: group, columns: d, rowStep: 1,
      columnStep: (padded + 63) / 64 * 64,
      value: contents.map { contents -> (Int, Int, Int) -> Float in
        { contents.query($0 * group + $1, order[$2]) }
      })
  }
}
