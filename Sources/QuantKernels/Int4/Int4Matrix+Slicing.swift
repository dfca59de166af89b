extension Int4Matrix {
  /// Some rows (outputs): a shard along N, to be taken before packing.
  ///
  /// - Throws: ``QuantError`` when the range is empty or leaves the matrix.
  public func rows(_ range: Range<Int>) throws(QuantError) -> Int4Matrix {
    guard !range.isEmpty, range.lowerBound >= 0, range.upperBound <= rows else {
      throw QuantError(
        .invalidArgument, "Int4Matrix \(rows)×\(columns)", "rows \(range)",
        remedy: "take a range inside 0..<\(rows) that is not empty")
    }
    let cut = range.lowerBound * groups..<range.upperBound * groups
    let part: Offsets =
      switch offsets {
      case .symmetric: .symmetric
      case .zeroPoints(let zeros): .zeroPoints(Array(zeros[cut]))
      case .minimums(let minimums): .minimums(Array(minimums[cut]))
      }
    return try Int4Matrix(
      rows: range.count, columns: columns, groupSize: groupSize,
      codes: Array(codes[range.lowerBound * columns..<range.upperBound * columns]),
      scales: Array(scales[cut]), offsets: part, inputPermutation: inputPermutation)
  }

  /// Matrices one below the other: fused layers such as Q, K and V.
  ///
  /// - Throws: ``QuantError`` when there is none, or they differ in columns, group size, kind of
  ///   offsets or input permutation.
  public static func joined(_ parts: [Int4Matrix]) throws(QuantError) -> Int4Matrix {
    guard let first = parts.first else {
      throw QuantError(
        .invalidArgument, "Int4Matrix.joined", "no parts", remedy: "pass at least one matrix")
    }
    var rows = 0
    var codes: [UInt8] = []
    var scales: [Float] = []
    var zeros: [UInt8] = []
    var minimums: [Float] = []
    for (index, part) in parts.enumerated() {
      guard part.columns == first.columns, part.groupSize == first.groupSize,
        part.inputPermutation == first.inputPermutation
      else {
        throw QuantError(
          .invalidArgument, "Int4Matrix.joined part \(index)",
          "\(part.columns) columns in groups of \(part.groupSize), or its input permutation, differ"
            + " from part 0's",
          remedy: "join layers that share their input and were quantized alike")
      }
      switch (part.offsets, first.offsets) {
      case (.symmetric, .symmetric): break
      case (.zeroPoints(let own), .zeroPoints): zeros += own
      case (.minimums(let own), .minimums): minimums += own
      default:
        throw QuantError(
          .invalidArgument, "Int4Matrix.joined part \(index)",
          "its kind of offsets differs from part 0's",
          remedy: "join layers that were quantized alike")
      }
      rows += part.rows
      codes += part.codes
      scales += part.scales
    }
    let offsets: Offsets =
      switch first.offsets {
      case .symmetric: .symmetric
      case .zeroPoints: .zeroPoints(zeros)
      case .minimums: .minimums(minimums)
      }
    return try Int4Matrix(
      rows: rows, columns: first.columns, groupSize: first.groupSize, codes: codes, scales: scales,
      offsets: offsets, inputPermutation: first.inputPermutation)
  }

  /// The same layer with its columns in another order: column j of the result is column `order[j]`
  /// of this one, and ``inputPermutation`` follows, so that products with the same input do not
  /// change but for the order of sums.
  ///
  /// - Throws: ``QuantError`` when `order` is no permutation, or would mix columns of different
  ///   groups in one.
  public func permutingColumns(_ order: [Int32]) throws(QuantError) -> Int4Matrix {
    let subject = "Int4Matrix \(rows)×\(columns)"
    try Permutation.check(order, of: columns, subject)
    var sources = [Int](repeating: 0, count: groups)
    for (column, source) in order.enumerated() {
      let group = Int(source) / groupSize
      if column % groupSize == 0 { sources[column / groupSize] = group }
      guard sources[column / groupSize] == group else {
        throw QuantError(
          .invalidArgument, subject,
          "columns \(column / groupSize * groupSize) and \(column) would share a scale and have "
            + "two",
          remedy: "permute inside groups or permute whole groups")
      }
    }
    func gather<Element>(_ values: [Element]) -> [Element] {
      (0..<rows).flatMap { row in sources.map { values[row * groups + $0] } }
    }
    let moved: Offsets =
      switch offsets {
      case .symmetric: .symmetric
      case .zeroPoints(let zeros): .zeroPoints(gather(zeros))
      case .minimums(let minimums): .minimums(gather(minimums))
      }
    return try Int4Matrix(
      rows: rows, columns: columns, groupSize: groupSize,
      codes: Self.gatherColumns(codes, rows: rows, order: order.map { Int($0) }),
      scales: gather(scales), offsets: moved,
      inputPermutation: order.map { inputPermutation?[Int($0)] ?? $0 })
  }

  /// The layer with its outputs in another order: row i of the result is row `order[i]` of this
  /// one.
  ///
  /// - Throws: ``QuantError`` when `order` is no permutation.
  public func permutingRows(_ order: [Int32]) throws(QuantError) -> Int4Matrix {
    try Permutation.check(order, of: rows, "Int4Matrix \(rows)×\(columns)")
    func gather<Element>(_ values: [Element], _ width: Int) -> [Element] {
      order.flatMap { values[Int($0) * width..<(Int($0) + 1) * width] }
    }
    let moved: Offsets =
      switch offsets {
      case .symmetric: .symmetric
      case .zeroPoints(let zeros): .zeroPoints(gather(zeros, groups))
      case .minimums(let minimums): .minimums(gather(minimums, groups))
      }
    return try Int4Matrix(
      rows: rows, columns: columns, groupSize: groupSize, codes: gather(codes, columns),
      scales: gather(scales, groups), offsets: moved, inputPermutation: inputPermutation)
  }
}
