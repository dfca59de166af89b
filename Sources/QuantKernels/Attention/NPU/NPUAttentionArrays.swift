import DeviceModel

/// Arrays of an attention in a simulated NPU's global memory.
struct NPUAttentionArrays {
  let queries: NPUGlobal
  let keys: NPUGlobal
  let values: NPUGlobal
  let output: NPUGlobal
  /// m + ln ℓ of every row, tile after tile.
  let rowSums: NPUGlobal
  /// A byte for each query and key, or the triangle of a tiling mask; nil without stored masks.
  let mask: NPUGlobal?
  /// Bytes of a row of the mask.
  let maskPitch: Int

  /// Names under which bytes are counted.
  enum Name {
    static let queries = "queries"
    static let keys = "keys"
    static let values = "values"
    static let output = "output"
    static let rowSums = "rowSums"
    static let mask = "mask"
    static let scores = "scores"
    static let probabilities = "probabilities"
    static let products = "products"
  }

  /// - Parameters:
  ///   - liveHeads: key-value heads whose keys and values are in use at a time.
  ///   - tileExtents: rows and keys of the largest masked tile, for the triangle.
  init(
    _ shape: NPUAttentionShape, _ options: NPUAttentionOptions, liveHeads: Int,
    tileExtents: (rows: Int, keys: Int), rowSumCount: Int, carriesValues: Bool
  ) throws(DeviceError) {
    func array(
      _ name: String, _ use: NPURegion.Use, _ count: Int, _ bytes: Int, live: Int? = nil
    ) throws(DeviceError) -> NPUGlobal {
      try NPUGlobal(
        NPURegion(name, use, distinctBytes: count * bytes, liveBytes: live), count: count,
        elementBytes: bytes, carriesValues: carriesValues)
    }
    queries = try array(Name.queries, .streamed, shape.queryCount, 2)
    let live = min(liveHeads, shape.keyValueHeads) * shape.keyLength * shape.headDimension * 2
    keys = try array(Name.keys, .reused, shape.keyCount, 2, live: live)
    values = try array(Name.values, .reused, shape.keyCount, 2, live: live)
    output = try array(Name.output, .streamed, shape.queryCount, 2)
    rowSums = try array(Name.rowSums, .streamed, rowSumCount, 4)
    switch options.maskMode {
    case .computed:
      mask = nil
      maskPitch = 0
    case .tiling:
      // 2M on a side holds the view of every tile of up to M rows and M keys.
      let side = 2 * max(tileExtents.rows, tileExtents.keys)
      maskPitch = side
      mask = try array(Name.mask, .reused, side * side, 1)
      if carriesValues {
        mask?.fill((0..<side * side).map { UInt8($0 % side > $0 / side ? 1 : 0) })
      }
    case .full:
      maskPitch = shape.keyLength
      mask = try array(Name.mask, .reused, shape.queryLength * shape.keyLength, 1)
      if carriesValues {
        var bytes = [UInt8](repeating: 0, count: shape.queryLength * shape.keyLength)
        for row in 0..<shape.queryLength {
          for key in 0..<shape.keyLength where options.mask.isMasked(row: row, key: key) {
            bytes[row * shape.keyLength + key] = 1
          }
        }
        mask?.fill(bytes)
      }
    }
  }

  /// Regions of these arrays.
  var regions: [NPURegion] {
    [queries, keys, values, output, rowSums, mask].compactMap { $0?.region }
  }
}
