import DeviceModel
import TestSupport
import Testing

@testable import QuantKernels

@Suite struct HalfGemmTests {
  struct Case: Sendable, CustomStringConvertible {
    var rows: Int
    var outputs: Int
    var inputs: Int
    var tile: HalfGemm.Tile
    var splits = 1
    var exact = false

    var description: String {
      "\(rows)×\(outputs)×\(inputs) in \(tile.rows)×\(tile.columns)×\(tile.inputs), \(splits) splits"
    }

    func weights() -> [UInt16] {
      exact
        ? TensorCoreReference.integers(outputs * inputs, seed: 8)
        : TensorCoreReference.spread(outputs * inputs, scale: 0.05, seed: 8)
    }

    func input() -> [UInt16] {
      exact
        ? TensorCoreReference.integers(rows * inputs, seed: 9)
        : TensorCoreReference.spread(rows * inputs, seed: 9)
    }

    func kernel() throws -> HalfGemm {
      try HalfGemm(
        weights: weights(), input: input(), rows: rows, outputs: outputs, inputs: inputs,
        tile: tile, splits: splits)
    }

    func reference() -> [UInt16] {
      let steps = inputs / tile.inputs
      return input().map(TensorCoreReference.float).withUnsafeBufferPointer { a in
        weights().map(TensorCoreReference.float).withUnsafeBufferPointer { b in
          var out: [UInt16] = []
          for m in 0..<rows {
            let row = UnsafeBufferPointer(rebasing: a[m * inputs..<(m + 1) * inputs])
            for n in 0..<outputs {
              let column = UnsafeBufferPointer(rebasing: b[n * inputs..<(n + 1) * inputs])
              var total: Float = 0
              for split in 0..<splits {
                let first = steps * split / splits * tile.inputs
                let end = steps * (split + 1) / splits * tile.inputs
                let part = TensorCoreReference.chain(row, column, first..<end)
                total = split == 0 ? part : total + part
              }
              out.append(TensorCoreReference.half(total))
            }
          }
          return out
        }
      }
    }
  }

  static let cases = [
    Case(rows: 5, outputs: 72, inputs: 192, tile: .m64n64),
    Case(rows: 64, outputs: 64, inputs: 320, tile: .m64n64, splits: 3),
    Case(rows: 70, outputs: 136, inputs: 64, tile: .m64n128),
    Case(rows: 66, outputs: 128, inputs: 96, tile: .m64n128, splits: 2),
    Case(rows: 129, outputs: 128, inputs: 64, tile: .m128n128),
    Case(rows: 17, outputs: 200, inputs: 64, tile: .m256n128, exact: true),
  ]

  @Test(arguments: cases)
  func equalsTheDeclaredOrderOfSums(_ test: Case) throws {
    let kernel = try test.kernel()
    _ = try WarpSimulator().run(kernel)
    #expect(kernel.output == test.reference())
  }

  @Test(arguments: cases)
  func checksFindNothingAndChangeNothing(_ test: Case) throws {
    let plain = try test.kernel()
    let counters = try WarpSimulator().run(plain)
    #expect(counters.sharedMemory.conflicts == 0)
    let checked = try test.kernel()
    #expect(try WarpSimulator(checks: true, threads: 3).run(checked) == counters)
    #expect(checked.output == plain.output)
    #expect(try WarpSimulator().run(test.kernel(), blocks: .classes) == counters)
  }

  @Test func meanErrorIsSmall() throws {
    let test = Case(rows: 3, outputs: 64, inputs: 512, tile: .m64n64, splits: 4)
    let kernel = try test.kernel()
    _ = try WarpSimulator().run(kernel)
    let weights = test.weights()
    let error = TensorCoreReference.meanRelativeError(
      kernel.output, input: test.input(),
      weights: { Double(TensorCoreReference.float(weights[$0 * 512 + $1])) }, rows: 3,
      outputs: 64, inputs: 512)
    #expect(error < 1e-3)
  }

  @Test(arguments: [
    HalfGemm.Tile.m64n64, .m64n128, .m128n128, .m256n128,
  ])
  func countersFollowFromTheTile(_ tile: HalfGemm.Tile) throws {
    let (rows, outputs, inputs) = (2 * tile.rows, 2 * tile.columns, 2 * tile.inputs)
    let kernel = try HalfGemm(
      countingRows: rows, outputs: outputs, inputs: inputs, tile: tile)
    let counters = try WarpSimulator().run(kernel, blocks: .classes)
    func site(_ name: String) -> Counters.Site { counters.sites.first { $0.name == name }! }
    #expect(counters.sharedMemory.conflicts == 0)
    #expect(counters.matrixInstructionCount == rows / 16 * outputs / 8 * inputs / 16)
    // Each block row reads all weights, each block column all inputs; sectors are full.
    #expect(site("A copy").global.bytes == 2 * rows * inputs * 2)
    #expect(site("B copy").global.bytes == 2 * outputs * inputs * 2)
    for name in ["A copy", "B copy", "C store"] {
      #expect(site(name).global.sectors * 32 == site(name).global.bytes)
    }
    #expect(site("C store").global.bytes == rows * outputs * 2)
  }

  @Test func planFillsTheDevice() {
    let small = HalfGemm.plan(rows: 1, outputs: 4096, inputs: 4096, multiprocessors: 108)
    #expect(small.tile == .m64n64)
    #expect(small.splits == 2)
    #expect(HalfGemm.plan(rows: 256, outputs: 8192, inputs: 8192, multiprocessors: 64).splits == 1)
  }

  @Test func refusesWhatItCannotTake() {
    func code(
      rows: Int = 1, outputs: Int = 8, inputs: Int = 64, splits: Int = 1, weights: Int? = nil
    ) -> QuantError.Code? {
      do throws(QuantError) {
        _ = try HalfGemm(
          weights: Array(repeating: 0, count: weights ?? max(0, outputs * inputs)),
          input: Array(repeating: 0, count: max(0, rows * inputs)), rows: rows, outputs: outputs,
          inputs: inputs, tile: .m64n64, splits: splits)
        return nil
      } catch {
        return error.code
      }
    }
    #expect(code() == nil)
    #expect(code(rows: 0) == .invalidArgument)
    #expect(code(outputs: 7) == .invalidArgument)
    #expect(code(outputs: -8) == .invalidArgument)
    #expect(code(inputs: 32) == .invalidArgument)
    #expect(code(splits: 0) == .invalidArgument)
    #expect(code(splits: 2) == .invalidArgument)
    #expect(code(weights: 511) == .invalidArgument)
  }
}
