import DeviceModel

/// Queries, keys, values and outputs in a simulated device's memory, and the scale of the scores.
struct AttentionBuffers: Sendable {
  let queries: GlobalBuffer
  let keys: GlobalBuffer
  let values: GlobalBuffer
  let output: GlobalBuffer
  /// Positive; 1/√d unless the caller chose.
  let scale: Float
  /// What the queries' pairs are xored with and masked by on the way in: the sign of a negative
  /// scale, and zeros where the scale is zero.
  let queryFlip: UInt32
  let queryMask: UInt32

  /// - Parameters:
  ///   - contents: binary16 bits in the shape's order, or nil for zeros that cost nothing until they
  ///     are touched, for runs that only count.
  ///   - scale: of the scores; nil for 1/√d.
  /// - Throws: ``QuantError`` for wrong lengths, a scale that is not finite, and buffers past 4 GiB.
  init(
    _ shape: DeviceAttentionShape, scale: Float?,
    contents: (queries: [UInt16], keys: [UInt16], values: [UInt16])?
  ) throws(QuantError) {
    let scale = scale ?? 1 / Float(shape.headDimension).squareRoot()
    guard scale.isFinite else {
      throw QuantError(
        .invalidArgument, "attention scale", "\(scale)", remedy: "use 1/√headDimension")
    }
    self.scale = scale == 0 ? 1 : scale.magnitude
    queryFlip = scale < 0 ? 0x8000_8000 : 0
    queryMask = scale == 0 ? 0 : .max
    func buffer(_ name: String, rows: Int, heads: Int, _ values: [UInt16]?) throws(QuantError)
      -> GlobalBuffer
    {
      let count = rows * heads * shape.headDimension
      if let values, values.count != count {
        throw QuantError(
          .invalidArgument, "attention \(name)",
          "\(values.count) elements where \(rows) · \(heads) · \(shape.headDimension) belong",
          remedy: "pass one half an element")
      }
      return try QuantError.translating {
        guard let values, !values.isEmpty else {
          return try GlobalBuffer(name, byteCount: rows * heads * shape.pitch * 2)
        }
        if shape.pitch == shape.headDimension { return try GlobalBuffer(name, values) }
        var padded = [UInt16](repeating: 0, count: rows * heads * shape.pitch)
        for head in 0..<rows * heads {
          for column in 0..<shape.headDimension {
            padded[head * shape.pitch + column] = values[head * shape.headDimension + column]
          }
        }
        return try GlobalBuffer(name, padded)
      }
    }
    queries = try buffer(
      "queries", rows: shape.queryLength, heads: shape.heads, contents?.queries)
    keys = try buffer("keys", rows: shape.keyLength, heads: shape.keyValueHeads, contents?.keys)
    values = try buffer(
      "values", rows: shape.keyLength, heads: shape.keyValueHeads, contents?.values)
    output = try buffer("output", rows: shape.queryLength, heads: shape.heads, nil)
  }

  /// The output without the padding of heads: `[queryLength · heads · headDimension]` binary16 bits.
  func result(_ shape: DeviceAttentionShape) -> [UInt16] {
    let stored = output.contents(as: UInt16.self)
    if shape.pitch == shape.headDimension { return stored }
    return (0..<shape.queryLength * shape.heads).flatMap { head in
      stored[head * shape.pitch..<head * shape.pitch + shape.headDimension]
    }
  }

  /// A pair of the queries as the kernels read it.
  func query(_ words: Registers4) -> Registers4 {
    if queryFlip == 0, queryMask == .max { return words }
    func turned(_ word: Lanes<UInt32>) -> Lanes<UInt32> {
      word.mapWords { ($0 & queryMask) ^ queryFlip }
    }
    return Registers4(turned(words.r0), turned(words.r1), turned(words.r2), turned(words.r3))
  }
}
