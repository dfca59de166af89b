/// GPTQ's `g_idx`: the quantization group of each input, checked.
///
/// With act-order (`desc_act`) groups are runs of the order in which inputs were quantized, so that
/// a group's inputs lie anywhere; each group has the same number of them.
public struct GroupIndices: Sendable, Hashable {
  /// The group of each input.
  public let indices: [Int32]
  /// Groups.
  public let groups: Int
  /// Inputs of each group.
  public var groupSize: Int { indices.count / groups }
  /// Inputs sorted by group, stable: with them in this order a group's inputs are neighbors.
  public let order: Permutation

  /// Whether inputs are sorted already.
  public var isOrdered: Bool { order.isIdentity }

  /// Checks a `g_idx`.
  ///
  /// - Parameters:
  ///   - indices: the group of each of `inputs` inputs.
  ///   - groups: rows of the scales.
  ///   - inputs: K.
  /// - Throws: ``QuantError``: `.invalidData` for a wrong length, a group that is not there, numbers
  ///   that start above 0 (a slice of another matrix), and all zeros where there are several groups
  ///   (loaders that never set them); `.unsupported` for groups of different sizes.
  /// - Complexity: O(inputs).
  public init(_ indices: [Int32], inputs: Int, groups: Int) throws(QuantError) {
    func refuse(_ code: QuantError.Code, _ problem: String, _ remedy: String) -> QuantError {
      QuantError(code, "g_idx", problem, remedy: remedy)
    }
    guard groups > 0, inputs > 0, inputs <= Int(Int32.max) else {
      throw refuse(.invalidArgument, "\(groups) groups of \(inputs) inputs", "pass positive sizes")
    }
    guard indices.count == inputs else {
      throw refuse(
        .invalidData, "\(indices.count) entries for \(inputs) inputs",
        "check that g_idx belongs to this layer")
    }
    guard inputs % groups == 0 else {
      throw refuse(
        .unsupported, "\(groups) groups do not divide \(inputs) inputs, so one is shorter",
        "quantize again with a group size that divides the inputs")
    }
    if groups > 1, indices.allSatisfy({ $0 == 0 }) {
      throw refuse(
        .invalidData, "all zeros, which leaves the groups unset; there are \(groups)",
        "drop g_idx if the layer has no act-order, or export it again")
    }
    let lowest = indices.min() ?? 0
    let highest = indices.max() ?? 0
    if lowest > 0, Int(highest) - Int(lowest) < groups {
      throw refuse(
        .invalidData, "groups \(lowest)…\(highest) of \(groups): a slice of a larger layer",
        "load the whole layer, or subtract the first group's number")
    }
    let size = inputs / groups
    var order = [Int32](repeating: 0, count: inputs)
    var filled = [Int](repeating: 0, count: groups)
    for (input, index) in indices.enumerated() {
      guard index >= 0, index < groups else {
        throw refuse(
          .invalidData, "group \(index) of input \(input); there are \(groups)",
          "check that g_idx belongs to these scales")
      }
      let group = Int(index)
      guard filled[group] < size else {
        throw refuse(
          .unsupported, "group \(group) has more than \(size) inputs",
          "only groups of equal size can be read")
      }
      order[group * size + filled[group]] = Int32(input)
      filled[group] += 1
    }
    // Every group is full: none has more than its share, and the shares are all of the inputs.
    self.indices = indices
    self.groups = groups
    self.order = Permutation(unchecked: order)
  }

  /// The `g_idx` of a matrix whose columns are sorted already.
  public init(_ matrix: Int4Matrix) {
    groups = matrix.groups
    if let permutation = matrix.inputPermutation {
      var indices = [Int32](repeating: 0, count: matrix.columns)
      for (column, input) in permutation.enumerated() {
        indices[Int(input)] = Int32(column / matrix.groupSize)
      }
      self.indices = indices
      order = Permutation(unchecked: permutation)
    } else {
      indices = (0..<matrix.columns).map { Int32($0 / matrix.groupSize) }
      order = .identity(matrix.columns)
    }
  }

  /// How often the group changes while inputs stream by in their order, the first one counted: how
  /// often a kernel fetches a group's scales.
  public static func switches(_ indices: some Sequence<Int32>) -> Int {
    var count = 0
    var last: Int32?
    for index in indices where index != last {
      count += 1
      last = index
    }
    return count
  }
}
