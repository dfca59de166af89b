/// Which keys the queries of one call see. Structured masks are computed from positions and take no
/// memory; an arbitrary one takes a bit a pair.
///
/// A query at position p (on the keys' axis) sees key j when j ≤ p (unless ``isCausal`` is false)
/// or j < ``prefix``, within the layer's window and chunk (``AttentionOptions``), and when
/// ``bits``, if any, say so too.
public struct AttentionMask: Sendable, Equatable {
  /// Query i stands at position `firstPosition + i`, which may be negative: it then sees nothing.
  public var firstPosition: Int
  /// Positions of the queries one by one, for trees of tokens; nil: from ``firstPosition`` on.
  public var positions: [Int]?
  /// Whether a query sees no later key.
  public var isCausal: Bool
  /// Keys that every query sees.
  public var prefix: Int
  /// An arbitrary mask beside the structured one.
  public var bits: AttentionBits?

  /// A mask; sizes are checked by the call that takes it.
  public init(
    firstPosition: Int = 0, positions: [Int]? = nil, isCausal: Bool = true, prefix: Int = 0,
    bits: AttentionBits? = nil
  ) {
    self.firstPosition = firstPosition
    self.positions = positions
    self.isCausal = isCausal
    self.prefix = prefix
    self.bits = bits
  }

  /// Every query sees every key.
  public static let full = AttentionMask(isCausal: false)

  /// Which query the diagonal ends or begins at where there are not as many queries as keys.
  public typealias Alignment = TileMask.Alignment

  /// Causal: the first query sees the first key only (`topLeft`), or the last query sees all keys
  /// (`bottomRight`).
  public static func causal(
    queries: Int, keys: Int, alignment: Alignment = .bottomRight
  ) -> AttentionMask {
    AttentionMask(firstPosition: alignment.offset(queries: queries, keys: keys))
  }

  /// - Throws: ``QuantError`` `.invalidArgument` for a mask that is not one of `queries × keys`.
  func check(queries: Int, keys: Int, options: AttentionOptions) throws(QuantError) {
    func refuse(_ what: String, _ remedy: String) -> QuantError {
      QuantError(.invalidArgument, "attention mask", what, remedy: remedy)
    }
    // Positions that leave room for the additions of a range.
    let bound = Int(Int32.max) << 16
    guard -bound...bound ~= firstPosition, queries <= bound else {
      throw refuse("first position \(firstPosition)", "use positions of the cache")
    }
    if let positions {
      guard positions.count == queries else {
        throw refuse("\(positions.count) positions of \(queries) queries", "give one a query")
      }
      for position in positions where !(-bound...bound ~= position) {
        throw refuse("position \(position)", "use positions of the cache")
      }
    }
    guard prefix >= 0 else { throw refuse("prefix of \(prefix) keys", "use 0 for none") }
    guard prefix == 0 || (options.window == nil && options.chunk == nil) else {
      throw refuse(
        "a prefix of \(prefix) keys with a window or chunk, which may leave a gap",
        "say what is seen by bits")
    }
    if let bits {
      guard bits.queries == queries, bits.keys == keys else {
        throw refuse(
          "bits of \(bits.queries) × \(bits.keys) for \(queries) queries × \(keys) keys",
          "make them of as many queries and keys")
      }
    }
  }

  func position(_ query: Int) -> Int { positions?[query] ?? firstPosition + query }

  /// The keys that queries see but for ``bits``, as the rule that simulated kernels use; its rows are
  /// positions. No cache reaches its limit, so what lies past it is cut to it.
  func rule(_ options: AttentionOptions) throws(QuantError) -> TileMask {
    func cut(_ positions: Int) -> Int { min(positions, TileMask.limit) }
    return try TileMask(
      isCausal: isCausal, leftWindow: options.window.map { cut($0) - 1 },
      chunk: options.chunk.map(cut), prefix: cut(prefix))
  }
}

/// A mask of one bit a pair of query and key.
public struct AttentionBits: Sendable, Equatable {
  /// Rows of the mask.
  public let queries: Int
  /// Columns of the mask.
  public let keys: Int
  /// Bit j % 64 of word j / 64 of a query's words.
  let words: [UInt64]
  let wordsPerQuery: Int

  /// - Parameters:
  ///   - sees: whether a query sees a key.
  ///   - queries: rows of the mask.
  ///   - keys: columns of the mask.
  /// - Throws: ``QuantError`` `.invalidArgument` for negative sizes, `.outOfMemory` for a mask that
  ///   no address holds.
  /// - Complexity: O(queries · keys); `queries · ⌈keys/64⌉ · 8` bytes.
  public init(
    queries: Int, keys: Int, sees: (_ query: Int, _ key: Int) -> Bool
  ) throws(QuantError) {
    guard queries >= 0, keys >= 0 else {
      throw QuantError(
        .invalidArgument, "attention bits", "\(queries) queries × \(keys) keys",
        remedy: "use sizes of at least 0")
    }
    wordsPerQuery = keys / 64 + (keys % 64 == 0 ? 0 : 1)
    let (count, overflows) = queries.multipliedReportingOverflow(by: wordsPerQuery)
    guard !overflows, count < Int.max / 8 else {
      throw QuantError(
        .outOfMemory, "attention bits", "\(queries) queries × \(keys) keys",
        remedy: "use a structured mask, which takes no memory")
    }
    self.queries = queries
    self.keys = keys
    var words = [UInt64](repeating: 0, count: count)
    for query in 0..<queries {
      for key in 0..<keys where sees(query, key) {
        words[query * wordsPerQuery + key / 64] |= 1 << UInt64(key % 64)
      }
    }
    self.words = words
  }

  /// A tree of tokens behind `context` keys that all of them see: token i sees itself and its
  /// ancestors, `parents[i]` its parent's index or −1. The tokens' own keys follow the context.
  ///
  /// - Throws: ``QuantError`` `.invalidArgument` unless every parent comes before its child.
  public static func tree(context: Int, parents: [Int]) throws(QuantError) -> AttentionBits {
    for (index, parent) in parents.enumerated() where !(-1..<index ~= parent) {
      throw QuantError(
        .invalidArgument, "token tree", "token \(index) has parent \(parent)",
        remedy: "list parents before their children, −1 for a root")
    }
    guard context >= 0, context <= Int.max - parents.count else {
      throw QuantError(
        .invalidArgument, "token tree", "a context of \(context) keys", remedy: "use at least 0")
    }
    var ancestors = [[Bool]](
      repeating: [Bool](repeating: false, count: parents.count), count: parents.count)
    for (index, parent) in parents.enumerated() {
      if parent >= 0 { ancestors[index] = ancestors[parent] }
      ancestors[index][index] = true
    }
    return try AttentionBits(queries: parents.count, keys: context + parents.count) {
      $1 < context || ancestors[$0][$1 - context]
    }
  }
}
