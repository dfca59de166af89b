import DeviceModel

/// An attention kernel with what timing needs beside its text.
protocol AttentionKernel: RepeatingKernel {
  /// How the kernel is launched on a device and what its steps wait for.
  func launch(on device: DeviceSpec) -> Launch
}

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

extension FlashAttentionKernel: AttentionKernel {
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
        Double(min(255, outputFloats + scoreFloats + staged + operands + 40)),
        .assumed(
          "\(outputFloats) of output, \(scoreFloats) of scores, \(staged) under way, \(operands) "
            + "of operands, 40 for addresses and row states")),
      sharedBytesPerBlock: sharedBytesPerBlock, stepsPerBlock: steps,
      chain: [
        device.exposedLoad(behind: scoreInstructions, product.shape, missShare: missShare),
        device.exposedLoad(behind: valueInstructions, product.shape, missShare: missShare),
        .barrier(2), .sharedLoad(2),
        .matrix(product.shape, scoreInstructions + valueInstructions),
      ],
      blockOverheadCycles: Sourced(
        500, .assumed("queries in, output out; as other compiled kernels, 300 to 600")),
      distinctBytes: shape.distinctBytes, missShare: missShare)
  }
}
