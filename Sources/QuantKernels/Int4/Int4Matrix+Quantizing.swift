extension Int4Matrix {
  /// Quantizes a float matrix by rounding to nearest, with a search for each group's best scale.
  ///
  /// A group's candidates are the plain scale (its extreme, or its range, over the codes), shrunken
  /// and widened ones, and each one's least-squares refit to the codes it leads to. The one with
  /// the least squared error wins, so no group is worse than plain rounding. Scales are rounded to
  /// binary16 before their error is taken.
  ///
  /// - Parameters:
  ///   - values: `[rows · columns]`, row-major, finite.
  ///   - groupSize: columns that share a scale: a multiple of 32, or `columns`.
  ///   - symmetric: zero point 8 everywhere; otherwise an integer zero point 0…15 for each group.
  ///   - rows: N.
  ///   - columns: K.
  /// - Throws: ``QuantError`` when the shape does not fit, a value is NaN or infinite (with its
  ///   position), or a group's scale would exceed binary16.
  /// - Complexity: O(rows · columns), some thirty passes.
  public init(
    quantizing values: [Float], rows: Int, columns: Int, groupSize: Int, symmetric: Bool = false
  ) throws(QuantError) {
    let subject = "Int4Matrix \(rows)×\(columns)"
    let (count, overflow) = rows.multipliedReportingOverflow(by: columns)
    guard rows > 0, columns > 0, !overflow, values.count == count else {
      throw QuantError(
        .invalidArgument, subject, "\(values.count) values where \(rows) · \(columns) belong",
        remedy: "pass the whole matrix, row-major")
    }
    guard groupSize > 0, columns % groupSize == 0, groupSize % 32 == 0 || groupSize == columns
    else {
      throw QuantError(
        .invalidArgument, subject,
        "group size \(groupSize) must be a multiple of 32 that divides \(columns), or \(columns)",
        remedy: "choose such a group size")
    }
    // Seven steps of the largest binary16: any larger value has no scale.
    let largest: Float = 65504 * 7
    if let bad = values.firstIndex(where: { !($0.magnitude <= largest) }) {
      throw QuantError(
        .invalidData, subject, "\(values[bad]) at row \(bad / columns), column \(bad % columns)",
        remedy: "weights must be finite and at most \(largest) in magnitude")
    }
    let groups = count / groupSize
    var scales: [Float] = []
    var zeros: [UInt8] = []
    var codes: [UInt8] = []
    scales.reserveCapacity(groups)
    codes.reserveCapacity(count)
    values.withUnsafeBufferPointer { values in
      for group in 0..<groups {
        let part = UnsafeBufferPointer(
          rebasing: values[group * groupSize..<(group + 1) * groupSize])
        let search = symmetric ? GroupSearch.symmetric(part) : GroupSearch.asymmetric(part)
        scales.append(search.scale)
        if !symmetric { zeros.append(UInt8(search.zero)) }
        search.appendCodes(part, to: &codes)
      }
    }
    try self.init(
      rows: rows, columns: columns, groupSize: groupSize, codes: codes, scales: scales,
      offsets: symmetric ? .symmetric : .zeroPoints(zeros))
  }

  /// Every element's value, `[rows · columns]`, row-major in the order of ``codes`` (that is,
  /// before ``inputPermutation``).
  ///
  /// - Complexity: O(rows · columns).
  public func dequantized() -> [Float] {
    var values: [Float] = []
    values.reserveCapacity(codes.count)
    for group in 0..<scales.count {
      let scale = scales[group]
      let range = group * groupSize..<(group + 1) * groupSize
      switch offsets {
      case .symmetric: for at in range { values.append(scale * (Float(codes[at]) - 8)) }
      case .zeroPoints(let zeros):
        let zero = Float(zeros[group])
        for at in range { values.append(scale * (Float(codes[at]) - zero)) }
      case .minimums(let minimums):
        let minimum = minimums[group]
        for at in range { values.append(scale * Float(codes[at]) + minimum) }
      }
    }
    return values
  }
}

/// The best scale and zero point found so far for one group.
private struct GroupSearch {
  private(set) var scale: Float = 0
  private(set) var zero: Float
  private var error = Float.infinity

  /// Candidates around the scale that maps the signed extreme to −8, the end with one more step.
  static func symmetric(_ values: UnsafeBufferPointer<Float>) -> GroupSearch {
    var extreme: Float = 0
    for value in values where value.magnitude > extreme.magnitude { extreme = value }
    var search = GroupSearch(zero: 8)
    for steps in stride(from: Float(-8), through: -10.5, by: -0.5) {
      search.consider(extreme / steps, zero: 8, values)
    }
    search.consider(extreme / -7.5, zero: 8, values)
    search.consider(extreme / -7, zero: 8, values)
    return search
  }

  /// Candidates around the range, shrunken towards zero; zero always stays inside it.
  static func asymmetric(_ values: UnsafeBufferPointer<Float>) -> GroupSearch {
    var low: Float = 0
    var high: Float = 0
    for value in values {
      if value < low { low = value }
      if value > high { high = value }
    }
    var search = GroupSearch(zero: 8)
    for step in 0..<8 {
      let scale = (high - low) / 15 * (1 - 0.05 * Float(step))
      let place = high > low ? -low / (high - low) * 15 : 0
      let zero = place.rounded(.down)
      search.consider(scale, zero: zero, values)
      if zero < 15 { search.consider(scale, zero: zero + 1, values) }
    }
    return search
  }

  private init(zero: Float) { self.zero = zero }

  /// Takes the candidate, or its least-squares refit, if it is better.
  private mutating func consider(_ scale: Float, zero: Float, _ values: UnsafeBufferPointer<Float>)
  {
    let plain = Self.half(scale)
    let refit = take(plain, zero: zero, values)
    if refit != plain { _ = take(refit, zero: zero, values) }
  }

  /// Measures a scale that binary16 represents, and returns the scale that fits its codes best.
  private mutating func take(
    _ scale: Float, zero: Float, _ values: UnsafeBufferPointer<Float>
  ) -> Float {
    let inverse = scale == 0 ? 0 : 1 / scale
    var error: Float = 0
    var cross: Float = 0
    var square: Float = 0
    for value in values {
      let steps = Self.code(value, inverse, zero) - zero
      let difference = value - scale * steps
      error += difference * difference
      cross += value * steps
      square += steps * steps
    }
    if error < self.error { (self.scale, self.zero, self.error) = (scale, zero, error) }
    return square > 0 ? Self.half(cross / square) : scale
  }

  func appendCodes(_ values: UnsafeBufferPointer<Float>, to codes: inout [UInt8]) {
    let inverse = scale == 0 ? 0 : 1 / scale
    for value in values { codes.append(UInt8(Self.code(value, inverse, zero))) }
  }

  /// The nearest code as a float: adding and taking away 1.5 · 2²³ rounds to nearest even.
  private static func code(_ value: Float, _ inverse: Float, _ zero: Float) -> Float {
    let clamped = min(max(value * inverse + zero, 0), 15)
    return clamped + 12_582_912 - 12_582_912
  }

  private static func half(_ value: Float) -> Float {
    HalfPrecision.float(fromHalf: HalfPrecision.half(value))
  }
}
