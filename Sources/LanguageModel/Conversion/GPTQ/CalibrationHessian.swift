import QuantKernels
import Synchronization

/// Σ x xᵀ over the inputs of linear layers that read the same: half the Hessian of the squared error
/// of their outputs.
final class CalibrationHessian {
  /// Inputs, K.
  let columns: Int
  /// Inputs that were added up.
  private(set) var rows = 0
  /// `[columns × columns]`, symmetric.
  private(set) var sums: [Double]

  private let pool: WorkerPool
  /// Rows that gather before a product, so that few products are long rather than many short.
  private var pending: [Float] = []
  private static let batch = 512

  init(columns: Int, pool: WorkerPool) {
    self.columns = columns
    self.pool = pool
    sums = [Double](repeating: 0, count: columns * columns)
  }

  /// Bytes of the sums of so many columns.
  static func byteCount(columns: Int) -> Int { 8 * columns * columns }

  /// Adds inputs, `[count × columns]`.
  ///
  /// - Throws: `QuantError` `.invalidData` for values that are not finite, `.outOfMemory`.
  /// - Complexity: O(count · columns²).
  func add(_ x: UnsafePointer<Float>, count: Int) throws(QuantError) {
    let values = UnsafeBufferPointer(start: x, count: count * columns)
    guard values.allSatisfy(\.isFinite) else {
      throw QuantError(
        .invalidData, "calibration", "a linear layer reads values that are not finite",
        remedy: "check the model by perplexity; calibrate with another text")
    }
    pending += values
    rows += count
    if pending.count >= Self.batch * columns { try flush() }
  }

  /// Adds what has gathered.
  func flush() throws(QuantError) {
    let count = pending.count / columns
    if count == 0 { return }
    // Xᵀ, whose products with itself are the sums: row i of the result belongs to input i.
    let (columns, rows) = (columns, pending)
    let transposed = [Float](unsafeUninitializedCapacity: rows.count) { buffer, filled in
      for row in 0..<count {
        for column in 0..<columns { buffer[column * count + row] = rows[row * columns + column] }
      }
      filled = rows.count
    }
    let products = try FloatMatrix.product(transposed, by: transposed, depth: count, pool: pool)
    // Each element of the float32 result is a sum of at most 512 + K rows' terms.
    let threads = pool.threads
    sums.withUnsafeMutableBufferPointer { sums in
      nonisolated(unsafe) let sums = sums
      pool.run(parts: threads) { part, _ in
        for index in sums.count * part / threads..<sums.count * (part + 1) / threads {
          sums[index] += Double(products[index])
        }
      }
    }
    pending.removeAll(keepingCapacity: true)
  }
}

/// Products of float matrices through the package's own kernels.
enum FloatMatrix {
  /// `a bᵀ` of `[m × depth]` and `[n × depth]`, float32 with fused multiply-adds: `[m × n]`.
  static func product(
    _ a: [Float], by b: [Float], depth: Int, pool: WorkerPool
  ) throws(QuantError) -> [Float] {
    var packed: Result<PackedWeights, QuantError>?
    b.withUnsafeBytes { bytes in
      packed = Result { () throws(QuantError) in
        try PackedWeights(
          type: .f32, parts: [(bytes: bytes, rows: b.count / depth)], columns: depth,
          name: "calibration", pool: pool)
      }
    }
    guard let packed else {
      throw QuantError(.outOfMemory, "calibration", "no memory", remedy: "use a smaller model")
    }
    return try packed.get().matmul(a, arithmetic: .exact, pool: pool)
  }
}

/// The Hessians of a model's linear layers over a text.
struct Calibration {
  /// Whose inputs: a block and one of its ``WeightPlan/Layer/linears``.
  struct Key: Hashable {
    let layer: Int
    let linear: Int
  }

  /// Tokens of a window; each is read by itself.
  static let window = 512

  /// Runs the text through the model and adds up what some linear layers read.
  ///
  /// - Parameters:
  ///   - wanted: the layers, with their inputs' counts.
  ///   - mostTokens: of the text, so many at most.
  /// - Throws: `QuantError` `.invalidArgument` for a text of fewer than two tokens, `.invalidData`
  ///   for inputs that are not finite, and as ``Session``.
  static func hessians(
    of wanted: [Key: Int], model: LanguageModel, tokens: [Int32], work: ModelConverter.Work
  ) throws(QuantError) -> [Key: CalibrationHessian] {
    guard tokens.count >= 2 else {
      throw QuantError(
        .invalidArgument, "calibration text", "has \(tokens.count) tokens",
        remedy: "calibrate with a text of at least a few thousand")
    }
    var hessians: [Key: CalibrationHessian] = [:]
    for (key, columns) in wanted {
      hessians[key] = CalibrationHessian(columns: columns, pool: model.pool)
    }
    let window = min(Self.window, model.contextLength)
    let session = try model.makeSession(contextLength: window)
    session.observer = { (input: Session.LinearInput) throws(QuantError) in
      guard let hessian = hessians[Key(layer: input.layer, linear: input.linear)] else { return }
      guard hessian.columns == input.columns else {
        throw QuantError(
          .invalidData, "calibration",
          "block \(input.layer) reads \(input.columns) inputs, not \(hessian.columns)",
          remedy: "report it")
      }
      try hessian.add(input.values, count: input.rows)
    }
    for start in stride(from: 0, to: tokens.count, by: window) {
      try work.check()
      session.reset()
      let part = Array(tokens[start..<min(start + window, tokens.count)])
      // Logits of all, so that the last block computes every row.
      try session.forward(part, logits: 0..<part.count) { _, _ in }
    }
    for hessian in hessians.values { try hessian.flush() }
    return hessians
  }
}
