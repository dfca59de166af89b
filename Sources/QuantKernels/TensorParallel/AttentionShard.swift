/// One rank's share of an attention layer: a run of its heads with their keys and values, and the
/// columns of the output projection that multiply them (row-parallel: its products are terms of a
/// sum over the ranks).
public final class AttentionShard: @unchecked Sendable {
  /// The sizes of the whole layer.
  public struct Layer: Sendable, Hashable {
    /// Query heads.
    public let heads: Int
    /// Heads of keys and values.
    public let keyValueHeads: Int
    /// Elements of a head.
    public let headDimension: Int
    /// Outputs of the projection.
    public let width: Int

    /// A layer's sizes.
    public init(heads: Int, keyValueHeads: Int, headDimension: Int, width: Int) {
      self.heads = heads
      self.keyValueHeads = keyValueHeads
      self.headDimension = headDimension
      self.width = width
    }
  }

  /// The whole layer.
  public let layer: Layer
  /// Whose share.
  public let rank: Int
  /// The query heads of this share.
  public let heads: Range<Int>
  /// The heads of keys and values of this share.
  public let keyValueHeads: Range<Int>
  /// Their keys and values.
  public let cache: KeyValueCache
  /// `width × (heads · headDimension)` weights.
  public let projection: PackedWeights

  let attentionWorkspace: AttentionWorkspace
  let productWorkspace = Workspace()

  /// Inputs of this share's projection, and floats of a position's queries.
  public var columns: Int { heads.count * layer.headDimension }

  /// The share of `rank` of `ranks`.
  ///
  /// - Parameters:
  ///   - projection: the whole layer's weights, `[width × (heads · headDimension)]`, row-major.
  ///   - capacity: positions that the cache holds.
  ///   - layer: the layer's sizes.
  ///   - rank: this part's number, from 0.
  ///   - ranks: parts in all.
  ///   - type: how keys and values are stored.
  ///   - instructionSet: the kernels' instruction set; the best of this processor unless stated.
  /// - Throws: ``QuantError``: `.invalidArgument` for sizes that do not fit together, `.unsupported`
  ///   for heads of keys and values that the ranks do not divide, `.invalidData` for weights that
  ///   are not finite, `.outOfMemory`.
  /// - Complexity: O(width · columns).
  public init(
    _ layer: Layer, rank: Int, ranks: Int, projection: [Float], capacity: Int,
    type: KeyValueType = .f32, instructionSet: InstructionSet = .best
  ) throws(QuantError) {
    let subject = "share of an attention layer"
    guard ranks >= 1, (0..<ranks).contains(rank) else {
      throw QuantError(
        .invalidArgument, subject, "rank \(rank) of \(ranks)",
        remedy: "number ranks from 0, below their number")
    }
    guard layer.heads >= 1, layer.keyValueHeads >= 1, layer.heads % layer.keyValueHeads == 0,
      layer.heads <= 65536, layer.headDimension >= 1, layer.headDimension <= 65536,
      layer.width >= 1, layer.width <= 1 << 30
    else {
      throw QuantError(
        .invalidArgument, subject,
        "\(layer.heads) query heads and \(layer.keyValueHeads) of keys and values, "
          + "\(layer.headDimension) elements each, \(layer.width) outputs",
        remedy: "use positive sizes, query heads a multiple of the others")
    }
    guard layer.keyValueHeads % ranks == 0 else {
      throw QuantError(
        .unsupported, subject,
        "\(layer.keyValueHeads) heads of keys and values on \(ranks) ranks",
        remedy: "use a number of ranks that divides them")
    }
    // Each factor is small enough that this cannot overflow.
    let columns = layer.heads * layer.headDimension
    guard projection.count == layer.width * columns else {
      throw QuantError(
        .invalidArgument, subject,
        "\(projection.count) weights of the projection, not \(layer.width) × \(columns)",
        remedy: "pass the whole layer's weights, row-major")
    }
    self.layer = layer
    self.rank = rank
    let own = layer.keyValueHeads / ranks
    let group = layer.heads / layer.keyValueHeads
    keyValueHeads = rank * own..<(rank + 1) * own
    heads = rank * own * group..<(rank + 1) * own * group
    cache = try KeyValueCache(
      type: type, keyValueHeads: own, headDimension: layer.headDimension, capacity: capacity,
      instructionSet: instructionSet)
    let slice = Self.columns(
      of: projection, width: columns,
      heads.lowerBound * layer.headDimension..<heads.upperBound * layer.headDimension)
    var packed: Result<PackedWeights, QuantError>?
    slice.withUnsafeBytes { bytes in
      packed = Result { () throws(QuantError) in
        try PackedWeights(
          type: .f32, parts: [(bytes: bytes, rows: layer.width)],
          columns: own * group * layer.headDimension, name: "projection of rank \(rank)",
          instructionSet: instructionSet, pool: WorkerPool(threads: 1))
      }
    }
    guard let packed else {
      throw QuantError(.outOfMemory, subject, "no weights", remedy: "use smaller ones")
    }
    self.projection = try packed.get()
    attentionWorkspace = AttentionWorkspace(instructionSet: instructionSet)
  }

  /// Columns of a row-major matrix of `width` columns.
  static func columns(of matrix: [Float], width: Int, _ columns: Range<Int>) -> [Float] {
    if columns.count == width { return matrix }
    var out: [Float] = []
    out.reserveCapacity(matrix.count / max(1, width) * columns.count)
    for start in stride(from: 0, to: matrix.count, by: width) {
      out += matrix[start + columns.lowerBound..<start + columns.upperBound]
    }
    return out
  }

  /// This share's part of the whole layer's queries, `[count × (heads · headDimension)]`.
  ///
  /// - Throws: ``QuantError`` `.invalidArgument` when they are no whole positions.
  public func ownQueries(of queries: [Float]) throws(QuantError) -> [Float] {
    try own(queries, all: layer.heads, heads, "queries")
  }

  /// Appends this share's part of the whole layer's keys and values,
  /// `[count × (keyValueHeads · headDimension)]` each.
  ///
  /// - Throws: ``QuantError`` `.invalidArgument` when they are no whole positions, and as
  ///   ``KeyValueCache/append(keys:values:)``.
  public func append(keys: [Float], values: [Float]) throws(QuantError) {
    let ownKeys = try own(keys, all: layer.keyValueHeads, keyValueHeads, "keys")
    let ownValues = try own(values, all: layer.keyValueHeads, keyValueHeads, "values")
    var failure: QuantError?
    ownKeys.withUnsafeBufferPointer { keys in
      ownValues.withUnsafeBufferPointer { values in
        do throws(QuantError) { try cache.append(keys: keys, values: values) } catch {
          failure = error
        }
      }
    }
    if let failure { throw failure }
  }

  private func own(
    _ rows: [Float], all: Int, _ heads: Range<Int>, _ name: String
  ) throws(QuantError) -> [Float] {
    let width = all * layer.headDimension
    guard rows.count % width == 0 else {
      throw QuantError(
        .invalidArgument, name, "\(rows.count) floats are no whole positions of \(width)",
        remedy: "pass the whole layer's, position by position")
    }
    return Self.columns(
      of: rows, width: width,
      heads.lowerBound * layer.headDimension..<heads.upperBound * layer.headDimension)
  }
}
