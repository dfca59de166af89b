import DeviceModel
import QuantKernels
import TestSupport
import Testing

/// What a caller can get wrong: a typed error before anything runs.
@Suite struct GemmBadInputTests {
  private func refused(
    _ code: QuantError.Code, _ body: () throws -> Void,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let error = #expect(throws: QuantError.self, sourceLocation: sourceLocation) { try body() }
    #expect(error?.code == code, sourceLocation: sourceLocation)
  }

  @Test func matrices() throws {
    let test = try GemmCase(count: 1, rows: 16, columns: 32, groupSize: 32)
    let codes = test.matrix.codes
    func make(_ offsets: Int4Matrix.Offsets, scale: Float = 1) throws -> Int4Matrix {
      try Int4Matrix(
        rows: 16, columns: 32, groupSize: 32, codes: codes,
        scales: [Float](repeating: scale, count: 16), offsets: offsets)
    }
    let minimums = try make(.minimums([Float](repeating: 0, count: 16)))
    let sixteen = try make(.zeroPoints([UInt8](repeating: 16, count: 16)))
    let large = try make(.symmetric, scale: 5000)
    for matrix in [minimums, sixteen, large] {
      for kernel in GPUKernel.splittingK {
        refused(.unsupported) { _ = try matrix.matmul(test.x, on: .gpu(kernel: kernel)) }
      }
      refused(.unsupported) { _ = try matrix.matmul(test.x, arithmetic: .float16Products()) }
    }
  }

  @Test func activations() throws {
    let test = try GemmCase(count: 1, rows: 16, columns: 32, groupSize: 32)
    var bad = [[Float](), [Float](repeating: 0, count: 31), [Float](repeating: 0, count: 33)]
    for value: Float in [.nan, .infinity, 65_520, -70_000] {
      var x = test.x
      x[7] = value
      bad.append(x)
    }
    for x in bad {
      for kernel in GPUKernel.allCases {
        refused(.invalidArgument) { _ = try test.matrix.matmul(x, on: .gpu(kernel: kernel)) }
      }
      refused(.invalidArgument) { _ = try test.matrix.matmul(x, arithmetic: .float16Products()) }
    }
  }

  @Test func launches() throws {
    let test = try GemmCase(count: 2, rows: 16, columns: 32, groupSize: 32)
    for splits in [0, -1, 1025, .max, .min] {
      for kernel in GPUKernel.splittingK {
        refused(.invalidArgument) { _ = try test.run(kernel, splits: splits) }
      }
      refused(.invalidArgument) {
        _ = try test.matrix.matmul(test.x, arithmetic: .float16Products(splits: splits))
      }
    }
    let x = try HalfActivations(test.x, for: test.matrix)
    let awq = try Int4DeviceWeights(test.matrix, order: .awq)
    let quick = try Int4DeviceWeights(test.matrix, order: .quick)
    let ours = try Int4DeviceWeights(test.matrix, order: .quickImproved)
    refused(.invalidArgument) { _ = try QuickGemm(x, awq) }
    refused(.invalidArgument) { _ = try AWQGemm(x, quick) }
    refused(.invalidArgument) { _ = try ImprovedQuickGemm(x, quick) }
    refused(.invalidArgument) { _ = try QuickGemm(x, quick, tile: .single) }
    refused(.invalidArgument) { _ = try ImprovedQuickGemm(x, ours, tileRows: 48) }
    refused(.invalidArgument) { _ = try ImprovedQuickGemm(x, ours, stages: 1) }
    refused(.invalidArgument) { _ = try ImprovedQuickGemm(x, ours, stages: 5) }
    let other = try HalfActivations(zeros: 2, columns: 64)
    refused(.invalidArgument) { _ = try QuickGemm(other, quick) }
  }

  @Test func sizes() {
    let gpu = SimulatedGPU(kernel: .quick)
    for (m, n, k) in [(0, 128, 32), (-1, 128, 32), (1, 0, 32), (1, 128, 0), (1, .max, 32)] {
      refused(.invalidArgument) {
        _ = try Int4Matrix.countMatmul(count: m, rows: n, columns: k, groupSize: max(1, k), on: gpu)
      }
    }
    // Past the 4 GiB of one simulated buffer.
    refused(.invalidArgument) {
      _ = try Int4Matrix.countMatmul(
        count: 1, rows: 1 << 20, columns: 1 << 20, groupSize: 32, on: gpu)
    }
    for groupSize in [0, -32, 16, 48, 128] {
      refused(.unsupported) {
        _ = try Int4Matrix.countMatmul(
          count: 1, rows: 128, columns: 96, groupSize: groupSize, on: gpu)
      }
    }
    refused(.invalidArgument) {
      _ = try InterleavedLayout.laneOrderedGroups(rows: 96, groups: 1, elementBits: 16)
    }
  }

  @Test func cancelled() throws {
    let test = try GemmCase(count: 2, rows: 16, columns: 32, groupSize: 32)
    refused(.cancelled) {
      _ = try test.run(.quick, simulator: WarpSimulator(isCancelled: { true }))
    }
  }
}
