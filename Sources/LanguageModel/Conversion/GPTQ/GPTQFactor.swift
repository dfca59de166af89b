import QuantKernels

/// The factor of a damped Hessian that GPTQ walks along, inputs in order of falling diagonal.
///
/// With H the damped Hessian in that order, U is the upper triangle with H⁻¹ = Uᵀ U. Column i's
/// rounding error, divided by U[i, i], is taken from the columns j > i by U[i, j] each: what the
/// rest can make up for.
///
/// No inverse is formed: with J the reversal of all indices, J H J = L Lᵀ gives H = R Rᵀ with the
/// upper triangle R = J L J, and U = R⁻¹.
///
/// Source: Frantar et al., GPTQ, arXiv 2210.17323; the factorization is ours.
struct GPTQFactor {
  /// The input that stands at each place: falling diagonal, equal ones in their order.
  let order: [Int32]
  /// U, `[columns × columns]`, row-major, 0 below the diagonal.
  let upper: [Float]
  /// Inputs that were 0 in all of the calibration: their weights may as well be 0.
  let isDead: [Bool]
  /// What was added to the diagonal, relative to its mean.
  let damping: Double

  /// - Parameters:
  ///   - sums: Σ x xᵀ, `[columns × columns]`.
  ///   - actOrder: whether inputs are ordered by their diagonal; else they stay.
  ///   - heads: of whose attention these are the outputs, where the order must stay inside heads so
  ///     that it can be moved into the values; nil where it need not.
  ///   - damping: relative to the diagonal's mean; ten times as much, again and again, where that is
  ///     not enough.
  /// - Throws: `QuantError` `.invalidData` for sums that are not finite or no positive definite
  ///   matrix with any damping.
  /// - Complexity: O(columns³).
  init(
    sums: [Double], columns: Int, actOrder: Bool, heads: ModelConfiguration? = nil,
    damping: Double = 0.01
  ) throws(QuantError) {
    let diagonal = (0..<columns).map { sums[$0 * columns + $0] }
    guard diagonal.allSatisfy({ $0.isFinite && $0 >= 0 }) else {
      throw QuantError(
        .invalidData, "calibration", "the sums of squared inputs are not finite",
        remedy: "check the model by perplexity; calibrate with another text")
    }
    let places: [Int]
    if actOrder, let heads {
      places = try HeadOrder.falling(
        diagonal, heads: heads.headCount, keyValueHeads: heads.keyValueHeadCount,
        headDimension: heads.headDimension
      ).order.map { Int($0) }
    } else {
      places = (0..<columns).sorted { one, other in
        actOrder && diagonal[one] != diagonal[other]
          ? diagonal[one] > diagonal[other] : one < other
      }
    }
    isDead = diagonal.map { $0 == 0 }
    order = places.map { Int32($0) }
    let total = diagonal.reduce(0, +)
    // Any number does where nothing was ever read.
    let mean = total > 0 ? total / Double(columns) : 1
    var factor = damping
    var matrix = [Double](repeating: 0, count: columns * columns)
    while true {
      // J H J, damped; a dead input gets the mean.
      for (row, from) in places.reversed().enumerated() {
        for (column, other) in places.reversed().enumerated() {
          matrix[row * columns + column] = sums[from * columns + other]
        }
        matrix[row * columns + row] += factor * mean + (isDead[from] ? mean : 0)
      }
      if Self.factorize(&matrix, columns) { break }
      factor *= 10
      guard factor <= 10 else {
        throw QuantError(
          .invalidData, "calibration", "the inputs' sums of products are not positive definite",
          remedy: "calibrate with a longer text")
      }
    }
    self.damping = factor
    upper = Self.inverse(ofReversed: matrix, columns)
  }

  /// Replaces the lower triangle of a symmetric matrix by L of L Lᵀ; false where it is not positive
  /// definite.
  static func factorize(_ matrix: inout [Double], _ n: Int) -> Bool {
    matrix.withUnsafeMutableBufferPointer { buffer in
      guard let a = buffer.baseAddress else { return true }
      for i in 0..<n {
        let row = a + i * n
        for j in 0..<i { row[j] = (row[j] - dot(row, a + j * n, j)) / a[j * n + j] }
        let pivot = row[i] - dot(row, row, i)
        guard pivot > 0, pivot.isFinite else { return false }
        row[i] = pivot.squareRoot()
      }
      return true
    }
  }

  /// Σ x y in eight lanes by index modulo 8.
  private static func dot(
    _ x: UnsafePointer<Double>, _ y: UnsafePointer<Double>, _ count: Int
  ) -> Double {
    var lanes = SIMD8<Double>.zero
    let whole = count & ~7
    for i in stride(from: 0, to: whole, by: 8) {
      let a = UnsafeRawPointer(x + i).loadUnaligned(as: SIMD8<Double>.self)
      let b = UnsafeRawPointer(y + i).loadUnaligned(as: SIMD8<Double>.self)
      lanes += a * b
    }
    var sum = lanes.sum()
    for i in whole..<count { sum += x[i] * y[i] }
    return sum
  }

  /// R⁻¹ of R = J L J, in float32.
  private static func inverse(ofReversed lower: [Double], _ n: Int) -> [Float] {
    var upper = [Double](repeating: 0, count: n * n)
    lower.withUnsafeBufferPointer { lower in
      upper.withUnsafeMutableBufferPointer { upper in
        guard let l = lower.baseAddress, let u = upper.baseAddress else { return }
        // Rows from the last: row i of the inverse is (e_i − Σ_{k > i} R[i, k] · row k) / R[i, i].
        for i in (0..<n).reversed() {
          let row = u + i * n
          // R[i, k] = L[n − 1 − i, n − 1 − k].
          let source = l + (n - 1 - i) * n
          row[i] = 1
          for k in i + 1..<max(n, i + 1) {
            let factor = source[n - 1 - k]
            if factor == 0 { continue }
            let other = u + k * n
            for j in k..<n { row[j] -= factor * other[j] }
          }
          let scale = 1 / source[n - 1 - i]
          for j in i..<n { row[j] *= scale }
        }
      }
    }
    return upper.map { Float($0) }
  }
}
