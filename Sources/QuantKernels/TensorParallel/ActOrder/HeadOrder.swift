/// Act-order of an attention's output projection, as far as tensor parallelism can move it: between
/// values and output projection stand heads, one softmax each, so that an order that keeps every
/// channel in its head can be moved into the value projection, and no other.
public struct HeadOrder: Sendable, Hashable {
  /// The order of the value projection's outputs, `[keyValueHeads · headDimension]`.
  public let values: Permutation

  /// Derives the value projection's order from that of the output projection's inputs.
  ///
  /// - Parameters:
  ///   - order: the order of the output projection's inputs, `[heads · headDimension]`.
  ///   - heads: query heads, a multiple of `keyValueHeads`: each run of heads / keyValueHeads shares
  ///     one head of keys and values.
  ///   - keyValueHeads: heads of keys and values.
  ///   - headDimension: elements of a head.
  /// - Throws: ``QuantError`` `.invalidArgument` for sizes that do not fit; `.unsupported` for an
  ///   order that takes a channel out of its head, or differs between query heads that share their
  ///   values.
  /// - Complexity: O(order).
  public init(
    _ order: Permutation, heads: Int, keyValueHeads: Int, headDimension: Int
  ) throws(QuantError) {
    let subject = "act-order of an attention's output projection"
    guard heads >= 1, keyValueHeads >= 1, headDimension >= 1, heads % keyValueHeads == 0,
      heads.multipliedReportingOverflow(by: headDimension) == (order.count, false)
    else {
      throw QuantError(
        .invalidArgument, subject,
        "\(order.count) inputs for \(heads) heads of \(headDimension), \(keyValueHeads) of values",
        remedy: "pass the layer's own numbers of heads")
    }
    let sharing = heads / keyValueHeads
    var values = [Int32](repeating: 0, count: keyValueHeads * headDimension)
    for (place, source) in order.order.enumerated() {
      let (head, channel) = place.quotientAndRemainder(dividingBy: headDimension)
      let (from, sourceChannel) = Int(source).quotientAndRemainder(dividingBy: headDimension)
      guard from == head else {
        throw QuantError(
          .unsupported, subject, "input \(source) of head \(from) would move to head \(head)",
          remedy: "quantize it with an order inside heads, or keep the order at run time")
      }
      let shared = head / sharing
      let at = shared * headDimension + channel
      let wanted = Int32(shared * headDimension + sourceChannel)
      if head % sharing == 0 {
        values[at] = wanted
      } else if values[at] != wanted {
        throw QuantError(
          .unsupported, subject,
          "heads \(shared * sharing) and \(head) share values and order channel \(channel) "
            + "differently",
          remedy: "quantize it with one order for query heads that share their values")
      }
    }
    self.values = Permutation(unchecked: values)
  }

  /// The order of an output projection's inputs by falling size, as far as it can be moved: inside
  /// heads, and one for the query heads that share their values, by the sum of their sizes.
  ///
  /// - Parameters:
  ///   - sizes: of the inputs, `[heads · headDimension]`; equal ones keep their order.
  ///   - heads: query heads, a multiple of `keyValueHeads`.
  ///   - keyValueHeads: heads of values.
  ///   - headDimension: channels of a head.
  /// - Throws: ``QuantError`` `.invalidArgument` for sizes that do not fit the heads.
  /// - Complexity: O(inputs · log headDimension).
  public static func falling(
    _ sizes: [Double], heads: Int, keyValueHeads: Int, headDimension: Int
  ) throws(QuantError) -> Permutation {
    guard heads >= 1, keyValueHeads >= 1, headDimension >= 1, heads % keyValueHeads == 0,
      heads.multipliedReportingOverflow(by: headDimension) == (sizes.count, false)
    else {
      throw QuantError(
        .invalidArgument, "order inside heads",
        "\(sizes.count) inputs for \(heads) heads of \(headDimension), \(keyValueHeads) of values",
        remedy: "pass the layer's own numbers of heads")
    }
    let sharing = heads / keyValueHeads
    var order: [Int32] = []
    order.reserveCapacity(sizes.count)
    for shared in 0..<keyValueHeads {
      let first = shared * sharing * headDimension
      let sums = (0..<headDimension).map { channel in
        (0..<sharing).reduce(0.0) { $0 + sizes[first + $1 * headDimension + channel] }
      }
      let channels = (0..<headDimension).sorted {
        sums[$0] != sums[$1] ? sums[$0] > sums[$1] : $0 < $1
      }
      for head in 0..<sharing {
        for channel in channels { order.append(Int32(first + head * headDimension + channel)) }
      }
    }
    return Permutation(unchecked: order)
  }

  /// Moves the order of `output`'s inputs into `value`'s outputs.
  ///
  /// - Returns: both layers; the output projection takes its inputs as they come.
  /// - Throws: ``QuantError`` as ``init(_:heads:keyValueHeads:headDimension:)``.
  /// - Complexity: O(size of `value`).
  public static func moving(
    value: Int4Matrix, output: Int4Matrix, heads: Int, keyValueHeads: Int, headDimension: Int
  ) throws(QuantError) -> (value: Int4Matrix, output: Int4Matrix) {
    guard let permutation = output.inputPermutation else { return (value, output) }
    let order = try HeadOrder(
      Permutation(unchecked: permutation), heads: heads, keyValueHeads: keyValueHeads,
      headDimension: headDimension)
    guard value.rows == order.values.count else {
      throw QuantError(
        .invalidArgument, "value projection",
        "\(value.rows) outputs for \(keyValueHeads) heads of \(headDimension)",
        remedy: "pass the value projection of the same layer")
    }
    return (
      try value.permutingRows(order.values.order),
      try output.storedColumns(0..<output.columns)
    )
  }
}
