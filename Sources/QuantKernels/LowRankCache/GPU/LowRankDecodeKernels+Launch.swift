import DeviceModel

private let overhead = Sourced(
  500, .assumed("as other compiled kernels, 300 to 600 before and after a block's steps"))

extension LatentScoresKernel: TimedKernel {
  /// Instructions of a warp in one step beside tensor and memory ones: unpacking, and a head's turning
  /// and products spread over its steps.
  private var stepArithmetic: (plain: Int, special: Int) {
    var plain = 2
    var special = 0
    if latents.isPacked {
      let items = tile.positions * tile.depth / 32
      let rounds = (items + 32 * tile.warps - 1) / (32 * tile.warps)
      plain += rounds * (60 + (latents.type.bits == 3 ? 24 : 0)) / headsInTurn
    }
    guard way != .direct else { return (plain, special) }
    let pairs = 4 * rowBlocks * columnBlocks
    plain += (pairs * 7 + rowsPerPass * (3 * pairs + 4 * rowBlocks)) / loader.chunks
    special = phases.pairs == 0 ? 0 : 2 * pairs / loader.chunks
    return (plain, special)
  }

  /// Steps are those of the rank, of one head after another. The wait for a step's operands is what the
  /// products of the steps before it, as many as the pipeline is ahead, do not hide.
  func launch(on device: DeviceSpec) -> Launch {
    let sums = 8 * rowBlocks * columnBlocks
    let items = tile.positions * tile.depth / 32
    let words =
      latents.isPacked
      ? latents.type.bits * ((items + 32 * tile.warps - 1) / (32 * tile.warps)) : 0
    let instructions =
      product.instructionsPerLoad * rowBlocks * columnBlocks * tile.depth / product.depth
    let ahead = tile.stages - 1
    // Palu's heads of a group ask for the same latents, of which the first brings them from memory;
    // ours asks in the first head's steps alone.
    let missShare: Double =
      way == .direct ? 1 : 1 / Double(max(headsInTurn, blocksPerTile / latents.units))
    let bytes =
      latents.units * latents.positions * latents.bytesPerPosition + right.byteCount
      + queries.byteCount
      + 2 * latents.positions * blocksPerTile * headsInTurn * rowsPerPass
    return Launch(
      name: name, blocks: blocks, warpsPerBlock: warpsPerBlock,
      registersPerThread: Sourced(
        Double(min(255, sums + words + 4 * (rowBlocks + 1) + 40)),
        .assumed("\(sums) of sums, \(words) under way, 40 for operands and addresses")),
      sharedBytesPerBlock: sharedBytesPerBlock, stepsPerBlock: steps,
      chain: [
        device.exposedLoad(
          behind: ahead * instructions, product.shape, missShare: missShare),
        .arithmetic(stepArithmetic.plain, special: stepArithmetic.special),
        .barrier(ahead == 0 ? 2 : 1), .sharedLoad(1), .matrix(product.shape, instructions),
      ],
      blockOverheadCycles: overhead, distinctBytes: bytes, missShare: missShare)
  }
}

extension LatentSumsKernel: TimedKernel {
  func launch(on device: DeviceSpec) -> Launch {
    let instructions = matrixInstructionsPerStep
    let items = Self.step * 2 * panelCount
    let words =
      latents.isPacked
      ? latents.type.bits * panelCount * ((64 * 2 + 32 * warpsPerBlock - 1) / (32 * warpsPerBlock))
      : 0
    let unpacking =
      latents.isPacked ? (items + 32 * warpsPerBlock - 1) / (32 * warpsPerBlock) * 64 : 0
    let weights = 2 * latents.units * rows * latents.positions
    return Launch(
      name: name, blocks: blocks, warpsPerBlock: warpsPerBlock,
      registersPerThread: Sourced(
        Double(min(255, sumFloats + words + 60)),
        .assumed("\(sumFloats) of sums, \(words) under way, 60 for operands and addresses")),
      sharedBytesPerBlock: sharedBytesPerBlock,
      stepsPerBlock: max(1, min(splitPositions, latents.positions) / Self.step),
      chain: [
        device.exposedLoad(behind: instructions, .m16n8k16, missShare: 1),
        .arithmetic(4 + unpacking, special: 0), .barrier(1), .sharedLoad(2),
        .matrix(.m16n8k16, instructions),
      ],
      blockOverheadCycles: overhead,
      distinctBytes: latents.units * latents.positions * latents.bytesPerPosition + weights
        + partials.byteCount)
  }
}

extension SplitSums: TimedKernel {
  func launch(on device: DeviceSpec) -> Launch {
    let staysInL2 = Double(sums.partials.byteCount) < 0.5 * device.l2Bytes.value
    return Launch(
      name: name, blocks: blocks, warpsPerBlock: warpsPerBlock,
      registersPerThread: Sourced(32, .assumed("a quad of sums, addresses, loads under way")),
      sharedBytesPerBlock: 0, stepsPerBlock: max(1, (sums.splits + 3) / 4),
      chain: [.globalLoad(rounds: 1)],
      distinctBytes: (staysInL2 ? 0 : sums.partials.byteCount) + output.byteCount,
      missShare: staysInL2 ? 0 : 1)
  }
}

extension DecodeSoftmax: TimedKernel {
  /// Each of a warp's loads waits for itself in either pass.
  func launch(on device: DeviceSpec) -> Launch {
    let bytes = 2 * heads * scores.pitch
    let staysInL2 = Double(bytes) < 0.5 * device.l2Bytes.value
    let steps = (scores.pitch + 255) / 256
    return Launch(
      name: name, blocks: blocks, warpsPerBlock: warpsPerBlock,
      registersPerThread: Sourced(40, .assumed("a load, a state and addresses")),
      sharedBytesPerBlock: sharedBytesPerBlock,
      stepsPerBlock: 2 * ((steps + warpsPerBlock - 1) / warpsPerBlock),
      chain: [.globalLoad(rounds: 1)], blockOverheadCycles: overhead,
      distinctBytes: staysInL2 ? 0 : 2 * bytes, missShare: staysInL2 ? 0 : 1)
  }
}

extension DecodeProjection: TimedKernel {
  /// A row is a step: its loads are under way together.
  func launch(on device: DeviceSpec) -> Launch {
    Launch(
      name: name, blocks: blocks, warpsPerBlock: warpsPerBlock,
      registersPerThread: Sourced(64, .assumed("four loads under way, a sum and addresses")),
      sharedBytesPerBlock: sharedBytesPerBlock, stepsPerBlock: 4,
      chain: [.globalLoad(rounds: max(1, (weights.pitch + 1023) / 1024))],
      blockOverheadCycles: overhead, distinctBytes: weights.byteCount + output.byteCount)
  }
}

extension CacheCopy: TimedKernel {
  func launch(on device: DeviceSpec) -> Launch {
    Launch(
      name: name, blocks: blocks, warpsPerBlock: warpsPerBlock,
      registersPerThread: Sourced(32, .assumed("four loads under way and addresses")),
      sharedBytesPerBlock: 0, stepsPerBlock: 1, chain: [.globalLoad(rounds: 1)],
      distinctBytes: 2 * from.byteCount)
  }
}
