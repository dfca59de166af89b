import DeviceModel

/// AWQ's, QUICK's and a library's kernels as counters and launches worked out by hand from their
/// texts and from the compiled kernels (nvcc 13.0.88, `--ptxas-options=-v` and the main loop's SASS).
enum AnalyticKernel: String, CaseIterable {
  case float16, awq, quick

  static let n = 8192
  static let k = 8192
  static let group = 128

  /// What the compiler reports for one kernel: registers, loop instructions, issue cycles of a step
  /// alone (tensor time, global latency, two barriers and one shared load taken off), cycles
  /// outside the loop.
  private struct Compiled {
    let registers: Double
    let instructions: Double
    let issue: Double
    let overhead: Double
  }

  private static func compiled(_ kernel: String, capability: Double) -> Compiled {
    let column = capability < 8.5 ? 0 : capability < 8.8 ? 1 : 2
    func make(_ registers: [Double], _ instructions: [Double], _ issue: [Double], _ rest: [Double])
      -> Compiled
    {
      Compiled(
        registers: registers[column], instructions: instructions[column], issue: issue[column],
        overhead: rest[column])
    }
    switch kernel {
    case "awq": return make([72, 92, 92], [311, 303, 303], [552, 504, 485], [519, 450, 450])
    case "quick1": return make([80, 80, 80], [208, 208, 208], [307, 210, 81], [305, 305, 305])
    case "quick16": return make([80, 80, 80], [216, 216, 216], [356, 268, 155], [434, 434, 434])
    case "quick32":
      return make([128, 128, 128], [245, 245, 245], [337, 287, 209], [437, 437, 437])
    default: return make([206, 206, 206], [284, 284, 284], [346, 275, 191], [603, 603, 603])
    }
  }

  func kernel(m: Int, on spec: DeviceSpec) throws -> SpeedupCauses.Case {
    switch self {
    case .awq: Self.awq(m: m, on: spec)
    case .quick: Self.quick(m: m, on: spec)
    case .float16:
      // The library chooses among its tiles and splits; so does this.
      try Self.float16(m: m, on: spec)
    }
  }

  private static func site(
    _ name: String, _ operation: Access.Operation? = nil, instructions: Int = 0,
    wavefronts: Int = 0, requests: Int = 0, bytes: Int = 0, sectors: Int = 0, lines: Int = 0,
    store: Bool = false, times: Int
  ) -> Counters.Site {
    var site = Counters.Site(name)
    site.operation = operation
    site.shared.instructions = instructions * times
    site.shared.wavefronts = wavefronts * times
    site.shared.ideal = min(wavefronts, 4 * instructions) * times
    site.global.requests = requests * times
    site.global.bytes = bytes * times
    site.global.sectors = sectors * times
    site.global.lines = lines * times
    site.isGlobalStore = store
    return site
  }

  private static func launch(
    _ name: String, compiled: Compiled, blocks: Int, shared: Int, steps: Int, mma: Int,
    distinct: Int, rowTiles: Int, split: Int, m: Int
  ) -> Launch {
    Launch(
      name: name, blocks: blocks, warpsPerBlock: 2,
      registersPerThread: Sourced(compiled.registers, .compilerReport("nvcc 13.0.88")),
      sharedBytesPerBlock: shared, stepsPerBlock: steps,
      chain: [
        .issue(Sourced(compiled.issue, .compilerReport("replay of the SASS loop"))),
        .globalLoad(rounds: 1), .barrier(2), .sharedLoad(1), .matrix(.m16n8k16, mma),
      ],
      instructionsPerWarpStep: Sourced(compiled.instructions, .compilerReport("SASS loop")),
      blockOverheadCycles: Sourced(compiled.overhead, .compilerReport("SASS outside the loop")),
      distinctBytes: distinct, missShare: 1 / Double(rowTiles),
      splitSum: SplitSum(parts: split, elements: m * n))
  }

  static func awq(m: Int, on spec: DeviceSpec) -> SpeedupCauses.Case {
    let split = 8
    let rowTiles = (m + 15) / 16
    let blocks = rowTiles * n / 128 * split
    let steps = k / 32 / split
    let blockSteps = blocks * steps
    let warpSteps = 2 * blockSteps
    let rows = min(m, 16)
    var counters = Counters()
    counters.sites = [
      site(
        "A load", requests: (rows + 7) / 8, bytes: rows * 64, sectors: rows * 2, lines: rows,
        times: blockSteps),
      site("A store", .store, instructions: 1, wavefronts: 8, times: warpSteps),
      site("B load", requests: 8, bytes: 1024, sectors: 32, lines: 16, times: warpSteps),
      site("zeros", requests: 1, bytes: 128, sectors: 2, lines: 1, times: warpSteps),
      site("scales", requests: 1, bytes: 512, sectors: 8, lines: 2, times: warpSteps),
      site("B store", .store, instructions: 8, wavefronts: 32, times: warpSteps),
      site("A ldmatrix", .ldmatrix, instructions: 2, wavefronts: 8, times: warpSteps),
      site("B ldmatrix", .ldmatrix, instructions: 8, wavefronts: 32, times: warpSteps),
      site(
        "C store", requests: 64, bytes: rows * 256, sectors: 32 * rows, lines: 32 * rows,
        store: true, times: blocks),
    ]
    counters.matrixInstructions[.m16n8k16] = 16 * warpSteps
    counters.blocks = blocks
    let distinct = k * n / 2 + k / group * n * 5 / 2 + 2 * m * k
    return SpeedupCauses.Case(
      counters,
      launch(
        "awq", compiled: compiled("awq", capability: spec.capability.value), blocks: blocks,
        shared: 9984, steps: steps, mma: 16, distinct: distinct, rowTiles: rowTiles, split: split,
        m: m))
  }

  static func quick(m: Int, on spec: DeviceSpec) -> SpeedupCauses.Case {
    let split = spec.identifier.hasPrefix("a100") ? 16 : 8
    let tile = m > 32 ? 64 : m > 16 ? 32 : 16
    let units = tile / 16
    let rowTiles = (m + tile - 1) / tile
    let blocks = rowTiles * n / 128 * split
    let steps = k / 32 / split
    let blockSteps = blocks * steps
    let warpSteps = 2 * blockSteps
    let rows = min(m, tile)
    let loaded = m == 1 ? 16 : rows
    var counters = Counters()
    counters.sites = [
      site(
        "A load", requests: (loaded + 7) / 8, bytes: rows * 64, sectors: rows * 2, lines: rows,
        times: blockSteps),
      site("A store", .store, instructions: units, wavefronts: 8 * units, times: warpSteps),
      site("B load", requests: 2, bytes: 1024, sectors: 64, lines: 16, times: warpSteps),
      site("zeros", requests: 1, bytes: 256, sectors: 2, lines: 2, times: warpSteps),
      site("scales", requests: 2, bytes: 1024, sectors: 16, lines: 4, times: warpSteps),
      site(
        "A ldmatrix", .ldmatrix, instructions: 2 * units, wavefronts: 8 * units, times: warpSteps),
      site(
        "C store", requests: 32 * units, bytes: rows * 256, sectors: 16 * rows, lines: 16 * rows,
        store: true, times: blocks),
    ]
    counters.matrixInstructions[.m16n8k16] = 16 * units * warpSteps
    counters.blocks = blocks
    let distinct = k * n / 2 + k / group * n * 5 + 2 * m * k
    let text = compiled(m == 1 ? "quick1" : "quick\(tile)", capability: spec.capability.value)
    return SpeedupCauses.Case(
      counters,
      launch(
        "quick", compiled: text, blocks: blocks, shared: tile * 80, steps: steps, mma: 16 * units,
        distinct: distinct, rowTiles: rowTiles, split: split, m: m))
  }

  private static func float16(m: Int, on spec: DeviceSpec) throws -> SpeedupCauses.Case {
    var best: (kernel: SpeedupCauses.Case, time: Double)?
    for tile in m > 64 ? [64, 128] : [64] {
      for split in [1, 2, 3, 4, 5, 6, 8] {
        let candidate = float16(m: m, tile: tile, split: split)
        let time = try LatencyBound().estimate(candidate.counters, candidate.launch, spec)
          .microseconds
        if best.map({ time < $0.time }) ?? true { best = (candidate, time) }
      }
    }
    return best!.kernel
  }

  /// A library-like kernel: tile × 128 × 32, four warps, four stages of asynchronous copies.
  private static func float16(m: Int, tile: Int, split: Int) -> SpeedupCauses.Case {
    let rowTiles = (m + tile - 1) / tile
    let blocks = rowTiles * n / 128 * split
    let steps = (k / 32 + split - 1) / split
    let warpSteps = 4 * blocks * steps
    let copies = (tile * 64 + 8192) / 4
    var counters = Counters()
    counters.sites = [
      site(
        "copy", .asyncCopy, instructions: copies / 512, wavefronts: copies / 128,
        requests: copies / 512, bytes: copies, sectors: copies / 32, lines: copies / 64,
        times: warpSteps),
      site("A ldmatrix", .ldmatrix, instructions: tile / 8, wavefronts: tile / 2, times: warpSteps),
      site("B ldmatrix", .ldmatrix, instructions: 8, wavefronts: 32, times: warpSteps),
    ]
    counters.matrixInstructions[.m16n8k16] = tile / 2 * warpSteps
    counters.instructions[.integer] = 30 * warpSteps
    counters.blocks = blocks
    let launch = Launch(
      name: "float16", blocks: blocks, warpsPerBlock: 4,
      registersPerThread: Sourced(tile == 64 ? 128 : 232, .assumed("accumulators and fragments")),
      sharedBytesPerBlock: 4 * (tile * 64 + 8192), stepsPerBlock: steps,
      chain: [.globalLoad(rounds: 1), .barrier(1), .sharedLoad(1), .matrix(.m16n8k16, tile / 2)],
      pipelineStages: 4, distinctBytes: 2 * (k * n + m * k + m * n),
      missShare: 1 / Double(rowTiles),
      splitSum: split > 1 ? SplitSum(parts: split, elements: m * n) : nil)
    return SpeedupCauses.Case(counters, launch)
  }
}

/// The README's table and figure of SqueezeBits/QUICK, corrected rows, TFLOP/s: float16, AWQ, QUICK.
enum PublishedCells {
  static let rows = [1, 4, 8, 16, 32, 64, 128, 256]
  static let devices: [(spec: DeviceSpec, cells: [[Double?]])] = [
    (
      .rtx4090,
      [
        [0.8, 3.11, 3.12], [3.6, 12.5, 12.4], [7.3, 24.3, 24.5], [14.2, 44.1, 47.8],
        [28.7, 73.5, 84.3], [56.4, 91.39, 111.99], [111.1, 100.0, 130.8], [138.2, 104.36, 138.59],
      ]
    ),
    (
      .a6000,
      [
        [0.7, 2.21, 2.28], [2.8, 8.9, 8.9], [5.4, 17.0, 17.5], [10.6, 30.8, 33.3],
        [22.2, 42.0, 57.4], [39.4, 44.85, 80.42], [81.7, 46.05, 83.62], [93.3, 46.6, 89.0],
      ]
    ),
    (
      .l40,
      [
        [0.7, 2.41, 2.51], [nil, 9.7, 10.0], [5.6, 19.1, 19.6], [10.7, 35.5, 38.3],
        [22.7, 62.1, 70.2], [44.4, 72.9, 97.73], [87.1, 64.28, 107.67], [148, 66.7, 117.8],
      ]
    ),
    (
      .a100x80,
      [
        [1.4, 2.94, 3.52], [6.1, 11.3, 13.4], [11.6, 21.7, 25.8], [22.6, 34.23, 48.14],
        [46.4, 48.83, 69.03], [91.9, 57.43, 76.31], [157.4, 58.46, 94.03], [202.2, 61.1, 107.9],
      ]
    ),
  ]

  /// µs of a published TFLOP/s.
  static func microseconds(_ teraflop: Double, m: Int) -> Double {
    2 * Double(m) * 8192 * 8192 / teraflop / 1e6
  }
}
