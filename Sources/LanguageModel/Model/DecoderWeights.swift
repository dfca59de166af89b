import QuantKernels

/// The weights of a decoder, packed for this processor.
struct DecoderWeights: Sendable {
  /// One block: attention, then the gated feed-forward. A class, so that a decode step counts one
  /// reference a layer and not ten.
  final class Layer: Sendable {
    let attentionNorm: FloatBuffer
    let queryKeyValue: StackedLinear
    let queryNorm: FloatBuffer?
    let keyNorm: FloatBuffer?
    let attentionSubNorm: FloatBuffer?
    let attentionOutput: StackedLinear
    let postAttentionNorm: FloatBuffer?
    let feedForwardNorm: FloatBuffer
    let gateUp: StackedLinear
    let feedForwardSubNorm: FloatBuffer?
    let down: StackedLinear
    let postFeedForwardNorm: FloatBuffer?

    /// - Parameter linears: Q+K+V, attention output, gate+up, down.
    init(_ plan: WeightPlan.Layer, _ linears: ArraySlice<StackedLinear>) {
      attentionNorm = FloatBuffer(plan.attentionNorm)
      queryKeyValue = linears[linears.startIndex]
      queryNorm = plan.queryNorm.map { FloatBuffer($0) }
      keyNorm = plan.keyNorm.map { FloatBuffer($0) }
      attentionSubNorm = plan.attentionSubNorm.map { FloatBuffer($0) }
      attentionOutput = linears[linears.startIndex + 1]
      postAttentionNorm = plan.postAttentionNorm.map { FloatBuffer($0) }
      feedForwardNorm = FloatBuffer(plan.feedForwardNorm)
      gateUp = linears[linears.startIndex + 2]
      feedForwardSubNorm = plan.feedForwardSubNorm.map { FloatBuffer($0) }
      down = linears[linears.startIndex + 3]
      postFeedForwardNorm = plan.postFeedForwardNorm.map { FloatBuffer($0) }
    }
  }

  let layers: [Layer]
  let outputNorm: FloatBuffer
  let head: StackedLinear
  /// Rows of the token embedding, in the mapped file.
  let embedding: UnsafeEmbedding

  /// The embedding's bytes; valid while the model's file is open.
  struct UnsafeEmbedding: @unchecked Sendable {
    let bytes: UnsafeRawBufferPointer
    let type: GGMLType
    let rowBytes: Int
  }

  /// How ternary matrices are held, where the file has such.
  let ternary: TernaryWeights?

  /// Bytes of weights that the decoding of one token reads, embedding row included.
  let byteCountPerToken: Int

  /// Packs every tensor on the pool.
  ///
  /// - Parameter progress: called on the calling thread with the share of tensors' bytes packed,
  ///   0…1.
  /// - Throws: `QuantError` when a tensor is missing, has another shape, an unknown type or
  ///   values that are not finite, or when the file holds tensors of a block that the decoder would
  ///   ignore.
  init(
    file: GGUFFile, configuration: ModelConfiguration, options: LanguageModel.Options,
    cut: ModelCut, pool: WorkerPool, cancellation: CancellationFlag?, progress: ((Double) -> Void)?
  ) throws(QuantError) {
    let plan = try WeightPlan(file: file, configuration: configuration)
    try plan.refuseUnusedTensors(of: file)
    let jobs = [plan.head] + plan.layers.flatMap(\.linears)
    let ternaryCount = jobs.reduce(0) { $0 + $1.ternaryCount }
    let ternary = try TernaryWeights(
      named: options.ternaryFormat, weightCount: ternaryCount,
      instructionSet: options.instructionSet, pool: pool)
    self.ternary = ternaryCount > 0 ? ternary : nil
    let packing = StackedLinear.Packing(
      file: file, instructionSet: options.instructionSet, arithmetic: options.arithmetic,
      ternary: ternary, i2sOrder: options.i2sOrder, pool: pool)
    let packed = try Self.pack(
      plan, cut, packing, cancellation: cancellation, progress: progress)
    head = packed[0]
    layers = plan.layers.enumerated().map { index, layer in
      let first = 1 + index * WeightPlan.Layer.linearCount
      return Layer(layer, packed[first..<first + WeightPlan.Layer.linearCount])
    }
    outputNorm = FloatBuffer(plan.outputNorm)
    let embeddingType = try ModelTensors(file: file).type(of: plan.embedding)
    let rowBytes = embeddingType.rowBytes(columns: configuration.embeddingLength) ?? 0
    embedding = UnsafeEmbedding(
      bytes: file.bytes(of: plan.embedding), type: embeddingType, rowBytes: rowBytes)
    byteCountPerToken =
      rowBytes + packed.reduce(0) { $0 + $1.byteCount + ($1.bias?.count ?? 0) * 4 }
  }

  /// Bytes of each tensor when it is packed, as factors for ``MemoryRequirement``.
  static func memory(of file: GGUFFile, arithmetic: Arithmetic) -> [[Int]] {
    file.tensors.map {
      arithmetic == .exact && TernaryWeights.hasOneScale($0)
        ? [4, $0.elementCount] : [$0.byteCount]
    }
  }

  private static func pack(
    _ plan: WeightPlan, _ cut: ModelCut, _ packing: StackedLinear.Packing,
    cancellation: CancellationFlag?, progress: ((Double) -> Void)?
  ) throws(QuantError) -> [StackedLinear] {
    let jobs = [plan.head] + plan.layers.flatMap(\.linears)
    let total = Double(max(1, jobs.reduce(0) { $0 + $1.byteCount }))
    var done = 0
    var packed: [StackedLinear] = []
    // A block at a time: what takes the place of its layers may need several of them at once.
    for linears in [cut.head(plan.head)] + plan.layers.map(\.linears) {
      let prepared = packed.isEmpty ? linears : try cut.block(linears)
      for (index, linear) in prepared.enumerated() {
        try cancellation.check()
        var packing = packing
        if !packed.isEmpty { packing.inputRanges = cut.inputRanges(ofLinear: index) }
        packed.append(
          try StackedLinear(linear.members, columns: linear.columns, packing: packing))
        done += linear.byteCount
        progress?(Double(done) / total)
      }
    }
    return packed
  }
}
