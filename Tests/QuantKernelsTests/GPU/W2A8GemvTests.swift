import DeviceModel
import TestSupport
import Testing

@testable import QuantKernels

@Suite struct W2A8GemvTests {
  private func codes(_ count: Int, seed: UInt64) -> [UInt8] {
    var random = RepeatableRandom(seed: seed)
    return (0..<count).map { _ in .random(in: 0...2, using: &random) }
  }

  private func activations(_ count: Int, seed: UInt64) -> [Int8] {
    var random = RepeatableRandom(seed: seed)
    return (0..<count).map { _ in .random(in: -128...127, using: &random) }
  }

  private func reference(_ codes: [UInt8], _ activations: [Int8]) -> [Int32] {
    let inputs = activations.count
    return (0..<codes.count / inputs).map { row in
      (0..<inputs).reduce(Int32(0)) {
        $0 + (Int32(codes[row * inputs + $1]) - 1) * Int32(activations[$1])
      }
    }
  }

  @Test(arguments: [(16, 128), (48, 384), (32, 256)])
  func sumsAreThePlainIntegers(_ outputs: Int, _ inputs: Int) throws {
    let codes = codes(outputs * inputs, seed: 1)
    let activations = activations(inputs, seed: 2)
    let expected = reference(codes, activations)
    for simulator in [
      WarpSimulator(), WarpSimulator(checks: true), WarpSimulator(checks: true, threads: 3),
    ] {
      let kernel = try W2A8Gemv(
        codes: codes, activations: activations, outputs: outputs, inputs: inputs)
      let counters = try simulator.run(kernel)
      #expect(kernel.sums == expected)
      #expect(try WarpSimulator().run(kernel, blocks: .classes) == counters)
    }
  }

  /// The same integers as this processor's kernels: activations whose largest is 127 are their own
  /// codes.
  @Test(arguments: PackedTernary.Format.allCases.filter(\.isLossless))
  func sumsAreThoseOfTheCPU(_ format: PackedTernary.Format) throws {
    let (outputs, inputs) = (48, 384)
    let matrix = try TernaryMatrix(
      rows: outputs, columns: inputs, codes: codes(outputs * inputs, seed: 7), scales: .tensor(1))
    var activations = activations(inputs, seed: 8).map { max($0, -127) }
    activations[5] = 127
    let kernel = try W2A8Gemv(
      codes: matrix.codes, activations: activations, outputs: outputs, inputs: inputs)
    _ = try WarpSimulator().run(kernel)
    let y = try PackedTernary(matrix, format: format).matmul(activations.map(Float.init))
    #expect(kernel.sums?.map(Float.init) == y)
  }

  @Test func brainFloatsAreScaledByTheirLayer() throws {
    let codes = codes(32 * 128, seed: 3)
    let activations = activations(128, seed: 4)
    let kernel = try W2A8Gemv(
      codes: codes, activations: activations, outputs: 32, inputs: 128,
      result: .brainFloats(activationScale: 1.5, weightScales: [2, 0.25]))
    _ = try WarpSimulator().run(kernel)
    let sums = reference(codes, activations)
    #expect(
      kernel.output
        == sums.indices.map { HalfPrecision.brain(Float(sums[$0]) / 1.5 * ($0 < 16 ? 2 : 0.25)) })
    #expect(kernel.sums == nil)
  }

  /// The order of the published packer, digit by digit: permuted inside 16×32 blocks, four codes a
  /// byte, then each word's codes spread so that code e stands at bit 8·(e mod 4) + 2·(e div 4).
  @Test func layoutIsThePublishedPackers() throws {
    let (outputs, inputs) = (32, 64)
    let codes = codes(outputs * inputs, seed: 5)
    let layout = try InterleavedLayout.w2a8(rows: outputs, columns: inputs)
    let packed = try layout.pack(codes)
    #expect(packed.count == outputs * inputs / 4)
    #expect(try layout.unpack(packed) == codes)
    var expected: [UInt8] = []
    for blockRow in 0..<outputs / 16 {
      for blockColumn in 0..<inputs / 32 {
        for thread in 0..<32 {
          let row = blockRow * 16 + thread / 16 * 8 + thread % 8
          let column = blockColumn * 32 + thread % 16 / 8 * 16
          var word: UInt32 = 0
          for e in 0..<16 {
            word |= UInt32(codes[row * inputs + column + e]) << UInt32(e % 4 * 8 + e / 4 * 2)
          }
          for byte in 0..<4 { expected.append(UInt8(truncatingIfNeeded: word >> UInt32(8 * byte))) }
        }
      }
    }
    #expect(packed == expected)
    var seen = Set<Int>()
    for n in 0..<outputs {
      for k in 0..<inputs { seen.insert(layout.bitOffset(row: n, column: k)) }
    }
    #expect(seen == Set(stride(from: 0, to: outputs * inputs * 2, by: 2)))
  }

  /// A warp's request for weights touches eight sectors and uses half of each: lanes of one output
  /// group read 16 of 32 bytes, the other half is the next warp's.
  @Test func countersFollowFromTheLayout() throws {
    let (outputs, inputs) = (64, 512)
    let kernel = try W2A8Gemv(countingOutputs: outputs, inputs: inputs)
    let counters = try WarpSimulator().run(kernel)
    let steps = outputs / 16 * 4 * inputs / 128
    let weights = counters.sites[1].global
    #expect(weights.requests == steps)
    #expect(weights.sectors == 8 * steps)
    #expect(weights.lines == 4 * steps)
    #expect(weights.bytes == outputs * inputs / 4)
    #expect(counters.sites[0].global.sectors == 4 * steps)
    #expect(counters.instructions[.dot] == 4 * steps)
    #expect(counters.instructions[.shuffle] == 3 * outputs / 4)
    #expect(counters.sharedMemory.instructions == 0)
  }

  @Test func refusesWhatItCannotTake() {
    func code(
      outputs: Int = 16, inputs: Int = 128, codes: [UInt8]? = nil, activations: Int? = nil,
      result: W2A8Gemv.Result = .sums
    ) -> QuantError.Code? {
      do throws(QuantError) {
        _ = try W2A8Gemv(
          codes: codes ?? Array(repeating: 1, count: max(0, outputs * inputs)),
          activations: Array(repeating: 0, count: activations ?? max(0, inputs)),
          outputs: outputs, inputs: inputs, result: result)
        return nil
      } catch {
        return error.code
      }
    }
    #expect(code() == nil)
    #expect(code(outputs: 0) == .invalidArgument)
    #expect(code(outputs: 8) == .invalidArgument)
    #expect(code(inputs: 64) == .invalidArgument)
    #expect(code(codes: [1]) == .invalidArgument)
    #expect(code(codes: Array(repeating: 3, count: 16 * 128)) == .invalidData)
    #expect(code(activations: 100) == .invalidArgument)
    #expect(code(activations: 256) == .unsupported)
    #expect(
      code(result: .brainFloats(activationScale: 0, weightScales: [1])) == .invalidArgument)
    #expect(
      code(result: .brainFloats(activationScale: 1, weightScales: [1, 1, 1])) == .invalidArgument)
  }
}
