import DeviceModel

extension Int4Matrix {
  /// `y = x · Wᵀ` on a target.
  ///
  /// On a simulated GPU the result is that of the kernel's own arithmetic, bit for bit
  /// `matmul(x, arithmetic: .float16Products(splits:))` with the kernel's splits.
  ///
  /// - Parameters:
  ///   - x: `[M × columns]` finite floats, row-major; on a GPU M is at least 1.
  ///   - target: where.
  /// - Returns: `[M × rows]` floats, with what was measured or counted.
  /// - Throws: ``QuantError``: as ``matmul(_:arithmetic:pool:)`` on the CPU; on a GPU as
  ///   ``Int4DeviceWeights/init(_:order:)`` and ``HalfActivations/init(_:for:)``, and for splits out
  ///   of range.
  public func matmul(_ x: [Float], on target: Target) throws(QuantError) -> Run<[Float]> {
    switch target {
    case .cpu(let pool):
      let weights = try PackedWeights(self)
      let start = MonotonicClock.nanoseconds()
      let y = try weights.matmul(x, pool: pool)
      return Run(output: y, seconds: MonotonicClock.seconds(since: start), isMeasured: true)
    case .gpu(let gpu):
      let activations = try HalfActivations(x, for: self)
      let weights = try Int4DeviceWeights(self, order: gpu.kernel.weightOrder)
      let splits = gpu.splits(rows: rows, columns: columns)
      return try gpu.run(activations, weights, splits: splits, blocks: .all) { $0.values() }
    }
  }

  /// What a product of M rows by `rows × columns` weights does on a simulated GPU, without its
  /// result: one block of each class runs, on zeros, and counts for its likes.
  ///
  /// The counters are those of a full run with any values: these kernels' addresses do not depend on
  /// data.
  ///
  /// - Throws: ``QuantError`` when a size, the group size or the splits are out of range, or a
  ///   buffer passes 4 GiB.
  public static func countMatmul(
    count: Int, rows: Int, columns: Int, groupSize: Int, on gpu: SimulatedGPU
  ) throws(QuantError) -> Run<Void> {
    let weights = try Int4DeviceWeights(
      zeros: gpu.kernel.weightOrder, rows: rows, columns: columns, groupSize: groupSize)
    let activations = try HalfActivations(zeros: count, columns: columns)
    let splits = gpu.splits(rows: rows, columns: columns)
    return try gpu.run(activations, weights, splits: splits, blocks: .classes) { _ in }
  }
}

extension GPUKernel {
  /// The order in which the kernel wants 4-bit weights.
  public var weightOrder: Int4DeviceWeights.Order {
    switch self {
    case .awq: .awq
    case .quick: .quick
    case .quickImproved: .quickImproved
    }
  }
}

extension SimulatedGPU {
  /// Runs the product and, when K is split, the sum of its parts.
  fileprivate func run<Output: Sendable>(
    _ activations: HalfActivations, _ weights: Int4DeviceWeights, splits: Int,
    blocks: WarpSimulator.Selection, _ output: (PartialSums) -> Output
  ) throws(QuantError) -> Run<Output> {
    var launches: [Run<Output>.Launch] = []
    var seconds = 0.0
    func launch(_ kernel: some WarpKernel) throws(QuantError) {
      let start = MonotonicClock.nanoseconds()
      let counters = try QuantError.translating {
        try simulator.run(kernel, blocks: blocks)
      }
      seconds += MonotonicClock.seconds(since: start)
      launches.append(
        Run<Output>.Launch(
          kernel: kernel.name, counters: counters, warpsPerBlock: kernel.warpsPerBlock,
          sharedBytesPerBlock: kernel.sharedBytesPerBlock))
    }
    var result: PartialSums
    switch kernel {
    case .awq:
      let kernel = try AWQGemm(activations, weights, splits: splits)
      try launch(kernel)
      result = kernel.partials
    case .quick:
      let kernel = try QuickGemm(activations, weights, splits: splits)
      try launch(kernel)
      result = kernel.partials
    case .quickImproved:
      let kernel = try ImprovedQuickGemm(activations, weights, splits: splits)
      try launch(kernel)
      result = kernel.partials
    }
    if splits > 1 {
      let sum = try SplitKSum(result)
      try launch(sum)
      result = sum.output
    }
    return Run(
      output: output(result), launches: launches, seconds: seconds, isMeasured: false)
  }
}
