import COpenBLAS
import QuantKernels

/// A triangular L with `C + δI = L Lᵀ`: weights times L have the singular values that their
/// truncation costs on the text that C was gathered from.
///
/// With X the calibration inputs and `W L = U Σ Vᵀ`, the best rank-r approximation of W on X is
/// `U_r Σ_r V_rᵀ L⁻¹`, and its error `‖(W − Ŵ) X‖²` is Σ σ² of what was cut (SVD-LLM, arXiv
/// 2403.07378).
///
/// δ is 0 where C's smallest eigenvalue is at least `floor` times the mean one, else what lifts it
/// there: a floor relative to the trace means the same for every model, where an absolute one drowns
/// the small activations of some and does nothing for the large ones of others. `L⁻¹` is never
/// formed; triangular solves lose nothing to it.
public struct Whitening: Sendable {
  /// Smallest eigenvalue, in mean ones, below which C counts as singular. Doubles resolve 10⁻¹⁶ of
  /// the largest eigenvalue, which is at most `width` mean ones: 10⁻⁹ stays clear of that for every
  /// width, and far below what any text leaves unexcited by chance.
  public static let standardFloor = 1e-9

  /// Inputs of the layers that it whitens: rows and columns of the Gram.
  public let width: Int
  /// δ.
  public let shift: Double
  /// L, column-major as LAPACK wants it; above the diagonal is 0.
  private let factor: [Double]

  /// - Parameters:
  ///   - floor: smallest eigenvalue wanted, in mean ones (trace / width).
  ///   - gram: C of the layer's inputs.
  /// - Throws: `QuantError` `.invalidArgument` for a floor outside 0…1; `.invalidData` when C is of
  ///   no tokens, not finite or all zero.
  /// - Complexity: O(width³).
  public init(_ gram: Gram, floor: Double = standardFloor) throws(QuantError) {
    func refuse(_ problem: String) -> QuantError {
      QuantError(
        .invalidData, "calibration Gram", problem, remedy: "calibrate on a longer, ordinary text")
    }
    guard floor >= 0, floor <= 1 else {
      throw QuantError(
        .invalidArgument, "eigenvalue floor", "\(floor) is outside 0…1",
        remedy: "choose a small share of the mean, such as \(Self.standardFloor)")
    }
    guard gram.count > 0 else { throw refuse("it is of no tokens") }
    let symmetric = gram.symmetric
    guard symmetric.values.allSatisfy(\.isFinite) else {
      throw refuse("a value is NaN or infinite")
    }
    let mean = gram.trace / Double(gram.width)
    guard mean > 0 else { throw refuse("every input was zero") }
    width = gram.width
    let smallest = try Self.smallestEigenvalue(of: symmetric)
    // A sum of squares has no negative eigenvalue but by rounding, 10⁻¹⁶ of the largest a term.
    guard smallest >= -1e-9 * gram.trace else {
      throw refuse("it has the eigenvalue \(smallest): no sum of squares")
    }
    var shift = max(0, floor * mean - smallest)
    // An eigenvalue at the floor may still round below 0 on the way; each try lifts it further.
    for _ in 0..<8 {
      if let factor = Self.cholesky(symmetric, shift: shift) {
        self.shift = shift
        self.factor = factor
        return
      }
      shift = max(2 * shift, mean * 1e-14)
    }
    throw refuse("it is not positive semidefinite")
  }

  private static func smallestEigenvalue(of symmetric: Matrix) throws(QuantError) -> Double {
    var copy = symmetric.values
    var eigenvalues = [Double](repeating: 0, count: symmetric.rows)
    let n = [Int32(symmetric.rows)]
    var (size, integerSize, info): (Double, Int32, Int32) = (0, 0, 0)
    dsyevd_(
      BLAS.plain, BLAS.lower, n, &copy, n, &eigenvalues, &size, [-1], &integerSize, [-1], &info)
    let (length, integerLength) = (max(1, Int32(clamping: Int(size))), max(1, integerSize))
    var work = [Double](repeating: 0, count: Int(length))
    var integers = [Int32](repeating: 0, count: Int(integerLength))
    dsyevd_(
      BLAS.plain, BLAS.lower, n, &copy, n, &eigenvalues, &work, [length], &integers,
      [integerLength], &info)
    guard info == 0, let smallest = eigenvalues.first else {
      throw Matrix.notConverged("calibration Gram", info)
    }
    return smallest
  }

  private static func cholesky(_ symmetric: Matrix, shift: Double) -> [Double]? {
    let width = symmetric.rows
    var values = symmetric.values
    for index in 0..<width { values[index * width + index] += shift }
    let n = [Int32(width)]
    var info: Int32 = 0
    dpotrf_(BLAS.lower, n, &values, n, &info)
    guard info == 0 else { return nil }
    for column in 0..<width { for row in 0..<column { values[row + column * width] = 0 } }
    return values
  }

  /// L, row-major.
  var lower: Matrix {
    Matrix(rows: width, columns: width, values: factor).transpose
  }

  /// `A L` for A `[rows × width]`.
  func whitened(_ a: Matrix) -> Matrix { apply(dtrmm_, to: a) }

  /// `A L⁻¹`.
  func unwhitened(_ a: Matrix) -> Matrix { apply(dtrsm_, to: a) }

  /// `Lᵀ A` for A `[width × columns]`.
  func whitenedRows(_ a: Matrix) -> Matrix {
    // (Lᵀ A)ᵀ = Aᵀ L.
    whitened(a.transpose).transpose
  }

  /// `L⁻ᵀ A`.
  func unwhitenedRows(_ a: Matrix) -> Matrix { unwhitened(a.transpose).transpose }

  private typealias Triangular = (
    UnsafePointer<CChar>, UnsafePointer<CChar>, UnsafePointer<CChar>, UnsafePointer<CChar>,
    UnsafePointer<Int32>, UnsafePointer<Int32>, UnsafePointer<Double>, UnsafePointer<Double>,
    UnsafePointer<Int32>, UnsafeMutablePointer<Double>, UnsafePointer<Int32>
  ) -> Void

  /// Row-major A is Aᵀ `[width × rows]` to BLAS, and `(A L)ᵀ = Lᵀ Aᵀ`.
  private func apply(_ operation: Triangular, to a: Matrix) -> Matrix {
    precondition(a.columns == width)
    var result = a
    let (m, n) = ([Int32(width)], [Int32(a.rows)])
    operation(
      BLAS.left, BLAS.lower, BLAS.transposed, BLAS.plain, m, n, [1], factor, m, &result.values, m)
    return result
  }
}
