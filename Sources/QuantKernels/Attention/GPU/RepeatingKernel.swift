import DeviceModel

/// A kernel whose blocks repeat one step that counts the same every time, so that long inputs are
/// counted from short runs.
///
/// A block with n repeats counts C(2) + (n − 2)·(C(2) − C(1)), C(k) being the block's counters with
/// only its first k repeats. ``DeviceModel/WarpSimulator/countRepeating(_:)`` adds that up over the
/// classes of blocks; tests hold it equal to running everything.
protocol RepeatingKernel: WarpKernel {
  /// The most repeats that a block runs; nil for all of them.
  var repeatLimit: Int? { get set }
  /// Whether ``WarpKernel/blockClasses`` count each block as many times as it has repeats beyond two,
  /// and not once.
  var weighsRepeats: Bool { get set }
}

extension WarpSimulator {
  /// Counts the whole grid from a few repeats of one block of each class.
  ///
  /// - Returns: the counters, and how many lanes' accesses were simulated to get them.
  func countRepeating<Kernel: RepeatingKernel>(
    _ kernel: Kernel
  ) throws(DeviceError) -> (counters: Counters, simulatedLaneAccesses: Int) {
    var kernel = kernel
    kernel.repeatLimit = 2
    kernel.weighsRepeats = false
    var (total, simulated) = try count(kernel)
    kernel.weighsRepeats = true
    if kernel.blockClasses.isEmpty { return (total, simulated) }
    for (limit, sign) in [(2, 1), (1, -1)] {
      kernel.repeatLimit = limit
      let part = try count(kernel)
      total.add(part.counters, times: sign)
      simulated += part.simulatedLaneAccesses
    }
    return (total, simulated)
  }
}

/// Gathers blocks into classes by whatever makes their counters differ.
struct ClassTally<Key: Hashable> {
  private var order: [Key] = []
  private var classes: [Key: (representative: Int, count: Int)] = [:]

  mutating func add(_ key: Key, representative: Int, count: Int) {
    guard count > 0 else { return }
    if classes[key] == nil { order.append(key) }
    classes[key, default: (representative, 0)].count += count
  }

  var list: [BlockClass] {
    order.compactMap { key in
      classes[key].map { BlockClass(representative: $0.representative, count: $0.count) }
    }
  }
}
