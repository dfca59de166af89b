import LanguageModel
import QuantKernels

/// The weights of one layer at a time, as BLAS takes them.
final class LayerMatrices<Scalar: DenseScalar> {
  private let weights: DenseWeights
  private let pool: WorkerPool
  private var buffers: [ScalarBuffer<Scalar>] = []
  private let staging: ScalarBuffer<Float>?
  private(set) var layer: Int?

  init(_ weights: DenseWeights, pool: WorkerPool) {
    self.weights = weights
    self.pool = pool
    let counts = DenseWeights.Matrix.allCases.map {
      let size = weights.size(of: $0, layer: 0)
      return size.rows * size.columns
    }
    buffers = counts.map { ScalarBuffer(count: $0) }
    staging = Scalar.self == Float.self ? nil : ScalarBuffer(count: counts.max() ?? 0)
  }

  /// Reads a layer's matrices from the file; `replaced` stand in for its own.
  func load(
    layer: Int, replacing replaced: [DenseWeights.Matrix: [Scalar]]
  ) throws(QuantError) {
    self.layer = layer
    for matrix in DenseWeights.Matrix.allCases {
      let buffer = buffers[matrix.rawValue]
      if let values = replaced[matrix] {
        for (index, value) in values.prefix(buffer.count).enumerated() {
          buffer.pointer[index] = value
        }
      } else if let staging {
        try weights.read(matrix, layer: layer, into: staging.pointer, pool: pool)
        for index in 0..<buffer.count { buffer.pointer[index] = Scalar(staging.pointer[index]) }
      } else {
        // Scalar is Float here.
        let floats = UnsafeMutableRawPointer(buffer.pointer).assumingMemoryBound(to: Float.self)
        try weights.read(matrix, layer: layer, into: floats, pool: pool)
      }
    }
  }

  /// `y = x Wᵀ` for `x [rows × inputs]`.
  func multiply(
    _ matrix: DenseWeights.Matrix, _ x: UnsafeMutablePointer<Scalar>,
    into y: UnsafeMutablePointer<Scalar>, rows: Int
  ) {
    let size = weights.size(of: matrix, layer: 0)
    Scalar.multiply(
      x, transposed: false, lda: size.columns, buffers[matrix.rawValue].pointer, transposed: true,
      ldb: size.columns, into: y, ldc: size.rows, m: rows, n: size.rows, k: size.columns, alpha: 1,
      beta: 0)
  }

  /// `dx = dy W`, added where `adds`.
  func multiplyBackward(
    _ matrix: DenseWeights.Matrix, _ dy: UnsafeMutablePointer<Scalar>,
    into dx: UnsafeMutablePointer<Scalar>, adds: Bool, rows: Int
  ) {
    let size = weights.size(of: matrix, layer: 0)
    Scalar.multiply(
      dy, transposed: false, lda: size.rows, buffers[matrix.rawValue].pointer, transposed: false,
      ldb: size.columns, into: dx, ldc: size.columns, m: rows, n: size.columns, k: size.rows,
      alpha: 1, beta: adds ? 1 : 0)
  }
}
