import TestSupport
import Testing

@testable import QuantKernels

/// A product of `count` rows by packed weights.
func product(
  _ weights: PackedWeights, _ x: [Float], count: Int, arithmetic: Arithmetic = .fast,
  pool: WorkerPool = WorkerPool(threads: 1)
) throws -> [Float] {
  var y = [Float](repeating: .nan, count: count * weights.rows)
  try x.withUnsafeBufferPointer { input in
    try y.withUnsafeMutableBufferPointer { output in
      try weights.multiply(
        try #require(input.baseAddress), count: count, into: try #require(output.baseAddress),
        outputStride: weights.rows, arithmetic: arithmetic, workspace: Workspace(), pool: pool)
    }
  }
  return y
}

func pack(
  _ type: GGMLType, _ bytes: [UInt8], rows: Int, columns: Int, isa: InstructionSet
) throws -> PackedWeights {
  try bytes.withUnsafeBytes {
    try PackedWeights(
      type: type, parts: [(bytes: $0, rows: rows)], columns: columns, name: "test",
      instructionSet: isa)
  }
}

/// The types of rows that stand alone; I2_S has one scale for the tensor.
private let allTypes = GGMLType.allCases.filter { $0.tailBytes == 0 }

struct PackedWeightsTests {
  /// Each level × each type, against float64, in both arithmetics, at widths that leave a ragged
  /// last panel.
  @Test(arguments: InstructionSet.supported, allTypes)
  func matchesTheReference(isa: InstructionSet, type: GGMLType) throws {
    var random = RepeatableRandom(seed: 1)
    let columns = 512
    for (rows, count) in [(1, 1), (16, 2), (37, 3), (33, 17), (16, 40)] {
      let bytes = randomBlocks(type, rows: rows, columns: columns, using: &random)
      let weights = try GGMLBlocks.dequantize(type, bytes)
      let x = random.normals(count * columns)
      let packed = try pack(type, bytes, rows: rows, columns: columns, isa: isa)
      #expect(packed.instructionSet == isa)
      let dense = packed.isDense
      // A group of 32 costs at most five roundings (product, two fused sums, a sum of sums, a
      // scale); dense rows one a column.
      let fast = ReferenceProduct(
        x: x, w: weights, count: count, rows: rows, columns: columns, quantized: !dense)
      let roundings = dense ? Double(columns) : Double(columns / 32 * 5)
      #expect(fast.mismatch(try product(packed, x, count: count), roundings: 4 * roundings) == nil)
      let exact = ReferenceProduct(
        x: x, w: weights, count: count, rows: rows, columns: columns, quantized: false)
      #expect(
        exact.mismatch(
          try product(packed, x, count: count, arithmetic: .exact), roundings: Double(columns))
          == nil)
    }
  }

  /// Integer parts are equal by definition and the float expression is one: whole results agree to
  /// the bit.
  @Test(arguments: InstructionSet.supported.filter { $0 != .scalar }, allTypes)
  func equalsTheScalarLevel(isa: InstructionSet, type: GGMLType) throws {
    var random = RepeatableRandom(seed: 2)
    let (rows, columns) = (35, 768)
    let bytes = randomBlocks(type, rows: rows, columns: columns, using: &random)
    let scalar = try pack(type, bytes, rows: rows, columns: columns, isa: .scalar)
    let vector = try pack(type, bytes, rows: rows, columns: columns, isa: isa)
    for count in [1, 2, 5, 16, 33] {
      let x = random.normals(count * columns)
      for arithmetic in Arithmetic.allCases {
        #expect(
          try product(scalar, x, count: count, arithmetic: arithmetic)
            == product(vector, x, count: count, arithmetic: arithmetic),
          "\(count) rows, \(arithmetic)")
      }
    }
  }

  /// Exact products are one ascending-k chain of fused multiply-adds.
  @Test(arguments: InstructionSet.supported)
  func exactModeIsAnAscendingChain(isa: InstructionSet) throws {
    var random = RepeatableRandom(seed: 3)
    let (rows, columns, count) = (18, 320, 3)
    let bytes = randomBlocks(.q4_1, rows: rows, columns: columns, using: &random)
    let weights = try GGMLBlocks.dequantize(.q4_1, bytes)
    let x = random.normals(count * columns)
    let found = try product(
      pack(.q4_1, bytes, rows: rows, columns: columns, isa: isa), x, count: count,
      arithmetic: .exact)
    for i in 0..<count {
      for n in 0..<rows {
        var sum: Float = 0
        for k in 0..<columns { sum.addProduct(weights[n * columns + k], x[i * columns + k]) }
        #expect(found[i * rows + n] == sum)
      }
    }
  }

  /// A row's result does not depend on its company.
  @Test(arguments: InstructionSet.supported, [GGMLType.q4_0, .q4_1, .q8_0, .q4_k, .q6_k, .f16])
  func rowsAreIndependent(isa: InstructionSet, type: GGMLType) throws {
    var random = RepeatableRandom(seed: 4)
    let (rows, columns) = (20, 256)
    let bytes = randomBlocks(type, rows: rows, columns: columns, using: &random)
    let packed = try pack(type, bytes, rows: rows, columns: columns, isa: isa)
    let x = random.normals(130 * columns)
    let single = try (0..<130).flatMap {
      try product(packed, Array(x[$0 * columns..<($0 + 1) * columns]), count: 1)
    }
    let counts = isa == .scalar ? [2, 3, 16, 17, 31, 32, 33, 64, 130] : Array(1...130)
    for count in counts {
      let together = try product(packed, Array(x[..<(count * columns)]), count: count)
      #expect(together == Array(single[..<(count * rows)]), "\(count) rows")
    }
  }

  @Test(arguments: [1, 2, 40], [GGMLType.q4_1, .q6_k, .bf16])
  func threadsDoNotChangeResults(count: Int, type: GGMLType) throws {
    var random = RepeatableRandom(seed: 5)
    let (rows, columns) = (200, 512)
    let bytes = randomBlocks(type, rows: rows, columns: columns, using: &random)
    let packed = try pack(type, bytes, rows: rows, columns: columns, isa: .best)
    let x = random.normals(count * columns)
    for arithmetic in Arithmetic.allCases {
      let one = try product(packed, x, count: count, arithmetic: arithmetic)
      for threads in [2, 7] {
        let pool = WorkerPool(threads: threads)
        #expect(one == (try product(packed, x, count: count, arithmetic: arithmetic, pool: pool)))
      }
    }
  }

  /// The first outputs alone are those of the whole product, and nothing else is written.
  @Test(arguments: InstructionSet.supported, [GGMLType.q4_1, .q6_k, .bf16])
  func leadingOutputs(isa: InstructionSet, type: GGMLType) throws {
    var random = RepeatableRandom(seed: 15)
    let (rows, columns) = (90, 256)
    let bytes = randomBlocks(type, rows: rows, columns: columns, using: &random)
    let packed = try pack(type, bytes, rows: rows, columns: columns, isa: isa)
    let pool = WorkerPool(threads: 2)
    for (count, arithmetic) in [(1, Arithmetic.fast), (40, .fast), (3, .exact)] {
      let x = random.normals(count * columns)
      let all = try product(packed, x, count: count, arithmetic: arithmetic)
      for outputs in [1, 16, 50, 90] {
        var y = [Float](repeating: -1, count: count * rows)
        try packed.multiply(
          x, count: count, into: &y, outputStride: rows, outputs: outputs, arithmetic: arithmetic,
          workspace: Workspace(), pool: pool)
        let expected = all.enumerated().map { $0.offset % rows < outputs ? $0.element : -1 }
        #expect(y == expected, "\(outputs) outputs of \(count) rows")
      }
    }
  }

  /// Canonical matrices: every kind of offset, group sizes to the whole of K, K that is no multiple
  /// of 32.
  @Test(arguments: InstructionSet.supported)
  func packsCanonicalMatrices(isa: InstructionSet) throws {
    var random = RepeatableRandom(seed: 6)
    for (columns, groupSize) in [(256, 32), (256, 64), (256, 128), (256, 256), (72, 72), (5, 5)] {
      let (rows, count) = (21, 19)
      let groups = rows * columns / groupSize
      let codes = (0..<rows * columns).map { _ in UInt8.random(in: 0...15, using: &random) }
      let halves = (0..<groups).map { _ in
        HalfPrecision.float(fromHalf: HalfPrecision.half(.random(in: -0.1..<0.1, using: &random)))
      }
      let floats = (0..<groups).map { _ in Float.random(in: -0.1..<0.1, using: &random) }
      let zeros = (0..<groups).map { _ in UInt8.random(in: 0...16, using: &random) }
      for scales in [halves, floats] {
        for offsets in [
          Int4Matrix.Offsets.symmetric, .zeroPoints(zeros), .minimums(floats), .minimums(halves),
        ] {
          let matrix = try Int4Matrix(
            rows: rows, columns: columns, groupSize: groupSize, codes: codes, scales: scales,
            offsets: offsets)
          let packed = try PackedWeights(matrix, instructionSet: isa)
          let w = (0..<rows).flatMap { row in (0..<columns).map { matrix[row, $0] } }
          let x = random.normals(count * columns)
          let fast = ReferenceProduct(
            x: x, w: w, count: count, rows: rows, columns: columns, quantized: true)
          let found = try product(packed, x, count: count)
          // Codes are unsigned inside, so a group's terms reach 16 / 1 of the largest weight.
          #expect(fast.mismatch(found, roundings: 64 * Double((columns + 31) / 32 * 5)) == nil)
          let exact = ReferenceProduct(
            x: x, w: w, count: count, rows: rows, columns: columns, quantized: false)
          #expect(
            exact.mismatch(
              try product(packed, x, count: count, arithmetic: .exact), roundings: Double(columns))
              == nil)
          for row in [0, 7] {
            #expect(
              try product(packed, Array(x[row * columns..<(row + 1) * columns]), count: 1)
                == Array(found[row * rows..<(row + 1) * rows]))
          }
        }
      }
    }
  }

  /// The generator's whole-matrix layout and the kernels' addresses are one.
  @Test func kernelsReadByTheLayout() throws {
    var random = RepeatableRandom(seed: 7)
    let (rows, columns) = (48, 256)
    let bytes = randomBlocks(.q4_0, rows: rows, columns: columns, using: &random)
    let direct = try pack(.q4_0, bytes, rows: rows, columns: columns, isa: .best)
    let weights = try GGMLBlocks.dequantize(.q4_0, bytes)
    let scales = (0..<rows * columns / 32).map { group in
      HalfPrecision.float(fromHalf: UInt16(bytes[18 * group]) | UInt16(bytes[18 * group + 1]) << 8)
    }
    let codes = weights.enumerated().map { UInt8($0.element / scales[$0.offset / 32] + 8) }
    let canonical = try Int4Matrix(
      rows: rows, columns: columns, groupSize: 32, codes: codes, scales: scales, offsets: .symmetric
    )
    let general = try PackedWeights(canonical)
    #expect(direct.byteCount == general.byteCount)
    #expect(
      UnsafeRawBufferPointer(start: direct.storage.base, count: direct.byteCount)
        .elementsEqual(
          UnsafeRawBufferPointer(start: general.storage.base, count: general.byteCount)))
  }

  @Test func actOrderGathersTheInput() throws {
    var random = RepeatableRandom(seed: 8)
    let (rows, columns) = (16, 64)
    let codes = (0..<rows * columns).map { _ in UInt8.random(in: 0...15, using: &random) }
    let scales = [Float](repeating: 0.125, count: rows * 2)
    let permutation = (0..<Int32(columns)).shuffled(using: &random)
    let plain = try PackedWeights(
      Int4Matrix(
        rows: rows, columns: columns, groupSize: 32, codes: codes, scales: scales,
        offsets: .symmetric))
    let ordered = try PackedWeights(
      Int4Matrix(
        rows: rows, columns: columns, groupSize: 32, codes: codes, scales: scales,
        offsets: .symmetric,
        inputPermutation: permutation))
    let x = random.normals(2 * columns)
    let gathered = (0..<2).flatMap { row in permutation.map { x[row * columns + Int($0)] } }
    #expect(try product(ordered, x, count: 2) == product(plain, gathered, count: 2))
  }

  @Test func notANumberIsNotHidden() throws {
    var random = RepeatableRandom(seed: 9)
    let bytes = randomBlocks(.q4_1, rows: 16, columns: 64, using: &random)
    for isa in InstructionSet.supported {
      let packed = try pack(.q4_1, bytes, rows: 16, columns: 64, isa: isa)
      for bad in [Float.nan, .infinity, -.infinity] {
        var x = random.normals(64)
        x[40] = bad
        #expect(try product(packed, x, count: 1).allSatisfy(\.isNaN))
      }
      #expect(
        try product(packed, [Float](repeating: 0, count: 64), count: 1).allSatisfy { $0 == 0 })
      #expect(
        try product(
          packed, [Float](repeating: Float(sign: .plus, exponent: -133, significand: 1), count: 64),
          count: 1
        ).allSatisfy { $0 == 0 })
    }
  }

  /// Eight rows are quantized together; those beside a row that is no number, or nothing, are not touched by it.
  @Test func badRowsLeaveTheOthersAlone() throws {
    var random = RepeatableRandom(seed: 10)
    let (columns, count) = (96, 17)
    let bytes = randomBlocks(.q4_1, rows: 16, columns: columns, using: &random)
    for isa in InstructionSet.supported {
      let packed = try pack(.q4_1, bytes, rows: 16, columns: columns, isa: isa)
      for bad in [Float.nan, .infinity, 0, 0x1p-101, 0x1p-100, .greatestFiniteMagnitude] {
        var x = random.normals(count * columns)
        for row in [0, 5, 12] {
          for column in 32..<64 { x[row * columns + column] = bad }
        }
        let together = try product(packed, x, count: count)
        for row in 0..<count {
          let alone = try product(packed, Array(x[row * columns..<(row + 1) * columns]), count: 1)
          #expect(together[row * 16..<(row + 1) * 16].map(\.bitPattern) == alone.map(\.bitPattern))
        }
      }
    }
  }

  @Test func refusesBadInput() throws {
    #expect(throws: QuantError.self) { try pack(.q4_0, [], rows: 0, columns: 32, isa: .best) }
    #expect(throws: QuantError.self) {
      try pack(.q4_0, [UInt8](repeating: 0, count: 18), rows: 1, columns: 33, isa: .best)
    }
    #expect(throws: QuantError.self) {
      try pack(.q4_0, [UInt8](repeating: 0, count: 17), rows: 1, columns: 32, isa: .best)
    }
    var infinite = [UInt8](repeating: 0, count: 18)
    infinite[1] = 0x7C
    #expect(throws: QuantError.self) { try pack(.q4_0, infinite, rows: 1, columns: 32, isa: .best) }
    for isa in InstructionSet.allCases where !isa.isSupported {
      #expect(throws: QuantError.self) {
        try pack(.q4_0, [UInt8](repeating: 0, count: 18), rows: 1, columns: 32, isa: isa)
      }
    }
  }
}
