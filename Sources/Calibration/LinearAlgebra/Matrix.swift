import COpenBLAS
import QuantKernels

/// A row-major matrix of doubles.
struct Matrix: Sendable, Equatable {
  let rows: Int
  let columns: Int
  var values: [Double]

  init(rows: Int, columns: Int, values: [Double]) {
    precondition(values.count == rows * columns)
    self.rows = rows
    self.columns = columns
    self.values = values
  }

  init(zeros rows: Int, _ columns: Int) {
    self.init(rows: rows, columns: columns, values: [Double](repeating: 0, count: rows * columns))
  }

  subscript(row: Int, column: Int) -> Double {
    get { values[row * columns + column] }
    set { values[row * columns + column] = newValue }
  }

  /// Some of the rows, in the order given.
  func selecting(rows chosen: some Collection<Int>) -> Matrix {
    Matrix(
      rows: chosen.count, columns: columns,
      values: chosen.flatMap { values[$0 * columns..<($0 + 1) * columns] })
  }

  /// `A B`, or with `transposed` `A Bᵀ`.
  func times(_ other: Matrix, transposed: Bool = false) -> Matrix {
    let width = transposed ? other.rows : other.columns
    precondition(columns == (transposed ? other.columns : other.rows))
    var product = Matrix(zeros: rows, width)
    values.withUnsafeBufferPointer { a in
      other.values.withUnsafeBufferPointer { b in
        product.values.withUnsafeMutableBufferPointer { c in
          guard let a = a.baseAddress, let b = b.baseAddress, let c = c.baseAddress else { return }
          Double.multiply(
            a, transposed: false, lda: columns, b, transposed: transposed, ldb: other.columns,
            into: c, ldc: width, m: rows, n: width, k: columns, alpha: 1, beta: 0)
        }
      }
    }
    return product
  }

  var transpose: Matrix {
    var result = Matrix(zeros: columns, rows)
    for row in 0..<rows { for column in 0..<columns { result[column, row] = self[row, column] } }
    return result
  }

  /// Σ of squares.
  var squaredNorm: Double { values.reduce(0) { $0 + $1 * $1 } }

  /// The singular value decomposition `A = U Σ Vᵀ` with k = min(rows, columns).
  struct SingularValues: Sendable {
    /// U, `[rows × k]`.
    let left: Matrix
    /// σ, not increasing.
    let values: [Double]
    /// Vᵀ, `[k × columns]`.
    let right: Matrix
  }

  /// - Throws: `QuantError` `.invalidData` when an entry is not finite or the iteration does not
  ///   converge.
  /// - Complexity: O(rows · columns · min(rows, columns)).
  func singularValues(of subject: String) throws(QuantError) -> SingularValues {
    guard values.allSatisfy(\.isFinite) else { throw Self.notFinite(subject) }
    let k = min(rows, columns)
    // Column-major LAPACK sees Aᵀ = V Σ Uᵀ: what it calls U is V, and what it calls Vᵀ is Uᵀ; read
    // row-major, these are Vᵀ and U.
    var copy = values
    var sigma = [Double](repeating: 0, count: k)
    var left = Matrix(zeros: rows, k)
    var right = Matrix(zeros: k, columns)
    var integers = [Int32](repeating: 0, count: 8 * k)
    var info: Int32 = 0
    // As arrays, which Swift passes to several parameters of one call; `&x` it does not.
    let (m, n, small) = ([Int32(columns)], [Int32(rows)], [Int32(k)])
    var size = 0.0
    dgesdd_(
      BLAS.some, m, n, &copy, m, &sigma, &right.values, m, &left.values, small, &size, [-1],
      &integers, &info)
    let length = max(1, Int32(clamping: Int(size)))
    var work = [Double](repeating: 0, count: Int(length))
    dgesdd_(
      BLAS.some, m, n, &copy, m, &sigma, &right.values, m, &left.values, small, &work, [length],
      &integers, &info)
    guard info == 0 else { throw Self.notConverged(subject, info) }
    return SingularValues(left: left, values: sigma, right: right)
  }

  static func notFinite(_ subject: String) -> QuantError {
    QuantError(
      .invalidData, subject, "a value is NaN or infinite",
      remedy: "check the model's weights and the calibration text")
  }

  static func notConverged(_ subject: String, _ info: Int32) -> QuantError {
    QuantError(
      .invalidData, subject, "LAPACK finds no decomposition (info \(info))",
      remedy: "check the weights and the calibration text for extreme values")
  }
}

/// The singular value decomposition of a complex matrix, `M = U Σ Vᴴ`.
struct ComplexSingularValues: Sendable {
  /// U, `[rows × k]`, real and imaginary parts.
  let left: (real: Matrix, imaginary: Matrix)
  let values: [Double]
  /// Vᴴ, `[k × columns]`.
  let right: (real: Matrix, imaginary: Matrix)

  /// - Throws: as ``Matrix/singularValues(of:)``.
  init(real: Matrix, imaginary: Matrix, of subject: String) throws(QuantError) {
    let (rows, columns) = (real.rows, real.columns)
    guard real.values.allSatisfy(\.isFinite), imaginary.values.allSatisfy(\.isFinite) else {
      throw Matrix.notFinite(subject)
    }
    let k = min(rows, columns)
    // As above: LAPACK decomposes Mᵀ = conj(V) Σ Uᵀ, of which "U" read row-major is Vᴴ and "Vᴴ" is U.
    var copy = [Double](repeating: 0, count: 2 * rows * columns)
    for index in 0..<rows * columns {
      copy[2 * index] = real.values[index]
      copy[2 * index + 1] = imaginary.values[index]
    }
    var sigma = [Double](repeating: 0, count: k)
    var u = [Double](repeating: 0, count: 2 * rows * k)
    var v = [Double](repeating: 0, count: 2 * k * columns)
    var integers = [Int32](repeating: 0, count: 8 * k)
    let large = max(rows, columns)
    // LAPACK's bound for job S.
    var reals = [Double](
      repeating: 0, count: max(1, k * max(5 * k + 7, 2 * large + 2 * k + 1)))
    var info: Int32 = 0
    let (m, n, small) = ([Int32(columns)], [Int32(rows)], [Int32(k)])
    var size = [0.0, 0.0]
    zgesdd_(
      BLAS.some, m, n, &copy, m, &sigma, &v, m, &u, small, &size, [-1], &reals, &integers, &info)
    let length = max(1, Int32(clamping: Int(size[0])))
    var work = [Double](repeating: 0, count: 2 * Int(length))
    zgesdd_(
      BLAS.some, m, n, &copy, m, &sigma, &v, m, &u, small, &work, [length], &reals, &integers,
      &info)
    guard info == 0 else { throw Matrix.notConverged(subject, info) }
    func part(_ pairs: [Double], _ rows: Int, _ columns: Int, _ offset: Int) -> Matrix {
      Matrix(
        rows: rows, columns: columns, values: (0..<rows * columns).map { pairs[2 * $0 + offset] })
    }
    left = (part(u, rows, k, 0), part(u, rows, k, 1))
    values = sigma
    right = (part(v, k, columns, 0), part(v, k, columns, 1))
  }
}
