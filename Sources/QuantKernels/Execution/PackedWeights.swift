/// The arithmetic of a product.
public enum Arithmetic: Sendable, Equatable {
  /// Activations quantised to int8 per group of 32, integer dot products, float32 scales.
  case fast
  /// Activations float32, weights dequantised to float32, ascending-k fused multiply-add per output.
  case exact
}

/// A weight matrix `rows × columns` (`outFeatures × inFeatures`) packed once for this processor's kernels.
public final class PackedWeights: @unchecked Sendable {
  public let rows: Int
  public let columns: Int
  /// The stored format: `Q4_1`, `F16`, …
  public let typeName: String
  /// Bytes that one product with a single row reads.
  public let byteCount: Int
  private let values: [Float]

  /// Packs stacked blocks of rows of one GGUF type, e.g. the Q, K and V projections as one matrix.
  public init(
    type: GGMLType, parts: [(bytes: UnsafeRawBufferPointer, rows: Int)], columns: Int,
    name: String, instructionSet: InstructionSet = .best
  ) throws(QuantError) {
    rows = parts.reduce(0) { $0 + $1.rows }
    self.columns = columns
    typeName = type.name
    byteCount = rows * (type.rowBytes(columns: columns) ?? 0)
    values = [Float](repeating: 0, count: rows * columns)
  }

  /// `y[i, n] = Σ_k x[i, k] · w[n, k]` for `i < count`: `x` is `[count × columns]`, `y` is `[count × outputStride]`.
  public func multiply(
    _ x: UnsafePointer<Float>, count: Int, into y: UnsafeMutablePointer<Float>, outputStride: Int,
    arithmetic: Arithmetic = .fast, workspace: Workspace, pool: WorkerPool
  ) {
  }
}

/// Scratch memory of products, owned by whoever calls them; it grows to the largest call and is then reused,
/// so that a decode step allocates nothing.
public final class Workspace: @unchecked Sendable {
  public init() {}
}
