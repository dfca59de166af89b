import LanguageModel
import QuantKernels

/// The last norm, the head and the loss.
struct Head<Scalar: DenseScalar> {
  typealias Pointer = UnsafeMutablePointer<Scalar>

  /// Rows whose logits are held at a time: enough for BLAS to reach its speed, 25 MiB at 49,152
  /// tokens.
  static var group: Int { 128 }

  private let weights: ScalarBuffer<Scalar>
  private let bias: ScalarBuffer<Scalar>?
  private let norm: ScalarBuffer<Scalar>
  private let configuration: ModelConfiguration
  private let operations: DecoderOperations<Scalar>
  private let logits: ScalarBuffer<Scalar>
  /// `[group × width]`: the stream, normalized, and their gradient.
  private let gathered, normed, gradient, scales: ScalarBuffer<Scalar>

  init(_ weights: DenseWeights, pool: WorkerPool) throws(QuantError) {
    configuration = weights.configuration
    let width = configuration.embeddingLength
    let vocabulary = configuration.vocabularySize
    operations = DecoderOperations(pool: pool)
    self.weights = ScalarBuffer(count: vocabulary * width)
    if Scalar.self == Float.self {
      let floats = UnsafeMutableRawPointer(self.weights.pointer).assumingMemoryBound(to: Float.self)
      try weights.readHead(into: floats, pool: pool)
    } else {
      let floats = ScalarBuffer<Float>(count: vocabulary * width)
      try weights.readHead(into: floats.pointer, pool: pool)
      for index in 0..<floats.count { self.weights.pointer[index] = Scalar(floats.pointer[index]) }
    }
    bias = weights.headBias.map { ScalarBuffer($0.map { Scalar($0) }) }
    norm = ScalarBuffer(weights.outputNorm.map { Scalar($0) })
    logits = ScalarBuffer(count: Self.group * vocabulary)
    gathered = ScalarBuffer(count: Self.group * width)
    normed = ScalarBuffer(count: Self.group * width)
    gradient = ScalarBuffer(count: Self.group * width)
    scales = ScalarBuffer(count: Self.group)
  }

  /// −ln p of each label, given the rows `[width]` of the last stream that predict them.
  ///
  /// - Parameters:
  ///   - rows: the rows, each with the token that stands after it.
  ///   - scale: factor of every loss in the gradient.
  ///   - dStream: receives the gradient at these rows; other rows are left alone.
  func losses(
    _ stream: Pointer, rows: [(row: Int, label: Int32)], scale: Scalar = 1,
    gradient dStream: Pointer? = nil
  ) -> [Double] {
    let width = configuration.embeddingLength
    let vocabulary = configuration.vocabularySize
    let cap = configuration.logitSoftCap.map { Scalar($0) }
    let losses = ScalarBuffer<Double>(count: rows.count)
    var first = 0
    while first < rows.count {
      let members = rows[first..<min(first + Self.group, rows.count)]
      for (index, member) in members.enumerated() {
        (gathered.pointer + index * width).update(
          from: stream + member.row * width, count: width)
      }
      operations.normalize(
        gathered.pointer, weight: norm.pointer, epsilon: Scalar(configuration.normEpsilon),
        into: normed.pointer, inverse: scales.pointer, rows: members.count, width: width)
      Scalar.multiply(
        normed.pointer, transposed: false, lda: width, weights.pointer, transposed: true,
        ldb: width, into: logits.pointer, ldc: vocabulary, m: members.count, n: vocabulary,
        k: width, alpha: 1, beta: 0)
      operations.add(bias, to: logits.pointer, rows: members.count)
      let (logitRows, lossRows) = (logits.pointer, losses.pointer + first)
      let wantsGradient = dStream != nil
      operations.overRows(members.count) { index in
        lossRows[index] = Self.loss(
          logitRows + index * vocabulary, vocabulary, label: members[members.startIndex + index].label,
          cap: cap, scale: wantsGradient ? scale : nil)
      }
      if let dStream {
        Scalar.multiply(
          logits.pointer, transposed: false, lda: vocabulary, weights.pointer, transposed: false,
          ldb: width, into: gradient.pointer, ldc: width, m: members.count, n: width,
          k: vocabulary, alpha: 1, beta: 0)
        operations.normalizeBackward(
          gradient.pointer, gathered.pointer, weight: norm.pointer, inverse: scales.pointer,
          into: normed.pointer, adds: false, rows: members.count, width: width)
        for (index, member) in members.enumerated() {
          (dStream + member.row * width).update(
            from: normed.pointer + index * width, count: width)
        }
      }
      first += members.count
    }
    return (0..<rows.count).map { losses.pointer[$0] }
  }

  /// −ln softmax(logits)[label]; with a scale the logits become its gradient times that:
  /// `p − 1` at the label, `p` elsewhere, times the cap's slope.
  private static func loss(
    _ logits: Pointer, _ count: Int, label: Int32, cap: Scalar?, scale: Scalar?
  ) -> Double {
    if let cap {
      for token in 0..<count {
        logits[token] = cap * Scalar.hyperbolicTangent(logits[token] / cap)
      }
    }
    var top = logits[0]
    for token in 0..<count where logits[token] > top { top = logits[token] }
    var sum = 0.0
    for token in 0..<count { sum += Double(Scalar.exponential(logits[token] - top)) }
    let loss = Elementary.logarithm(sum) + Double(top) - Double(logits[Int(label)])
    guard let scale else { return loss }
    let factor = scale / Scalar(sum)
    for token in 0..<count {
      var value = Scalar.exponential(logits[token] - top) * factor
      if token == Int(label) { value -= scale }
      if let cap {
        let share = logits[token] / cap
        value *= 1 - share * share
      }
      logits[token] = value
    }
    return loss
  }
}
