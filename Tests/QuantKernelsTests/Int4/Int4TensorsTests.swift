import QuantKernels
import TestSupport
import Testing

@Suite struct Int4TensorsTests {
  /// A matrix with binary16 scales and zero points in a range.
  static func random(
    rows: Int, columns: Int, groupSize: Int, zeros: ClosedRange<UInt8>?, seed: UInt64
  ) throws -> Int4Matrix {
    var random = RepeatableRandom(seed: seed)
    let groups = rows * columns / groupSize
    let codes = (0..<rows * columns).map { _ in UInt8.random(in: 0...15, using: &random) }
    let scales = (0..<groups).map { _ in
      HalfPrecision.float(fromHalf: HalfPrecision.half(.random(in: -0.2...0.2, using: &random)))
    }
    return try Int4Matrix(
      rows: rows, columns: columns, groupSize: groupSize, codes: codes, scales: scales,
      offsets: zeros.map { range in
        .zeroPoints((0..<groups).map { _ in UInt8.random(in: range, using: &random) })
      } ?? .symmetric)
  }

  private static func nibble(_ word: UInt32, _ i: Int) -> Float {
    Float(word >> UInt32(4 * i) & 15)
  }

  private static func half(_ bits: UInt16) -> Float { HalfPrecision.float(fromHalf: bits) }

  @Test(arguments: [(128, 64, 32), (256, 128, 128), (384, 96, 32), (128, 160, 160)])
  func everyFormatRoundTrips(rows: Int, columns: Int, groupSize: Int) throws {
    for format in Int4Tensors.Format.allCases {
      let zeros: ClosedRange<UInt8> =
        switch format {
        case .awq, .gptqV2, .quick: 0...15
        case .gptq: 1...16
        case .marlin: 8...8
        }
      let matrix = try Self.random(
        rows: rows, columns: columns, groupSize: groupSize, zeros: zeros, seed: 1)
      let tensors = try matrix.tensors(format)
      let back = try Int4Matrix(tensors)
      if format == .marlin {
        #expect(back.offsets == .symmetric)
        #expect(back.codes == matrix.codes && back.scales == matrix.scales)
      } else {
        #expect(back == matrix)
      }
      #expect(try back.tensors(format) == tensors)
      #expect(tensors.groupSize == groupSize)
    }
  }

  @Test func chainOfFormatsIsBitExact() throws {
    let awq = try Self.random(rows: 640, columns: 64, groupSize: 32, zeros: 0...15, seed: 2)
      .tensors(.awq)
    var tensors = awq
    for format in [Int4Tensors.Format.quick, .gptqV2, .quick, .awq] {
      tensors = try Int4Matrix(tensors).tensors(format)
    }
    #expect(tensors == awq)
    let symmetric = try Self.random(rows: 128, columns: 64, groupSize: 64, zeros: nil, seed: 3)
    let start = try symmetric.tensors(.awq)
    tensors = start
    for format in [Int4Tensors.Format.quick, .marlin, .gptq, .awq] {
      tensors = try Int4Matrix(tensors).tensors(format)
    }
    #expect(tensors == start)
  }

  /// AWQ and GPTQ tensors dequantized as their own tools do, word by word.
  @Test func awqAndGPTQMeanWhatTheirToolsMean() throws {
    let (rows, columns, group) = (16, 64, 32)
    let matrix = try Self.random(
      rows: rows, columns: columns, groupSize: group, zeros: 1...15, seed: 5)
    let awq = try matrix.tensors(.awq)
    #expect(
      awq.weightShape == [64, 2] && awq.zeroPointShape == [2, 2] && awq.scaleShape == [2, 16])
    let order = [0, 2, 4, 6, 1, 3, 5, 7]
    let old = try matrix.tensors(.gptq)
    let new = try matrix.tensors(.gptqV2)
    #expect(old.weightShape == [8, 16] && old.zeroPointShape == [2, 2])
    #expect(old.groupIndices == nil)
    for k in 0..<columns {
      let g = k / group
      for c in 0..<rows / 8 {
        for i in 0..<8 {
          let n = 8 * c + order[i]
          let scale = Self.half(awq.scales[g * rows + n])
          let q = Self.nibble(awq.weights[k * 2 + c], i)
          let z = Self.nibble(awq.zeroPoints[g * 2 + c], i)
          #expect(matrix[n, k] == scale * (q - z))
        }
        for i in 0..<8 {
          let n = 8 * c + i
          for (tensors, plus) in [(old, Float(1)), (new, 0)] {
            let scale = Self.half(tensors.scales[g * rows + n])
            let q = Self.nibble(tensors.weights[k / 8 * rows + n], k % 8)
            let z = Self.nibble(tensors.zeroPoints[g * 2 + c], i) + plus
            #expect(matrix[n, k] == scale * (q - z))
          }
        }
      }
    }
  }

  /// QUICK's tensors as its kernel reads them: words, scales and zeros by the lane's addresses,
  /// through the fast dequantization.
  @Test(arguments: [128, 256, 640])
  func quickMeansWhatItsKernelReads(rows: Int) throws {
    let (columns, group) = (64, 32)
    let matrix = try Self.random(
      rows: rows, columns: columns, groupSize: group, zeros: 0...15, seed: 6)
    let quick = try matrix.tensors(.quick)
    #expect(quick.weightShape == [columns / 4, rows / 2])
    #expect(quick.scaleShape == [2, 2 * rows] && quick.zeroPointShape == [2, rows / 4])
    var wrong = 0
    for kb in 0..<columns / 32 {
      let g = 32 * kb / group
      for block in 0..<rows / 128 {
        for warp in 0..<2 {
          for lane in 0..<32 {
            let base = kb * 4 * rows + (2 * warp + lane / 16) * rows + block * 128 + lane % 16 * 8
            let channel = (2 * warp + lane / 16) * (rows / 8) + 16 * block + lane % 16
            let record = channel / 4
            for word in 0..<8 {
              let values = HalfDequantization.biased(quick.weights[base + word])
              for element in 0..<8 {
                let tile = 2 * (word % 4) + element / 4
                let zeroWord = quick.zeroPoints[g * rows / 4 + record * 2 + tile / 4]
                // The zero's half2 of n-tile t: logical halves 2t and 2t + 1 of its word.
                let zeros = HalfDequantization.biased(zeroWord)
                // Nibble t and its copy t + 4 are the logical halves that the map 0,2,4,6,1,3,5,7
                // pairs.
                let zero = zeros[2 * (tile % 4) + element % 2]
                let scale = quick.scales[g * 2 * rows + record * 16 + 2 * tile + element % 2]
                let value = HalfDequantization.quickValue(values[element], zero: zero, scale: scale)
                let n = 128 * block + 64 * warp + 8 * tile + lane / 4
                let k =
                  32 * kb + 16 * (word / 4) + 2 * (lane % 4) + element % 2 + 8 * (element / 2 % 2)
                if value != HalfPrecision.half(matrix[n, k]) { wrong += 1 }
              }
            }
          }
        }
      }
    }
    #expect(wrong == 0)
  }

  /// Marlin's scale permutations, as lists.
  @Test func marlinScalesFollowItsPermutations() throws {
    let grouped = (0..<8).flatMap { i in (0..<8).map { i + 8 * $0 } }
    let single = (0..<4).flatMap { i in [0, 1, 8, 9, 16, 17, 24, 25].map { 2 * i + $0 } }
    for (group, permutation) in [(32, grouped), (64, single)] {
      let matrix = try Self.random(
        rows: 128, columns: 64, groupSize: group, zeros: nil, seed: 8)
      let tensors = try matrix.tensors(.marlin)
      #expect(tensors.zeroPoints.isEmpty && tensors.weightShape == [4, 256])
      for g in 0..<64 / group {
        for n in 0..<128 {
          let column =
            n / permutation.count * permutation.count + permutation[n % permutation.count]
          #expect(
            Self.half(tensors.scales[g * 128 + n]) == matrix.scales[column * matrix.groups + g])
        }
      }
    }
  }

  /// Act-order: each input's group by `g_idx`; the sorted matrix with its permutation is the same
  /// layer.
  @Test func groupIndicesBecomeAPermutation() throws {
    let (rows, columns, group) = (8, 96, 32)
    var random = RepeatableRandom(seed: 9)
    let plain = try Self.random(
      rows: rows, columns: columns, groupSize: group, zeros: 1...16, seed: 10)
    var indices = (0..<columns).map { Int32($0 / group) }
    indices.shuffle(using: &random)
    for format in [Int4Tensors.Format.gptq, .gptqV2] {
      let stored = try Self.random(
        rows: rows, columns: columns, groupSize: group, zeros: format == .gptq ? 1...16 : 0...15,
        seed: 10
      ).tensors(format)
      let tensors = try Int4Tensors(
        format: format, weights: stored.weights, weightShape: stored.weightShape,
        scales: stored.scales, scaleShape: stored.scaleShape, zeroPoints: stored.zeroPoints,
        zeroPointShape: stored.zeroPointShape, groupIndices: indices)
      let matrix = try Int4Matrix(tensors)
      let permutation = try #require(matrix.inputPermutation)
      for n in 0..<rows {
        for column in 0..<columns {
          let k = Int(permutation[column])
          let g = Int(indices[k])
          let q = Self.nibble(stored.weights[k / 8 * rows + n], k % 8)
          let z =
            Self.nibble(stored.zeroPoints[g * rows / 8 + n / 8], n % 8) + (format == .gptq ? 1 : 0)
          #expect(matrix[n, column] == Self.half(stored.scales[g * rows + n]) * (q - z))
        }
      }
      #expect(try matrix.tensors(format) == tensors)
      #expect(throws: QuantError.self) { try matrix.tensors(.awq) }
    }
    // Trivial indices need no permutation.
    let stored = try plain.tensors(.gptq)
    let trivial = try Int4Tensors(
      format: .gptq, weights: stored.weights, weightShape: stored.weightShape,
      scales: stored.scales, scaleShape: stored.scaleShape, zeroPoints: stored.zeroPoints,
      zeroPointShape: stored.zeroPointShape, groupIndices: indices.sorted())
    #expect(try Int4Matrix(trivial) == plain)
    // Unequal or unknown groups are refused.
    for bad in [Int32(0), 3, -1] {
      var wrong = indices.sorted()
      wrong[95] = bad
      let tensors = try Int4Tensors(
        format: .gptq, weights: stored.weights, weightShape: stored.weightShape,
        scales: stored.scales, scaleShape: stored.scaleShape, zeroPoints: stored.zeroPoints,
        zeroPointShape: stored.zeroPointShape, groupIndices: wrong)
      #expect(throws: QuantError.self) { try Int4Matrix(tensors) }
    }
  }

  @Test func minimumsThatAreZeroPointsExport() throws {
    let scales: [Float] = [0.5, -0.25, 0, 0.0625]
    func make(_ minimums: [Float]) throws -> Int4Matrix {
      try Int4Matrix(
        rows: 8, columns: 32, groupSize: 32, codes: (0..<256).map { UInt8($0 % 16) },
        scales: scales + scales, offsets: .minimums(minimums + minimums))
    }
    let exact = try make([-3.5, 3.75, 0, 0])
    let back = try Int4Matrix(exact.tensors(.awq))
    #expect(back.offsets == .zeroPoints([7, 15, 0, 0, 7, 15, 0, 0]))
    #expect(back.dequantized() == exact.dequantized())
    for bad: [Float] in [[-3.4, 3.75, 0, 0], [0.5, 0, 0, 0], [-8, 0, 0, 0], [0, 0, 1, 0]] {
      let error = #expect(throws: QuantError.self) { try make(bad).tensors(.awq) }
      #expect(error?.code == .unsupported)
    }
  }

  @Test func refusesWhatAFormatCannotHold() throws {
    func refused(_ matrix: Int4Matrix, _ format: Int4Tensors.Format) {
      #expect(throws: QuantError.self) { try matrix.tensors(format) }
    }
    let sixteen = try Self.random(rows: 128, columns: 64, groupSize: 32, zeros: 16...16, seed: 1)
    for format in [Int4Tensors.Format.awq, .gptqV2, .quick, .marlin] { refused(sixteen, format) }
    let zero = try Self.random(rows: 128, columns: 64, groupSize: 32, zeros: 0...0, seed: 1)
    refused(zero, .gptq)
    refused(zero, .marlin)
    let narrow = try Self.random(rows: 12, columns: 64, groupSize: 32, zeros: nil, seed: 1)
    for format in Int4Tensors.Format.allCases { refused(narrow, format) }
    let odd = try Self.random(rows: 128, columns: 20, groupSize: 20, zeros: nil, seed: 1)
    for format in [Int4Tensors.Format.gptq, .quick, .marlin] { refused(odd, format) }
    let fine = try Int4Matrix(
      rows: 8, columns: 32, groupSize: 32, codes: .init(repeating: 1, count: 256),
      scales: .init(repeating: 0.1, count: 8), offsets: .symmetric)
    refused(fine, .awq)  // 0.1 is no binary16
  }

  @Test func refusesTensorsThatDoNotFit() throws {
    let good = try Self.random(rows: 128, columns: 64, groupSize: 32, zeros: 1...15, seed: 1)
    for format in [Int4Tensors.Format.awq, .gptq, .gptqV2, .quick] {
      let t = try good.tensors(format)
      func refused(
        weights: [UInt32]? = nil, weightShape: [Int]? = nil, scales: [UInt16]? = nil,
        scaleShape: [Int]? = nil, zeros: [UInt32]? = nil, zeroShape: [Int]? = nil,
        indices: [Int32]? = nil
      ) {
        #expect(throws: QuantError.self) {
          try Int4Matrix(
            Int4Tensors(
              format: format, weights: weights ?? t.weights,
              weightShape: weightShape ?? t.weightShape, scales: scales ?? t.scales,
              scaleShape: scaleShape ?? t.scaleShape, zeroPoints: zeros ?? t.zeroPoints,
              zeroPointShape: zeroShape ?? t.zeroPointShape, groupIndices: indices))
        }
      }
      refused(weights: [])
      refused(weights: t.weights + [0])
      refused(weightShape: [t.weights.count])
      refused(weightShape: [0, 0])
      refused(weightShape: [-1, -t.weights.count])
      refused(weightShape: [.max, .max])
      refused(weightShape: t.weightShape.reversed())
      refused(scales: [1])
      refused(scaleShape: [1, t.scales.count])
      refused(scaleShape: [t.scales.count, 1])
      refused(scales: t.scales.map { _ in 0x7C00 })
      refused(scales: t.scales.map { _ in 0x7E01 })
      refused(zeros: [])
      refused(zeroShape: [])
      refused(zeroShape: [1, t.zeroPoints.count])
      refused(indices: [0])
      if format == .awq { refused(indices: .init(repeating: 0, count: 64)) }
    }
  }
}
