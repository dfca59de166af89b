import CQuantKernels

extension LowRankWork {
  /// Scales the queries of a unit and turns them into what its keys are multiplied with.
  func prepare(
    _ unit: Int, _ tile: Range<Int>, _ place: Prepared.Place, _ own: Scratch.Place,
    _ counters: inout LowRankCounters
  ) {
    let depth = depth(unit)
    let rows = heads * tile.count
    let firstHead = unit * heads
    // Rows of the queries themselves, scaled, head by head.
    let isCommuting = layer.keyMode == .commuting
    let stride = isCommuting ? d : depth
    let source = isCommuting ? own.scores : place.floats
    for head in 0..<heads {
      for (index, query) in tile.enumerated() {
        let row = source + (head * tile.count + index) * stride
        let from = queries + query * queryWidth + (firstHead + head) * d
        for element in 0..<d { row[element] = from[element] * factor }
      }
    }
    switch layer.keyMode {
    case .rebuilt: break
    case .rotated:
      if layer.rotation == nil {
        kernels.pointee.hadamard(source, d, rows, 1 / Float(d).squareRoot())
      } else {
        // By way of the scores' room, since the product is not in place.
        for row in 0..<rows {
          rotateHeads(layer, kernels, source + row * d, rows: 1, into: own.scores)
          (source + row * d).update(from: own.scores, count: d)
        }
      }
    case .commuting:
      let padded = LowRankLayer.padded(depth)
      for head in 0..<heads {
        let first = head * tile.count
        for index in 0..<tile.count {
          kernels.pointee.product(
            source + (first + index) * d, d, 1, d,
            layer.keyUp(unit, head: head / layer.queriesPerHead), padded, depth,
            place.floats + (first + index) * depth, padded)
        }
      }
      counters.queryMultiplies += rows * depth * d
    }
    guard layer.keyMode != .rebuilt else { return }
    for row in 0..<rows {
      let numbers = place.floats + row * depth
      if keysUseDigits {
        kernels.pointee.digits(
          numbers, depth, qk_latent_padded(depth),
          place.digits + row * 2 * qk_latent_padded(depth), place.scales + row,
          place.scales + rows + row)
      } else {
        var sum: Float = 0
        for element in 0..<depth { sum += numbers[element] }
        place.scales[row] = 1
        place.scales[rows + row] = sum
      }
    }
  }
}
