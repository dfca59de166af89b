/// SentencePiece-style byte pair encoding: of all pairs of neighbors that form a token, the one
/// with the highest score, the leftmost of equal ones, merges, until none does. What is no token in
/// the end is spelled by byte tokens.
struct SentencePieceEncoder: Sendable {
  private static let none = UInt32.max

  private let texts: ByteStringTable
  /// By token: lower is better, so that a 32-bit comparison orders scores downward.
  private let priorities: [UInt32]
  /// The token of each byte; without one, the unknown token, or -1 for nothing.
  private let byteTokens: [Int32]

  /// - Parameters:
  ///   - texts: the tokens' texts by id.
  ///   - scores: one a token, or empty for all zero; none is NaN.
  ///   - unknown: the token of bytes that have none.
  init(texts: ByteStringTable, scores: [Float], unknown: Int?) {
    self.texts = texts
    if scores.isEmpty {
      priorities = [UInt32](repeating: 0, count: texts.count)
    } else {
      priorities = scores.prefix(texts.count).map { SentencePieceEncoder.priority($0) }
    }
    byteTokens = (0..<256).map { byte in
      let byte = UInt8(byte)
      let id = texts.number(of: ByteName.name(of: byte)) ?? texts.number(of: [byte]) ?? unknown
      return id.map { Int32(truncatingIfNeeded: $0) } ?? -1
    }
  }

  /// Maps scores to integers that fall as scores rise.
  private static func priority(_ score: Float) -> UInt32 {
    // Adding zero makes -0 equal to 0. Flipping all bits of negative numbers and the sign of others
    // orders bit patterns as the numbers; the complement turns that around.
    let bits = (score + 0).bitPattern
    return ~(bits >> 31 == 1 ? ~bits : bits | 0x8000_0000)
  }

  /// Appends the tokens of a text whose spaces are escaped. Shorter than 2^32 bytes. O(n log n).
  func encode(escaped text: UnsafeBufferPointer<UInt8>, into output: inout [Int32]) {
    guard !text.isEmpty else { return }
    var starts: [UInt32] = []
    var lengths: [UInt32] = []
    starts.reserveCapacity(text.count)
    lengths.reserveCapacity(text.count)
    var offset = 0
    while offset < text.count {
      let length = min(UTF8Text.length(announcedBy: text[offset]), text.count - offset)
      starts.append(UInt32(truncatingIfNeeded: offset))
      lengths.append(UInt32(truncatingIfNeeded: length))
      offset += length
    }
    merge(text, starts, &lengths)
    for (start, length) in zip(starts, lengths) where length > 0 {
      let bytes = text[Int(start)..<(Int(start) + Int(length))]
      if let id = texts.number(of: UnsafeBufferPointer(rebasing: bytes)) {
        output.append(Int32(truncatingIfNeeded: id))
      } else {
        for byte in bytes where byteTokens[Int(byte)] >= 0 {
          output.append(byteTokens[Int(byte)])
        }
      }
    }
  }

  /// Merges characters; one that was absorbed keeps length 0.
  private func merge(
    _ text: UnsafeBufferPointer<UInt8>, _ starts: [UInt32], _ lengths: inout [UInt32]
  ) {
    let none = SentencePieceEncoder.none
    let count = starts.count
    var previous = (0..<count).map { UInt32(truncatingIfNeeded: $0) &- 1 }
    var next = (0..<count).map { UInt32(truncatingIfNeeded: $0 + 1) }
    next[count - 1] = none
    var heap = KeyedHeap()
    func propose(_ left: UInt32, _ lengths: [UInt32], _ next: [UInt32]) {
      let right = left == none ? none : next[Int(left)]
      guard right != none else { return }
      let size = Int(lengths[Int(left)]) + Int(lengths[Int(right)])
      guard size <= texts.longest else { return }
      let start = Int(starts[Int(left)])
      guard
        let id = texts.number(of: UnsafeBufferPointer(rebasing: text[start..<(start + size)]))
      else { return }
      heap.insert(
        KeyedHeap.Entry(
          key: UInt64(priorities[id]) << 32 | UInt64(left), value: UInt64(size)))
    }
    for left in 0..<count { propose(UInt32(truncatingIfNeeded: left), lengths, next) }
    while let entry = heap.removeFirst() {
      let left = Int(entry.key & 0xFFFF_FFFF)
      let right = next[left]
      // Out of date when either side has grown or gone since, which changes their size.
      guard lengths[left] > 0, right != none,
        UInt64(lengths[left]) + UInt64(lengths[Int(right)]) == entry.value
      else { continue }
      lengths[left] += lengths[Int(right)]
      lengths[Int(right)] = 0
      next[left] = next[Int(right)]
      if next[left] != none { previous[Int(next[left])] = UInt32(truncatingIfNeeded: left) }
      propose(previous[left], lengths, next)
      propose(UInt32(truncatingIfNeeded: left), lengths, next)
    }
  }
}
