extension Int4Matrix {
  /// Reads a layer out of AWQ, GPTQ, QUICK or Marlin tensors by integer moves; nothing is
  /// requantized.
  ///
  /// GPTQ's `g_idx` is resolved: columns are sorted by group (stable in k), and
  /// ``inputPermutation`` says which input each one multiplies. Zero points of the old GPTQ style
  /// become what they stand for, 1…16.
  ///
  /// - Throws: ``QuantError`` when the shape does not suit the format, a scale is not finite, or
  ///   `g_idx` names a group that is not there or gives the groups unequal sizes.
  /// - Complexity: O(rows · columns).
  public init(_ tensors: Int4Tensors) throws(QuantError) {
    let (rows, columns) = (tensors.rows, tensors.columns)
    let groups = columns / tensors.groupSize
    let layouts = try Int4Tensors.Layouts(
      tensors.format, rows: rows, columns: columns, groups: groups)
    var codes = try layouts.weights.unpack(Self.bytes(tensors.weights))
    let scales = try layouts.scales.unpack(halves: tensors.scales).map {
      HalfPrecision.float(fromHalf: $0)
    }
    var offsets = Offsets.symmetric
    if let layout = layouts.zeroPoints {
      let stored = try layout.unpack(Self.bytes(tensors.zeroPoints))
      offsets = .zeroPoints(tensors.format == .gptq ? stored.map { $0 + 1 } : stored)
    }
    var permutation: [Int32]?
    if let indices = tensors.groupIndices {
      let checked = try GroupIndices(indices, inputs: columns, groups: groups)
      if !checked.isOrdered {
        permutation = checked.order.order
        codes = Self.gatherColumns(codes, rows: rows, order: checked.order.order.map { Int($0) })
      }
    }
    try self.init(
      rows: rows, columns: columns, groupSize: tensors.groupSize, codes: codes, scales: scales,
      offsets: offsets, inputPermutation: permutation)
  }

  /// The layer's tensors in a public format, such that reading them back gives this matrix bit for
  /// bit.
  ///
  /// Minimums are written as zero points when each is exactly −scale · z with z in 0…15; a
  /// symmetric matrix is written with zero points 8.
  ///
  /// - Throws: ``QuantError`` with `.unsupported` when the format cannot hold the matrix: a shape
  ///   it does not cover, a scale that binary16 does not represent, minimums or zero points out of
  ///   its range (Marlin: only 8; old GPTQ: 1…16; the others 0…15), or an input permutation outside
  ///   GPTQ.
  /// - Complexity: O(rows · columns).
  public func tensors(_ format: Int4Tensors.Format) throws(QuantError) -> Int4Tensors {
    let subject = "\(format.rawValue) export of \(rows)×\(columns)"
    func unsupported(_ problem: String, _ remedy: String) -> QuantError {
      QuantError(.unsupported, subject, problem, remedy: remedy)
    }
    let layouts = try Int4Tensors.Layouts(format, rows: rows, columns: columns, groups: groups)
    guard groupSize % 32 == 0 || format != .quick else {
      throw unsupported("group size \(groupSize)", "QUICK needs a multiple of 32")
    }
    var halves: [UInt16] = []
    halves.reserveCapacity(scales.count)
    for (group, scale) in scales.enumerated() {
      let half = HalfPrecision.half(scale)
      guard HalfPrecision.float(fromHalf: half) == scale else {
        throw unsupported(
          "scale \(scale) of row \(group / groups), group \(group % groups) is no binary16",
          "dequantize and quantize again")
      }
      halves.append(half)
    }
    let allowed: ClosedRange<UInt8> =
      switch format {
      case .awq, .gptqV2, .quick: 0...15
      case .gptq: 1...16
      case .marlin: 8...8
      }
    let zeros = try integerZeroPoints(subject)
    if let bad = zeros.firstIndex(where: { !allowed.contains($0) }) {
      throw unsupported(
        "zero point \(zeros[bad]) of row \(bad / groups), group \(bad % groups)",
        "the format holds \(allowed.lowerBound)…\(allowed.upperBound); choose another format")
    }
    var ordered = codes
    var indices: [Int32]?
    if let permutation = inputPermutation {
      guard format == .gptq || format == .gptqV2 else {
        throw unsupported("the matrix has an input permutation", "export to GPTQ, which has g_idx")
      }
      var inverse = [Int](repeating: 0, count: columns)
      var groupOf = [Int32](repeating: 0, count: columns)
      for (column, input) in permutation.enumerated() {
        inverse[Int(input)] = column
        groupOf[Int(input)] = Int32(column / groupSize)
      }
      ordered = Self.gatherColumns(codes, rows: rows, order: inverse)
      indices = groupOf
    }
    let weights = Self.words(try layouts.weights.pack(ordered))
    let packedScales = try layouts.scales.pack(halves: halves)
    var zeroWords: [UInt32] = []
    if let layout = layouts.zeroPoints {
      zeroWords = Self.words(try layout.pack(format == .gptq ? zeros.map { $0 - 1 } : zeros))
    }
    let (n, k) = (rows, columns)
    let (weightShape, zeroShape, scaleWidth) =
      switch format {
      case .awq: ([k, n / 8], [groups, n / 8], n)
      case .gptq, .gptqV2: ([k / 8, n], [groups, n / 8], n)
      case .quick: ([k / 4, n / 2], [groups, n / 4], 2 * n)
      case .marlin: ([k / 16, 2 * n], [], n)
      }
    return try Int4Tensors(
      format: format, weights: weights, weightShape: weightShape, scales: packedScales,
      scaleShape: [groups, scaleWidth], zeroPoints: zeroWords, zeroPointShape: zeroShape,
      groupIndices: indices)
  }

  /// The offsets as integer zero points 0…16, when they are such exactly.
  func integerZeroPoints(_ subject: String) throws(QuantError) -> [UInt8] {
    switch offsets {
    case .symmetric: return [UInt8](repeating: 8, count: scales.count)
    case .zeroPoints(let zeros): return zeros
    case .minimums(let minimums):
      var zeros: [UInt8] = []
      zeros.reserveCapacity(minimums.count)
      for (group, minimum) in minimums.enumerated() {
        // A float32 times 0…15 is exact in float64.
        let scale = Double(scales[group])
        guard let zero = (0...15).first(where: { -scale * Double($0) == Double(minimum) }) else {
          throw QuantError(
            .unsupported, subject,
            "minimum \(minimum) of row \(group / groups), group \(group % groups) is no integer zero "
              + "point",
            remedy: "dequantize and quantize again, or keep a format with minimums (Q4_1)")
        }
        zeros.append(UInt8(zero))
      }
      return zeros
    }
  }

  /// `result[row, j] = codes[row, order[j]]`.
  static func gatherColumns(_ codes: [UInt8], rows: Int, order: [Int]) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(codes.count)
    for row in 0..<rows {
      let start = row * order.count
      for column in order { result.append(codes[start + column]) }
    }
    return result
  }

  private static func bytes(_ words: [UInt32]) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(words.count * 4)
    for word in words {
      for shift in stride(from: UInt32(0), to: 32, by: 8) {
        bytes.append(UInt8(truncatingIfNeeded: word >> shift))
      }
    }
    return bytes
  }

  private static func words(_ bytes: [UInt8]) -> [UInt32] {
    var words: [UInt32] = []
    words.reserveCapacity(bytes.count / 4)
    for at in stride(from: 0, to: bytes.count - 3, by: 4) {
      let low = UInt32(bytes[at]) | UInt32(bytes[at + 1]) << 8
      words.append(low | UInt32(bytes[at + 2]) << 16 | UInt32(bytes[at + 3]) << 24)
    }
    return words
  }
}
