/// Distinct byte strings, numbered in the order of their arrival, with lookup by content.
///
/// Swift strings would not do as keys: they compare by canonical equivalence, which merges tokens that
/// differ. All bytes lie in one array, and slots hold numbers only. Hashing is seeded per process, so a
/// hostile vocabulary cannot choose collisions. Insertion and lookup are O(length).
struct ByteStringTable: Sendable {
  private var storage: [UInt8] = []
  /// Where each string begins; one more element ends the last.
  private var starts: [Int] = [0]
  /// Numbers plus one; zero is an empty slot.
  private var slots: [UInt32]
  private var mask: Int
  /// The length of the longest string.
  private(set) var longest = 0

  /// - Parameters:
  ///   - capacity: how many strings to make room for.
  ///   - bytes: how many bytes to make room for.
  init(capacity: Int, bytes: Int) {
    var size = 16
    while size < capacity.multipliedReportingOverflow(by: 2).partialValue, size < 1 << 32 {
      size <<= 1
    }
    slots = [UInt32](repeating: 0, count: size)
    mask = size - 1
    storage.reserveCapacity(bytes)
    starts.reserveCapacity(capacity + 1)
  }

  var count: Int { starts.count - 1 }

  /// A string by its number.
  subscript(number: Int) -> ArraySlice<UInt8> { storage[starts[number]..<starts[number + 1]] }

  /// The number of a string, or nil.
  func number(of bytes: UnsafeBufferPointer<UInt8>) -> Int? {
    let found = slot(of: bytes).number
    return found < 0 ? nil : found
  }

  /// The number of a string, or nil.
  func number(of bytes: [UInt8]) -> Int? {
    bytes.withUnsafeBufferPointer { number(of: $0) }
  }

  /// Adds a string unless it is there.
  mutating func insert(
    _ bytes: UnsafeBufferPointer<UInt8>
  ) -> (number: Int, isNew: Bool) {
    let (found, slot) = slot(of: bytes)
    if found >= 0 { return (found, false) }
    let number = count
    storage.append(contentsOf: bytes)
    starts.append(storage.count)
    longest = max(longest, bytes.count)
    slots[slot] = UInt32(truncatingIfNeeded: number + 1)
    if count * 2 > slots.count { grow() }
    return (number, true)
  }

  private static func hash(_ bytes: UnsafeBufferPointer<UInt8>) -> Int {
    var hasher = Hasher()
    hasher.combine(bytes: UnsafeRawBufferPointer(bytes))
    return hasher.finalize()
  }

  /// The number, or -1 and the empty slot where it belongs.
  private func slot(of bytes: UnsafeBufferPointer<UInt8>) -> (number: Int, slot: Int) {
    var slot = ByteStringTable.hash(bytes) & mask
    while true {
      let number = Int(slots[slot]) - 1
      if number < 0 { return (-1, slot) }
      let start = starts[number]
      if starts[number + 1] - start == bytes.count, matches(bytes, at: start) {
        return (number, slot)
      }
      slot = (slot + 1) & mask
    }
  }

  private func matches(_ bytes: UnsafeBufferPointer<UInt8>, at start: Int) -> Bool {
    storage.withUnsafeBufferPointer { all in
      for index in 0..<bytes.count where all[start + index] != bytes[index] { return false }
      return true
    }
  }

  private mutating func grow() {
    let size = slots.count * 2
    slots = [UInt32](repeating: 0, count: size)
    mask = size - 1
    storage.withUnsafeBufferPointer { all in
      for number in 0..<count {
        let bytes = UnsafeBufferPointer(rebasing: all[starts[number]..<starts[number + 1]])
        var slot = ByteStringTable.hash(bytes) & mask
        while slots[slot] != 0 { slot = (slot + 1) & mask }
        slots[slot] = UInt32(truncatingIfNeeded: number + 1)
      }
    }
  }
}
