import DeviceModel
import QuantKernels
import TestSupport
import Testing

/// Values of the simulated int4 products: against each other, the CPU reference, integers, float64.
@Suite struct GemmValuesTests {
  /// Shapes: whole tiles, padded outputs, padded inputs, ragged splits, more splits than steps.
  @Test(arguments: [
    (16, 128, 64, 32, 1), (16, 256, 128, 64, 2), (5, 384, 352, 32, 4), (33, 130, 96, 96, 2),
    (70, 100, 160, 32, 3), (3, 128, 64, 64, 8), (2, 8, 40, 40, 2), (17, 640, 32, 32, 1),
  ])
  func kernelsEqualTheReferenceAndEachOther(
    count: Int, rows: Int, columns: Int, groupSize: Int, splits: Int
  ) throws {
    for symmetric in [false, true] {
      let test = try GemmCase(
        count: count, rows: rows, columns: columns, groupSize: groupSize, symmetric: symmetric)
      let wanted = try test.matrix.matmul(
        test.x, arithmetic: .float16Products(splits: splits))
      for kernel in [GPUKernel.awq, .quick, .quickImproved] {
        let run = try test.run(kernel, splits: splits)
        #expect(bits(run.output) == bits(wanted), "\(kernel)")
      }
    }
  }

  /// Every number of rows over the tile switches. The buffer of activations ends with row M, so a
  /// read past it would throw; bytes counted show that each row is read once a tile and written once.
  @Test func everyRowCount() throws {
    let whole = try GemmCase(count: 130, rows: 128, columns: 64, groupSize: 32)
    let all = try whole.matrix.matmul(whole.x, arithmetic: .float16Products(splits: 2))
    for count in 1...130 {
      let x = Array(whole.x[..<(count * 64)])
      for kernel in [GPUKernel.awq, .quick, .quickImproved] {
        let run = try whole.matrix.matmul(x, on: .gpu(kernel: kernel, splits: 2))
        // Row independence: the rows of a larger product, bit for bit.
        #expect(bits(run.output) == bits(Array(all[..<(count * 128)])), "\(kernel), \(count) rows")
        let counters = try #require(run.counters)
        let read = counters.site(kernel == .quickImproved ? "copy A" : "load A").global.bytes
        // The kernel of one row reads it sixteen times.
        let replicas = kernel == .quick && count == 1 ? 16 : 1
        #expect(read == count * 64 * 2 * replicas)
        #expect(counters.site("store C").global.bytes == count * 128 * 2 * 2)
      }
    }
  }

  /// Tiles forced on row counts that QUICK would give to another give the same bits.
  @Test func tileDoesNotChangeValues() throws {
    let test = try GemmCase(count: 20, rows: 128, columns: 96, groupSize: 32)
    let activations = try HalfActivations(test.x, for: test.matrix)
    let faithful = try Int4DeviceWeights(test.matrix, order: .quick)
    let improved = try Int4DeviceWeights(test.matrix, order: .quickImproved)
    let wanted = try test.matrix.matmul(test.x, arithmetic: .float16Products())
    for tile in [QuickGemm.Tile.rows16, .rows32, .rows64] {
      let kernel = try QuickGemm(activations, faithful, tile: tile, splits: 1)
      _ = try WarpSimulator().run(kernel)
      #expect(bits(kernel.partials.values()) == bits(wanted))
      for stages in 2...4 {
        let kernel = try ImprovedQuickGemm(
          activations, improved, tileRows: tile.rows, stages: stages, splits: 1)
        _ = try WarpSimulator().run(kernel)
        #expect(bits(kernel.partials.values()) == bits(wanted))
      }
    }
  }

  @Test func smallIntegersAreExact() throws {
    var random = RepeatableRandom(seed: 5)
    let (count, rows, columns) = (19, 128, 64)
    let codes = (0..<rows * columns).map { _ in UInt8.random(in: 0...15, using: &random) }
    let zeros = (0..<rows * 2).map { _ in UInt8.random(in: 0...15, using: &random) }
    let matrix = try Int4Matrix(
      rows: rows, columns: columns, groupSize: 32, codes: codes,
      scales: [Float](repeating: 1, count: rows * 2), offsets: .zeroPoints(zeros))
    // At most 64 · 2 · 15 = 1,920: all sums are integers that binary16 represents.
    let x = (0..<count * columns).map { _ in Int.random(in: -2...2, using: &random) }
    var wanted: [Float] = []
    for i in 0..<count {
      for n in 0..<rows {
        wanted.append(
          Float(
            (0..<columns).reduce(0) {
              $0 + x[i * columns + $1]
                * (Int(codes[n * columns + $1]) - Int(zeros[n * 2 + $1 / 32]))
            }))
      }
    }
    for kernel in [GPUKernel.awq, .quick, .quickImproved] {
      for splits in [1, 2] {
        let run = try matrix.matmul(x.map { Float($0) }, on: .gpu(kernel: kernel, splits: splits))
        #expect(run.output == wanted)
      }
    }
  }

  /// Marlin's criterion, and a bound on the worst element that grows with √K.
  @Test(arguments: [256, 1024])
  func errorAgainstFloat64(columns: Int) throws {
    let test = try GemmCase(count: 8, rows: 128, columns: columns, groupSize: 128, seed: 9)
    let w = (0..<128 * columns).map { test.matrix[$0 / columns, $0 % columns] }
    let wanted = ReferenceProduct(
      x: test.x, w: w, count: 8, rows: 128, columns: columns, quantized: false)
    for kernel in [GPUKernel.awq, .quick, .quickImproved] {
      let run = try test.run(kernel, splits: 4)
      var error = 0.0
      var size = 0.0
      var worst = 0.0
      for (found, value) in zip(run.output, wanted.values) {
        error += abs(Double(found) - value)
        size += abs(value)
        worst = max(worst, abs(Double(found) - value))
      }
      #expect(error / size < 1e-3)
      // Weights are at most 0.3 and rounded to 11 bits, activations of variance 1; partial sums
      // and their sum are rounded to 11 bits once each.
      let unit = 0x1p-11
      #expect(worst < 8 * unit * 0.3 * Double(columns).squareRoot())
    }
  }

  /// The act-order permutation of a GPTQ layer is applied to the activations.
  @Test func permutedInputs() throws {
    let test = try GemmCase(count: 3, rows: 128, columns: 64, groupSize: 32)
    let permutation = (0..<64).map { Int32(($0 * 5 + 3) % 64) }
    let matrix = try Int4Matrix(
      rows: 128, columns: 64, groupSize: 32, codes: test.matrix.codes, scales: test.matrix.scales,
      offsets: test.matrix.offsets, inputPermutation: permutation)
    var gathered: [Float] = []
    for i in 0..<3 { for k in 0..<64 { gathered.append(test.x[i * 64 + Int(permutation[k])]) } }
    let wanted = try test.matrix.matmul(gathered, arithmetic: .float16Products())
    let run = try matrix.matmul(test.x, on: .gpu(kernel: .quick, splits: 1))
    #expect(bits(run.output) == bits(wanted))
    #expect(bits(try matrix.matmul(test.x, arithmetic: .float16Products())) == bits(wanted))
  }

  /// Shapes on which the published guard against a ragged last round reads past the end.
  @Test(arguments: [(11008, 16), (13696, 8)])
  func raggedSplits(columns: Int, splits: Int) throws {
    let test = try GemmCase(count: 2, rows: 128, columns: columns, groupSize: 32)
    let wanted = try test.matrix.matmul(test.x, arithmetic: .float16Products(splits: splits))
    for kernel in [GPUKernel.awq, .quick, .quickImproved] {
      #expect(bits(try test.run(kernel, splits: splits).output) == bits(wanted))
    }
  }

  /// A binary16 that the scale is not is rounded once, here as in the reference.
  @Test func scalesAreRoundedOnce() throws {
    let test = try GemmCase(count: 2, rows: 128, columns: 32, groupSize: 32)
    let scales = test.matrix.scales.map { $0 * 1.0001 }
    func make(_ scales: [Float]) throws -> Int4Matrix {
      try Int4Matrix(
        rows: 128, columns: 32, groupSize: 32, codes: test.matrix.codes, scales: scales,
        offsets: test.matrix.offsets)
    }
    let rounded = scales.map { HalfPrecision.float(fromHalf: HalfPrecision.half($0)) }
    let a = try make(scales).matmul(test.x, on: .gpu(kernel: .quick, splits: 1))
    let b = try make(rounded).matmul(test.x, on: .gpu(kernel: .quick, splits: 1))
    #expect(scales != rounded)
    #expect(bits(a.output) == bits(b.output))
  }
}
