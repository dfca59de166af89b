import QuantKernels
import Synchronization

/// A decoder's weights as float32, read from the file a matrix at a time.
///
/// For work that needs the weights themselves and not their products, such as gradients. Nothing
/// large is held: a model of 7 billion weights is 28 GB of floats.
package struct DenseWeights: Sendable {
  /// The matrices of a layer, `[outputs × inputs]`.
  package enum Matrix: Int, Sendable, CaseIterable {
    case query
    case key
    case value
    case attentionOutput
    case gate
    case up
    case down

    /// Where ``WeightPlan/Layer/linears`` has it.
    fileprivate var place: (linear: Int, member: Int) {
      switch self {
      case .query: (0, 0)
      case .key: (0, 1)
      case .value: (0, 2)
      case .attentionOutput: (1, 0)
      case .gate: (2, 0)
      case .up: (2, 1)
      case .down: (3, 0)
      }
    }
  }

  /// The vectors of a layer, each nil where the architecture has none.
  package struct Norms: Sendable {
    package let attention: [Float]
    package let query: [Float]?
    package let key: [Float]?
    package let attentionSub: [Float]?
    package let postAttention: [Float]?
    package let feedForward: [Float]
    package let feedForwardSub: [Float]?
    package let postFeedForward: [Float]?
  }

  package let configuration: ModelConfiguration
  package let norms: [Norms]
  package let outputNorm: [Float]
  private let file: GGUFFile
  private let plan: WeightPlan
  private let i2sOrder: I2SOrder

  /// Finds and checks the tensors of a file.
  ///
  /// - Throws: `QuantError` as ``LanguageModel/init(file:options:cancellation:progress:)`` does for
  ///   a file that is no such model.
  package init(
    file: GGUFFile, configuration: ModelConfiguration, i2sOrder: I2SOrder = .x86
  ) throws(QuantError) {
    self.file = file
    self.configuration = configuration
    self.i2sOrder = i2sOrder
    plan = try WeightPlan(file: file, configuration: configuration)
    try plan.refuseUnusedTensors(of: file)
    outputNorm = plan.outputNorm
    norms = plan.layers.map {
      Norms(
        attention: $0.attentionNorm, query: $0.queryNorm, key: $0.keyNorm,
        attentionSub: $0.attentionSubNorm, postAttention: $0.postAttentionNorm,
        feedForward: $0.feedForwardNorm, feedForwardSub: $0.feedForwardSubNorm,
        postFeedForward: $0.postFeedForwardNorm)
    }
  }

  private func member(_ matrix: Matrix, layer: Int) -> StackedLinear.Member {
    let place = matrix.place
    return plan.layers[layer].linears[place.linear].members[place.member]
  }

  /// Output and input features of a matrix.
  package func size(of matrix: Matrix, layer: Int) -> (rows: Int, columns: Int) {
    let tensor = member(matrix, layer: layer).tensor
    return (tensor.rows, tensor.columns)
  }

  /// What is added to a matrix's outputs, if anything.
  package func bias(of matrix: Matrix, layer: Int) -> [Float]? { member(matrix, layer: layer).bias }

  /// Writes a matrix's weights, row-major.
  ///
  /// - Throws: `QuantError` `.invalidData` for blocks that hold no weights, or one that is not
  ///   finite.
  package func read(
    _ matrix: Matrix, layer: Int, into output: UnsafeMutablePointer<Float>, pool: WorkerPool
  ) throws(QuantError) {
    try read(member(matrix, layer: layer), into: output, pool: pool)
  }

  /// The head: its bias, and its weights `[vocabulary × width]`.
  package var headBias: [Float]? { plan.head.members[0].bias }

  package func readHead(
    into output: UnsafeMutablePointer<Float>, pool: WorkerPool
  ) throws(QuantError) {
    try read(plan.head.members[0], into: output, pool: pool)
  }

  /// Writes the embedding of a token, `[width]`, as the table has it.
  package func readEmbedding(
    of token: Int32, into output: UnsafeMutablePointer<Float>
  ) throws(QuantError) {
    let type = try ModelTensors(file: file).type(of: plan.embedding)
    let width = plan.embedding.columns
    guard let rowBytes = type.rowBytes(columns: width), token >= 0,
      Int(token) < plan.embedding.rows
    else {
      throw QuantError(
        .invalidArgument, "token", "\(token) is outside 0…\(plan.embedding.rows - 1)",
        remedy: "use tokens of the model's own tokenizer")
    }
    let start = Int(token) * rowBytes
    try file.withBytes(of: plan.embedding) { bytes throws(QuantError) in
      try GGMLBlocks.dequantize(
        type, UnsafeRawBufferPointer(rebasing: bytes[start..<start + rowBytes]),
        into: UnsafeMutableBufferPointer(start: output, count: width))
    }
  }

  private func read(
    _ member: StackedLinear.Member, into output: UnsafeMutablePointer<Float>, pool: WorkerPool
  ) throws(QuantError) {
    let tensor = member.tensor
    let columns = tensor.columns
    if TernaryWeights.hasOneScale(tensor) || member.scale != nil {
      guard
        var matrix = try TernaryWeights.matrix(
          tensor, columns: columns, file: file, order: i2sOrder)
      else {
        throw QuantError(
          .unsupported, tensor.name, "a scale beside a matrix that is not ternary",
          remedy: "convert the model again, with the scales in its matrices")
      }
      if let scale = member.scale { matrix = try matrix.scaled(by: scale) }
      for (index, value) in matrix.dequantized().enumerated() { output[index] = value }
      return
    }
    if tensor.storage == .int4, let overlay = try Int4Overlay(of: file) {
      for (index, value) in try overlay.floats(of: tensor).enumerated() { output[index] = value }
      return
    }
    let type = try ModelTensors(file: file).type(of: tensor)
    let rowBytes = type.rowBytes(columns: columns) ?? 0
    // Some parts for each worker, so that one that starts late leaves little to wait for.
    let parts = min(tensor.rows, 4 * pool.threads)
    let failures = Failures()
    file.withBytes(of: tensor) { bytes in
      nonisolated(unsafe) let (bytes, output) = (bytes, output)
      pool.run(parts: parts) { part, _ in
        let rows = part * tensor.rows / parts..<(part + 1) * tensor.rows / parts
        let values = UnsafeMutableBufferPointer(
          start: output + rows.lowerBound * columns, count: rows.count * columns)
        do throws(QuantError) {
          try GGMLBlocks.dequantize(
            type,
            UnsafeRawBufferPointer(
              rebasing: bytes[rows.lowerBound * rowBytes..<rows.upperBound * rowBytes]),
            into: values)
          guard values.allSatisfy(\.isFinite) else {
            throw QuantError(
              .invalidData, tensor.name, "a weight is NaN or infinite",
              remedy: "export the model again")
          }
        } catch {
          failures.add(error)
        }
      }
    }
    if let failure = failures.first { throw failure }
  }

  /// The first failure of parallel parts.
  private final class Failures: Sendable {
    private let errors = Mutex<QuantError?>(nil)
    func add(_ error: QuantError) { errors.withLock { $0 = $0 ?? error } }
    var first: QuantError? { errors.withLock { $0 } }
  }
}
