import CQuantKernels
import TestSupport
import Testing

@testable import QuantKernels

/// Bad and unusual input.
struct TernaryEdgeTests {
  /// A damaged token has outputs of NaN; its neighbors are as if it were not there.
  @Test(arguments: InstructionSet.supported, PackedTernary.Format.allCases)
  func damagedTokensStayAlone(isa: InstructionSet, format: PackedTernary.Format) throws {
    var random = RepeatableRandom(seed: 1)
    let (rows, columns) = (19, 70)
    let reference = randomTernary(rows: rows, columns: columns, using: &random)
    let packed = try reference.packed(format, isa)
    let clean = random.normals(5 * columns)
    let expected = try packed.matmul(clean)
    for bad: Float in [.nan, .infinity, -.infinity, .signalingNaN] {
      for place in [0, 33, columns - 1] {
        var x = clean
        x[2 * columns + place] = bad
        let y = try packed.matmul(x)
        #expect(y[2 * rows..<3 * rows].allSatisfy { $0.isNaN })
        #expect(sameBits(Array(y[..<(2 * rows)]), Array(expected[..<(2 * rows)])))
        #expect(sameBits(Array(y[(3 * rows)...]), Array(expected[(3 * rows)...])))
      }
    }
  }

  @Test(arguments: InstructionSet.supported, PackedTernary.Format.allCases)
  func emptyAndZeroOperands(isa: InstructionSet, format: PackedTernary.Format) throws {
    var random = RepeatableRandom(seed: 2)
    // A token of zeros, a row of zeros, a scale of 0, no inputs, no outputs, no tokens.
    var reference = randomTernary(rows: 18, columns: 100, using: &random)
    #expect(
      try reference.packed(format, isa).matmul([Float](repeating: 0, count: 300))
        .allSatisfy { $0 == 0 })
    reference = TernaryReference(
      rows: 3, columns: 40, codes: [UInt8](repeating: 1, count: 120), scales: [2])
    #expect(try reference.packed(format, isa).matmul(random.normals(80)).allSatisfy { $0 == 0 })
    reference = TernaryReference(
      rows: 3, columns: 40, codes: [UInt8](repeating: 2, count: 120), scales: [0])
    let x = random.normals(80)
    let zeros = try reference.packed(format, isa).matmul(x)
    #expect(zeros.allSatisfy { $0 == 0 })
    // +0, and −0 where the sum is negative.
    if format.isLossless { #expect(sameBits(zeros, reference.product(x, count: 2))) }
    let noInputs = TernaryReference(rows: 20, columns: 0, codes: [], scales: [1])
    for count in [0, 1, 2, 5] {
      let y = try noInputs.packed(format, isa).matmul([], count: count)
      #expect(y == [Float](repeating: 0, count: count * 20))
    }
    let noOutputs = TernaryReference(rows: 0, columns: 20, codes: [], scales: [1])
    #expect(try noOutputs.packed(format, isa).matmul(random.normals(40)).isEmpty)
    #expect(try reference.packed(format, isa).matmul([]).isEmpty)
  }

  /// Magnitudes below 1e-5 quantize by the floor; denormal and largest values are as defined.
  @Test(arguments: InstructionSet.supported)
  func smallAndLargeActivations(isa: InstructionSet) throws {
    var random = RepeatableRandom(seed: 3)
    let reference = randomTernary(rows: 17, columns: 90, using: &random)
    let packed = try reference.packed(.twoBit, isa)
    for size: Float in [1e-7, 4e-6, 1e-5, 0x1p-130, 1e30, 2e37] {
      let x = random.normals(2 * 90).map { $0 * size }
      #expect(try sameBits(packed.matmul(x), reference.product(x, count: 2)), "\(size)")
    }
  }

  /// Codes and scales of the quantizer are the reference's, ties included, on every level.
  @Test(arguments: InstructionSet.supported)
  func quantizerIsExact(isa: InstructionSet) throws {
    var random = RepeatableRandom(seed: 4)
    let kernels = try #require(qk_ternary_kernels(isa.kernelTableIdentifier))
    let chunk = Int(QK_TERNARY_STEPS) * Int(kernels.pointee.step)
    var rows: [[Float]] = [[127, 0.5, 1.5, 2.5, -0.5, -1.5], [0, 0, 0], [1e-6, -1e-6], [-3]]
    for columns in [1, 15, 16, 17, 31, 33, 239, 240, 241, 1000] {
      rows.append(random.normals(columns))
      rows.append((0..<columns).map { _ in Float(Int.random(in: -254...254, using: &random)) / 2 })
      rows[rows.count - 1][0] = 127  // scale 1: half of the values are ties
    }
    for row in rows {
      let chunks = (row.count + chunk - 1) / chunk
      var codes = [Int8](repeating: 99, count: chunks * chunk)
      var (sum, scale) = (Int32(-1), Float(-1))
      let guarded = try #require(GuardedBytes(capacity: 4 * row.count))
      let x = guarded.tail(4 * row.count).bindMemory(to: Float.self)
      _ = x.initialize(from: row)
      codes.withUnsafeMutableBufferPointer {
        var arguments = qk_ternary_quantize_args()
        arguments.x = UnsafePointer(x.baseAddress)
        arguments.columns = row.count
        arguments.chunks = chunks
        arguments.codes = $0.baseAddress
        arguments.chunk_stride = chunk
        withUnsafeMutablePointer(to: &sum) { sum in
          withUnsafeMutablePointer(to: &scale) { scale in
            arguments.sum = sum
            arguments.scale = scale
            kernels.pointee.quantize(&arguments)
          }
        }
      }
      let expected = TernaryReference.quantized(row[...])
      #expect(scale == expected.scale)
      #expect(codes.prefix(row.count).map(Int.init) == expected.codes)
      #expect(codes.dropFirst(row.count).allSatisfy { $0 == 0 })
      #expect(Int(sum) == expected.codes.reduce(0, +))
    }
    #expect(TernaryReference.quantized(rows[0][...]).codes == [127, 0, 2, 2, 0, -2])
  }

  /// The longest sums of 16-bit lanes with -128, which no quantizer makes but kernels take.
  @Test(arguments: InstructionSet.supported, [PackedTernary.Format.twoBit, .fiveTrit])
  func kernelsTakeMinus128(isa: InstructionSet, format: PackedTernary.Format) throws {
    let (rows, columns) = (32, 2400)
    for code: UInt8 in [0, 1, 2] {
      let reference = TernaryReference(
        rows: rows, columns: columns, codes: [UInt8](repeating: code, count: rows * columns),
        scales: [1])
      let packed = try reference.packed(format, isa)
      for count in [1, 2, 6] {
        let codes = [Int8](repeating: -128, count: count * packed.chunks * packed.chunkColumns)
        let sums = [Int32](repeating: -128 * Int32(columns), count: count)
        let scales = [Float](repeating: 1, count: count)
        var y = [Float](repeating: .nan, count: count * rows)
        var scratch = [Int32](repeating: 0, count: 16 * Int(QK_TERNARY_SUMS) * count)
        codes.withUnsafeBufferPointer { x in
          var arguments = qk_ternary_args()
          arguments.weights = UnsafePointer(packed.panelBytes(0))
          arguments.panel_stride = packed.panelStride
          arguments.panels = packed.panels
          arguments.vectors = packed.vectors
          arguments.x = x.baseAddress
          arguments.rows = count
          arguments.w_scale = UnsafePointer(packed.scaleValues)
          arguments.y_stride = rows
          arguments.outputs = rows
          sums.withUnsafeBufferPointer { sums in
            scales.withUnsafeBufferPointer { scales in
              y.withUnsafeMutableBufferPointer { y in
                scratch.withUnsafeMutableBufferPointer { scratch in
                  arguments.x_sum = sums.baseAddress
                  arguments.x_scale = scales.baseAddress
                  arguments.y = y.baseAddress
                  arguments.sums = scratch.baseAddress
                  qk_ternary_entry(packed.kernels, format.panel)(&arguments)
                }
              }
            }
          }
        }
        #expect(y.allSatisfy { $0 == Float((Int(code) - 1) * -128 * columns) })
      }
    }
  }

  /// Inputs and outputs that end at a page that may not be touched, at every alignment.
  @Test(arguments: InstructionSet.supported, PackedTernary.Format.allCases)
  func operandsAreNotOverread(isa: InstructionSet, format: PackedTernary.Format) throws {
    var random = RepeatableRandom(seed: 5)
    let pool = WorkerPool(threads: 1)
    for (rows, columns, count) in [(1, 1, 1), (17, 21, 2), (15, 250, 3), (33, 65, 7)] {
      let reference = randomTernary(rows: rows, columns: columns, using: &random)
      let packed = try reference.packed(format, isa)
      let x = random.normals(count * columns)
      let expected = try packed.matmul(x)
      let input = try #require(GuardedBytes(capacity: 4 * x.count))
      let output = try #require(GuardedBytes(capacity: 4 * expected.count))
      let from = input.tail(4 * x.count).bindMemory(to: Float.self)
      let to = output.tail(4 * expected.count).bindMemory(to: Float.self)
      _ = from.initialize(from: x)
      try packed.multiply(
        UnsafePointer(try #require(from.baseAddress)), count: count,
        into: try #require(to.baseAddress), outputStride: rows, workspace: Workspace(), pool: pool)
      #expect(sameBits(Array(to), expected))
    }
  }

  /// Codes of the padding, of columns and of outputs, cannot change a result.
  @Test(arguments: InstructionSet.supported, [PackedTernary.Format.twoBit, .blockQuantized])
  func paddingIsWithoutMeaning(isa: InstructionSet, format: PackedTernary.Format) throws {
    var random = RepeatableRandom(seed: 7)
    for (rows, columns) in [(1, 1), (17, 21), (33, 253), (16, 500)] {
      let reference = randomTernary(rows: rows, columns: columns, using: &random)
      let packed = try reference.packed(format, isa)
      let x = random.normals(5 * columns)
      let expected = try [1, 2, 5].map { try packed.matmul(Array(x.prefix($0 * columns))) }
      let places = try packed.vectorPlaces()
      let width = places.count / PackedTernary.panelRows
      for row in 0..<packed.panels * PackedTernary.panelRows {
        for k in (row < rows ? columns : 0)..<packed.vectors * width {
          let place = places[row % PackedTernary.panelRows * width + k % width]
          let byte = k / width * (places.count / 4) + place / 4
          packed.panelBytes(row / PackedTernary.panelRows)[byte] |= 3 << UInt8(place % 4 * 2)
        }
      }
      #expect(try packed.unpackedCodes() == reference.codes)
      for (count, wanted) in zip([1, 2, 5], expected) {
        #expect(
          try sameBits(packed.matmul(Array(x.prefix(count * columns))), wanted),
          "\(rows)×\(columns), \(count) rows")
      }
    }
  }

  /// More than 2³¹ weights: places are computed in 64 bits. Pages that nobody wrote hold code 0,
  /// which is −1; the last panel gets +1.
  @Test func elementsPast32Bits() throws {
    let (rows, columns) = ((1 << 17) + 16, 1 << 14)
    #expect(rows * columns > 1 << 31)
    let packed = try PackedTernary(
      rows: rows, columns: columns, format: .twoBit, instructionSet: .best)
    let last = packed.panelBytes(packed.panels - 1)
    for byte in 0..<packed.panelStride { last[byte] = 0xAA }
    for row in 0..<rows { packed.scaleValues[row] = 1 }
    var random = RepeatableRandom(seed: 8)
    let x = random.normals(columns)
    let (codes, scale) = TernaryReference.quantized(x[...])
    let wanted = Float(codes.reduce(0, +)) * (1 / scale)
    let y = try packed.matmul(x)
    #expect(y.dropLast(16).allSatisfy { $0 == -wanted })
    #expect(y.suffix(16).allSatisfy { $0 == wanted } && wanted != 0)
    for format in try TernaryCase.all() {
      let bytes = try format.byteCount(rows: 1 << 20, columns: 96 << 8)
      let bits = Double(bytes) * 8 / Double((1 << 20) * (96 << 8))
      #expect(bits > 1.59 && bits < 2.07, "\(format): \(bits) bits a weight")
    }
  }

  @Test func badInputThrows() throws {
    func pack(_ matrix: TernaryCodes) throws { _ = try PackedTernary(matrix) }
    let good = [UInt8](repeating: 1, count: 6)
    #expect(throws: QuantError.self) {
      try pack(TernaryCodes(rows: 2, columns: 3, codes: [0, 1, 2, 3, 1, 1], scales: [1]))
    }
    #expect(throws: QuantError.self) {
      try pack(TernaryCodes(rows: 2, columns: 4, codes: good, scales: [1]))
    }
    #expect(throws: QuantError.self) {
      try pack(TernaryCodes(rows: 2, columns: 3, codes: good, scales: [1, 2, 3]))
    }
    #expect(throws: QuantError.self) {
      try pack(TernaryCodes(rows: 2, columns: 3, codes: good, scales: [.nan]))
    }
    #expect(throws: QuantError.self) {
      try pack(TernaryCodes(rows: -1, columns: 3, codes: [], scales: [1]))
    }
    #expect(throws: QuantError.self) {
      try pack(TernaryCodes(rows: 1 << 40, columns: 1 << 23, codes: [], scales: [1]))
    }
    #expect(throws: QuantError.self) {
      try pack(TernaryCodes(rows: 1 << 39, columns: 1 << 22, codes: [], scales: [1]))
    }
    let packed = try PackedTernary(TernaryCodes(rows: 2, columns: 3, codes: good, scales: [1]))
    #expect(throws: QuantError.self) { try packed.matmul([1, 2, 3, 4]) }
    #expect(throws: QuantError.self) { try packed.matmul([1, 2, 3], count: 2) }
  }

  /// The rounded tables' error is bounded and there: half a step for each pair.
  @Test(arguments: InstructionSet.supported)
  func roundedLookupIsLossy(isa: InstructionSet) throws {
    var random = RepeatableRandom(seed: 6)
    let (rows, columns) = (40, 512)
    let reference = randomTernary(rows: rows, columns: columns, using: &random)
    let x = random.normals(columns)
    let exact = reference.product(x, count: 1)
    let y = try reference.packed(.lookupRoundedPairs, isa).matmul(x)
    let (_, scale) = TernaryReference.quantized(x[...])
    // A step is at most 254 / 127 codes, a pair's error half of it.
    let bound = Float(columns / 2) * 1 * reference.scales[0] / scale
    #expect(zip(y, exact).allSatisfy { abs($0 - $1) <= bound })
    #expect(y != exact)
  }

  @Test func choiceTakesTheFaster() throws {
    let saturated = TernaryFormatChoice(twoBit: 100, fiveTrit: 120, threads: 8)
    #expect(saturated.format == .fiveTrit)
    let single = TernaryFormatChoice(twoBit: 90, fiveTrit: 60, threads: 1)
    #expect(single.format == .twoBit)
    #expect(single.reason.contains("1 thread read 90.0 Gweights/s at 2 bits"))
    let measured = try TernaryFormatChoice.measured(pool: WorkerPool(threads: 1))
    #expect(measured.twoBitGigaweights > 0 && measured.fiveTritGigaweights > 0)
  }
}
