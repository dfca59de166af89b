import DeviceModel
import Testing

@testable import QuantKernels

@Suite struct SimulatedAttentionCountersTests {
  typealias Case = DeviceAttentionCase

  private func site(_ counters: Counters, _ name: String) -> Counters.Site {
    counters.sites.first { $0.name == name } ?? Counters.Site(name)
  }

  private func device(_ kernel: GPUAttentionKernel) -> DeviceSpec {
    kernel == .flash ? .a100x80 : .v100
  }

  static let cases = [
    Case(queryLength: 300, keyLength: 500, heads: 4, keyValueHeads: 2, width: 128, causal: true),
    Case(queryLength: 257, keyLength: 700, heads: 2, keyValueHeads: 1, width: 80),
    Case(queryLength: 400, keyLength: 100, heads: 3, keyValueHeads: 3, width: 64, causal: true),
    Case(queryLength: 128, keyLength: 1024, width: 64, causal: true),
    Case(queryLength: 5, keyLength: 1700, heads: 2, keyValueHeads: 1, width: 64),
  ]

  /// Counting from a few steps of a few blocks is exactly what running everything counts.
  @Test(arguments: GPUAttentionKernel.allCases, cases)
  func countingIsRunning(_ kernel: GPUAttentionKernel, _ test: Case) throws {
    let run = try test.run(kernel)
    let counted = try SimulatedAttention.count(kernel, shape: test.shape(), on: device(kernel))
    #expect(run.launches.count == counted.parts.count)
    for (launch, part) in zip(run.launches, counted.parts) {
      var left = launch.counters
      var right = part.counters
      // Pictures of first accesses are of whatever block came first.
      for index in left.sites.indices { left.sites[index].example = nil }
      for index in right.sites.indices { right.sites[index].example = nil }
      for (a, b) in zip(left.sites, right.sites) {
        #expect(a.shared == b.shared, "\(part.name) \(a.name)")
        #expect(a.global == b.global, "\(part.name) \(a.name)")
        #expect(a.laneAccesses == b.laneAccesses, "\(part.name) \(a.name)")
      }
      #expect(left.matrixInstructions == right.matrixInstructions, "\(part.name)")
      #expect(left.instructions == right.instructions, "\(part.name)")
      #expect(left.barriers == right.barriers, "\(part.name)")
      #expect(left.blocks == right.blocks, "\(part.name)")
    }
    #expect(run.estimate?.microseconds == (try counted.estimate().microseconds))
  }

  /// Queries and outputs once, keys and values once for every tile of rows that sees them, in every
  /// query head: hidden tiles cost nothing.
  @Test(arguments: [GPUAttentionKernel.volta, .flash], [64, 128])
  func trafficFollowsFromTheTiles(_ kernel: GPUAttentionKernel, _ width: Int) throws {
    for causal in [false, true] { try checkTraffic(kernel, width, causal) }
  }

  private func checkTraffic(
    _ kernel: GPUAttentionKernel, _ width: Int, _ causal: Bool
  ) throws {
    let (rows, keys, heads) = (1024, 2048, 4)
    let shape = try DeviceAttentionShape(
      queryLength: rows, keyLength: keys, heads: heads, keyValueHeads: 2, headDimension: width,
      isCausal: causal)
    let counted = try SimulatedAttention.count(kernel, shape: shape, on: device(kernel))
    let counters = counted.counters
    let tile = FlashAttentionKernel.standardTile(width: width, isVolta: kernel == .volta)
    let rowBytes = width * 2
    #expect(site(counters, "Q load").global.bytes == heads * rows * rowBytes)
    #expect(site(counters, "O store").global.bytes == heads * rows * rowBytes)
    var tiles = 0
    for first in stride(from: 0, to: rows, by: tile.rows) {
      let visible = causal ? first + tile.rows + keys - rows : keys
      tiles += (visible + tile.keys - 1) / tile.keys
    }
    tiles *= heads
    for name in ["K load", "V load"] {
      let global = site(counters, name).global
      #expect(global.bytes == tiles * tile.keys * rowBytes)
      #expect(global.sectors * 32 == global.bytes)
      #expect(global.requests * 512 == global.bytes)
    }
    // 2 · 128 · keys · d multiply-adds a tile; two barriers a tile and one before.
    let multiplyAdds = tiles * 2 * tile.rows * tile.keys * width
    #expect(
      counters.matrixInstructionCount
        == multiplyAdds / (kernel == .volta ? 1024 : 2048))
    let blocks = heads * rows / tile.rows
    #expect(counters.barriers == blocks + 2 * tiles)
    #expect(counters.blocks == blocks)
    #expect(counters.sharedMemory.conflicts == 0)
    if kernel == .volta {
      // Six shuffles a block of 16 × 16 scores; two a row and block for the maximum; the last sums and
      // the way out: two an output block.
      let perWarp = 32 * tile.keys / 256
      let exchange = tiles * tile.warps * perWarp * 6
      let maxima = tiles * tile.warps * 4 * 2
      let out = blocks * tile.warps * (4 * 2 + 2 * width / 8)
      #expect(counters.instructions[.shuffle] == exchange + maxima + out)
      // No P in shared memory: the only stores are Q, K, V and the output.
      #expect(
        counters.sharedMemory(.store).bytes
          == heads * rows * rowBytes * 2 + 2 * tiles * tile.keys * rowBytes)
      // Operands by 16-byte loads: a warp's queries (two blocks of rows) and the tile's keys, twice
      // the bytes since two quad-pairs share each; values likewise.
      #expect(
        site(counters, "Q operand").shared.bytes == tiles * tile.warps * 32 * rowBytes * 2)
      #expect(
        site(counters, "K operand").shared.bytes == tiles * tile.warps * tile.keys * rowBytes * 2)
      #expect(
        site(counters, "V operand").shared.bytes == tiles * tile.warps * tile.keys * rowBytes * 2)
    }
  }

  /// Keys by the square arrangement: without a swizzle eight rows of a column are read at a time, an
  /// eight-way conflict; queries and values meet four at a time. With it, or padding: none.
  @Test(arguments: [64, 128])
  func conflictsAreEightWayWithoutTheSwizzle(_ width: Int) throws {
    let shape = try DeviceAttentionShape(
      queryLength: 256, keyLength: 512, heads: 1, headDimension: width)
    func counters(
      _ order: OperandOrder, _ pairs: FlashAttentionKernel.QuadPairs = .square
    ) throws -> Counters {
      var options = FlashAttentionKernel.Options()
      options.order = order
      options.quadPairs = pairs
      return try SimulatedAttention.count(.volta, shape: shape, on: .v100, options: options)
        .counters
    }
    func ways(_ counters: Counters, _ name: String) -> Int {
      let shared = site(counters, name).shared
      #expect(shared.wavefronts % shared.ideal == 0)
      return shared.wavefronts / shared.ideal
    }
    for pairs in FlashAttentionKernel.QuadPairs.allCases {
      for order in [OperandOrder.swizzled, .padded] {
        let counters = try counters(order, pairs)
        for name in ["Q store", "K store", "V store", "Q operand", "K operand", "V operand"] {
          #expect(site(counters, name).shared.conflicts == 0, "\(name) \(order) \(pairs)")
        }
        if order == .swizzled { #expect(counters.sharedMemory.conflicts == 0) }
      }
    }
    let plain = try counters(.rowMajor)
    #expect(ways(plain, "K operand") == 8)
    #expect(ways(plain, "Q operand") == 4)
    #expect(ways(plain, "V operand") == 4)
    let below = try counters(.rowMajor, .rows)
    #expect(ways(below, "Q operand") == 8)
    #expect(ways(below, "K operand") == 4)
    #expect(ways(below, "V operand") == 4)
  }

  /// CUTLASS' own orders keep its operands without conflicts, P's stores included or not: what is
  /// counted, not assumed.
  @Test(arguments: [64, 128])
  func memoryEfficientTraffic(_ width: Int) throws {
    let (rows, keys, heads) = (256, 512, 2)
    let shape = try DeviceAttentionShape(
      queryLength: rows, keyLength: keys, heads: heads, keyValueHeads: 1, headDimension: width)
    let counters = try SimulatedAttention.count(.xformers, shape: shape, on: .v100).counters
    let (tileRows, tileKeys) = width == 64 ? (64, 64) : (32, 128)
    let blocks = heads * rows / tileRows
    let steps = blocks * keys / tileKeys
    // Queries anew for every block of keys.
    #expect(site(counters, "Q load").global.bytes == steps * tileRows * width * 2)
    #expect(site(counters, "K load").global.bytes == steps * tileKeys * width * 2)
    #expect(site(counters, "V load").global.bytes == steps * tileKeys * width * 2)
    #expect(site(counters, "O store").global.bytes == blocks * tileRows * width * 2)
    #expect(site(counters, "P store").shared.bytes == steps * tileRows * tileKeys * 2)
    #expect(counters.matrixInstructionCount == steps * 2 * tileRows * tileKeys * width / 1024)
    for name in ["Q operand", "K operand", "P operand", "V operand"] {
      #expect(site(counters, name).shared.conflicts == 0, "\(name)")
    }
    #expect(counters.instructions[.shuffle, default: 0] > 0)
  }

  /// Hidden tiles are skipped: causal work is half and a diagonal's tiles.
  @Test func causalSkipsHiddenTiles() throws {
    func instructions(_ kernel: GPUAttentionKernel, causal: Bool) throws -> Int {
      let shape = try DeviceAttentionShape(
        queryLength: 4096, keyLength: 4096, heads: 1, headDimension: 128, isCausal: causal)
      return try SimulatedAttention.count(kernel, shape: shape, on: device(kernel)).counters
        .matrixInstructionCount
    }
    for kernel in [GPUAttentionKernel.volta, .flash, .xformers] {
      let share =
        Double(try instructions(kernel, causal: true))
        / Double(try instructions(kernel, causal: false))
      #expect(share > 0.5 && share < 0.53)
    }
    #expect(
      try instructions(.unfused, causal: true) == instructions(.unfused, causal: false))
  }

  /// The workspace of the fused kernels does not grow, that of the unfused is S².
  @Test func workspace() throws {
    let shape = try DeviceAttentionShape(
      queryLength: 65536, keyLength: 65536, heads: 2, headDimension: 64, isCausal: true)
    let fused = try SimulatedAttention.count(.volta, shape: shape, on: .v100)
    #expect(fused.workspaceBytes == 0)
    let unfused = try SimulatedAttention.count(.unfused, shape: shape, on: .v100)
    #expect(unfused.workspaceBytes == 2 * 65536 * 65536 * 2)
    let scores = unfused.parts[0].counters
    #expect(site(scores, "C store").global.bytes == unfused.workspaceBytes)
    #expect(try unfused.estimate().microseconds > 2 * fused.estimate().microseconds)
    // Some hundred blocks stand for all of them.
    #expect(fused.simulatedLaneAccesses < fused.counters.laneAccesses / 100)
  }

  /// A ratio moves with what is assumed; every such number is listed once.
  @Test func sensitivitiesCoverEveryAssumption() throws {
    let shape = try DeviceAttentionShape(
      queryLength: 1024, keyLength: 1024, heads: 16, headDimension: 128, isCausal: true)
    let comparison = AttentionComparison(
      of: try SimulatedAttention.count(.volta, shape: shape, on: .v100),
      over: try SimulatedAttention.count(.xformers, shape: shape, on: .v100))
    let ratio = try comparison.ratio()
    let list = comparison.sensitivities()
    #expect(Set(list.map(\.parameter)).count == list.count)
    for word in [
      "sustained clock", "L2 read", "barrier", "launch", "fill of a sector", "registers",
      "before and after",
    ] {
      #expect(list.contains { $0.parameter.contains(word) }, "\(word)")
    }
    for entry in list {
      #expect(entry.ratios.count == 5)
      #expect(entry.ratios[2] == ratio || entry.parameter.contains("+ factor"))
      #expect(entry.range.contains(ratio) || entry.parameter.contains("+ factor"))
    }
    #expect(list.contains { $0.range.lowerBound != $0.range.upperBound })
  }
}
