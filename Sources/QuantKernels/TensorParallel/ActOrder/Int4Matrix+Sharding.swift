extension Int4Matrix {
  /// Some columns (inputs) in the order in which they are stored: a shard along K, whole groups of it.
  ///
  /// The result multiplies the inputs that ``inputPermutation`` names, in that order; whoever cut it
  /// brings them so, and the result has no permutation of its own.
  ///
  /// - Throws: ``QuantError`` `.invalidArgument` when the range is empty or leaves the matrix,
  ///   `.unsupported` when it cuts a group.
  /// - Complexity: O(rows · range).
  public func storedColumns(_ range: Range<Int>) throws(QuantError) -> Int4Matrix {
    let subject = "Int4Matrix \(rows)×\(columns)"
    guard !range.isEmpty, range.lowerBound >= 0, range.upperBound <= columns else {
      throw QuantError(
        .invalidArgument, subject, "columns \(range)",
        remedy: "take a range inside 0..<\(columns) that is not empty")
    }
    guard range.lowerBound % groupSize == 0, range.count % groupSize == 0 else {
      throw QuantError(
        .unsupported, subject, "columns \(range) cut a group of \(groupSize)",
        remedy: "cut between groups")
    }
    let part = range.lowerBound / groupSize..<range.upperBound / groupSize
    func cut<Element>(_ values: [Element], _ width: Int, _ range: Range<Int>) -> [Element] {
      if range.count == width { return values }
      var result: [Element] = []
      result.reserveCapacity(rows * range.count)
      for start in stride(from: 0, to: rows * width, by: width) {
        result += values[start + range.lowerBound..<start + range.upperBound]
      }
      return result
    }
    let moved: Offsets =
      switch offsets {
      case .symmetric: .symmetric
      case .zeroPoints(let zeros): .zeroPoints(cut(zeros, groups, part))
      case .minimums(let minimums): .minimums(cut(minimums, groups, part))
      }
    return try Int4Matrix(
      rows: rows, columns: range.count, groupSize: groupSize, codes: cut(codes, columns, range),
      scales: cut(scales, groups, part), offsets: moved)
  }

  /// The outputs of `rank` of `ranks`: a column-parallel shard, whose products are a part of the
  /// whole's.
  ///
  /// - Throws: ``QuantError`` as `TensorParallelCut`.
  public func outputShard(rank: Int, ranks: Int) throws(QuantError) -> Int4Matrix {
    let cut = try TensorParallelCut(rows, by: ranks, "outputs of Int4Matrix \(rows)×\(columns)")
    // Eight outputs share a word of packed zero points.
    try cut.requireMultiple(of: 8, "a word of packed zero points holds 8")
    return ranks == 1 ? self : try self.rows(try cut.range(of: rank))
  }

  /// The stored columns of `rank` of `ranks`: a row-parallel shard, whose products are terms of a
  /// sum over the ranks.
  ///
  /// - Throws: ``QuantError`` as `TensorParallelCut`: a group lies on one rank whole.
  public func inputShard(rank: Int, ranks: Int) throws(QuantError) -> Int4Matrix {
    let cut = try TensorParallelCut(columns, by: ranks, "inputs of Int4Matrix \(rows)×\(columns)")
    try cut.requireMultiple(of: groupSize, "a group would lie on two ranks")
    return try storedColumns(try cut.range(of: rank))
  }

  /// The stored columns of `rank` when ranks keep the inputs that they own in the *original* order
  /// (local sort): sorted by group on the rank itself.
  ///
  /// Ranks own some inputs of every group, so the result has groups of 32 columns: a group's inputs
  /// are padded to such, with copies of its scale. Padded columns multiply 0.
  ///
  /// - Returns: the matrix, and for each of its columns the input, counted from the rank's first, or
  ///   −1 for padding.
  /// - Throws: ``QuantError`` as `TensorParallelCut`; groups may lie anywhere.
  /// - Complexity: O(rows · columns of the result).
  public func locallySortedShard(
    rank: Int, ranks: Int
  ) throws(QuantError) -> (matrix: Int4Matrix, inputs: [Int32]) {
    let cut = try TensorParallelCut(columns, by: ranks, "inputs of Int4Matrix \(rows)×\(columns)")
    let own = try cut.range(of: rank)
    let (matrix, inputs) = try sortedPart(ofInputs: own)
    return (matrix, inputs.map { $0 < 0 ? -1 : $0 - Int32(own.lowerBound) })
  }

  /// The columns of a range of inputs, sorted by group and padded as
  /// ``locallySortedShard(rank:ranks:)`` has them.
  ///
  /// - Returns: the matrix, and for each of its columns the input, or −1 for padding.
  /// - Throws: ``QuantError`` `.invalidArgument` for a range that is empty or leaves the inputs.
  /// - Complexity: O(rows · columns of the result).
  public func sortedPart(
    ofInputs own: Range<Int>
  ) throws(QuantError) -> (matrix: Int4Matrix, inputs: [Int32]) {
    guard !own.isEmpty, own.lowerBound >= 0, own.upperBound <= columns else {
      throw QuantError(
        .invalidArgument, "Int4Matrix \(rows)×\(columns)", "inputs \(own)",
        remedy: "take a range inside 0..<\(columns) that is not empty")
    }
    // Sorted columns of each group whose input this rank owns; each 32 of them make a block.
    var sources: [Int32] = []
    var inputs: [Int32] = []
    var blocks: [Int] = []
    for group in 0..<groups {
      for column in group * groupSize..<(group + 1) * groupSize {
        let input = inputPermutation.map { Int($0[column]) } ?? column
        guard own.contains(input) else { continue }
        if sources.count % 32 == 0 { blocks.append(group) }
        sources.append(Int32(column))
        inputs.append(Int32(input))
      }
      while sources.count % 32 != 0 {
        sources.append(-1)
        inputs.append(-1)
      }
    }
    var shardCodes: [UInt8] = []
    shardCodes.reserveCapacity(rows * sources.count)
    for row in 0..<rows {
      let start = row * columns
      for source in sources { shardCodes.append(source < 0 ? 8 : codes[start + Int(source)]) }
    }
    func gather<Element>(_ values: [Element]) -> [Element] {
      var result: [Element] = []
      result.reserveCapacity(rows * blocks.count)
      for start in stride(from: 0, to: rows * groups, by: groups) {
        for group in blocks { result.append(values[start + group]) }
      }
      return result
    }
    let moved: Offsets =
      switch offsets {
      case .symmetric: .symmetric
      case .zeroPoints(let zeros): .zeroPoints(gather(zeros))
      case .minimums(let minimums): .minimums(gather(minimums))
      }
    let matrix = try Int4Matrix(
      rows: rows, columns: sources.count, groupSize: 32, codes: shardCodes, scales: gather(scales),
      offsets: moved)
    return (matrix, inputs)
  }
}

/// A dimension cut into equal parts, one a rank.
struct TensorParallelCut {
  let size: Int
  let ranks: Int
  let subject: String

  /// Elements of a part.
  var part: Int { size / ranks }

  /// - Throws: ``QuantError`` `.invalidArgument` for fewer than one rank, `.unsupported` for ranks
  ///   that exceed or do not divide the size.
  init(_ size: Int, by ranks: Int, _ subject: String) throws(QuantError) {
    guard ranks >= 1 else {
      throw QuantError(
        .invalidArgument, subject, "\(ranks) ranks", remedy: "use at least one rank")
    }
    guard ranks <= size, size % ranks == 0 else {
      throw QuantError(
        .unsupported, subject, "\(ranks) ranks do not divide \(size)",
        remedy: "use a number of ranks that divides \(size)")
    }
    self.size = size
    self.ranks = ranks
    self.subject = subject
  }

  /// - Throws: ``QuantError`` `.unsupported` unless a part is a multiple of `unit`.
  func requireMultiple(of unit: Int, _ reason: String) throws(QuantError) {
    if ranks == 1 { return }
    guard part % unit == 0 else {
      throw QuantError(
        .unsupported, subject,
        "\(size) over \(ranks) ranks are \(part) each, no multiple of \(unit): \(reason)",
        remedy: "use fewer ranks, or quantize again with groups of a divisor of \(part)")
    }
  }

  /// - Throws: ``QuantError`` `.invalidArgument` for a rank that is not there.
  func range(of rank: Int) throws(QuantError) -> Range<Int> {
    guard rank >= 0, rank < ranks else {
      throw QuantError(
        .invalidArgument, subject, "rank \(rank) of \(ranks)",
        remedy: "number ranks from 0, below their number")
    }
    return rank * part..<(rank + 1) * part
  }
}
