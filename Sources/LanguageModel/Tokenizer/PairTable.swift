/// A map from pairs of numbers: what two neighboring symbols merge into and how early, or where a
/// byte leads from a node of a trie.
///
/// Open addressing over pairs of symbol numbers. The multiplier of the hash is random per table, so
/// that a file cannot choose collisions; results do not depend on it. Lookup is O(1).
struct PairTable: Sendable {
  struct Value {
    /// Lower ranks merge first.
    let rank: UInt32
    /// The symbol that comes out.
    let result: UInt32
  }

  /// Key and value side by side, for one memory access a lookup.
  private struct Slot {
    /// No pair has this key, because symbol numbers stay below 2^32 - 1.
    static let empty = Slot(key: .max, value: Value(rank: 0, result: 0))

    let key: UInt64
    let value: Value

    var isEmpty: Bool { key == .max }
  }

  private var slots: [Slot]
  private(set) var count = 0
  private let multiplier: UInt64
  private var shift: UInt64

  /// - Parameter capacity: how many pairs to make room for.
  init(capacity: Int = 0) {
    var bits: UInt64 = 4
    while bits < 40, 1 << bits < UInt64(capacity) * 2 { bits += 1 }
    slots = [Slot](repeating: .empty, count: 1 << Int(bits))
    multiplier = UInt64.random(in: .min ... .max) | 1
    shift = 64 - bits
  }

  @inline(__always)
  private static func key(_ left: UInt32, _ right: UInt32) -> UInt64 {
    UInt64(left) << 32 | UInt64(right)
  }

  /// Where a key is, or the empty slot where it belongs.
  private func index(of key: UInt64) -> Int {
    // The high half of a product depends on all bits of the key.
    var index = Int((key &* multiplier) >> shift)
    while slots[index].key != key, !slots[index].isEmpty {
      index = index + 1 == slots.count ? 0 : index + 1
    }
    return index
  }

  /// Adds a pair; of equal pairs the first stays.
  mutating func insert(_ left: UInt32, _ right: UInt32, _ value: Value) {
    let key = PairTable.key(left, right)
    let index = index(of: key)
    guard slots[index].isEmpty else { return }
    slots[index] = Slot(key: key, value: value)
    count += 1
    if count * 2 > slots.count { grow() }
  }

  private mutating func grow() {
    let old = slots
    slots = [Slot](repeating: .empty, count: old.count * 2)
    shift -= 1
    for slot in old where !slot.isEmpty { slots[index(of: slot.key)] = slot }
  }

  /// The value of a pair, or nil. `UInt32.max` stands for no symbol and is in no pair.
  @inline(__always)
  func value(_ left: UInt32, _ right: UInt32) -> Value? {
    let slot = slots[index(of: PairTable.key(left, right))]
    return slot.isEmpty ? nil : slot.value
  }
}
