import TestSupport
import Testing

@testable import QuantKernels

/// The arithmetic of BitNet b1.58 written apart from the kernels: codes, their integer sums in 64
/// bits, the one float expression.
struct TernaryReference {
  let rows: Int
  let columns: Int
  let codes: [UInt8]
  let scales: [Float]

  static func quantized(_ x: ArraySlice<Float>) -> (codes: [Int], scale: Float) {
    let largest = x.reduce(Float(0)) { max($0, $1.magnitude) }
    guard x.allSatisfy(\.isFinite) else { return (x.map { _ in 0 }, .nan) }
    let scale = 127 / max(largest, 1e-5)
    let codes = x.map { Int(min(max(($0 * scale).rounded(.toNearestOrEven), -128), 127)) }
    return (codes, scale)
  }

  func product(_ x: [Float], count: Int, outputs: [Int]? = nil) -> [Float] {
    var y: [Float] = []
    for i in 0..<count {
      let (a, scale) = TernaryReference.quantized(x[i * columns..<(i + 1) * columns])
      for n in outputs ?? Array(0..<rows) {
        var dot: Int64 = 0
        for k in 0..<columns { dot += Int64(codes[n * columns + k]) * Int64(a[k]) - Int64(a[k]) }
        y.append(Float(Int32(dot)) * (scales[scales.count == 1 ? 0 : n] / scale))
      }
    }
    return y
  }

  func packed(
    _ format: PackedTernary.Format, _ isa: InstructionSet, pool: WorkerPool = .standard
  ) throws -> PackedTernary {
    try PackedTernary(
      TernaryCodes(rows: rows, columns: columns, codes: codes, scales: scales), format: format,
      instructionSet: isa, pool: pool)
  }
}

func randomTernary(
  rows: Int, columns: Int, rowScales: Bool = false, using random: inout RepeatableRandom
) -> TernaryReference {
  var codes: [UInt8] = []
  codes.reserveCapacity(rows * columns)
  for _ in 0..<rows * columns { codes.append(UInt8(random.next() >> 33 % 3)) }
  let scales =
    rowScales
    ? (0..<rows).map { _ in Float.random(in: 0.01..<2, using: &random) } : [Float(0.0371)]
  return TernaryReference(rows: rows, columns: columns, codes: codes, scales: scales)
}

/// Equal as bits, NaN among them.
func sameBits(_ a: [Float], _ b: [Float]) -> Bool {
  a.count == b.count
    && zip(a, b).allSatisfy { $0.bitPattern == $1.bitPattern || $0.isNaN && $1.isNaN }
}

private let lossless = PackedTernary.Format.allCases.filter(\.isLossless)

struct PackedTernaryTests {
  /// Small shapes in full: every level and lossless format, to the bit.
  @Test(arguments: InstructionSet.supported, lossless)
  func matchesTheReference(isa: InstructionSet, format: PackedTernary.Format) throws {
    var random = RepeatableRandom(seed: 1)
    for rows in [1, 2, 3, 4, 5, 31, 32, 33] {
      for columns in [1, 2, 3, 31, 63, 64, 65, 127, 128, 129, 160, 192, 255, 256, 257, 320] {
        let reference = randomTernary(
          rows: rows, columns: columns, rowScales: rows % 2 == 0, using: &random)
        let packed = try reference.packed(format, isa)
        #expect(packed.instructionSet == isa)
        for count in [1, 2, 3, 4, 5, 7, 8, 9, 16, 17].shuffled(using: &random).prefix(4) {
          let x = random.normals(count * columns)
          #expect(
            try sameBits(packed.matmul(x), reference.product(x, count: count)),
            "\(rows)×\(columns), \(count) rows")
        }
      }
    }
  }

  /// Widths of real models, sampled outputs.
  @Test(arguments: InstructionSet.supported, lossless)
  func matchesTheReferenceAtModelWidths(isa: InstructionSet, format: PackedTernary.Format) throws {
    var random = RepeatableRandom(seed: 2)
    for (rows, columns) in [
      (160, 1536), (33, 2048), (48, 2560), (17, 2561), (32, 3200), (20, 4096), (18, 6912),
      (16, 8640), (16, 11008), (3, 16384), (2, 45568),
    ] {
      let reference = randomTernary(rows: rows, columns: columns, using: &random)
      let packed = try reference.packed(format, isa)
      let outputs = [0, rows / 2, rows - 1]
      for count in [1, 2, 33] {
        let x = random.normals(count * columns)
        let y = try packed.matmul(x)
        let sampled = (0..<count).flatMap { i in outputs.map { y[i * rows + $0] } }
        #expect(
          sameBits(sampled, reference.product(x, count: count, outputs: outputs)),
          "\(rows)×\(columns), \(count) rows")
      }
    }
  }

  /// Every number of rows of the acceptance list, in full, and outputs of real models, sampled.
  @Test(arguments: InstructionSet.supported, lossless)
  func matchesTheReferenceAtModelHeights(isa: InstructionSet, format: PackedTernary.Format) throws {
    var random = RepeatableRandom(seed: 3)
    let whole = randomTernary(rows: 160, columns: 257, using: &random)
    let packed = try whole.packed(format, isa)
    let x = random.normals(513 * 257)
    let wanted = whole.product(x, count: 513)
    for count in [1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 31, 33, 64, 128, 513] {
      let y = try packed.matmul(Array(x.prefix(count * 257)))
      #expect(sameBits(y, Array(wanted.prefix(count * 160))), "\(count) rows")
    }
    for (rows, columns) in [(640, 2560), (2560, 1536), (6912, 320)] {
      let reference = randomTernary(rows: rows, columns: columns, using: &random)
      let packed = try reference.packed(format, isa)
      let outputs = [0, 15, 16, rows / 2 - 1, rows / 2, rows - 17, rows - 1]
      for count in [1, 2, 5] {
        let x = random.normals(count * columns)
        let y = try packed.matmul(x)
        let sampled = (0..<count).flatMap { i in outputs.map { y[i * rows + $0] } }
        #expect(
          sameBits(sampled, reference.product(x, count: count, outputs: outputs)),
          "\(rows)×\(columns), \(count) rows")
      }
    }
  }

  /// Sums at the edge of what 16-bit lanes hold, the two overflows of I2_S (constant activations
  /// of 64 and 103) and cancellation among them.
  @Test(arguments: InstructionSet.supported, lossless)
  func extremesDoNotOverflow(isa: InstructionSet, format: PackedTernary.Format) throws {
    for columns in [240, 241, 256, 480, 2560, 4096, 16384] {
      let patterns: [(Int) -> UInt8] = [
        { _ in 2 }, { _ in 0 }, { UInt8($0 % 2 * 2) }, { $0 == 7 ? 2 : 1 }, { _ in 1 },
      ]
      let codes = patterns.flatMap { pattern in (0..<columns).map(pattern) }
      let reference = TernaryReference(
        rows: patterns.count, columns: columns, codes: codes, scales: [1])
      let packed = try reference.packed(format, isa)
      // The first element fixes the scale at 1, so that the others are their own codes.
      for value: Float in [127, -127, 64, -64, 103, -103, 1] {
        for alternating in [false, true] {
          var row = (0..<columns).map { alternating && $0 % 2 == 1 ? -value : value }
          row[0] = 127
          let x = row + row + row
          #expect(
            try sameBits(packed.matmul(x), reference.product(x, count: 3)),
            "\(columns) columns of \(value)")
          #expect(try sameBits(packed.matmul(row), reference.product(row, count: 1)))
        }
      }
    }
  }

  @Test(arguments: InstructionSet.supported, PackedTernary.Format.allCases)
  func rowsAndThreadsAreIndependent(isa: InstructionSet, format: PackedTernary.Format) throws {
    var random = RepeatableRandom(seed: 4)
    let (rows, columns) = (75, 333)
    let reference = randomTernary(rows: rows, columns: columns, using: &random)
    let packed = try reference.packed(format, isa)
    let total = 530  // more than a block of rows
    let x = random.normals(total * columns)
    let one = WorkerPool(threads: 1)
    let single = try (0..<total).flatMap {
      try packed.matmul(Array(x[$0 * columns..<($0 + 1) * columns]), pool: one)
    }
    for threads in [1, 2, 7] {
      let pool = WorkerPool(threads: threads)
      for count in [1, 2, 3, 6, 13, 31, 32, 33, 64, 513, 530] where threads > 1 || count < 530 {
        let y = try packed.matmul(Array(x[..<(count * columns)]), pool: pool)
        #expect(sameBits(y, Array(single[..<(count * rows)])), "\(threads) threads, \(count) rows")
      }
    }
  }

  /// All lossless formats and levels give one result.
  @Test func formatsAgree() throws {
    var random = RepeatableRandom(seed: 5)
    let reference = randomTernary(rows: 50, columns: 1000, rowScales: true, using: &random)
    let x = random.normals(3 * 1000)
    let expected = reference.product(x, count: 3)
    for isa in InstructionSet.supported {
      for format in lossless {
        #expect(try sameBits(reference.packed(format, isa).matmul(x), expected))
      }
    }
  }

  @Test(arguments: PackedTernary.Format.allCases)
  func packingIsUndone(format: PackedTernary.Format) throws {
    var random = RepeatableRandom(seed: 6)
    for isa in InstructionSet.supported {
      for (rows, columns) in [(1, 1), (16, 16), (17, 20), (33, 123), (5, 0), (0, 5)] {
        let reference = randomTernary(rows: rows, columns: columns, using: &random)
        let packed = try reference.packed(format, isa)
        #expect(try packed.unpackedCodes() == reference.codes, "\(rows)×\(columns)")
      }
    }
  }

  @Test func fiveTritsAreBelow1_61Bits() throws {
    var random = RepeatableRandom(seed: 7)
    let packed = try randomTernary(rows: 64, columns: 4000, using: &random).packed(.fiveTrit, .best)
    #expect(packed.bitsPerWeight <= 1.61)
  }
}
