import DeviceModel
import QuantKernels
import TestSupport
import Testing

@Suite("Values of attention on a simulated NPU")
struct NPUAttentionValuesTests {
  private func check(
    _ attention: NPUAttentionCase, _ options: NPUAttentionOptions, on spec: NPUSpec,
    bound: Double = 1e-6
  ) throws {
    let wanted = attention.reference(options.mask)
    let run = try attention.run(options, on: spec)
    let label =
      "\(spec.identifier) \(options.kernel) \(options.maskMode) \(attention.shape) \(options.mask)"
    #expect(run.output.values.count == wanted.values.count)
    let error = normalizedError(run.output.values, wanted.values)
    // Binary16 scores, of separate passes alone, lose more.
    #expect(error <= (options.separatePasses ? 4 * bound : bound), "\(label): \(error)")
    if options.kernel != .unfused {
      for (found, sum) in zip(run.output.rowSums, wanted.rowSums) {
        #expect(
          Double(found) == sum || abs(Double(found) - sum) <= 1e-6 * max(4, abs(sum)),
          "\(label): L \(found), \(sum)")
      }
    }
    for row in 0..<attention.shape.queryLength
    where options.mask.visibleKeys(firstRow: row, rows: 1, of: attention.shape.keyLength).isEmpty {
      let width = attention.shape.heads * attention.shape.headDimension
      #expect(
        run.output.values[row * width..<(row + 1) * width].allSatisfy { $0 == 0 },
        "\(label): row \(row)")
    }
  }

  @Test(
    "Every kernel, mask and mode equals float64 within 1e-6, on both parts",
    arguments: NPUSpec.all)
  func kernels(spec: NPUSpec) throws {
    let shape = NPUAttentionShape(
      queryLength: 70, keyLength: 150, heads: 4, keyValueHeads: 2, headDimension: 40)
    let attention = NPUAttentionCase(shape)
    for mask in [
      TileMask.none, try TileMask(isCausal: true, offset: 80),
      try TileMask(isCausal: true, offset: 0),
      try TileMask(isCausal: true, offset: 80, leftWindow: 33), try TileMask(leftWindow: 20),
    ] {
      for options in NPUAttentionOptions.all(mask, firstLevelKeys: 64, secondLevelKeys: 32) {
        try check(attention, options, on: spec)
      }
    }
  }

  @Test(
    "Widths: odd ones, small ones and those that halve the tiles",
    arguments: [1, 7, 64, 80, 96, 128, 192, 256])
  func widths(width: Int) throws {
    let attention = NPUAttentionCase(
      NPUAttentionShape(queryLength: 33, keyLength: 70, heads: 1, headDimension: width))
    for spec in NPUSpec.all {
      for kernel in NPUAttentionKernel.allCases {
        let mask = try TileMask(isCausal: true, offset: 37)
        try check(
          attention,
          NPUAttentionOptions(
            kernel: kernel, mask: mask, maskMode: kernel == .unfused ? .full : .tiling,
            firstLevelKeys: kernel == .unified ? nil : 64, secondLevelKeys: 32,
            blockRows: width > 128 ? 32 : nil), on: spec)
      }
    }
  }

  @Test("Grouped heads: ratios from 1 to 32, more than a tile has rows among them")
  func groups() throws {
    for (heads, keyValueHeads) in [(1, 1), (4, 1), (5, 1), (6, 2), (32, 1), (3, 3)] {
      let shape = NPUAttentionShape(
        queryLength: 9, keyLength: 50, heads: heads, keyValueHeads: keyValueHeads,
        headDimension: 16)
      let attention = NPUAttentionCase(shape, seed: UInt64(heads))
      for rows in [128, 16, 7] {
        try check(
          attention,
          NPUAttentionOptions(
            mask: try TileMask(isCausal: true, offset: 41), firstLevelKeys: 32, secondLevelKeys: 16,
            blockRows: rows), on: .ascend910b2)
      }
    }
  }

  @Test("Lengths of none, one and around the edges of tiles and blocks; rows that see nothing")
  func lengths() throws {
    for queries in [0, 1, 15, 16, 17, 31] {
      for keys in [0, 1, 31, 32, 33, 64, 65] {
        let shape = NPUAttentionShape(
          queryLength: queries, keyLength: keys, heads: 2, keyValueHeads: 1, headDimension: 8)
        let attention = NPUAttentionCase(shape)
        for kernel in NPUAttentionKernel.allCases {
          for offset in [0, keys - queries] {
            try check(
              attention,
              NPUAttentionOptions(
                kernel: kernel, mask: try TileMask(isCausal: true, offset: offset),
                maskMode: kernel == .unfused ? .full : .computed,
                firstLevelKeys: kernel == .unified ? nil : 32, secondLevelKeys: 16, blockRows: 16),
              on: .ascend910b2)
          }
        }
      }
    }
  }

  @Test("Long rows take the unfused softmax twice over the scores, large blocks single rows")
  func longRows() throws {
    let attention = NPUAttentionCase(
      NPUAttentionShape(queryLength: 19, keyLength: 2200, heads: 1, headDimension: 8))
    let mask = try TileMask(isCausal: true, offset: 2181)
    for spec in NPUSpec.all {
      try check(
        attention,
        NPUAttentionOptions(kernel: .unfused, mask: mask, maskMode: .full), on: spec)
    }
    for first in [1152, 2048, 4096] {
      try check(
        attention, NPUAttentionOptions(mask: mask, firstLevelKeys: first), on: .ascend910b2)
    }
  }

  @Test("Block sizes, rows and slots change results within the bound only")
  func blockSizes() throws {
    let shape = NPUAttentionShape(
      queryLength: 40, keyLength: 260, heads: 2, keyValueHeads: 1, headDimension: 32)
    let attention = NPUAttentionCase(shape)
    let mask = try TileMask(isCausal: true, offset: 220)
    for (first, second) in [(16, 16), (64, 16), (256, 64), (512, 128), (48, 48)] {
      for slots in [1, 2, 3, 4] {
        try check(
          attention,
          NPUAttentionOptions(
            mask: mask, firstLevelKeys: first, secondLevelKeys: second, blockRows: 24,
            slots: slots), on: .ascend910b2)
      }
    }
  }

  @Test("The same result whatever the mask mode, bit for bit")
  func modesAgree() throws {
    let attention = NPUAttentionCase(
      NPUAttentionShape(queryLength: 50, keyLength: 90, heads: 2, headDimension: 16))
    for mask in [
      try TileMask(isCausal: true, offset: 40),
      try TileMask(isCausal: true, offset: 40, leftWindow: 9),
    ] {
      func run(_ mode: NPUMaskMode) throws -> [Float] {
        try attention.run(
          NPUAttentionOptions(
            mask: mask, maskMode: mode, firstLevelKeys: 64, secondLevelKeys: 32)
        ).output.values
      }
      let computed = try run(.computed)
      #expect(try run(.tiling) == computed)
      // The full mask skips no block, so a row may start from −∞ and add zeros.
      let full = try run(.full)
      #expect(zip(full, computed).allSatisfy { abs($0 - $1) <= 0x1p-10 * max(1, abs($1)) })
    }
  }

  @Test("Large, equal and one-hot scores have their exact limits")
  func limits() throws {
    let shape = NPUAttentionShape(queryLength: 3, keyLength: 40, heads: 1, headDimension: 16)
    var attention = NPUAttentionCase(shape)
    // All keys equal: the mean of the values.
    attention = attention.replacing(keys: [Float](repeating: 1, count: shape.keyCount))
    for powerOfTwo in [false, true] {
      let options = NPUAttentionOptions(
        firstLevelKeys: 16, secondLevelKeys: 16, powerOfTwoMaxima: powerOfTwo)
      let wanted = attention.reference(.none)
      #expect(
        normalizedError(try attention.run(options).output.values, wanted.values) <= 1e-6)
      // Scores of ±10⁴: one key takes all.
      var queries = [Float](repeating: 0, count: shape.queryCount)
      var keys = [Float](repeating: 0, count: shape.keyCount)
      for row in 0..<3 { queries[row * 16] = 200 }
      for key in 0..<40 { keys[key * 16] = key == 17 ? 200 : -200 }
      let hot = attention.replacing(queries: queries, keys: keys)
      let run = try hot.run(options)
      for row in 0..<3 {
        for x in 0..<16 {
          let found = run.output.values[row * 16 + x]
          let wanted = attention.values[17 * 16 + x]
          // A maximum that is a power of two leaves a probability below 1, which is rounded.
          #expect(powerOfTwo ? abs(found - wanted) <= abs(wanted) * 0x1p-10 : found == wanted)
        }
        #expect(abs(run.output.rowSums[row] - 10_000) <= 0.01)
      }
    }
  }

  @Test("Power-of-two maxima: as exact, and most rescales are by nothing")
  func powersOfTwo() throws {
    let shape = NPUAttentionShape(queryLength: 64, keyLength: 512, heads: 2, headDimension: 32)
    let attention = NPUAttentionCase(shape)
    let wanted = attention.reference(.none)
    func run(_ powerOfTwo: Bool) throws -> Run<NPUAttentionOutput> {
      try attention.run(
        NPUAttentionOptions(
          firstLevelKeys: 64, secondLevelKeys: 64, powerOfTwoMaxima: powerOfTwo))
    }
    let plain = try run(false)
    let rounded = try run(true)
    let errors = (
      normalizedError(plain.output.values, wanted.values),
      normalizedError(rounded.output.values, wanted.values)
    )
    #expect(errors.0 <= 1e-6 && errors.1 <= 1e-6)
    #expect(errors.1 <= 2 * errors.0)
    let rows = (plain.output.rescaledRows ?? 0, rounded.output.rescaledRows ?? 0)
    // 7 rescales of 128 rows are issued; a maximum moves in fewer, its power of two in fewer yet.
    #expect(rows.0 > 0 && rows.0 < 7 * 128 && rows.1 > 0 && rows.1 < rows.0, "\(rows)")
    #expect(plain.npu?.counters.marks == rounded.npu?.counters.marks)
  }

  @Test("Scale: none given, zero and negative")
  func scales() throws {
    let attention = NPUAttentionCase(
      NPUAttentionShape(queryLength: 5, keyLength: 20, heads: 1, headDimension: 8))
    for scale in [Float(0), -0.5, 2] {
      let run = try attention.run(NPUAttentionOptions(scale: scale))
      let wanted = attention.reference(.none, scale: Double(scale))
      #expect(normalizedError(run.output.values, wanted.values) <= 1e-6)
    }
  }
}

extension NPUAttentionCase {
  /// The same case with other inputs.
  func replacing(queries: [Float]? = nil, keys: [Float]? = nil) -> NPUAttentionCase {
    NPUAttentionCase(
      shape: shape, queries: queries ?? self.queries, keys: keys ?? self.keys, values: values)
  }

  private init(shape: NPUAttentionShape, queries: [Float], keys: [Float], values: [Float]) {
    self.shape = shape
    self.queries = queries
    self.keys = keys
    self.values = values
  }
}
