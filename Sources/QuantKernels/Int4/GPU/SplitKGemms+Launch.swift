import DeviceModel

// The published kernels were compiled (not copied) with nvcc 13.0.88 for sm_80, sm_86 and sm_89:
// registers as ptxas reports them, the rest read off the machine code.

extension AWQGemm: MatmulKernel {
  private static let compiled = CompiledLoop(
    registers: (72, 92, 92), instructions: (311, 303, 303), issue: (552, 504, 485),
    overhead: (519, 450, 450), source: "AutoAWQ_kernels c7b0e88, nvcc 13.0.88")

  public var warpSteps: Int { grid.warpSteps }
  public var sitesOutsideLoop: Set<String> { [Site.storeC.name] }

  public func launch(on device: DeviceSpec) -> Launch {
    grid.launch(
      name, shared: sharedBytesPerBlock, registers: Self.compiled.registers(on: device),
      chain: [
        .issue(Self.compiled.issue(on: device)), .globalLoad(rounds: 1), .barrier(2),
        .sharedLoad(1), .matrix(.m16n8k16, 16),
      ],
      instructions: Self.compiled.instructions(on: device),
      overhead: Self.compiled.overhead(on: device), weights: weights, activations: activations)
  }
}

extension QuickGemm: MatmulKernel {
  private var compiled: CompiledLoop {
    func loop(
      _ registers: Double, _ instructions: Double, _ issue: (Double, Double, Double),
      _ overhead: Double
    ) -> CompiledLoop {
      CompiledLoop(
        registers: (registers, registers, registers),
        instructions: (instructions, instructions, instructions), issue: issue,
        overhead: (overhead, overhead, overhead), source: "QUICK 265d234, nvcc 13.0.88")
    }
    // ptxas merges the two 32-row bodies of the 64-row kernel: as compiled it loads and dequantizes
    // a word once, though its text does so twice.
    switch tile {
    case .single: return loop(80, 208, (307, 210, 81), 305)
    case .rows16: return loop(80, 216, (356, 268, 155), 434)
    case .rows32: return loop(128, 245, (337, 287, 209), 437)
    case .rows64: return loop(206, 284, (346, 275, 191), 603)
    }
  }

  public var warpSteps: Int { grid.warpSteps }
  public var sitesOutsideLoop: Set<String> { [Site.clearA.name, Site.storeC.name] }

  public func launch(on device: DeviceSpec) -> Launch {
    grid.launch(
      name, shared: sharedBytesPerBlock, registers: compiled.registers(on: device),
      chain: [
        .issue(compiled.issue(on: device)), .globalLoad(rounds: 1), .barrier(2),
        .sharedLoad(1), .matrix(.m16n8k16, tile.rows),
      ],
      instructions: compiled.instructions(on: device), overhead: compiled.overhead(on: device),
      weights: weights, activations: activations)
  }
}

extension ImprovedQuickGemm: MatmulKernel {
  /// Our own loop with one dequantization a word and no software pipeline
  /// (`Benchmarks/hardware/int4_loops.cuh`, quick-16, quick-32, quick-once-64).
  private var compiled: CompiledLoop {
    let numbers: (registers: Double, instructions: Double) =
      switch tileRows {
      case 16: (80, 217)
      case 32: (121, 250)
      default: (198, 303)
      }
    return CompiledLoop(
      registers: (numbers.registers, numbers.registers, numbers.registers),
      instructions: (numbers.instructions, numbers.instructions, numbers.instructions),
      issue: nil, overhead: nil, source: "Benchmarks/hardware loops, nvcc 13.5.37")
  }

  public var warpSteps: Int { grid.warpSteps }
  public var sitesOutsideLoop: Set<String> { [Site.clearA.name, Site.storeC.name] }

  public func launch(on device: DeviceSpec) -> Launch {
    let ahead = stages - 1
    return grid.launch(
      name, shared: sharedBytesPerBlock,
      registers: compiled.registers(
        on: device, adding: (Double(8 * ahead), "eight words a step for \(ahead) steps ahead")),
      chain: [
        .issue(compiled.issue(on: device)), .globalLoad(rounds: 1), .barrier(1),
        .sharedLoad(1), .matrix(.m16n8k16, tileRows),
      ],
      instructions: compiled.instructions(on: device), overhead: compiled.overhead(on: device),
      stages: ahead, weights: weights, activations: activations)
  }
}

extension SplitKGrid {
  /// Steps of the two warps of every block.
  var warpSteps: Int {
    2 * rowTiles * outputTiles * (0..<splits).reduce(0) { $0 + steps(of: $1) }
  }

  func launch(
    _ name: String, shared: Int, registers: Sourced, chain: [ChainLink], instructions: Sourced,
    overhead: Sourced, stages: Int = 1, weights: Int4DeviceWeights, activations: HalfActivations
  ) -> Launch {
    let result = rows * outputTiles * Self.outputs
    let operands =
      weights.codes.byteCount + weights.scales.byteCount + weights.zeroPoints.byteCount
      + activations.layout.byteCount
    return Launch(
      name: name, blocks: blocks, warpsPerBlock: 2, registersPerThread: registers,
      sharedBytesPerBlock: shared, stepsPerBlock: steps(of: 0), chain: chain,
      instructionsPerWarpStep: instructions, blockOverheadCycles: overhead,
      pipelineStages: stages, distinctBytes: operands + (splits == 1 ? 2 * result : 0),
      missShare: 1 / Double(rowTiles),
      splitSum: splits > 1 ? SplitSum(parts: splits, elements: result) : nil)
  }
}
