import DeviceModel
import TestSupport
import Testing

@testable import QuantKernels

@Suite struct MarlinGemmTests {
  /// A product of seeded weights and inputs; integers when `exact`.
  struct Case: Sendable, CustomStringConvertible {
    var rows: Int
    var outputs = 256
    var inputs = 256
    var groupSize = 128
    var multiprocessors = 3
    var exact = false
    var padded = false

    var description: String { "\(rows)×\(outputs)×\(inputs) G\(groupSize) on \(multiprocessors)" }

    func weights() throws -> Int4Matrix {
      var random = RepeatableRandom(seed: 5)
      let groups = outputs * (inputs / groupSize)
      return try Int4Matrix(
        rows: outputs, columns: inputs, groupSize: groupSize,
        codes: (0..<outputs * inputs).map { _ in .random(in: 0...15, using: &random) },
        scales: (0..<groups).map { _ in
          exact
            ? [0.5, 1, 2][Int.random(in: 0..<3, using: &random)]
            : .random(in: 0.01..<0.1, using: &random)
        },
        offsets: .symmetric)
    }

    func input() -> [UInt16] {
      exact
        ? TensorCoreReference.integers(rows * inputs, seed: 6)
        : TensorCoreReference.spread(rows * inputs, seed: 6)
    }

    func kernel() throws -> MarlinGemm {
      try MarlinGemm(
        weights: weights(), input: input(), rows: rows, multiprocessors: multiprocessors,
        padded: padded)
    }

    /// The declared order of sums, in plain loops, for one output.
    func reference(
      _ kernel: MarlinGemm, _ matrix: Int4Matrix, _ a: UnsafeBufferPointer<Float>, m: Int, n: Int
    ) -> UInt16 {
      let layers = kernel.tile.columns == 128 ? 4 : 2
      let isGrouped = groupSize != inputs
      let weights = (0..<inputs).map { k -> Float in
        let code = Float(matrix.codes[n * inputs + k]) - 8
        guard isGrouped else { return code }
        let scale = TensorCoreReference.half(matrix.scales[n * matrix.groups + k / groupSize])
        return TensorCoreReference.float(
          TensorCoreReference.half(code * TensorCoreReference.float(scale)))
      }
      // The column's slices from the end of K to its start.
      let column =
        m / kernel.tile.rows * (kernel.layout.paddedRows / kernel.tile.columns)
        + n / kernel.tile.columns
      let slices = (0..<multiprocessors).flatMap { kernel.stripes.slices(of: $0) }
        .filter { $0.column == column }.sorted { $0.turn < $1.turn }
      var total: Float = 0
      for slice in slices {
        let first = slice.firstTile * kernel.tile.inputs
        let end = min(first + slice.tiles * kernel.tile.inputs, inputs)
        let s = weights.withUnsafeBufferPointer { b in
          (0..<layers).map { layer in
            stride(from: first + 16 * layer, to: end, by: 16 * layers).reduce(Float(0)) {
              TensorCoreReference.chain(a, b, $1..<min($1 + 16, end), from: $0)
            }
          }
        }
        let part = layers == 2 ? s[0] + s[1] : s[0] + (s[1] + (s[3] + s[2]))
        total =
          slice.turn == 0
          ? part : part + TensorCoreReference.float(TensorCoreReference.half(total))
      }
      let half = TensorCoreReference.half(total)
      return isGrouped
        ? half : HalfDequantization.multiply(half, TensorCoreReference.half(matrix.scales[n]))
    }
  }

  @Test(arguments: [
    Case(rows: 1), Case(rows: 5, inputs: 512, multiprocessors: 3),
    Case(rows: 16, inputs: 512, multiprocessors: 16),
    Case(rows: 16, inputs: 256, groupSize: 256, multiprocessors: 3),
    Case(rows: 17), Case(rows: 33, inputs: 256, groupSize: 256, multiprocessors: 3),
    Case(rows: 64, multiprocessors: 1), Case(rows: 70, multiprocessors: 3),
    Case(rows: 3, outputs: 200, inputs: 200, groupSize: 200, padded: true),
  ])
  func equalsTheDeclaredOrderOfSums(_ test: Case) throws {
    let kernel = try test.kernel()
    _ = try WarpSimulator().run(kernel)
    let output = kernel.output
    let matrix = try test.weights()
    let input = test.input().map(TensorCoreReference.float)
    // Every eleventh output: all lanes, n-tiles and warps, and in each column another row.
    for index in stride(from: 0, to: test.rows * test.outputs, by: 11) {
      let (m, n) = (index / test.outputs, index % test.outputs)
      let expected = input[m * test.inputs..<(m + 1) * test.inputs].withUnsafeBufferPointer {
        test.reference(kernel, matrix, $0, m: m, n: n)
      }
      #expect(output[index] == expected, "row \(m), output \(n)")
    }
  }

  @Test(arguments: [
    Case(rows: 7, inputs: 512, multiprocessors: 5, exact: true),
    Case(rows: 20, inputs: 128, groupSize: 128, multiprocessors: 2, exact: true),
  ])
  func smallIntegersAreExact(_ test: Case) throws {
    let kernel = try test.kernel()
    _ = try WarpSimulator().run(kernel)
    let output = kernel.output
    let input = test.input().map(TensorCoreReference.float)
    let weights = try test.weights().dequantized()
    for index in stride(from: 0, to: test.rows * test.outputs, by: 3) {
      let (m, n) = (index / test.outputs, index % test.outputs)
      let sum = input[m * test.inputs..<(m + 1) * test.inputs].withUnsafeBufferPointer { a in
        weights[n * test.inputs..<(n + 1) * test.inputs].withUnsafeBufferPointer { b in
          TensorCoreReference.chain(a, b, 0..<test.inputs)
        }
      }
      #expect(output[index] == TensorCoreReference.half(sum), "row \(m), output \(n)")
    }
  }

  @Test func meanErrorIsBelowMarlinsCriterion() throws {
    let test = Case(rows: 2, inputs: 512, multiprocessors: 5)
    let kernel = try test.kernel()
    _ = try WarpSimulator().run(kernel)
    let weights = try test.weights().dequantized()
    let error = TensorCoreReference.meanRelativeError(
      kernel.output, input: test.input(), weights: { Double(weights[$0 * test.inputs + $1]) },
      rows: test.rows,
      outputs: test.outputs, inputs: test.inputs)
    #expect(error < 1e-3)
  }

  @Test(arguments: [
    Case(rows: 1, inputs: 512, multiprocessors: 3),
    Case(rows: 40, groupSize: 256, multiprocessors: 3), Case(rows: 81, multiprocessors: 3),
    Case(rows: 17, inputs: 512, multiprocessors: 9),
  ])
  func checksFindNothingAndChangeNothing(_ test: Case) throws {
    let plain = try test.kernel()
    let counters = try WarpSimulator().run(plain)
    #expect(counters.sharedMemory.conflicts == 0)
    let checked = try test.kernel()
    #expect(try WarpSimulator(checks: true).run(checked) == counters)
    #expect(checked.output == plain.output)
    let parallel = try test.kernel()
    #expect(try WarpSimulator(threads: 3).run(parallel) == counters)
    #expect(parallel.output == plain.output)
    #expect(try WarpSimulator().run(test.kernel(), blocks: .classes) == counters)
  }

  /// Per warp and step: one round of A up to 32 rows of 64 inputs, two words a lane; every shared
  /// access without conflict, under the split-store penalty too.
  @Test(arguments: [16, 64])
  func countersAreThoseOfTheDigest(_ rows: Int) throws {
    let kernel = try MarlinGemm(
      countingRows: rows, outputs: 512, inputs: 1024, groupSize: 128, multiprocessors: 4)
    let counters = try WarpSimulator().run(kernel, blocks: .classes)
    func site(_ name: String) -> Counters.Site { counters.sites.first { $0.name == name }! }
    let tiles = (512 / kernel.tile.columns) * (1024 / kernel.tile.inputs)
    let steps = tiles * 8
    // Packed bytes cross once: 512 contiguous bytes a request, 16 full sectors.
    #expect(site("B copy").global.requests == 2 * steps)
    #expect(site("B copy").global.sectors == 16 * site("B copy").global.requests)
    #expect(site("B copy").global.bytes == 512 * 1024 / 2)
    #expect(site("A copy").shared.conflicts == 0)
    #expect(site("A copy").global.sectors * 32 == site("A copy").global.bytes)
    #expect(site("A ldmatrix").shared.instructions == steps * 2 * (rows / 16))
    #expect(site("A ldmatrix").shared.conflicts == 0)
    #expect(counters.sharedMemory.conflicts == 0)
    #expect(counters.matrixInstructionCount == rows / 16 * 512 / 8 * 1024 / 16)
    // Every word is dequantized once: 5 + 2 integer instructions and 8 of half pairs.
    #expect(counters.instructions[.half2] == 8 * 512 * 1024 / 8 / 32)
    let penalized = try WarpSimulator(policy: .m2).run(kernel, blocks: .classes)
    #expect(penalized.sharedMemory(.asyncCopy).conflicts == 0)
  }

  @Test func stripesCoverEveryTileOnce() {
    for (tiles, columns, blocks, group) in [
      (8, 4, 5, 1), (16, 3, 7, 2), (2, 9, 40, 2), (64, 64, 108, 1),
    ] {
      let stripes = MarlinStripes(
        tilesPerColumn: tiles, columns: columns, blocks: blocks, tilesPerGroup: group)
      var seen = [Int](repeating: 0, count: tiles * columns)
      var turns: [Int: [Int]] = [:]
      for block in 0..<blocks {
        for slice in stripes.slices(of: block) {
          #expect(slice.firstTile % group == 0)
          for tile in 0..<slice.tiles { seen[slice.column * tiles + slice.firstTile + tile] += 1 }
          turns[slice.column, default: []].append(slice.turn)
        }
      }
      #expect(seen.allSatisfy { $0 == 1 })
      for (_, turns) in turns { #expect(turns.sorted() == Array(0..<turns.count)) }
      #expect(turns.values.map(\.count).max() == stripes.longestChain)
    }
  }

  @Test func refusesWhatMarlinCannotTake() throws {
    func matrix(
      _ rows: Int, _ columns: Int, _ group: Int, _ offsets: Int4Matrix.Offsets = .symmetric,
      scale: Float = 1
    ) throws -> Int4Matrix {
      try Int4Matrix(
        rows: rows, columns: columns, groupSize: group,
        codes: Array(repeating: 8, count: rows * columns),
        scales: Array(repeating: scale, count: rows * columns / group), offsets: offsets)
    }
    func code(
      _ matrix: Int4Matrix, input: Int? = nil, rows: Int = 1, multiprocessors: Int = 2
    ) -> QuantError.Code? {
      do throws(QuantError) {
        _ = try MarlinGemm(
          weights: matrix,
          input: Array(repeating: 0, count: input ?? max(0, rows) * matrix.columns), rows: rows,
          multiprocessors: multiprocessors)
        return nil
      } catch {
        return error.code
      }
    }
    #expect(code(try matrix(256, 128, 128)) == nil)
    #expect(code(try matrix(128, 128, 128)) == .invalidArgument)
    #expect(code(try matrix(256, 192, 192)) == .invalidArgument)
    #expect(code(try matrix(256, 128, 64)) == .invalidArgument)
    #expect(code(try matrix(256, 128, 128), rows: 0) == .invalidArgument)
    #expect(code(try matrix(256, 128, 128), rows: -1) == .invalidArgument)
    #expect(code(try matrix(256, 128, 128), input: 127) == .invalidArgument)
    #expect(code(try matrix(256, 128, 128), multiprocessors: 0) == .invalidArgument)
    #expect(code(try matrix(256, 128, 128, scale: 1e6)) == .invalidData)
    let eights = [UInt8](repeating: 8, count: 256)
    #expect(code(try matrix(256, 128, 128, .zeroPoints(eights))) == nil)
    #expect(
      code(try matrix(256, 128, 128, .zeroPoints(eights.dropLast() + [7]))) == .unsupported)
    #expect(
      code(try matrix(256, 128, 128, .minimums(Array(repeating: 0, count: 256)))) == .unsupported)
  }
}
