/// A map from pairs of numbers: what two neighboring symbols merge into and how early, or where a byte leads
/// from a node of a trie.
///
/// Open addressing over pairs of symbol numbers. The multiplier of the hash is random per table, so that a
/// file cannot choose collisions; results do not depend on it. Lookup is O(1).
struct PairTable: Sendable {
  struct Value {
    /// Lower ranks merge first.
    let rank: UInt32
    /// The symbol that comes out.
    let result: UInt32
  }

  /// No pair has this key, because symbol numbers stay below 2^32 - 1.
  private static let empty = UInt64.max

  private var keys: [UInt64]
  private var values: [Value]
  private(set) var count = 0
  private let multiplier: UInt64
  private var shift: UInt64

  /// - Parameter capacity: how many pairs to make room for.
  init(capacity: Int = 0) {
    var bits: UInt64 = 4
    while bits < 40, 1 << bits < UInt64(capacity) * 2 { bits += 1 }
    keys = [UInt64](repeating: PairTable.empty, count: 1 << Int(bits))
    values = [Value](repeating: Value(rank: 0, result: 0), count: 1 << Int(bits))
    multiplier = UInt64.random(in: .min ... .max) | 1
    shift = 64 - bits
  }

  private func slot(of key: UInt64) -> Int {
    // The high half of a product depends on all bits of the key.
    var slot = Int((key &* multiplier) >> shift)
    while keys[slot] != key, keys[slot] != PairTable.empty {
      slot = slot + 1 == keys.count ? 0 : slot + 1
    }
    return slot
  }

  /// Adds a pair; of equal pairs the first stays.
  mutating func insert(_ left: UInt32, _ right: UInt32, _ value: Value) {
    let key = UInt64(left) << 32 | UInt64(right)
    let slot = slot(of: key)
    guard keys[slot] == PairTable.empty else { return }
    keys[slot] = key
    values[slot] = value
    count += 1
    if count * 2 > keys.count { grow() }
  }

  private mutating func grow() {
    let old = (keys, values)
    keys = [UInt64](repeating: PairTable.empty, count: old.0.count * 2)
    values = [Value](repeating: Value(rank: 0, result: 0), count: old.0.count * 2)
    shift -= 1
    for (key, value) in zip(old.0, old.1) where key != PairTable.empty {
      let slot = slot(of: key)
      keys[slot] = key
      values[slot] = value
    }
  }

  /// The value of a pair, or nil. `UInt32.max` stands for no symbol and is in no pair.
  @inline(__always)
  func value(_ left: UInt32, _ right: UInt32) -> Value? {
    let key = UInt64(left) << 32 | UInt64(right)
    let slot = slot(of: key)
    return keys[slot] == key && key != PairTable.empty ? values[slot] : nil
  }
}
