import DeviceModel
import QuantKernels
import TestSupport
import Testing

@Suite struct SimulatedMatmulTests {
  private func count(
    _ kernel: GPUKernel, m: Int = 16, n: Int = 512, k: Int = 1024, on device: DeviceSpec = .a100x80
  ) throws -> SimulatedMatmul {
    try SimulatedMatmul.count(kernel, rows: m, outputs: n, inputs: k, on: device)
  }

  @Test func everyKernelIsCountedAndTimed() throws {
    for kernel in GPUKernel.allCases {
      let product = try count(kernel, m: kernel == .w2a8 ? 1 : 16)
      let estimate = try product.estimate()
      #expect(estimate.microseconds > 0 && estimate.microseconds.isFinite)
      #expect(estimate.microsecondsWithoutLatency <= estimate.microseconds)
      #expect(product.warpSteps > 0)
      #expect(product.laneAccessesPerSecond > 0)
      // The main loop is part of the whole.
      #expect(
        product.loopCounters.sharedMemory.wavefronts <= product.counters.sharedMemory.wavefronts)
      if kernel != .w2a8 {
        let multiplyAdds = product.counters.matrixInstructionCount * 2048
        #expect(multiplyAdds >= 16 * 512 * 1024)
      }
    }
  }

  /// The table of the two kernels' sources: 80 and 16 wavefronts a warp and step, 5 : 1.
  @Test func wavefrontsAWarpStep() throws {
    func perStep(_ kernel: GPUKernel, m: Int) throws -> (wavefronts: Int, conflicts: Int) {
      let product = try count(kernel, m: m)
      let shared = product.loopCounters.sharedMemory
      #expect(shared.wavefronts % product.warpSteps == 0)
      return (shared.wavefronts / product.warpSteps, shared.conflicts / product.warpSteps)
    }
    #expect(try perStep(.awq, m: 16) == (80, 4))
    #expect(try perStep(.awq, m: 64) == (80, 4))
    #expect(try perStep(.quick, m: 16) == (16, 4))
    #expect(try perStep(.quick, m: 64) == (64, 16))
    #expect(try perStep(.quickImproved, m: 16) == (12, 0))
    #expect(try perStep(.quickImproved, m: 64) == (48, 0))
  }

  @Test func aDeviceChangesTimeAndNotCounters() throws {
    let here = try count(.quickImproved)
    let there = here.moved(to: .rtx4090)
    #expect(here.counters == there.counters)
    #expect(try here.estimate().microseconds != there.estimate().microseconds)
    #expect(
      try there.estimate().microseconds
        == count(.quickImproved, on: .rtx4090).estimate().microseconds)
  }

  @Test func theSamePublicCallGivesValuesCountersAndTime() throws {
    let test = try GemmCase(count: 5, rows: 256, columns: 128, groupSize: 128, symmetric: true)
    let reference = try test.matrix.matmul(test.x, arithmetic: .float16Products(splits: 1))
    for kernel in [GPUKernel.awq, .quick, .quickImproved, .marlin, .half] {
      let run = try test.matrix.matmul(
        test.x, on: .gpu(.a100x80, kernel: kernel, splits: kernel == .marlin ? nil : 1))
      #expect(run.output.count == 5 * 256)
      #expect((run.estimate?.microseconds ?? 0) > 0)
      #expect((run.counters?.matrixInstructionCount ?? 0) > 0)
      #expect(run.measured == nil)
      // Other orders of sums: within the bound of float32 sums of 128 terms and binary16 results.
      let largest = reference.map(abs).max() ?? 0
      for (ours, wanted) in zip(run.output, reference) {
        #expect(abs(ours - wanted) <= 2e-3 * largest)
      }
      if GPUKernel.splittingK.contains(kernel) { #expect(run.output == reference) }
    }
    #expect(try test.matrix.matmul(test.x, on: .cpu).measured != nil)
    #expect(throws: QuantError.self) {
      try test.matrix.matmul(test.x, on: .gpu(.a100x80, kernel: .w2a8))
    }
  }

  @Test func whatADeviceLacksIsRefusedBeforeAnythingRuns() throws {
    func code(_ body: () throws -> Void) -> QuantError.Code? {
      do {
        try body()
        return nil
      } catch { return (error as? QuantError)?.code }
    }
    for kernel in GPUKernel.allCases where kernel != .w2a8 {
      #expect(code { _ = try count(kernel, on: .v100) } == .unsupported, "\(kernel)")
    }
    #expect(code { _ = try count(.w2a8, m: 1, on: .v100) } == nil)
    #expect(code { _ = try count(.w2a8, m: 2) } == .unsupported)
    #expect(code { _ = try count(.marlin, n: 384) } == .invalidArgument)
    var tiny = DeviceSpec.a100x80
    tiny.sharedPerBlock = Sourced(4096, .assumed("a test"))
    #expect(code { _ = try count(.awq, on: tiny) } == .unsupported)
    #expect(
      code {
        _ = try SimulatedMatmul.count(
          .marlin, rows: 16, outputs: 256, inputs: 128, on: .a100x80, splits: 4)
      } == .invalidArgument)
    #expect(
      code {
        _ = try SimulatedMatmul.count(.awq, rows: 1 << 40, outputs: 256, inputs: 128, on: .a100x80)
      } != nil)
  }

  @Test func cancellation() {
    #expect(throws: QuantError.self) {
      try SimulatedMatmul.count(
        .awq, rows: 16, outputs: 256, inputs: 128, on: .a100x80,
        simulator: WarpSimulator(isCancelled: { true }))
    }
  }
}
