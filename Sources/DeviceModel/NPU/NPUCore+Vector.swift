import CDeviceModel

/// What decides the cycles of a vector operation.
struct VectorCostKey: Hashable {
  var operation: UInt8
  var rows: Int
  var columns: Int
  var target: [Int]
  var left: [Int]
  var right: [Int]
}

/// Repeats of a vector operation, and what conflicts add.
struct VectorCost {
  var repeats = 0
  var conflicts = 0
}

/// Element-wise operations on float32 in the unified buffer.
public enum VectorOperation: UInt8, Sendable, Hashable, CaseIterable {
  /// a · scalar.
  case scale
  /// a + b.
  case add
  /// a − b.
  case subtract
  /// a · b.
  case multiply
  /// a / b.
  case divide
  /// The larger.
  case maximum
  /// eᵃ.
  case exponential
  /// ln a.
  case logarithm
  /// The least integer that is not less.
  case ceiling
  /// 2ᵃ.
  case powerOfTwo
  /// a · 2ᵇ for integers b, by adding to the exponent field; leaves the normal numbers to zero.
  case addExponent
  /// 0 where a is −∞, else a.
  case zeroInfinity
  /// 1 where a is 0, else a.
  case oneZero

  var code: cdm_npu_op {
    switch self {
    case .scale: CDM_NPU_SCALE
    case .add: CDM_NPU_ADD
    case .subtract: CDM_NPU_SUBTRACT
    case .multiply: CDM_NPU_MULTIPLY
    case .divide: CDM_NPU_DIVIDE
    case .maximum: CDM_NPU_MAXIMUM
    case .exponential: CDM_NPU_EXPONENTIAL
    case .logarithm: CDM_NPU_LOGARITHM
    case .ceiling: CDM_NPU_CEILING
    case .powerOfTwo: CDM_NPU_POWER_OF_TWO
    case .addExponent: CDM_NPU_ADD_EXPONENT
    case .zeroInfinity: CDM_NPU_ZERO_INFINITY
    case .oneZero: CDM_NPU_ONE_ZERO
    }
  }

  var isSlow: Bool {
    switch self {
    case .divide, .exponential, .logarithm, .powerOfTwo: true
    default: false
    }
  }
}

/// Vector operations: values at once, cost by repeats of 64 float32 lanes and the bank rule.
extension NPUCore {
  /// The right operand of an element-wise operation.
  public enum RightOperand: Sendable, Hashable {
    /// No right operand.
    case none
    /// A matrix of the left operand's shape.
    case matrix(UBMatrix)
    /// One value a row, each in a block of 32 bytes of its own (``broadcast(_:into:)``).
    case perRow(UBMatrix)
    /// One value for all elements.
    case scalar(Float)
  }

  /// target = operation(a, b), element by element.
  ///
  /// - Throws: ``DeviceError`` when sizes differ or something lies outside its tile.
  public func apply(
    _ operation: VectorOperation, _ a: UBMatrix, _ b: RightOperand = .none, into target: UBMatrix
  ) throws(DeviceError) {
    var right: UBMatrix?
    var scalar: Float = 0
    switch b {
    case .none: break
    case .matrix(let matrix):
      right = matrix
      try require(matrix, like: target)
    case .perRow(let matrix):
      right = matrix
      try matrix.check(self, rows: target.rows, columns: 8)
    case .scalar(let value): scalar = value
    }
    try require(a, like: target)
    var blockStride = 1
    if case .perRow = b { blockStride = 0 }
    try issue(
      operation.rawValue, operation.isSlow ? .exponential : .vector, target: target, left: a,
      right: right, rightBlockStride: blockStride)
    guard let to = unsafe floats(target), let from = unsafe floats(a) else { return }
    switch b {
    case .perRow(let matrix):
      guard let rows = unsafe floats(matrix) else { return }
      // The first of the eight equal values of each row.
      let work = unsafe workArea(target.rows)
      for row in 0..<target.rows { unsafe work[row] = unsafe rows[row * matrix.pitch] }
      unsafe cdm_npu_vector(
        operation.code, to, target.pitch, from, a.pitch, work, 0, 1, scalar, target.rows,
        target.columns)
    default:
      unsafe cdm_npu_vector(
        operation.code, to, target.pitch, from, a.pitch, right.flatMap { unsafe floats($0) },
        right?.pitch ?? 0, 0, scalar, target.rows, target.columns)
    }
  }

  /// Eight copies of each value of a vector, a block of 32 bytes each: `into` has a row of 8 for
  /// each.
  ///
  /// - Throws: ``DeviceError`` for matrices outside their buffers, or of shapes that do not go
  ///   together.
  public func broadcast(_ vector: UBMatrix, into target: UBMatrix) throws(DeviceError) {
    try vector.check(self, rows: 1, columns: vector.columns)
    try target.check(self, rows: vector.columns, columns: 8)
    // Eight values a repeat.
    try issueRepeats(
      .vector, unit: target.tile.unit, (vector.columns + 7) / 8, write: target, read: vector)
    guard let from = unsafe floats(vector), let to = unsafe floats(target) else { return }
    for row in 0..<vector.columns {
      for copy in 0..<8 { unsafe to[row * target.pitch + copy] = unsafe from[row] }
    }
  }

  /// The largest value of each row, or its sum.
  ///
  /// Rows of whole multiples of 512 without gaps are reduced across lanes repeat by repeat, then the
  /// repeats' results (whole blocks of 32 bytes a row) row by row: two instructions. Of other rows
  /// columns are folded 64 at a time, then reduced across lanes.
  ///
  /// - Parameters:
  ///   - scratch: rows × 64 floats apart from `a`; for folds of more than 128 columns twice as
  ///     many, and 64 between them when rows are even, so that a fold reads and writes other banks.
  ///   - sum: the sum instead of the largest value.
  ///   - a: what is reduced.
  ///   - target: one value a row.
  /// - Throws: ``DeviceError`` for matrices outside their buffers, or of shapes that do not go
  ///   together.
  public func reduceRows(
    sum: Bool, _ a: UBMatrix, scratch: UBMatrix, into target: UBMatrix
  ) throws(DeviceError) {
    try a.check(self, rows: a.rows, columns: a.columns)
    try target.check(self, rows: 1, columns: a.rows)
    let blocks = (a.columns + 63) / 64
    let isWhole = a.columns % 512 == 0 && a.pitch == a.columns
    if blocks > 1 {
      try scratch.check(self, rows: a.rows, columns: 64)
      if isWhole {
        try issueRepeats(
          .vector, unit: a.tile.unit, a.rows * blocks, write: scratch, read: a)
      } else {
        // Block j is folded into the lanes of block 0, a repeat a row, from one half of the scratch
        // into the other.
        var folded = scratch
        folded.columns = 64
        folded.pitch = 64
        folded.rows = a.rows
        let halves = [folded.byte, folded.byte + (a.rows | 1) * 256]
        for block in 1..<blocks {
          var right = a
          right.byte += block * 256
          right.columns = min(64, a.columns - block * 64)
          var left = block == 1 ? a : folded
          left.columns = right.columns
          folded.byte = halves[(block - 1) % 2]
          folded.columns = right.columns
          try folded.check(self, rows: folded.rows, columns: folded.columns)
          try issue(
            sum ? 100 : 101, .vector, target: folded, left: left, right: right,
            rightBlockStride: 1)
        }
      }
    }
    try issueRepeats(
      .vector, unit: a.tile.unit, isWhole ? a.rows * ((blocks + 63) / 64) : a.rows, write: target,
      read: blocks > 1 ? scratch : a)
    guard let from = unsafe floats(a), let to = unsafe floats(target) else { return }
    unsafe cdm_npu_reduce(sum ? 1 : 0, isWhole ? 1 : 0, to, from, a.pitch, a.rows, a.columns)
  }

  /// −∞ where j > i + delta, or with `complement` where j ≤ i + delta; indices are compared in
  /// registers, one repeat to compare and one to select.
  ///
  /// - Throws: ``DeviceError`` for matrices outside their buffers, or of shapes that do not go
  ///   together.
  public func maskByComparison(
    _ a: UBMatrix, delta: Int, complement: Bool
  ) throws(DeviceError) {
    try a.check(self, rows: a.rows, columns: a.columns)
    try issueMask(a, mask: nil)
    guard let values = unsafe floats(a) else { return }
    unsafe cdm_npu_mask_compare(
      values, a.pitch, a.rows, a.columns, Int64(delta), complement ? 1 : 0)
  }

  /// −∞ where a byte of `mask` is not 0, or with `complement` where it is; one repeat to compare and
  /// one to select.
  ///
  /// - Throws: ``DeviceError`` for matrices outside their buffers, or of shapes that do not go
  ///   together.
  public func maskByBytes(
    _ a: UBMatrix, mask: UBMatrix, complement: Bool
  ) throws(DeviceError) {
    try a.check(self, rows: a.rows, columns: a.columns)
    try mask.check(self, rows: a.rows, columns: a.columns)
    guard mask.elementBytes == 1 else {
      throw DeviceError(
        .invalidArgument, "mask in \(mask.tile.name)", "elements of \(mask.elementBytes) bytes",
        remedy: "use bytes")
    }
    try issueMask(a, mask: mask)
    guard let values = unsafe floats(a), let bytes = unsafe contents(mask.tile, byte: mask.byte)
    else {
      return
    }
    unsafe cdm_npu_mask_bytes(
      values, a.pitch, bytes.assumingMemoryBound(to: UInt8.self), mask.pitch, a.rows, a.columns,
      complement ? 1 : 0)
  }

  /// float32 to binary16, or back, by the elements' sizes.
  ///
  /// - Throws: ``DeviceError`` for matrices outside their buffers, or of shapes that do not go
  ///   together.
  public func convert(_ a: UBMatrix, into target: UBMatrix) throws(DeviceError) {
    try a.check(self, rows: a.rows, columns: a.columns)
    try target.check(self, rows: a.rows, columns: a.columns)
    guard a.elementBytes + target.elementBytes == 6 else {
      throw DeviceError(
        .invalidArgument, "conversion of \(a.tile.name)",
        "\(a.elementBytes) bytes to \(target.elementBytes)", remedy: "convert between 4 and 2")
    }
    try issue(102, .vector, target: target, left: a, right: nil, rightBlockStride: 1)
    guard let from = unsafe contents(a.tile, byte: a.byte),
      let to = unsafe contents(target.tile, byte: target.byte)
    else { return }
    if target.elementBytes == 2 {
      unsafe cdm_npu_to_half(
        to.assumingMemoryBound(to: UInt16.self), target.pitch,
        from.assumingMemoryBound(to: Float.self), a.pitch, a.rows, a.columns)
    } else {
      unsafe cdm_npu_from_half(
        to.assumingMemoryBound(to: Float.self), target.pitch,
        from.assumingMemoryBound(to: UInt16.self), a.pitch, a.rows, a.columns)
    }
  }

  /// target = value everywhere.
  ///
  /// - Throws: ``DeviceError`` for matrices outside their buffers, or of shapes that do not go
  ///   together.
  public func fill(_ target: UBMatrix, _ value: Float) throws(DeviceError) {
    try target.check(self, rows: target.rows, columns: target.columns)
    try issue(103, .vector, target: target, left: nil, right: nil, rightBlockStride: 1)
    guard let to = unsafe floats(target) else { return }
    for row in 0..<target.rows {
      for column in 0..<target.columns { unsafe to[row * target.pitch + column] = value }
    }
  }

  /// Reads values back, for what a kernel only measures; costs nothing and is no part of the
  /// program. Empty without values.
  public func peek(_ vector: UBMatrix) -> [Float] {
    guard let values = unsafe floats(vector) else { return [] }
    return (0..<vector.columns).map { unsafe values[$0] }
  }

  // MARK: Cost

  private func floats(_ matrix: UBMatrix) -> UnsafeMutablePointer<Float>? {
    unsafe contents(matrix.tile, byte: matrix.byte)?.assumingMemoryBound(to: Float.self)
  }

  private func require(_ a: UBMatrix, like target: UBMatrix) throws(DeviceError) {
    try a.check(self, rows: a.rows, columns: a.columns)
    try target.check(self, rows: target.rows, columns: target.columns)
    guard a.rows == target.rows, a.columns == target.columns, a.elementBytes == 4,
      target.elementBytes == 4, a.tile.unit == target.tile.unit
    else {
      throw DeviceError(
        .invalidArgument, "vector operation on \(a.tile.name) and \(target.tile.name)",
        "\(a.rows) × \(a.columns) and \(target.rows) × \(target.columns)",
        remedy: "use float32 matrices of one size in one unit's buffer")
    }
  }

  private func issueMask(_ a: UBMatrix, mask: UBMatrix?) throws(DeviceError) {
    let repeats = a.rows * ((a.columns + 63) / 64)
    try issueRepeats(.vector, unit: a.tile.unit, 2 * repeats, write: a, read: mask)
  }

  /// An instruction of that many repeats without conflicts of its own.
  private func issueRepeats(
    _ kind: NPUOperation.Kind, unit: Int, _ repeats: Int, write: UBMatrix, read: UBMatrix?
  ) throws(DeviceError) {
    try record(
      NPUOperation(
        kind: kind, unit: UInt8(unit), pipe: UInt8(NPUPipe.vector.rawValue),
        amount: Int32(repeats), write: write.tile.number, read0: read?.tile.number ?? -1))
    count {
      $0.vectorInstructions += 1
      $0.vectorRepeats += repeats
    }
  }

  private func issue(
    _ operation: UInt8, _ kind: NPUOperation.Kind, target: UBMatrix, left: UBMatrix?,
    right: UBMatrix?, rightBlockStride: Int
  ) throws(DeviceError) {
    let cost = cost(
      operation, target: target, left: left, right: right, rightBlockStride: rightBlockStride)
    try record(
      NPUOperation(
        kind: kind, unit: UInt8(target.tile.unit), pipe: UInt8(NPUPipe.vector.rawValue),
        amount: Int32(cost.repeats + cost.conflicts), write: target.tile.number,
        read0: left?.tile.number ?? -1, read1: right?.tile.number ?? -1))
    count {
      $0.vectorInstructions += 1
      $0.vectorRepeats += cost.repeats
      $0.bankConflictCycles += cost.conflicts
    }
  }

  private func cost(
    _ operation: UInt8, target: UBMatrix, left: UBMatrix?, right: UBMatrix?, rightBlockStride: Int
  ) -> VectorCost {
    func shape(_ matrix: UBMatrix?, stride: Int = 1) -> [Int] {
      matrix.map { [$0.address, $0.pitch, $0.elementBytes, stride] } ?? []
    }
    let key = VectorCostKey(
      operation: operation, rows: target.rows, columns: target.columns, target: shape(target),
      left: shape(left), right: shape(right, stride: rightBlockStride))
    if let known = vectorCosts[key] { return known }
    var cost = VectorCost()
    let operands = [target] + [left, right].compactMap { $0 }
    // A matrix without gaps is one long row.
    let isWhole =
      rightBlockStride == 1
      && operands.allSatisfy { $0.pitch == target.columns || target.rows == 1 }
    let rows = isWhole ? 1 : target.rows
    let columns = isWhole ? target.rows * target.columns : target.columns
    cost.repeats = rows * ((columns + 63) / 64)
    if let rule = spec.bankRule {
      var cycles = 0
      for row in 0..<rows {
        for block in 0..<(columns + 63) / 64 {
          let count = min(64, columns - block * 64)
          func blocks(_ matrix: UBMatrix?, stride: Int = 1) -> [Int] {
            guard let matrix else { return [] }
            let start =
              matrix.address
              + (stride == 0 ? row * matrix.pitch : row * matrix.pitch + block * 64)
              * matrix.elementBytes
            return (0..<(count * matrix.elementBytes + 31) / 32).map { start + 32 * $0 * stride }
          }
          cycles += rule.cycles(
            reads: blocks(left) + blocks(right, stride: rightBlockStride), writes: blocks(target))
        }
      }
      cost.conflicts = cycles - cost.repeats
    }
    vectorCosts[key] = cost
    return cost
  }
}
