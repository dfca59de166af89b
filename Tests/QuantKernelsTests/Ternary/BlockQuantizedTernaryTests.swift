import CQuantKernels
import TestSupport
import Testing

@testable import QuantKernels

/// The lossy product with llama.cpp's Q8_K activations against an independent reference of it.
@Suite struct BlockQuantizedTernaryTests {
  private func matrix(
    _ rows: Int, _ columns: Int, scales: TernaryMatrix.Scales? = nil,
    using random: inout RepeatableRandom
  ) throws -> TernaryMatrix {
    let codes = (0..<rows * columns).map { _ in UInt8.random(in: 0...2, using: &random) }
    return try TernaryMatrix(
      rows: rows, columns: columns, codes: codes, scales: scales ?? .tensor(0.0371))
  }

  private func packed(_ matrix: TernaryMatrix, _ isa: InstructionSet) throws -> PackedTernary {
    try PackedTernary(matrix, format: .blockQuantized, instructionSet: isa)
  }

  /// Every bit of the product, for whole and short blocks, any number of rows.
  @Test(arguments: InstructionSet.supported)
  func equalsTheReference(isa: InstructionSet) throws {
    var random = RepeatableRandom(seed: 31)
    for (rows, columns) in [
      (1, 1), (3, 255), (17, 256), (16, 257), (33, 300), (5, 512), (40, 777), (2, 2560), (20, 4096),
    ] {
      let scales = TernaryMatrix.Scales.rows(
        (0..<rows).map { _ in .random(in: -2..<2, using: &random) })
      let matrix = try matrix(rows, columns, scales: rows % 2 == 0 ? scales : nil, using: &random)
      let packed = try packed(matrix, isa)
      for count in [1, 2, 3, 5, 8, 17] {
        let x = random.normals(count * columns)
        #expect(
          try sameBits(packed.matmul(x), matrix.blockProduct(x, count: count)),
          "\(rows)×\(columns), \(count) rows")
      }
    }
  }

  /// The integer sum of every block, read off products where all other blocks are zeros. With a
  /// largest element of 127 d is −1, so that the output is the sum's negative.
  @Test(arguments: InstructionSet.supported)
  func sumsOfBlocksAreTheReferences(isa: InstructionSet) throws {
    var random = RepeatableRandom(seed: 32)
    let (rows, columns) = (35, 1100)
    let matrix = try matrix(rows, columns, scales: .tensor(1), using: &random)
    let packed = try packed(matrix, isa)
    for first in stride(from: 0, to: columns, by: 256) {
      for count in [1, 2, 7] {
        var x = [Float](repeating: 0, count: count * columns)
        for token in 0..<count {
          for k in first..<min(columns, first + 256) {
            x[token * columns + k] = .random(in: -126...126, using: &random)
          }
          x[token * columns + first + 3] = 127
        }
        let reference = Q8KActivations(x, count: count, columns: columns)
        #expect(reference.scales[first / 256] == -1)
        let sums = matrix.blockSums(reference, count: count)
        let block = first / 256
        let wanted = (0..<count * rows).map { -Float(sums[$0 * reference.blocks + block]) }
        #expect(try packed.matmul(x) == wanted, "block \(block), \(count) rows")
      }
    }
  }

  /// Sums at the edge of 16 bits: 256 weights of +1 or −1 and activations of one magnitude.
  @Test(arguments: InstructionSet.supported)
  func extremesDoNotOverflow(isa: InstructionSet) throws {
    let columns = 600
    for code: UInt8 in [0, 2] {
      let matrix = try TernaryMatrix(
        rows: 18, columns: columns, codes: [UInt8](repeating: code, count: 18 * columns),
        scales: .tensor(1))
      let packed = try packed(matrix, isa)
      for value: Float in [127, -127, 3] {
        for count in [1, 2, 6] {
          let x = [Float](repeating: value, count: count * columns)
          let y = try packed.matmul(x)
          #expect(sameBits(y, matrix.blockProduct(x, count: count)))
          // Codes are ±127 and 127 · fl(3 / 127) is within an ulp of 3.
          let wanted = Float(Int(code) - 1) * value * Float(columns)
          #expect(y.allSatisfy { abs($0 - wanted) <= 0x1p-20 * abs(wanted) })
        }
      }
    }
  }

  /// Codes, sums and scales of the quantizer: ties, the sign of the first of two largest elements,
  /// zeros, tiny and huge magnitudes, damage.
  @Test(arguments: InstructionSet.supported)
  func quantizerIsTheReference(isa: InstructionSet) throws {
    var random = RepeatableRandom(seed: 33)
    var rows: [[Float]] = [
      [], [127, 0.5, 1.5, 2.5, -0.5, -1.5], [-3, 3, 1], [3, -3, 1], [0, 0], [-0.0],
      [1e-30, -2e-30], [3e38, 1], [1, .nan, 2], [.infinity], [1, -.infinity],
      [Float](repeating: 0, count: 256) + [5, .nan] + [Float](repeating: 1, count: 300),
    ]
    for columns in [1, 15, 16, 17, 255, 256, 257, 511, 1000] {
      rows.append(random.normals(columns))
    }
    rows.append((0..<700).map { _ in Float(Int.random(in: -254...254, using: &random)) / 2 })
    for row in rows {
      let reference = Q8KActivations(row, count: 1, columns: row.count)
      let kernels = try #require(qk_ternary_kernels(isa.kernelTableIdentifier))
      var codes = [Int8](repeating: 99, count: max(1, reference.blocks) * 256)
      var sums = [Int32](repeating: 99, count: max(1, reference.blocks))
      var scales = [Float](repeating: 99, count: max(1, reference.blocks))
      let guarded = try #require(GuardedBytes(capacity: 4 * row.count))
      let x = guarded.tail(4 * row.count).bindMemory(to: Float.self)
      _ = x.initialize(from: row)
      codes.withUnsafeMutableBufferPointer { codes in
        sums.withUnsafeMutableBufferPointer { sums in
          scales.withUnsafeMutableBufferPointer { scales in
            var arguments = qk_q8k_quantize_args(
              x: UnsafePointer(x.baseAddress), columns: row.count, codes: codes.baseAddress,
              block_stride: 256, sums: sums.baseAddress, scales: scales.baseAddress,
              group_stride: 1)
            kernels.pointee.quantize_blocks(&arguments)
          }
        }
      }
      if row.isEmpty { continue }
      #expect(Array(codes.prefix(row.count)) == reference.codes)
      #expect(codes.dropFirst(row.count).allSatisfy { $0 == 0 })
      #expect(sameBits(scales, reference.scales))
      for block in 0..<reference.blocks {
        let part = reference.codes[block * 256..<min(row.count, block * 256 + 256)]
        #expect(Int(sums[block]) == part.reduce(0) { $0 + Int($1) })
      }
      #expect(reference.codes.allSatisfy { $0 > -128 })
    }
    // The sign is that of the first.
    #expect(Q8KActivations([-3, 3], count: 1, columns: 2).scales[0] > 0)
    #expect(Q8KActivations([3, -3], count: 1, columns: 2).scales[0] < 0)
  }

  /// A magnitude whose −127 / m is no float counts as zeros: below 2⁻¹²⁰ nothing can come of it.
  @Test(arguments: InstructionSet.supported)
  func negligibleBlocksAreZeros(isa: InstructionSet) throws {
    let matrix = try TernaryMatrix(
      rows: 2, columns: 4, codes: [UInt8](repeating: 2, count: 8), scales: .tensor(1))
    let y = try packed(matrix, isa).matmul([1e-38, -1e-38, 1e-40, 0])
    #expect(y == [0, 0])
  }

  /// Up to 256 inputs the integers are b1.58's but for their sign.
  @Test func oneBlockHasTheSumsOfOneScale() throws {
    var random = RepeatableRandom(seed: 34)
    for columns in [1, 100, 256] {
      let matrix = try matrix(9, columns, using: &random)
      let x = random.normals(columns)
      let blocks = Q8KActivations(x, count: 1, columns: columns)
      let one = TernaryActivations(x, count: 1, columns: columns)
      let exact = matrix.referenceSums(one.codes, count: 1)
      let sign: Int64 = blocks.scales[0] < 0 ? -1 : 1
      #expect(matrix.blockSums(blocks, count: 1).map { $0 * sign } == exact)
    }
  }
}
