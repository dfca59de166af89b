/// An order of 0 ..< count: element i of what it makes is element `order[i]` of what it is given.
public struct Permutation: Sendable, Hashable {
  /// Where each element comes from.
  public let order: [Int32]

  /// Elements.
  public var count: Int { order.count }

  /// An order, checked.
  ///
  /// - Parameters:
  ///   - order: each index below its count, once.
  ///   - subject: what errors call it.
  /// - Throws: ``QuantError`` `.invalidArgument` for an index that repeats or leaves the range, and
  ///   for more than 2³¹ − 1 elements.
  /// - Complexity: O(count).
  public init(_ order: [Int32], subject: String = "permutation") throws(QuantError) {
    try Self.check(order, of: order.count, subject)
    self.order = order
  }

  /// An order that is known to be one.
  init(unchecked order: [Int32]) { self.order = order }

  /// - Throws: ``QuantError`` `.invalidArgument` unless `order` holds each of 0 ..< count once.
  static func check(_ order: [Int32], of count: Int, _ subject: String) throws(QuantError) {
    guard order.count == count, count <= Int(Int32.max) else {
      throw QuantError(
        .invalidArgument, subject, "the order has \(order.count) entries",
        remedy: "pass a permutation of 0..<\(count)")
    }
    var seen = [Bool](repeating: false, count: count)
    for index in order {
      guard index >= 0, index < count, !seen[Int(index)] else {
        throw QuantError(
          .invalidArgument, subject, "the order repeats or exceeds index \(index)",
          remedy: "pass a permutation of 0..<\(count)")
      }
      seen[Int(index)] = true
    }
  }

  /// Leaves everything where it is.
  public static func identity(_ count: Int) -> Permutation {
    Permutation(unchecked: (0..<Int32(clamping: max(count, 0))).map { $0 })
  }

  /// Whether it leaves everything where it is.
  public var isIdentity: Bool { order.indices.allSatisfy { Int(order[$0]) == $0 } }

  /// What undoes it.
  public var inverse: Permutation {
    var back = [Int32](repeating: 0, count: order.count)
    for (place, source) in order.enumerated() { back[Int(source)] = Int32(place) }
    return Permutation(unchecked: back)
  }

  /// The elements in this order.
  ///
  /// - Precondition: there are ``count`` of them.
  func gather<Element>(_ values: [Element]) -> [Element] { order.map { values[Int($0)] } }

  /// XXH64 of the order as little-endian int32: ranks and files compare it.
  public var checksum: UInt64 {
    var hash = XXH64()
    order.map(\.littleEndian).withUnsafeBytes { hash.update($0) }
    return hash.finish()
  }
}
