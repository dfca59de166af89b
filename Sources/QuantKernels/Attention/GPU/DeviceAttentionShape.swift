/// The sizes of one attention on a simulated device, checked once.
///
/// Queries and outputs are `[queryLength, heads, headDimension]`, keys and values
/// `[keyLength, keyValueHeads, headDimension]`, all binary16; query head h reads key-value head
/// h div (heads / keyValueHeads). A causal mask is aligned at the bottom right: the last query sees
/// every key, query i those up to i + keyLength − queryLength, so that leading queries see none when
/// there are more queries than keys; their output is 0.
public struct DeviceAttentionShape: Sendable, Hashable {
  /// Rows of queries, S_q.
  public let queryLength: Int
  /// Keys and values, S_k.
  public let keyLength: Int
  /// Query heads.
  public let heads: Int
  /// Heads of keys and values.
  public let keyValueHeads: Int
  /// Width of a head, d.
  public let headDimension: Int
  /// Whether later keys are hidden.
  public let isCausal: Bool

  /// - Parameters:
  ///   - keyValueHeads: as many as `heads` when not given.
  ///   - queryLength: queries.
  ///   - keyLength: keys.
  ///   - heads: query heads.
  ///   - headDimension: elements of a head.
  ///   - isCausal: whether later keys are hidden.
  /// - Throws: ``QuantError`` `.invalidArgument` when a length is negative or past 2²⁴, a number of
  ///   heads is not 1…65536, `heads` is no multiple of `keyValueHeads`, or the width is not
  ///   positive; `.unsupported` when it is past 128, where a thread's registers no longer hold the
  ///   output of its rows.
  public init(
    queryLength: Int, keyLength: Int, heads: Int, keyValueHeads: Int? = nil, headDimension: Int,
    isCausal: Bool = false
  ) throws(QuantError) {
    let keyValueHeads = keyValueHeads ?? heads
    func refuse(_ what: String, _ problem: String, _ remedy: String) -> QuantError {
      QuantError(.invalidArgument, "attention \(what)", problem, remedy: remedy)
    }
    for (what, length) in [("query length", queryLength), ("key length", keyLength)] {
      guard length >= 0, length <= 1 << 24 else {
        throw refuse(what, "\(length)", "use 0 to 2²⁴")
      }
    }
    guard heads >= 1, heads <= 65536, keyValueHeads >= 1, heads % keyValueHeads == 0 else {
      throw refuse(
        "heads", "\(heads) query heads for \(keyValueHeads) of keys and values",
        "use 1 to 65536, a multiple of the key-value heads")
    }
    guard headDimension >= 1 else {
      throw refuse("head width", "\(headDimension)", "use 1 to 128")
    }
    guard headDimension <= 128 else {
      throw QuantError(
        .unsupported, "attention head width", "\(headDimension)",
        remedy: "the simulated kernels hold up to 128; use the CPU for wider heads")
    }
    self.queryLength = queryLength
    self.keyLength = keyLength
    self.heads = heads
    self.keyValueHeads = keyValueHeads
    self.headDimension = headDimension
    self.isCausal = isCausal
  }

  /// Query heads that share keys and values.
  public var group: Int { heads / keyValueHeads }

  /// How many keys a query sees: always the first ones. Rows past the last see what it sees.
  public func visibleKeys(row: Int) -> Int {
    guard isCausal else { return keyLength }
    return min(max(row + keyLength - queryLength + 1, 0), keyLength)
  }

  /// Pairs of a query and a key that it sees, in one head. O(1).
  public var visiblePairs: Int {
    guard isCausal else { return queryLength * keyLength }
    // Rows see keyLength, keyLength − 1, … from the last one up.
    let seeing = min(queryLength, keyLength)
    return seeing * keyLength - seeing * (seeing - 1) / 2
  }

  /// Useful work: two products of d multiply-adds a visible pair, in every head.
  public var flop: Double {
    4 * Double(visiblePairs) * Double(headDimension) * Double(heads)
  }

  /// Elements from a head to the next in device memory: the width up to a multiple of 16, so that
  /// every head starts a 32-byte sector. The rest is zeros.
  var pitch: Int { (headDimension + 15) / 16 * 16 }

  /// Width of a tile in shared memory: 64 or 128.
  var tileWidth: Int { headDimension <= 64 ? 64 : 128 }

  /// Bytes of queries, keys, values and outputs, each once.
  var distinctBytes: Int { 4 * pitch * (heads * queryLength + keyValueHeads * keyLength) }
}
