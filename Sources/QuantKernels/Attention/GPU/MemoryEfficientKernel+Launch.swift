import DeviceModel

extension MemoryEfficientKernel: AttentionKernel {
  /// Steps are blocks of keys. The first slice of either product is waited for in full, the others as
  /// far as the slice before does not hide them.
  public func launch(on device: DeviceSpec) -> Launch {
    var total = 0
    for rowTile in 0..<rowTiles { total += keyBlocks(rowTile: rowTile).visible }
    let steps = max(1, (total + rowTiles / 2) / max(1, rowTiles))
    let scoreSlices = shape.tileWidth / 32
    let valueSlices = keys / 32
    // 32 × 32 × 32 a warp.
    let slice = 32 * 32 * 32 / MatrixShape.m8n8k4.multiplyAdds
    let missShare = 1 / Double(max(1, rowTiles * shape.group))
    let first = device.exposedLoad(behind: 0, .m8n8k4, missShare: missShare)
    let next = device.exposedLoad(behind: slice, .m8n8k4, missShare: missShare)
    var chain = [first, first]
    for _ in 0..<scoreSlices + valueSlices - 2 { chain.append(next) }
    // As the text counts them: 32 scores a lane in four rows, their maxima over lanes and warps.
    let plain = 32 + 96 + 4 * (addresses.warpColumns + 3) + 32 + 16 + 4 * 2 * 2
    chain += [
      .arithmetic(plain, special: 36), .barrier(scoreSlices + valueSlices + 5),
      // An operand a slice; two shuffles and a load of the rows' maxima.
      .sharedLoad(scoreSlices + valueSlices + 3),
      .matrix(.m8n8k4, slice * (scoreSlices + valueSlices)),
    ]
    return Launch(
      name: name, blocks: blocks, warpsPerBlock: warpsPerBlock,
      registersPerThread: Sourced(
        168,
        .derived(
          "pytorch/pytorch kernel_forward.h: launch bounds of 12 warps a multiprocessor, "
            + "65,536 / (12 · 32) in eights: the most a thread can have")),
      sharedBytesPerBlock: sharedBytesPerBlock, stepsPerBlock: steps, chain: chain,
      blockOverheadCycles: Sourced(
        500, .assumed("output through shared memory; as other compiled kernels, 300 to 600")),
      distinctBytes: shape.distinctBytes, missShare: missShare)
  }
}
