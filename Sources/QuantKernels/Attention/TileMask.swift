/// Which keys each query row of an attention sees, as a rule on positions: causal in either
/// alignment, a window to the left, chunks, a prefix that everybody sees. Nothing is stored, and a
/// tile's verdict takes constant time.
///
/// Row q stands at position p = q + `offset`. It sees key k when all of these hold:
/// - causal: k ≤ p, or k < `prefix`;
/// - window: k ≥ p − `leftWindow`;
/// - chunks: k and p lie in the same chunk of `chunk` positions; of keys below `prefix` as well.
///
/// So a row sees one range of keys, and both its ends never fall from one row to the next: that is
/// all that the verdicts rest on.
///
/// Source: the δ rule of tiling masks, after FastAttention (arXiv 2410.16663).
public struct TileMask: Sendable, Hashable {
  /// Whether later keys are masked.
  public let isCausal: Bool
  /// Position of row 0: keys − queries aligns the last query with the last key (bottom-right), 0 the
  /// first with the first (top-left).
  public let offset: Int
  /// Keys before its own position that a row sees; nil for all.
  public let leftWindow: Int?
  /// Positions of a chunk; nil for no chunks.
  public let chunk: Int?
  /// Keys from the first on that the causal rule does not mask.
  public let prefix: Int

  /// Extents up to which positions, windows and lengths stay exact: 2⁴⁰.
  public static let limit = 1 << 40

  /// A mask; without arguments everything is visible.
  ///
  /// - Throws: ``QuantError`` `.invalidArgument` for a negative window or prefix, a chunk below 1, or
  ///   anything past ``limit``.
  public init(
    isCausal: Bool = false, offset: Int = 0, leftWindow: Int? = nil, chunk: Int? = nil,
    prefix: Int = 0
  ) throws(QuantError) {
    for (name, value, least) in [
      ("offset", offset, -Self.limit), ("left window", leftWindow ?? 0, 0),
      ("chunk", chunk ?? 1, 1), ("prefix", prefix, 0),
    ] where value < least || value > Self.limit {
      throw QuantError(
        .invalidArgument, "attention mask", "its \(name) is \(value)",
        remedy: "use \(least) to \(Self.limit)")
    }
    self.isCausal = isCausal
    self.offset = offset
    self.leftWindow = leftWindow
    self.chunk = chunk
    self.prefix = prefix
  }

  /// Which side of query and key ranges of different lengths is aligned.
  public enum Alignment: String, Sendable, Hashable, CaseIterable {
    /// The last query with the last key.
    case bottomRight = "bottom-right"
    /// The first query with the first key.
    case topLeft = "top-left"

    /// The mask's offset.
    public func offset(queries: Int, keys: Int) -> Int { self == .topLeft ? 0 : keys - queries }
  }

  /// Nothing masked.
  public static let none = TileMask(unchecked: ())

  private init(unchecked: Void) {
    isCausal = false
    offset = 0
    leftWindow = nil
    chunk = nil
    prefix = 0
  }

  /// The keys that a row sees, unbounded where `Int.min` or `Int.max`.
  public func visibleKeys(of row: Int) -> Range<Int> {
    let low = low(row)
    return low..<max(low, high(row))
  }

  /// Whether a row does not see a key.
  public func isMasked(row: Int, key: Int) -> Bool { key < low(row) || key >= high(row) }

  /// What of a tile is visible.
  public enum Verdict: Sendable, Hashable {
    /// Nothing: the tile is skipped, its keys and values are not loaded.
    case none
    /// Everything: no mask is looked at.
    case all
    /// Part of it.
    case some
  }

  /// The verdict on rows `firstRow ..< firstRow + rows` and keys `firstKey ..< firstKey + keys`; an
  /// empty tile has nothing visible.
  ///
  /// - Complexity: O(1).
  public func verdict(firstRow: Int, rows: Int, firstKey: Int, keys: Int) -> Verdict {
    guard rows > 0, keys > 0 else { return .none }
    let last = firstRow &+ rows &- 1
    if low(last) <= firstKey, high(firstRow) >= firstKey &+ keys { return .all }
    // Rows whose range ends by the tile's first key come first, those whose range starts behind the
    // tile last. Anything visible is in between, and a row in between sees something: its own range
    // is not empty.
    guard let reaching = firstRowReaching(firstKey, from: firstRow), reaching <= last else {
      return .none
    }
    return low(reaching) < firstKey &+ keys ? .some : .none
  }

  /// Keys that any of the rows sees, cut to `0 ..< keys`.
  public func visibleKeys(firstRow: Int, rows: Int, of keys: Int) -> Range<Int> {
    guard rows > 0, keys > 0 else { return 0..<0 }
    let last = firstRow &+ rows &- 1
    let end = min(keys, max(0, high(last)))
    // The first row that sees any key at all.
    guard let reaching = firstRowReaching(0, from: firstRow), reaching <= last else { return 0..<0 }
    let start = max(0, low(reaching))
    return start < end ? start..<end : 0..<0
  }

  /// A tile's mask as a view into a stored triangle `T[a][b] = 1 iff b > a`: entry (i, j) of the tile
  /// is `T[firstRow + i][firstColumn + j]`, or its complement.
  public struct View: Sendable, Hashable {
    /// First row of the triangle, a₀.
    public let firstRow: Int
    /// First column, b₀.
    public let firstColumn: Int
    /// δ: entry (i, j) is T's when j > i + δ.
    public let delta: Int
    /// Whether 0 masks and 1 does not.
    public let isComplement: Bool
  }

  /// The views that mask a tile, for masks of a causal bound and a left window: one for each side
  /// that masks some of it, none for a tile that is all visible. `nil` for masks with chunks or a
  /// prefix, which are no triangles.
  ///
  /// δ = q₀ + offset − k₀ for the causal side: masks nothing from keys − 1 on, everything up to −rows.
  /// The window's is W + 1 less, complemented. With a₀ = max(δ, 0), b₀ = max(−δ, 0) a triangle of
  /// `rows + keys` on a side holds every view of tiles of that size.
  public func views(firstRow: Int, rows: Int, firstKey: Int, keys: Int) -> [View]? {
    guard chunk == nil, prefix == 0 else { return nil }
    guard rows > 0, keys > 0 else { return [] }
    var views: [View] = []
    func add(_ delta: Int, complement: Bool) {
      views.append(
        View(
          firstRow: max(delta, 0), firstColumn: max(0 &- delta, 0), delta: delta,
          isComplement: complement))
    }
    let delta = firstRow &+ offset &- firstKey
    if isCausal, delta < keys - 1 { add(max(delta, -rows), complement: false) }
    if let leftWindow {
      let left = delta &- leftWindow &- 1
      if left > -rows { add(min(left, keys - 1), complement: true) }
    }
    return views
  }

  /// The first visible key of a row, `Int.min` for no bound.
  private func low(_ row: Int) -> Int {
    let position = row &+ offset
    var low = Int.min
    if let leftWindow { low = position &- leftWindow }
    if let chunk { low = max(low, Self.floor(position, chunk)) }
    return low
  }

  /// The key behind the last visible one of a row, `Int.max` for no bound.
  private func high(_ row: Int) -> Int {
    let position = row &+ offset
    var high = Int.max
    if isCausal { high = max(position &+ 1, prefix) }
    if let chunk { high = min(high, Self.floor(position, chunk) &+ chunk) }
    return high
  }

  /// The first row from `row` on whose visible keys end behind `key`; nil when there is none.
  private func firstRowReaching(_ key: Int, from row: Int) -> Int? {
    if high(row) > key { return row }
    // A later position reaches the key when it is at it, or for a bound that is only the chunk's,
    // in its chunk; both are enough, and necessary where the prefix does not reach it.
    var position = key
    if let chunk, !isCausal || key < prefix { position = Self.floor(key, chunk) }
    let reaching = max(row, position &- offset)
    return high(reaching) > key ? reaching : nil
  }

  /// The largest multiple of `step` that is not above `value`.
  private static func floor(_ value: Int, _ step: Int) -> Int {
    let rest = value % step
    return value &- (rest < 0 ? rest + step : rest)
  }
}
