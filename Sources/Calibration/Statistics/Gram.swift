import COpenBLAS
import QuantKernels

/// `C = Σ xᵀx` over the rows x `[width]` that some layer saw, in double: what whitening needs to know
/// of a calibration text. Inputs are not centered.
public struct Gram: Sendable, Equatable {
  /// Elements of a row.
  public let width: Int
  /// Rows that were added.
  public private(set) var count: Int
  /// The sum, `[width × width]`: column-major, only on and below the diagonal.
  private var lower: [Double]

  /// The sum over no rows. Bytes: 8 · width².
  public init(width: Int) {
    self.width = width
    count = 0
    lower = [Double](repeating: 0, count: width * width)
  }

  /// Checks a sum from elsewhere and takes it.
  ///
  /// - Parameters:
  ///   - values: `[width × width]`.
  ///   - width: elements of a row.
  ///   - count: rows that were added.
  /// - Throws: `QuantError` `.invalidData` for a sum that is of another size, not finite, not
  ///   symmetric within rounding, or negative on its diagonal; or of no rows.
  public init(width: Int, count: Int, values: [Double]) throws(QuantError) {
    func refuse(_ problem: String) -> QuantError {
      QuantError(.invalidData, "calibration Gram", problem, remedy: "calibrate again")
    }
    guard width >= 1, width <= 1 << 18, values.count == width * width else {
      throw refuse("\(values.count) values of width \(width)")
    }
    guard count >= 1 else { throw refuse("it is of no tokens") }
    guard values.allSatisfy(\.isFinite) else { throw refuse("a value is NaN or infinite") }
    // Σ of products in another order differs by rounding, relative to the norms of the two columns.
    for row in 0..<width {
      guard values[row * width + row] >= 0 else {
        throw refuse("entry \(row), \(row) is negative")
      }
      for column in 0..<row {
        let size =
          (values[row * width + row] * values[column * width + column]).squareRoot()
        let (a, b) = (values[row * width + column], values[column * width + row])
        guard abs(a - b) <= 1e-6 * size + 1e-300 else {
          throw refuse("entries \(row), \(column) are \(a) and \(b): not symmetric")
        }
      }
    }
    self.width = width
    self.count = count
    lower = values
  }

  /// Adds rows, `[rows × width]`, a row `stride` elements from the next.
  ///
  /// - Complexity: O(rows · width²).
  mutating func add<Scalar: DenseScalar>(
    _ x: UnsafePointer<Scalar>, rows: Int, stride: Int
  ) {
    guard rows > 0 else { return }
    let width = width
    var block = [Double](repeating: 0, count: rows * width)
    for row in 0..<rows {
      for column in 0..<width { block[row * width + column] = Double(x[row * stride + column]) }
    }
    // Column-major: C += B Bᵀ with B `[width × rows]`.
    let (n, one) = ([Int32(width)], [1.0])
    dsyrk_(BLAS.lower, BLAS.plain, n, [Int32(rows)], one, block, n, one, &lower, n)
    count += rows
  }

  /// The whole symmetric matrix, `[width × width]`.
  var symmetric: Matrix {
    var values = lower
    // Column-major lower: entry (i, j) with i ≥ j lies at i + j · width.
    for column in 0..<width {
      for row in column..<width {
        values[row * width + column] = lower[row + column * width]
        values[row + column * width] = lower[row + column * width]
      }
    }
    return Matrix(rows: width, columns: width, values: values)
  }

  var trace: Double { (0..<width).reduce(0) { $0 + lower[$1 * width + $1] } }

  /// The Gram of some of the inputs, neighbors.
  func block(_ range: Range<Int>) -> Gram {
    var block = Gram(width: range.count)
    for column in range {
      for row in column..<range.upperBound {
        block.lower[row - range.lowerBound + (column - range.lowerBound) * range.count] =
          lower[row + column * width]
      }
    }
    block.count = count
    return block
  }

  /// Mean square of each input.
  var meanSquares: [Double] {
    (0..<width).map { lower[$0 * width + $0] / Double(max(count, 1)) }
  }

  /// The raw sum, for a checkpoint.
  var stored: [Double] { lower }

  /// What ``stored`` gave.
  init(restoring stored: [Double], width: Int, count: Int) {
    precondition(stored.count == width * width)
    self.width = width
    self.count = count
    lower = stored
  }
}
