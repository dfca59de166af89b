import QuantKernels
import Synchronization

/// The weights of a decoder, packed for this processor.
struct DecoderWeights: Sendable {
  /// One block: attention, then the gated feed-forward.
  struct Layer: Sendable {
    let attentionNorm: FloatBuffer
    let queryKeyValue: StackedLinear
    let queryNorm: FloatBuffer?
    let keyNorm: FloatBuffer?
    let attentionOutput: StackedLinear
    let postAttentionNorm: FloatBuffer?
    let feedForwardNorm: FloatBuffer
    let gateUp: StackedLinear
    let down: StackedLinear
    let postFeedForwardNorm: FloatBuffer?
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

  /// Bytes of weights that the decoding of one token reads, embedding row included.
  let byteCountPerToken: Int

  /// Packs every tensor, the layers in parallel.
  ///
  /// - Parameter progress: called on the calling thread with the share of tensors' bytes packed, 0…1.
  /// - Throws: ``QuantError`` when a tensor is missing, has another shape, an unknown type or values that are not
  ///   finite, or when the file holds tensors of a block that the decoder would ignore.
  init(
    file: GGUFFile, configuration: ModelConfiguration, instructionSet: InstructionSet,
    pool: WorkerPool, progress: ((Double) -> Void)?
  ) throws(QuantError) {
    let plan = try WeightPlan(file: file, configuration: configuration)
    try plan.refuseUnusedTensors(of: file)
    // The head comes first: it is the largest part, and whoever takes it last would finish alone.
    let jobs = [plan.head] + plan.layers.flatMap(\.linears)
    let packed = try Self.pack(
      jobs, file: file, instructionSet: instructionSet, pool: pool, progress: progress)
    head = packed[0]
    layers = plan.layers.enumerated().map { index, layer in
      let first = 1 + index * WeightPlan.Layer.linearCount
      return Layer(
        attentionNorm: FloatBuffer(layer.attentionNorm), queryKeyValue: packed[first],
        queryNorm: layer.queryNorm.map { FloatBuffer($0) },
        keyNorm: layer.keyNorm.map { FloatBuffer($0) },
        attentionOutput: packed[first + 1],
        postAttentionNorm: layer.postAttentionNorm.map { FloatBuffer($0) },
        feedForwardNorm: FloatBuffer(layer.feedForwardNorm), gateUp: packed[first + 2],
        down: packed[first + 3],
        postFeedForwardNorm: layer.postFeedForwardNorm.map { FloatBuffer($0) })
    }
    outputNorm = FloatBuffer(plan.outputNorm)
    let embeddingType = try ModelTensors(file: file).type(of: plan.embedding)
    let rowBytes = embeddingType.rowBytes(columns: configuration.embeddingLength) ?? 0
    embedding = UnsafeEmbedding(
      bytes: file.bytes(of: plan.embedding), type: embeddingType, rowBytes: rowBytes)
    byteCountPerToken =
      rowBytes + packed.reduce(0) { $0 + $1.byteCount + ($1.bias?.count ?? 0) * 4 }
  }

  private static func pack(
    _ jobs: [WeightPlan.Linear], file: GGUFFile, instructionSet: InstructionSet, pool: WorkerPool,
    progress: ((Double) -> Void)?
  ) throws(QuantError) -> [StackedLinear] {
    let total = Double(max(1, jobs.reduce(0) { $0 + $1.byteCount }))
    let done = Atomic<Int>(0)
    // Each part writes its own slot, so no lock is needed.
    let results = UnsafeMutableBufferPointer<Result<StackedLinear, QuantError>?>.allocate(
      capacity: jobs.count)
    results.initialize(repeating: nil)
    defer {
      results.deinitialize()
      results.deallocate()
    }
    pool.run(parts: jobs.count) { part, worker in
      let job = jobs[part]
      do throws(QuantError) {
        results[part] = .success(
          try StackedLinear(
            job.members, columns: job.columns, file: file, instructionSet: instructionSet))
      } catch {
        results[part] = .failure(error)
      }
      let sum = done.add(job.byteCount, ordering: .relaxed).newValue
      if worker == 0 { progress?(Double(sum) / total) }
    }
    var packed: [StackedLinear] = []
    for result in results {
      if let result { packed.append(try result.get()) }
    }
    progress?(1)
    return packed
  }
}
