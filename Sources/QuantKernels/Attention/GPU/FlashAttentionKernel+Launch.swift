import DeviceModel

/// A kernel with what timing needs beside its text.
protocol TimedKernel: WarpKernel {
  /// How the kernel is launched on a device and what its steps wait for.
  func launch(on device: DeviceSpec) -> Launch
}

/// An attention kernel that is counted from a few repeats, and timed.
protocol AttentionKernel: RepeatingKernel, TimedKernel {}

extension DeviceSpec {
  /// What is left of a load's latency for a warp that issued it before `instructions` tensor
  /// instructions of its own and then waits: latency less those instructions at the pipe's rate.
  ///
  /// - Parameter missShare: the share of loads that memory answers and not the second-level cache.
  func exposedLoad(behind instructions: Int, _ shape: MatrixShape, missShare: Double) -> ChainLink {
    let latency = l2Latency.value + (dramLatency.value - l2Latency.value) * missShare
    let work =
      Double(instructions) * Double(shape.multiplyAdds) * subCores.value
      / max(1, tensorRate(shape).value)
    return .issue(
      Sourced(
        max(0, latency - work),
        .derived("load latency of the device less \(instructions) tensor instructions behind it")))
  }
}

extension ChainLink {
  /// What one warp alone needs for a step's arithmetic beside the tensor pipe: an issue slot an
  /// instruction, and eight cycles for one of the special-function unit.
  ///
  /// Source: CUDA C++ Programming Guide, throughput of native arithmetic instructions: 16 results of
  /// special functions a cycle a multiprocessor on 7.0 and 8.0, a warp in eight cycles of a sub-core.
  static func arithmetic(_ instructions: Int, special: Int) -> ChainLink {
    .issue(
      Sourced(
        Double(instructions + 8 * special),
        .derived("\(instructions) counted instructions and \(special) of 8 cycles")))
  }
}

extension FlashAttentionKernel: AttentionKernel {
  /// Instructions of one warp in a step without hidden keys, tensor and memory ones left out.
  private var stepArithmetic: (plain: Int, special: Int) {
    let scores = 8 * rowBlocks * keyBlocks
    let rows = rowBlocks * slots
    let distances = (isHalf ? product.halfRowDistances : product.rowDistances).count
    let isAmpere = product.family == .ampere
    var plain = 3 * scores + 5 * rows + 2 * distances * rows
    plain += isAmpere ? scores / 2 : scores + scores / 2
    plain += 8 * rowBlocks * outputBlocks + (isHalf ? scores + 2 * rowBlocks : 0)
    if !isAmpere {
      plain += rowBlocks * keyBlocks * (exchange.shuffles.count + exchange.selects)
    }
    return (plain, scores + rows)
  }

  /// A thread has 255 registers; tiles that want more would spill and are refused with the launch.
  /// Steps are key tiles, as many as a block has on average: two barriers each, keys under way during
  /// the product with values and values during the scores.
  public func launch(on device: DeviceSpec) -> Launch {
    let scoreFloats = 8 * rowBlocks * keyBlocks
    let outputFloats = 8 * rowBlocks * outputBlocks
    // Volta's loads wait in registers.
    let staged =
      product.family == .ampere
      ? 0 : 4 * ((tile.keys * shape.tileWidth / 8 + 32 * tile.warps - 1) / (32 * tile.warps))
    let operands = 4 * (rowBlocks + 1) + (product.family == .ampere ? 0 : product.leftWords)
    let scoreInstructions =
      product.instructionsPerLoad * rowBlocks * keyBlocks * shape.tileWidth / product.depth
    let valueInstructions =
      product.instructionsPerLoad * rowBlocks * (tile.keys / product.valueKeys)
      * (shape.tileWidth / product.valueColumns)
    var total = 0
    for rowTile in 0..<rowTiles { total += keyTiles(rowTile: rowTile).visible }
    let steps = max(1, (total + rowTiles / 2) / max(1, rowTiles))
    // The first tile of rows brings keys and values from memory, the others find them in L2; heads of
    // a group share them.
    let missShare = 1 / Double(max(1, rowTiles * shape.group))
    return Launch(
      name: name, blocks: blocks, warpsPerBlock: warpsPerBlock,
      registersPerThread: Sourced(
        Double(outputFloats + scoreFloats + staged + operands + 40),
        .assumed(
          "\(outputFloats) of output, \(scoreFloats) of scores, \(staged) under way, \(operands) "
            + "of operands, 40 for addresses and row states")),
      sharedBytesPerBlock: sharedBytesPerBlock, stepsPerBlock: steps,
      chain: [
        device.exposedLoad(behind: scoreInstructions, product.shape, missShare: missShare),
        device.exposedLoad(behind: valueInstructions, product.shape, missShare: missShare),
        .arithmetic(stepArithmetic.plain, special: stepArithmetic.special), .barrier(2),
        // An operand of either product; shuffles of the rows' maxima one after another, and of P.
        .sharedLoad(
          2 + (isHalf ? product.halfRowDistances : product.rowDistances).count
            + (product.family == .ampere || exchange.shuffles.isEmpty ? 0 : 1)),
        .matrix(product.shape, scoreInstructions + valueInstructions),
      ],
      blockOverheadCycles: Sourced(
        500, .assumed("queries in, output out; as other compiled kernels, 300 to 600")),
      distinctBytes: shape.distinctBytes, missShare: missShare)
  }
}
