import QuantKernels

/// Attention as a framework without a fused kernel does it, on this package's float32 products: scores
/// of a head with all keys into a matrix of queries × keys, softmax by rows, product with all values.
///
/// It is here to be timed beside the fused kernel, at its best: one head's matrix at a time, softmax
/// over visible keys alone. Keys and values are packed in every run, as the products want them: they
/// are new to each layer of a prompt. It is never chosen in the fused kernel's place: its sums are in
/// another order, and rows would no longer have the bits of their own one-row call.
struct UnfusedAttention {
  let attention: AttentionCase
  private let ranges: [Range<Int>]
  private let keys: AlignedBuffer
  private let values: AlignedBuffer
  private let transposed: AlignedBuffer
  private let queries: AlignedBuffer
  private let scores: AlignedBuffer
  private let result: AlignedBuffer
  private let workspace = Workspace()

  /// Bytes of scores, and of packed or rearranged operands, that a run takes beside its inputs and
  /// outputs.
  var scratchBytes: Int {
    scores.count + transposed.count + queries.count + result.count
      + 4 * attention.keyValueLength * attention.headDimension
  }

  /// - Parameter numbers: keys and values, each `positions × keyValueHeads × headDimension`.
  /// - Throws: ``QuantError`` when memory is short or the mask is none.
  init(
    _ attention: AttentionCase, numbers: (keys: [Float], values: [Float])
  ) throws(QuantError) {
    self.attention = attention
    let length = attention.keyValueLength
    let width = attention.headDimension
    ranges = (0..<attention.queryLength).map { query in
      let position = length - attention.queryLength + query
      let high = attention.isCausal ? max(0, position + 1) : length
      return min(high, attention.window.map { max(0, position - $0 + 1) } ?? 0)..<high
    }
    func buffer(_ floats: Int) throws(QuantError) -> AlignedBuffer {
      try AlignedBuffer(count: 4 * max(floats, 1), for: "unfused attention")
    }
    keys = try buffer(length * attention.keyValueHeads * width)
    values = try buffer(length * attention.keyValueHeads * width)
    transposed = try buffer(length * width)
    queries = try buffer(attention.queryLength * width)
    scores = try buffer(attention.queryLength * length)
    result = try buffer(attention.queryLength * width)
    // Head by head, so that a head's rows are a matrix.
    for (source, target) in [(numbers.keys, keys), (numbers.values, values)] {
      let out = target.floats
      for head in 0..<attention.keyValueHeads {
        for position in 0..<length {
          for element in 0..<width {
            out[(head * length + position) * width + element] =
              source[(position * attention.keyValueHeads + head) * width + element]
          }
        }
      }
    }
  }

  /// Fills `output`, `queryLength × heads × headDimension`.
  ///
  /// - Throws: ``QuantError`` when memory is short.
  func run(
    _ source: UnsafePointer<Float>, into output: UnsafeMutablePointer<Float>, pool: WorkerPool
  ) throws(QuantError) {
    let width = attention.headDimension
    let length = attention.keyValueLength
    let count = attention.queryLength
    let scale = attention.options.scale
    let group = attention.heads / attention.keyValueHeads
    for shared in 0..<attention.keyValueHeads {
      let packedKeys = try pack(
        keys.floats + shared * length * width, rows: length, columns: width, pool)
      transpose(values.floats + shared * length * width, pool)
      let packedValues = try pack(transposed.floats, rows: width, columns: length, pool)
      for head in shared * group..<(shared + 1) * group {
        for query in 0..<count {
          for element in 0..<width {
            queries.floats[query * width + element] =
              source[(query * attention.heads + head) * width + element] * scale
          }
        }
        try packedKeys.multiply(
          queries.floats, count: count, into: scores.floats, outputStride: length,
          workspace: workspace, pool: pool)
        pool.run(parts: count) { query, _ in
          let row = scores.floats + query * length
          let seen = ranges[query]
          row.update(repeating: 0, count: seen.lowerBound)
          (row + seen.upperBound).update(repeating: 0, count: length - seen.upperBound)
          VectorOperations.softmax(
            UnsafeMutableBufferPointer(start: row + seen.lowerBound, count: seen.count))
        }
        try packedValues.multiply(
          scores.floats, count: count, into: result.floats, outputStride: width,
          workspace: workspace, pool: pool)
        for query in 0..<count {
          (output + (query * attention.heads + head) * width).update(
            from: result.floats + query * width, count: width)
        }
      }
    }
  }

  private func pack(
    _ source: UnsafeMutablePointer<Float>, rows: Int, columns: Int, _ pool: WorkerPool
  ) throws(QuantError) -> PackedWeights {
    try PackedWeights(
      type: .f32,
      parts: [(UnsafeRawBufferPointer(start: source, count: 4 * rows * columns), rows)],
      columns: columns, name: "of an attention", pool: pool)
  }

  /// Values of a head as `headDimension × positions`.
  private func transpose(_ source: UnsafeMutablePointer<Float>, _ pool: WorkerPool) {
    let width = attention.headDimension
    let length = attention.keyValueLength
    let out = transposed.floats
    // Stretches of a cache line of every row.
    pool.run(parts: (length + 15) / 16) { part, _ in
      for element in 0..<width {
        for position in part * 16..<min(part * 16 + 16, length) {
          out[element * length + position] = source[position * width + element]
        }
      }
    }
  }
}

extension AlignedBuffer {
  fileprivate var floats: UnsafeMutablePointer<Float> {
    base.bindMemory(to: Float.self, capacity: count / 4)
  }
}
