/// A word in the middle of byte pair encoding: symbols in a row, each some bytes long.
struct MergingWord {
  /// No symbol: a byte or character that is no token and in no merge. Nothing merges with it.
  static let none = UInt32.max
  /// Words up to this length merge by scanning for the best pair, longer ones by a heap.
  private static let shortLength = 40

  private var symbols: [UInt32] = []
  /// In bytes; a symbol that was absorbed has none.
  private var lengths: [UInt32] = []
  /// While merging a short word, each symbol's merge with the next.
  private var ranks: [UInt32] = []
  private var results: [UInt32] = []
  /// While merging a long word, each symbol's neighbors.
  private var previous: [UInt32] = []
  private var next: [UInt32] = []
  private var heap = KeyedHeap()

  mutating func removeAll() {
    symbols.removeAll(keepingCapacity: true)
    lengths.removeAll(keepingCapacity: true)
  }

  mutating func append(_ symbol: UInt32, length: Int) {
    symbols.append(symbol)
    lengths.append(UInt32(truncatingIfNeeded: length))
  }

  /// The symbols with their lengths; those of length 0 are gone.
  var parts: Zip2Sequence<[UInt32], [UInt32]> { zip(symbols, lengths) }

  /// Merges the pair of the lowest rank, the leftmost of equal ones, until no pair merges. O(n log
  /// n).
  mutating func merge(by merges: PairTable) {
    if symbols.count <= MergingWord.shortLength {
      mergeShort(by: merges)
    } else {
      mergeLong(by: merges)
    }
  }

  private mutating func mergeShort(by merges: PairTable) {
    var count = symbols.count
    guard count > 1 else { return }
    ranks.removeAll(keepingCapacity: true)
    results.removeAll(keepingCapacity: true)
    for index in 0..<count {
      let value = index + 1 < count ? merges.value(symbols[index], symbols[index + 1]) : nil
      ranks.append(value?.rank ?? MergingWord.none)
      results.append(value?.result ?? MergingWord.none)
    }
    while true {
      var best = 0
      for index in 1..<count where ranks[index] < ranks[best] { best = index }
      if results[best] == MergingWord.none { break }
      symbols[best] = results[best]
      lengths[best] &+= lengths[best + 1]
      symbols.remove(at: best + 1)
      lengths.remove(at: best + 1)
      ranks.remove(at: best + 1)
      results.remove(at: best + 1)
      count -= 1
      for index in max(0, best - 1)...best {
        let value = index + 1 < count ? merges.value(symbols[index], symbols[index + 1]) : nil
        ranks[index] = value?.rank ?? MergingWord.none
        results[index] = value?.result ?? MergingWord.none
      }
      if count == 1 { break }
    }
  }

  private mutating func mergeLong(by merges: PairTable) {
    let count = symbols.count
    previous = (0..<count).map { UInt32(truncatingIfNeeded: $0) &- 1 }
    next = (0..<count).map { UInt32(truncatingIfNeeded: $0 + 1) }
    next[count - 1] = MergingWord.none
    heap.removeAll()
    for left in 0..<count { propose(UInt32(truncatingIfNeeded: left), by: merges) }
    while let entry = heap.removeFirst() {
      let left = Int(entry.key & 0xFFFF_FFFF)
      let right = next[left]
      // Out of date when either side has grown or gone since, which changes their size.
      guard lengths[left] > 0, right != MergingWord.none,
        lengths[left] &+ lengths[Int(right)] == UInt32(truncatingIfNeeded: entry.value)
      else { continue }
      symbols[left] = UInt32(truncatingIfNeeded: entry.value >> 32)
      lengths[left] &+= lengths[Int(right)]
      lengths[Int(right)] = 0
      next[left] = next[Int(right)]
      if next[left] != MergingWord.none {
        previous[Int(next[left])] = UInt32(truncatingIfNeeded: left)
      }
      propose(previous[left], by: merges)
      propose(UInt32(truncatingIfNeeded: left), by: merges)
    }
  }

  /// Queues the merge of a symbol with its right neighbor, if there is one.
  private mutating func propose(_ left: UInt32, by merges: PairTable) {
    guard left != MergingWord.none else { return }
    let right = next[Int(left)]
    guard right != MergingWord.none,
      let value = merges.value(symbols[Int(left)], symbols[Int(right)])
    else { return }
    let size = lengths[Int(left)] &+ lengths[Int(right)]
    heap.insert(
      KeyedHeap.Entry(
        key: UInt64(value.rank) << 32 | UInt64(left),
        value: UInt64(value.result) << 32 | UInt64(size)))
  }
}
