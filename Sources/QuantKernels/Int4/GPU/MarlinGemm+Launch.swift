import DeviceModel

extension MarlinGemm: MatmulKernel {
  /// Our own loop of the same data path (`Benchmarks/hardware/int4_loops.cuh`, marlin-16, -32, -64):
  /// one warp, 64 outputs, 32 inputs.
  private var compiled: CompiledLoop {
    let numbers: (registers: Double, instructions: Double) =
      switch tile.rows {
      case 16: (94, 219)
      case 32: (126, 237)
      default: (222, 295)
      }
    return CompiledLoop(
      registers: (numbers.registers, numbers.registers, numbers.registers),
      instructions: (numbers.instructions, numbers.instructions, numbers.instructions),
      issue: nil, overhead: nil, source: "Benchmarks/hardware loops, nvcc 13.5.37")
  }

  public var warpSteps: Int {
    Self.warps
      * (0..<blocks).reduce(0) { total, block in
        stripes.slices(of: block).reduce(total) { $0 + $1.tiles }
      }
  }

  public var sitesOutsideLoop: Set<String> {
    let loop: Set<Site> = [
      .inputCopy, .weightCopy, .scaleCopy, .inputMatrix, .weightLoad, .scaleLoad,
    ]
    return Set(Site.allCases.filter { !loop.contains($0) }.map { sites[$0.rawValue] })
  }

  /// One block a multiprocessor, three tiles of copies in flight, one barrier a tile. A warp's share
  /// of a tile is 64 outputs by 32 inputs in every tile shape.
  public func launch(on device: DeviceSpec) -> Launch {
    let panels = (rows + tile.rows - 1) / tile.rows
    let result = rows * layout.paddedRows * 2
    return Launch(
      name: name, blocks: blocks, warpsPerBlock: warpsPerBlock,
      registersPerThread: compiled.registers(on: device),
      sharedBytesPerBlock: sharedBytesPerBlock, stepsPerBlock: stripes.tilesPerBlock,
      chain: [
        .issue(compiled.issue(on: device)), .globalLoad(rounds: 1), .barrier(1), .sharedLoad(1),
        .matrix(.m16n8k16, tile.rows),
      ],
      instructionsPerWarpStep: compiled.instructions(on: device),
      blockOverheadCycles: Sourced(
        1000, .assumed("latency of the first tiles, sum over warps, turn of the lock, result")),
      pipelineStages: Self.stages - 1,
      distinctBytes: rows * layout.paddedColumns * 2 + layout.byteCount + scaleLayout.byteCount
        + result,
      missShare: 1 / Double(panels))
  }
}
