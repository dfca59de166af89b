import DeviceModel
import QuantKernels
import TestSupport
import Testing

/// Counters of the simulated int4 products, one warp and one step of 32 inputs: what the
/// texts of AutoAWQ_kernels' and SqueezeBits/QUICK's kernels add up to.
@Suite struct GemmCountersTests {
  /// One warp and one step of a kernel that ran alone on 64 steps without a ragged tile.
  struct WarpStep {
    let counters: Counters
    let warpSteps: Int

    /// `blocksAlike`: tiles that together make one step of the table (AWQ's four for 64 rows).
    init(_ counters: Counters, steps: Int, blocksAlike: Int = 1) {
      self.counters = counters
      warpSteps = 2 * steps * counters.blocks / blocksAlike
    }

    func shared(_ site: String? = nil) -> [Int] {
      let shared = site.map { counters.site($0).shared } ?? counters.sharedMemory
      #expect(shared.wavefronts % warpSteps == 0 && shared.conflicts % warpSteps == 0)
      return [shared.wavefronts / warpSteps, shared.conflicts / warpSteps]
    }

    func global(_ site: String) -> [Int] {
      let global = counters.site(site).global
      return [global.requests / warpSteps, global.sectors / warpSteps]
    }

    func instructions(_ kind: InstructionClass) -> Int {
      (counters.instructions[kind] ?? 0) / warpSteps
    }

    var matrix: Int { counters.matrixInstructionCount / warpSteps }
    var sharedBytesOfBlock: Int { 2 * counters.sharedMemory.bytes / warpSteps }
  }

  private static let steps = 8

  /// Counts M rows by 128 outputs; `groupSize` 32, so that the improved kernel reloads scales every
  /// step too.
  private static func count(
    _ kernel: GPUKernel, rows: Int, policy: BankPolicy = .m1
  ) throws -> Counters {
    let gpu = SimulatedGPU(
      kernel: kernel, splits: 1, simulator: WarpSimulator(policy: policy))
    let run = try Int4Matrix.countMatmul(
      count: rows, rows: 128, columns: 32 * steps, groupSize: 32, on: gpu)
    return try #require(run.counters)
  }

  @Test func awqSixteenRows() throws {
    let step = WarpStep(try Self.count(.awq, rows: 16), steps: Self.steps)
    #expect(step.shared("store A") == [8, 4])
    #expect(step.shared("write back B") == [32, 0])
    #expect(step.shared("ldmatrix A") == [8, 0])
    #expect(step.shared("ldmatrix.trans B") == [32, 0])
    #expect(step.shared() == [80, 4])
    #expect(step.sharedBytesOfBlock == 19_456)
    #expect(step.matrix == 16)
    #expect(step.global("load B") == [8, 32])
    // 17 a word of weights, 9 for the word of zero points.
    #expect(step.instructions(.integer) + step.instructions(.half2) == 136 + 9)
    #expect(step.counters.barriers == 2 * Self.steps)
  }

  @Test func quickSixteenRows() throws {
    let step = WarpStep(try Self.count(.quick, rows: 16), steps: Self.steps)
    #expect(step.shared("store A") == [8, 4])
    #expect(step.shared("ldmatrix A") == [8, 0])
    #expect(step.shared() == [16, 4])
    #expect(step.sharedBytesOfBlock == 3_072)
    #expect(step.matrix == 16)
    #expect(step.global("load B") == [2, 64])
    #expect(step.counters.site("load B").shared.wavefronts == 0)
    // 15 a word of weights, 7 for each of the two words of zero points.
    #expect(step.instructions(.integer) + step.instructions(.half2) == 120 + 14)
    #expect(step.counters.barriers == 2 * Self.steps)
  }

  @Test func quickThirtyTwoRows() throws {
    let step = WarpStep(try Self.count(.quick, rows: 32), steps: Self.steps)
    #expect(step.shared("store A") == [16, 8])
    #expect(step.shared() == [32, 8])
    #expect(step.matrix == 32)
    #expect(step.global("load B") == [2, 64])
    #expect(step.instructions(.integer) + step.instructions(.half2) == 120 + 14)
  }

  @Test func quickSixtyFourRows() throws {
    let step = WarpStep(try Self.count(.quick, rows: 64), steps: Self.steps)
    #expect(step.shared("store A") == [32, 16])
    #expect(step.shared("ldmatrix A") == [32, 0])
    #expect(step.shared() == [64, 16])
    #expect(step.sharedBytesOfBlock == 12_288)
    #expect(step.matrix == 64)
    // Each word twice: 128 sectors asked for, 64 of them distinct requests' halves.
    #expect(step.global("load B") == [4, 128])
    #expect(step.instructions(.integer) + step.instructions(.half2) == 240 + 14)
    #expect(step.counters.barriers == 2 * Self.steps)
  }

  @Test func awqForSixtyFourRows() throws {
    let counters = try Self.count(.awq, rows: 64)
    #expect(counters.blocks == 4)
    let step = WarpStep(counters, steps: Self.steps, blocksAlike: 4)
    #expect(step.shared("store A") == [32, 16])
    #expect(step.shared("write back B") == [128, 0])
    #expect(step.shared("ldmatrix A") == [32, 0])
    #expect(step.shared("ldmatrix.trans B") == [128, 0])
    #expect(step.shared() == [320, 16])
    #expect(step.sharedBytesOfBlock == 77_824)
    #expect(step.matrix == 64)
    #expect(step.global("load B") == [32, 128])
    #expect(step.instructions(.integer) + step.instructions(.half2) == 544 + 36)
    #expect(step.counters.barriers == 8 * Self.steps)
  }

  /// Five times the wavefronts at every M that fills tiles, though conflicts are the same.
  @Test(arguments: [16, 64, 128])
  func fiveTimesTheWavefronts(rows: Int) throws {
    let awq = try Self.count(.awq, rows: rows).sharedMemory
    let quick = try Self.count(.quick, rows: rows).sharedMemory
    #expect(awq.wavefronts == 5 * quick.wavefronts)
    #expect(awq.conflicts == quick.conflicts)
  }

  @Test(arguments: [16, 32, 64])
  func improved(rows: Int) throws {
    let step = WarpStep(try Self.count(.quickImproved, rows: rows), steps: Self.steps)
    let blocks = rows / 16
    #expect(step.shared("copy A") == [4 * blocks, 0])
    #expect(step.shared("ldmatrix A") == [8 * blocks, 0])
    #expect(step.shared() == [12 * blocks, 0])
    #expect(step.matrix == 16 * blocks)
    // Whole sectors, and each word once whatever the rows.
    #expect(step.global("load B") == [2, 32])
    #expect(step.instructions(.half2) == 80 + 2)
    #expect(step.global("load scales") == [1, 4])
    #expect(step.global("load zero points") == [1, 1])
    #expect(step.counters.barriers == Self.steps)
  }

  /// Under M2 a 16-byte store in two pieces costs four passes more: the write-back then conflicts,
  /// and so does everybody's store of activations.
  @Test func splitStores() throws {
    let awq = WarpStep(try Self.count(.awq, rows: 16, policy: .m2), steps: Self.steps)
    #expect(awq.shared("write back B") == [64, 32])
    #expect(awq.shared("store A") == [12, 8])
    let quick = WarpStep(try Self.count(.quick, rows: 16, policy: .m2), steps: Self.steps)
    #expect(quick.shared("store A") == [12, 8])
    let ours = WarpStep(try Self.count(.quickImproved, rows: 16, policy: .m2), steps: Self.steps)
    #expect(ours.shared() == [12, 0])
  }

  @Test(arguments: [1, 16, 17, 33, 64, 100])
  func dequantizationsOfAWeight(rows: Int) throws {
    let lanesAndPairs = 32 * 8  // weights of a word in 32 lanes
    func words(_ kernel: GPUKernel, zeroWords: Int, half2: Int, zeroHalf2: Int) throws -> Int {
      let counters = try Self.count(kernel, rows: rows)
      let warpSteps = 2 * Self.steps * counters.blocks
      let all = (counters.instructions[.half2] ?? 0) - warpSteps * zeroWords * zeroHalf2
      return all / half2
    }
    let weights = 128 * 32 * Self.steps
    let awq = try words(.awq, zeroWords: 1, half2: 12, zeroHalf2: 4)
    #expect(awq * lanesAndPairs == weights * ((rows + 15) / 16))
    let quick = try words(.quick, zeroWords: 2, half2: 10, zeroHalf2: 2)
    // Once for every 32 rows of the tile, which has 64 above 32 rows.
    let passes = rows <= 32 ? 1 : 2 * ((rows + 63) / 64)
    #expect(quick * lanesAndPairs == weights * passes)
    let ours = try words(.quickImproved, zeroWords: 1, half2: 10, zeroHalf2: 2)
    #expect(ours * lanesAndPairs == weights * ((rows + 63) / 64))
  }

  @Test func sharedMemoryOfABlock() throws {
    let x = try HalfActivations(zeros: 1, columns: 32)
    let awq = try Int4DeviceWeights(zeros: .awq, rows: 128, columns: 32, groupSize: 32)
    let quick = try Int4DeviceWeights(zeros: .quick, rows: 128, columns: 32, groupSize: 32)
    let ours = try Int4DeviceWeights(zeros: .quickImproved, rows: 128, columns: 32, groupSize: 32)
    #expect(try AWQGemm(x, awq).sharedBytesPerBlock == 9_984)
    let bytes = try QuickGemm.Tile.allCases.map {
      try QuickGemm(x, quick, tile: $0).sharedBytesPerBlock
    }
    #expect(bytes == [1_280, 1_280, 2_560, 5_120])
    #expect(try ImprovedQuickGemm(x, ours).sharedBytesPerBlock == 4 * 1_024)
    // Scales and zero points: QUICK's stand twice, ours once.
    #expect(quick.scales.byteCount == 2 * awq.scales.byteCount)
    #expect(quick.zeroPoints.byteCount == 2 * awq.zeroPoints.byteCount)
    #expect(ours.scales.byteCount == awq.scales.byteCount)
    #expect(ours.zeroPoints.byteCount == awq.zeroPoints.byteCount)
  }

  /// Scales are reloaded only when the group changes: every fourth step of one split with G = 128.
  @Test func improvedReloadsScalesByGroup() throws {
    let gpu = SimulatedGPU(kernel: .quickImproved, splits: 1)
    let run = try Int4Matrix.countMatmul(
      count: 16, rows: 128, columns: 512, groupSize: 128, on: gpu)
    #expect(run.counters?.site("load scales").global.requests == 2 * 4)
    #expect(run.counters?.site("load B").global.requests == 2 * 16 * 2)
  }

  /// One block of each class, multiplied, counts what the full run counts.
  @Test(arguments: [
    (1, 128, 32, 1), (16, 384, 352, 3), (40, 640, 352, 4), (64, 256, 128, 1), (130, 384, 96, 2),
    (70, 1152, 64, 8),
  ])
  func classesCountLikeAllBlocks(count: Int, rows: Int, columns: Int, splits: Int) throws {
    for kernel in [GPUKernel.awq, .quick, .quickImproved] {
      for groupSize in [32, columns] {
        let test = try GemmCase(
          count: count, rows: rows, columns: columns, groupSize: groupSize)
        let full = try test.run(kernel, splits: splits)
        let sampled = try Int4Matrix.countMatmul(
          count: count, rows: rows, columns: columns, groupSize: groupSize,
          on: SimulatedGPU(kernel: kernel, splits: splits))
        #expect(full.launches.count == (splits > 1 ? 2 : 1))
        #expect(full.launches.map(\.counters) == sampled.launches.map(\.counters), "\(kernel)")
      }
    }
  }

  /// Neither the values nor the counters depend on how many blocks run at a time.
  @Test func threadsDoNotMatter() throws {
    let test = try GemmCase(count: 40, rows: 384, columns: 128, groupSize: 32)
    for kernel in [GPUKernel.awq, .quick, .quickImproved] {
      let one = try test.run(kernel, splits: 3)
      let three = try test.run(kernel, splits: 3, simulator: WarpSimulator(threads: 3))
      #expect(bits(one.output) == bits(three.output))
      #expect(one.launches.map(\.counters) == three.launches.map(\.counters))
    }
  }

  /// No race, no unwritten byte, no early read of a copy, no global byte of two blocks.
  @Test(arguments: [1, 5, 16, 17, 33, 64, 70])
  func checksFindNothing(count: Int) throws {
    let test = try GemmCase(count: count, rows: 256, columns: 160, groupSize: 32)
    for kernel in [GPUKernel.awq, .quick, .quickImproved] {
      let plain = try test.run(kernel, splits: 2)
      let checked = try test.run(kernel, splits: 2, simulator: WarpSimulator(checks: true))
      #expect(bits(plain.output) == bits(checked.output))
      #expect(plain.launches.map(\.counters) == checked.launches.map(\.counters))
    }
  }
}
