import QuantKernels

/// Causal attention of whole sequences, and its gradient.
///
/// For each query head, with S = scale · Q Kᵀ, soft-capped and masked, P = softmax(S) and O = P V:
///
///     dP = dO Vᵀ            dV = Pᵀ dO
///     dS = P ∘ (dP − Σ_j dP_j P_j)
///     dQ = scale · dS K     dK = scale · dSᵀ Q
///
/// and before the last line the soft cap's slope `1 − (S / cap)²`. P is made again on the way back.
struct CausalAttention<Scalar: DenseScalar>: Sendable {
  typealias Pointer = UnsafeMutablePointer<Scalar>

  let heads: Int
  let keyValueHeads: Int
  let headDimension: Int
  let scale: Scalar
  let softCap: Scalar?
  /// Positions that a query sees, its own included; nil for all.
  let window: Int?
  let length: Int
  let operations: DecoderOperations<Scalar>
  /// `[length × length]`: P, dP, and S where the soft cap's slope wants it.
  private let weights: ScalarBuffer<Scalar>
  private let gradients: ScalarBuffer<Scalar>
  private let scores: ScalarBuffer<Scalar>

  init(
    heads: Int, keyValueHeads: Int, headDimension: Int, scale: Scalar, softCap: Scalar?,
    window: Int?, length: Int, operations: DecoderOperations<Scalar>
  ) {
    self.heads = heads
    self.keyValueHeads = keyValueHeads
    self.headDimension = headDimension
    self.scale = scale
    self.softCap = softCap
    self.window = window
    self.length = length
    self.operations = operations
    weights = ScalarBuffer(count: length * length)
    gradients = ScalarBuffer(count: length * length)
    scores = ScalarBuffer(count: softCap == nil ? 0 : length * length)
  }

  private var queryStride: Int { heads * headDimension }
  private var keyStride: Int { keyValueHeads * headDimension }

  /// `output [sequences · length × heads · d_h]`.
  func forward(
    _ queries: Pointer, _ keys: Pointer, _ values: Pointer, into output: Pointer, sequences: Int
  ) {
    for sequence in 0..<sequences {
      for head in 0..<heads {
        let place = offsets(sequence, head)
        softmax(queries + place.query, keys + place.key)
        Scalar.multiply(
          weights.pointer, transposed: false, lda: length, values + place.key, transposed: false,
          ldb: keyStride, into: output + place.query, ldc: queryStride, m: length,
          n: headDimension, k: length, alpha: 1, beta: 0)
      }
    }
  }

  /// Gradients at queries, keys and values, overwritten, from that at the output.
  func backward(
    _ gradient: Pointer, _ queries: Pointer, _ keys: Pointer, _ values: Pointer,
    into dQueries: Pointer, _ dKeys: Pointer, _ dValues: Pointer, sequences: Int
  ) {
    let group = heads / keyValueHeads
    for sequence in 0..<sequences {
      for head in 0..<heads {
        let place = offsets(sequence, head)
        // The heads of a group add to one gradient.
        let beta: Scalar = head % group == 0 ? 0 : 1
        softmax(queries + place.query, keys + place.key)
        Scalar.multiply(
          weights.pointer, transposed: true, lda: length, gradient + place.query,
          transposed: false, ldb: queryStride, into: dValues + place.key, ldc: keyStride,
          m: length, n: headDimension, k: length, alpha: 1, beta: beta)
        Scalar.multiply(
          gradient + place.query, transposed: false, lda: queryStride, values + place.key,
          transposed: true, ldb: keyStride, into: gradients.pointer, ldc: length, m: length,
          n: length, k: headDimension, alpha: 1, beta: 0)
        softmaxBackward()
        Scalar.multiply(
          gradients.pointer, transposed: false, lda: length, keys + place.key, transposed: false,
          ldb: keyStride, into: dQueries + place.query, ldc: queryStride, m: length,
          n: headDimension, k: length, alpha: scale, beta: 0)
        Scalar.multiply(
          gradients.pointer, transposed: true, lda: length, queries + place.query,
          transposed: false, ldb: queryStride, into: dKeys + place.key, ldc: keyStride, m: length,
          n: headDimension, k: length, alpha: scale, beta: beta)
      }
    }
  }

  private func offsets(_ sequence: Int, _ head: Int) -> (query: Int, key: Int) {
    (
      sequence * length * queryStride + head * headDimension,
      sequence * length * keyStride + head / (heads / keyValueHeads) * headDimension
    )
  }

  /// P of one head into `weights`, 0 where the mask hides.
  private func softmax(_ queries: Pointer, _ keys: Pointer) {
    Scalar.multiply(
      queries, transposed: false, lda: queryStride, keys, transposed: true, ldb: keyStride,
      into: weights.pointer, ldc: length, m: length, n: length, k: headDimension, alpha: scale,
      beta: 0)
    let (length, window, softCap) = (length, window, softCap)
    let (weights, scores) = (weights.pointer, scores.pointer)
    operations.overRows(length) { row in
      let values = weights + row * length
      let first = window.map { max(0, row - $0 + 1) } ?? 0
      if let softCap {
        for column in first...row {
          values[column] = softCap * Scalar.hyperbolicTangent(values[column] / softCap)
          scores[row * length + column] = values[column]
        }
      }
      var top = values[first]
      for column in first...row where values[column] > top { top = values[column] }
      var sum: Scalar = 0
      for column in first...row {
        values[column] = Scalar.exponential(values[column] - top)
        sum += values[column]
      }
      let factor = 1 / sum
      for column in first...row { values[column] *= factor }
      for column in 0..<first { values[column] = 0 }
      for column in row + 1..<max(length, row + 1) { values[column] = 0 }
    }
  }

  /// dS of one head in place of dP.
  private func softmaxBackward() {
    let (length, window, softCap) = (length, window, softCap)
    let (weights, gradients, scores) = (weights.pointer, gradients.pointer, scores.pointer)
    operations.overRows(length) { row in
      let weights = weights + row * length
      let values = gradients + row * length
      let first = window.map { max(0, row - $0 + 1) } ?? 0
      var sum: Scalar = 0
      for column in first...row { sum += values[column] * weights[column] }
      for column in first...row {
        values[column] = weights[column] * (values[column] - sum)
        if let softCap {
          let share = scores[row * length + column] / softCap
          values[column] *= 1 - share * share
        }
      }
      for column in 0..<first { values[column] = 0 }
      for column in row + 1..<max(length, row + 1) { values[column] = 0 }
    }
  }
}
