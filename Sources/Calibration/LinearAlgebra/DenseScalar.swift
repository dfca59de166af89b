import COpenBLAS

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// A number type that BLAS multiplies matrices of: the decoder with gradients runs in float32, and in
/// float64 where a test wants to see nothing but its formulas.
protocol DenseScalar: BinaryFloatingPoint, Sendable {
  /// `C = alpha · op(A) op(B) + beta · C`, row-major: `op(A)` is `[m × k]`, `op(B)` `[k × n]`. Rows
  /// of A, B and C as they are stored stand `lda`, `ldb` and `ldc` elements apart.
  static func multiply(
    _ a: UnsafePointer<Self>, transposed transposesA: Bool, lda: Int,
    _ b: UnsafePointer<Self>, transposed transposesB: Bool, ldb: Int,
    into c: UnsafeMutablePointer<Self>, ldc: Int, m: Int, n: Int, k: Int, alpha: Self, beta: Self)

  static func exponential(_ x: Self) -> Self
  static func hyperbolicTangent(_ x: Self) -> Self
}

extension Float: DenseScalar {
  static func multiply(
    _ a: UnsafePointer<Float>, transposed transposesA: Bool, lda: Int,
    _ b: UnsafePointer<Float>, transposed transposesB: Bool, ldb: Int,
    into c: UnsafeMutablePointer<Float>, ldc: Int, m: Int, n: Int, k: Int, alpha: Float,
    beta: Float
  ) {
    guard m > 0, n > 0 else { return }
    // Column-major BLAS sees every matrix transposed: Cᵀ = op(B)ᵀ op(A)ᵀ.
    var (m, n, k) = (Int32(n), Int32(m), Int32(k))
    var (lda, ldb, ldc) = (Int32(lda), Int32(ldb), Int32(ldc))
    var (alpha, beta) = (alpha, beta)
    sgemm_(
      transposesB ? BLAS.transposed : BLAS.plain, transposesA ? BLAS.transposed : BLAS.plain, &m,
      &n, &k, &alpha, b, &ldb, a, &lda, &beta, c, &ldc)
  }

  static func exponential(_ x: Float) -> Float { exp(x) }
  static func hyperbolicTangent(_ x: Float) -> Float { tanh(x) }
}

extension Double: DenseScalar {
  static func multiply(
    _ a: UnsafePointer<Double>, transposed transposesA: Bool, lda: Int,
    _ b: UnsafePointer<Double>, transposed transposesB: Bool, ldb: Int,
    into c: UnsafeMutablePointer<Double>, ldc: Int, m: Int, n: Int, k: Int, alpha: Double,
    beta: Double
  ) {
    guard m > 0, n > 0 else { return }
    var (m, n, k) = (Int32(n), Int32(m), Int32(k))
    var (lda, ldb, ldc) = (Int32(lda), Int32(ldb), Int32(ldc))
    var (alpha, beta) = (alpha, beta)
    dgemm_(
      transposesB ? BLAS.transposed : BLAS.plain, transposesA ? BLAS.transposed : BLAS.plain, &m,
      &n, &k, &alpha, b, &ldb, a, &lda, &beta, c, &ldc)
  }

  static func exponential(_ x: Double) -> Double { exp(x) }
  static func hyperbolicTangent(_ x: Double) -> Double { tanh(x) }
}

/// What BLAS calls share.
enum BLAS {
  // Letters that BLAS takes by reference, in memory that never goes.
  nonisolated(unsafe) static let plain = letter("N")
  nonisolated(unsafe) static let transposed = letter("T")
  nonisolated(unsafe) static let left = letter("L")
  nonisolated(unsafe) static let lower = letter("L")
  nonisolated(unsafe) static let vectors = letter("V")
  nonisolated(unsafe) static let some = letter("S")

  private static func letter(_ letter: Unicode.Scalar) -> UnsafePointer<CChar> {
    let place = UnsafeMutablePointer<CChar>.allocate(capacity: 1)
    place.initialize(to: CChar(letter.value))
    return UnsafePointer(place)
  }

  /// Threads of the products that follow, where the library can be told (Accelerate decides by
  /// itself).
  static func use(threads: Int) {
    #if !canImport(Darwin)
      openblas_set_num_threads(Int32(clamping: threads))
    #endif
  }
}

/// The C library's functions, which one file imports for all.
enum Elementary {
  static func cosine(_ x: Double) -> Double { cos(x) }
  static func sine(_ x: Double) -> Double { sin(x) }
  static func logarithm(_ x: Double) -> Double { log(x) }
  static func exponential(_ x: Double) -> Double { exp(x) }
}
