import QuantKernels

/// Finds special tokens in raw text before anything else looks at it.
///
/// Longer tokens win over shorter ones wherever they overlap, of equally long ones the lower id,
/// and of one token's places the leftmost. O(bytes · longest token) in the worst case and O(bytes)
/// in ordinary text, however many special tokens there are.
struct SpecialTokenSplitter: Sendable {
  enum Fragment: Equatable {
    case text(Range<Int>)
    case token(Int32)
  }

  private struct Special {
    let id: Int32
    let length: Int
    let attributes: TokenAttributes
    /// The longest special token that begins this one, by rank; -1 for none.
    let shorter: Int32
  }

  private static let none = UInt32.max
  /// Bounds the memory that a hostile vocabulary can ask for. Real ones have some ten thousand.
  private static let mostNodes = 1 << 20

  /// By rank: longest first, then by id.
  private let specials: [Special]
  /// A trie: the node of each first byte, the edges, and the rank of the token that ends at a node.
  private let firstNodes: [UInt32]
  private let edges: PairTable
  private let ranks: [Int32]

  /// - Parameters:
  ///   - texts: the tokens' texts by id.
  ///   - attributes: one a token; those of ``TokenAttributes/special`` are looked for.
  /// - Throws: `invalidData` when the special tokens' texts are far longer than any model's.
  init(texts: ByteStringTable, attributes: [TokenAttributes]) throws(QuantError) {
    let ids = attributes.indices.filter { !attributes[$0].isDisjoint(with: .special) }
      .sorted { (texts[$0].count, $1) > (texts[$1].count, $0) }
    var edges = PairTable()
    var firstNodes = [UInt32](repeating: SpecialTokenSplitter.none, count: 256)
    var ranks: [Int32] = []
    var specials: [Special] = []
    // From the shortest up, so that a token meets all its beginnings on its way into the trie.
    for (rank, id) in ids.enumerated().reversed() {
      var node = SpecialTokenSplitter.none
      var shorter: Int32 = -1
      for byte in texts[id] {
        if node != SpecialTokenSplitter.none, ranks[Int(node)] >= 0 { shorter = ranks[Int(node)] }
        let next =
          node == SpecialTokenSplitter.none
          ? firstNodes[Int(byte)] : edges.value(node, UInt32(byte))?.result
        if let next, next != SpecialTokenSplitter.none {
          node = next
          continue
        }
        guard ranks.count < SpecialTokenSplitter.mostNodes else {
          throw QuantError(
            .invalidData, "tokenizer.ggml.tokens",
            "the special tokens need more than \(SpecialTokenSplitter.mostNodes) states to find",
            remedy: "fetch the file again or convert the model again")
        }
        let new = UInt32(truncatingIfNeeded: ranks.count)
        ranks.append(-1)
        if node == SpecialTokenSplitter.none {
          firstNodes[Int(byte)] = new
        } else {
          edges.insert(node, UInt32(byte), PairTable.Value(rank: 0, result: new))
        }
        node = new
      }
      if node != SpecialTokenSplitter.none { ranks[Int(node)] = Int32(truncatingIfNeeded: rank) }
      specials.append(
        Special(
          id: Int32(truncatingIfNeeded: id), length: texts[id].count, attributes: attributes[id],
          shorter: shorter))
    }
    self.specials = specials.reversed()
    self.firstNodes = firstNodes
    self.edges = edges
    self.ranks = ranks
  }

  /// Cuts text, shorter than 2^32 bytes, into special tokens and what lies between.
  ///
  /// - Parameter parsesControl: whether control tokens and the unknown token are found, not only
  ///   those that users defined.
  func split(_ text: UnsafeBufferPointer<UInt8>, parsesControl: Bool) -> [Fragment] {
    guard !text.isEmpty else { return [] }
    var heap = KeyedHeap()
    for position in 0..<text.count {
      let rank = longest(text, at: position, parsesControl: parsesControl)
      if rank >= 0 { heap.insert(SpecialTokenSplitter.entry(rank, position)) }
    }
    guard !heap.isEmpty else { return [.text(0..<text.count)] }
    return fragments(text, matches: place(&heap, text, parsesControl: parsesControl))
  }

  private static func entry(_ rank: Int32, _ position: Int) -> KeyedHeap.Entry {
    KeyedHeap.Entry(
      key: UInt64(UInt32(bitPattern: rank)) << 32
        | UInt64(UInt32(truncatingIfNeeded: position)),
      value: 0)
  }

  private func isFound(_ rank: Int32, _ parsesControl: Bool) -> Bool {
    parsesControl || specials[Int(rank)].attributes.isDisjoint(with: .hidden)
  }

  /// The rank of the longest special token at a position, or -1.
  @inline(__always)
  private func longest(
    _ text: UnsafeBufferPointer<UInt8>, at position: Int, parsesControl: Bool
  ) -> Int32 {
    var node = firstNodes[Int(text[position])]
    var best: Int32 = -1
    var next = position + 1
    while node != SpecialTokenSplitter.none {
      let rank = ranks[Int(node)]
      if rank >= 0, isFound(rank, parsesControl) { best = rank }
      guard next < text.count, let edge = edges.value(node, UInt32(text[next])) else { break }
      node = edge.result
      next += 1
    }
    return best
  }

  private struct Match {
    /// What the token takes from the text, stripped white space included.
    let range: Range<Int>
    let id: Int32
  }

  /// Takes matches by rank and position, each unless a better one covers part of it.
  private func place(
    _ heap: inout KeyedHeap, _ text: UnsafeBufferPointer<UInt8>, parsesControl: Bool
  ) -> [Match] {
    var isTaken = [Bool](repeating: false, count: text.count)
    var matches: [Match] = []
    while let entry = heap.removeFirst() {
      let position = Int(entry.key & 0xFFFF_FFFF)
      let special = specials[Int(entry.key >> 32)]
      if isTaken[position] { continue }
      // Whatever is taken is at least as long, so it covers an end if it overlaps at all.
      if isTaken[position + special.length - 1] {
        var shorter = special.shorter
        while shorter >= 0, !isFound(shorter, parsesControl) {
          shorter = specials[Int(shorter)].shorter
        }
        if shorter >= 0 { heap.insert(SpecialTokenSplitter.entry(shorter, position)) }
        continue
      }
      var lower = position
      var upper = position + special.length
      if special.attributes.contains(.stripsLeft) {
        while lower > 0, !isTaken[lower - 1], SpecialTokenSplitter.isSpace(text[lower - 1]) {
          lower -= 1
        }
      }
      if special.attributes.contains(.stripsRight) {
        while upper < text.count, !isTaken[upper], SpecialTokenSplitter.isSpace(text[upper]) {
          upper += 1
        }
      }
      for index in lower..<upper { isTaken[index] = true }
      matches.append(Match(range: lower..<upper, id: special.id))
    }
    return matches.sorted { $0.range.lowerBound < $1.range.lowerBound }
  }

  private func fragments(
    _ text: UnsafeBufferPointer<UInt8>, matches: [Match]
  ) -> [Fragment] {
    var result: [Fragment] = []
    var start = 0
    for match in matches {
      if match.range.lowerBound > start { result.append(.text(start..<match.range.lowerBound)) }
      result.append(.token(match.id))
      start = match.range.upperBound
    }
    if start < text.count { result.append(.text(start..<text.count)) }
    return result
  }

  /// White space of ASCII, as C's `isspace` has it.
  private static func isSpace(_ byte: UInt8) -> Bool {
    byte == 0x20 || (0x09...0x0D).contains(byte)
  }
}
