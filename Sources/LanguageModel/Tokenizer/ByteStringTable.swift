/// Distinct byte strings, numbered in the order of their arrival, with lookup by content.
///
/// Swift strings would not do as keys: they compare by canonical equivalence, which merges tokens
/// that differ. All strings lie in one array, each behind its number and its length, so that a
/// lookup touches two places in memory. Hashing is seeded per process, so a hostile vocabulary
/// cannot choose collisions. Insertion and lookup are O(length).
struct ByteStringTable: Sendable {
  /// A string's number and length stand before it, four bytes each.
  private static let header = 8
  /// The most bytes that strings and their headers may take together.
  static let largestStorage = Int(UInt32.max)

  private var storage: [UInt8] = []
  /// Where each string's header begins; one more element ends the last string.
  private var starts: [UInt32] = [0]
  /// Where headers begin, plus one, zero for an empty slot, under the high half of the hash:
  /// strings that differ are then told apart without looking at them.
  private var slots: [UInt64]
  private var mask: Int
  /// The length of the longest string.
  private(set) var longest = 0

  /// How many bytes strings take.
  static func storage(count: Int, bytes: Int) -> Int { count * header + bytes }

  /// - Parameters:
  ///   - capacity: how many strings to make room for.
  ///   - bytes: how many bytes to make room for.
  init(capacity: Int, bytes: Int) {
    var size = 16
    while size * 3 < capacity * 4 { size <<= 1 }
    slots = [UInt64](repeating: 0, count: size)
    mask = size - 1
    storage.reserveCapacity(ByteStringTable.storage(count: capacity, bytes: bytes))
    starts.reserveCapacity(capacity + 1)
  }

  var count: Int { starts.count - 1 }

  /// A string by its number.
  subscript(number: Int) -> ArraySlice<UInt8> {
    storage[(Int(starts[number]) + ByteStringTable.header)..<Int(starts[number + 1])]
  }

  /// The number of a string, or nil.
  func number(of bytes: UnsafeBufferPointer<UInt8>) -> Int? {
    let found = find(bytes, ByteStringTable.hash(bytes)).number
    return found < 0 ? nil : found
  }

  /// The number of a string, or nil.
  func number(of bytes: [UInt8]) -> Int? {
    bytes.withUnsafeBufferPointer { number(of: $0) }
  }

  /// Whether string `number`, if there is one, has these bytes.
  func isString(_ number: Int, _ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
    guard number < count else { return false }
    let start = Int(starts[number]) + ByteStringTable.header
    guard Int(starts[number + 1]) - start == bytes.count else { return false }
    return storage[start..<(start + bytes.count)].elementsEqual(bytes)
  }

  /// Adds a string unless it is there. Storage must stay below ``largestStorage``.
  mutating func insert(
    _ bytes: UnsafeBufferPointer<UInt8>
  ) -> (number: Int, isNew: Bool) {
    let hash = ByteStringTable.hash(bytes)
    let (found, slot) = find(bytes, hash)
    if found >= 0 { return (found, false) }
    let number = count
    slots[slot] = ByteStringTable.entry(start: storage.count, hash)
    withUnsafeBytes(of: UInt32(truncatingIfNeeded: number)) { storage.append(contentsOf: $0) }
    withUnsafeBytes(of: UInt32(truncatingIfNeeded: bytes.count)) {
      storage.append(contentsOf: $0)
    }
    storage.append(contentsOf: bytes)
    starts.append(UInt32(truncatingIfNeeded: storage.count))
    longest = max(longest, bytes.count)
    if count * 4 > slots.count * 3 { grow() }
    return (number, true)
  }

  private static func hash(_ bytes: UnsafeBufferPointer<UInt8>) -> UInt64 {
    var hasher = Hasher()
    hasher.combine(bytes: UnsafeRawBufferPointer(bytes))
    return UInt64(bitPattern: Int64(hasher.finalize()))
  }

  private static func entry(start: Int, _ hash: UInt64) -> UInt64 {
    hash & ~0xFFFF_FFFF | UInt64(truncatingIfNeeded: start + 1)
  }

  /// The number, or -1 and the empty slot where it belongs.
  private func find(
    _ bytes: UnsafeBufferPointer<UInt8>, _ hash: UInt64
  ) -> (number: Int, slot: Int) {
    storage.withUnsafeBytes { storage in
      var slot = Int(truncatingIfNeeded: hash) & mask
      while true {
        let entry = slots[slot]
        if entry == 0 { return (-1, slot) }
        if (entry ^ hash) >> 32 == 0 {
          let start = Int(entry & 0xFFFF_FFFF) - 1
          let length = storage.loadUnaligned(fromByteOffset: start + 4, as: UInt32.self)
          let text = start + ByteStringTable.header
          if Int(length) == bytes.count,
            storage[text..<(text + bytes.count)].elementsEqual(bytes)
          {
            let number = storage.loadUnaligned(fromByteOffset: start, as: UInt32.self)
            return (Int(number), slot)
          }
        }
        slot = (slot + 1) & mask
      }
    }
  }

  private mutating func grow() {
    let size = slots.count * 2
    slots = [UInt64](repeating: 0, count: size)
    mask = size - 1
    storage.withUnsafeBufferPointer { storage in
      for number in 0..<count {
        let start = Int(starts[number])
        let text = (start + ByteStringTable.header)..<Int(starts[number + 1])
        let hash = ByteStringTable.hash(UnsafeBufferPointer(rebasing: storage[text]))
        var slot = Int(truncatingIfNeeded: hash) & mask
        while slots[slot] != 0 { slot = (slot + 1) & mask }
        slots[slot] = ByteStringTable.entry(start: start, hash)
      }
    }
  }
}
