/// Finds things by name in O(log n), with four bytes a thing; names are told apart by their bytes.
///
/// A `Dictionary` keyed by `String` would hold canonically equivalent names for one, and takes ten
/// times the memory, which a hostile header could ask for.
struct NameIndex: Sendable {
  private let order: [UInt32]

  /// - Parameter count: below 2³².
  init(_ count: Int, name: (Int) -> String) {
    order = (0..<UInt32(count)).sorted {
      name(Int($0)).utf8.lexicographicallyPrecedes(name(Int($1)).utf8)
    }
  }

  /// A name that two things have, or nil.
  func duplicate(name: (Int) -> String) -> String? {
    for index in order.indices.dropFirst() {
      let current = name(Int(order[index]))
      if current.utf8.elementsEqual(name(Int(order[index - 1])).utf8) { return current }
    }
    return nil
  }

  /// Which thing has the name `wanted`.
  func find(_ wanted: String, name: (Int) -> String) -> Int? {
    var low = 0
    var high = order.count
    while low < high {
      let middle = (low + high) / 2
      let candidate = name(Int(order[middle]))
      if candidate.utf8.elementsEqual(wanted.utf8) { return Int(order[middle]) }
      if candidate.utf8.lexicographicallyPrecedes(wanted.utf8) {
        low = middle + 1
      } else {
        high = middle
      }
    }
    return nil
  }
}
