import DeviceModel

extension Int4Matrix {
  /// `y = x · Wᵀ` on a target.
  ///
  /// On a simulated GPU the result is that of the kernel's own arithmetic: with `awq`, `quick` and
  /// `quickImproved` bit for bit `matmul(x, arithmetic: .float16Products(splits:))` with the kernel's
  /// splits; with `marlin` and `half` in the order of sums that ``MarlinGemm`` and ``HalfGemm``
  /// declare.
  ///
  /// - Parameters:
  ///   - x: `[M × columns]` finite floats, row-major; on a GPU M is at least 1.
  ///   - target: where.
  /// - Returns: `[M × rows]` floats, with what was measured, or counted and modelled.
  /// - Throws: ``QuantError``: as
  ///   ``matmul(_:arithmetic:pool:)-(_,Arithmetic,_)`` on the CPU; on a GPU as
  ///   ``Int4DeviceWeights/init(_:order:)``, ``HalfActivations/init(_:for:)`` and the kernel, for
  ///   splits out of range, a launch that the device cannot hold, and for `w2a8`, whose weights are
  ///   not of this kind.
  public func matmul(_ x: [Float], on target: Target) throws(QuantError) -> Run<[Float]> {
    switch target {
    case .cpu(let pool):
      let weights = try PackedWeights(self)
      let start = MonotonicClock.nanoseconds()
      let y = try weights.matmul(x, pool: pool)
      return Run(output: y, seconds: MonotonicClock.seconds(since: start), isMeasured: true)
    case .gpu(let gpu):
      if let device = gpu.device { try gpu.kernel.requireSupport(on: device) }
      let activations = try HalfActivations(x, for: self)
      switch gpu.kernel {
      case .awq, .quick, .quickImproved:
        let weights = try Int4DeviceWeights(self, order: try gpu.kernel.requireWeightOrder())
        let splits = gpu.splits(rows: rows, columns: columns)
        return try gpu.run(activations, weights, splits: splits, blocks: .all) { $0.values() }
      case .marlin: return try runMarlin(x, gpu)
      case .half: return try runHalf(activations, gpu)
      case .w2a8:
        throw QuantError(
          .unsupported, "W2A8", "4-bit weights", remedy: "use W2A8Gemv with ternary codes")
      }
    }
  }

  /// What a product of M rows by `rows × columns` weights does on a simulated GPU, without its
  /// result: one block of each class runs, on zeros, and counts for its likes.
  ///
  /// The counters are those of a full run with any values: these kernels' addresses do not depend on
  /// data. For kernels that split K; ``SimulatedMatmul`` counts all of them, and times them.
  ///
  /// - Throws: ``QuantError`` when a size, the group size or the splits are out of range, or a
  ///   buffer passes 4 GiB.
  public static func countMatmul(
    count: Int, rows: Int, columns: Int, groupSize: Int, on gpu: SimulatedGPU
  ) throws(QuantError) -> Run<Void> {
    let weights = try Int4DeviceWeights(
      zeros: try gpu.kernel.requireWeightOrder(), rows: rows, columns: columns,
      groupSize: groupSize)
    let activations = try HalfActivations(zeros: count, columns: columns)
    let splits = gpu.splits(rows: rows, columns: columns)
    return try gpu.run(activations, weights, splits: splits, blocks: .classes) { _ in }
  }

  /// Multiprocessors of a grid for no device in particular: an A100's.
  private static let multiprocessors = 108

  private func runMarlin(_ x: [Float], _ gpu: SimulatedGPU) throws(QuantError) -> Run<[Float]> {
    let count = gpu.device.map { Int($0.multiprocessors.value) } ?? Self.multiprocessors
    let kernel = try MarlinGemm(
      weights: self, input: x.map(HalfPrecision.half), rows: x.count / columns,
      multiprocessors: count, padded: true)
    var record = gpu.record(of: [Float].self)
    try record.launch(kernel)
    return record.run(kernel.output.map(HalfPrecision.float(fromHalf:)))
  }

  private func runHalf(
    _ activations: HalfActivations, _ gpu: SimulatedGPU
  ) throws(QuantError) -> Run<[Float]> {
    let inputs = (columns + 63) / 64 * 64
    let outputs = (rows + 7) / 8 * 8
    var weights = [UInt16](repeating: 0, count: outputs * inputs)
    for row in 0..<rows {
      for column in 0..<columns {
        weights[row * inputs + column] = HalfPrecision.half(self[row, column])
      }
    }
    let pitch = activations.layout.pitch
    let halves = activations.buffer.contents(as: UInt16.self)
    var input = [UInt16](repeating: 0, count: activations.rows * inputs)
    for row in 0..<activations.rows {
      for column in 0..<columns { input[row * inputs + column] = halves[row * pitch + column] }
    }
    let plan = HalfGemm.plan(
      rows: activations.rows, outputs: outputs, inputs: inputs,
      multiprocessors: gpu.device.map { Int($0.multiprocessors.value) } ?? Self.multiprocessors)
    let kernel = try HalfGemm(
      weights: weights, input: input, rows: activations.rows, outputs: outputs, inputs: inputs,
      tile: plan.tile, splits: gpu.splits ?? plan.splits)
    var record = gpu.record(of: [Float].self)
    try record.launch(kernel)
    let output = kernel.output
    return record.run(
      (0..<activations.rows).flatMap { row in
        output[row * outputs..<row * outputs + rows].map(HalfPrecision.float(fromHalf:))
      })
  }
}

extension GPUKernel {
  /// The order in which the kernel wants 4-bit weights; nil for kernels that pack their own.
  public var weightOrder: Int4DeviceWeights.Order? {
    switch self {
    case .awq: .awq
    case .quick: .quick
    case .quickImproved: .quickImproved
    case .marlin, .half, .w2a8: nil
    }
  }

  func requireWeightOrder() throws(QuantError) -> Int4DeviceWeights.Order {
    guard let order = weightOrder else {
      throw QuantError(
        .unsupported, rawValue, "the kernel does not split K over blocks",
        remedy: "use SimulatedMatmul.count")
    }
    return order
  }
}

extension SimulatedGPU {
  /// Gathers the launches of one operation.
  struct Record<Output: Sendable> {
    let gpu: SimulatedGPU
    let blocks: WarpSimulator.Selection
    var launches: [Run<Output>.Launch] = []
    var estimate: Estimate?
    var seconds = 0.0

    /// Runs a kernel; the first one is timed on the device.
    mutating func launch(_ kernel: some WarpKernel) throws(QuantError) {
      let timed = launches.isEmpty ? kernel as? any MatmulKernel : nil
      let start = MonotonicClock.nanoseconds()
      let (counters, estimate) = try QuantError.translating {
        // What the device cannot hold is refused before anything is simulated.
        if let timed, let device = gpu.device {
          _ = try Occupancy.of(timed.launch(on: device), on: device)
        }
        let counters = try gpu.simulator.run(kernel, blocks: blocks)
        let estimate = try gpu.device.flatMap { device in
          try timed.map {
            try LatencyBound().estimate(
              $0.timedCounters(counters), $0.launch(on: device), device)
          }
        }
        return (counters, estimate)
      }
      seconds += MonotonicClock.seconds(since: start)
      if let estimate { self.estimate = estimate }
      launches.append(
        Run<Output>.Launch(
          kernel: kernel.name, counters: counters, warpsPerBlock: kernel.warpsPerBlock,
          sharedBytesPerBlock: kernel.sharedBytesPerBlock))
    }

    func run(_ output: Output) -> Run<Output> {
      Run(
        output: output, launches: launches, estimate: estimate, seconds: seconds,
        isMeasured: false)
    }
  }

  func record<Output>(
    of type: Output.Type, blocks: WarpSimulator.Selection = .all
  ) -> Record<Output> { Record(gpu: self, blocks: blocks) }

  /// Runs the product and, when K is split, the sum of its parts.
  fileprivate func run<Output: Sendable>(
    _ activations: HalfActivations, _ weights: Int4DeviceWeights, splits: Int,
    blocks: WarpSimulator.Selection, _ output: (PartialSums) -> Output
  ) throws(QuantError) -> Run<Output> {
    var record = record(of: Output.self, blocks: blocks)
    var result: PartialSums
    switch weights.order {
    case .awq:
      let kernel = try AWQGemm(activations, weights, splits: splits)
      try record.launch(kernel)
      result = kernel.partials
    case .quick:
      let kernel = try QuickGemm(activations, weights, splits: splits)
      try record.launch(kernel)
      result = kernel.partials
    case .quickImproved:
      let kernel = try ImprovedQuickGemm(activations, weights, splits: splits)
      try record.launch(kernel)
      result = kernel.partials
    }
    if splits > 1 {
      let sum = try SplitKSum(result)
      try record.launch(sum)
      result = sum.output
    }
    return record.run(output(result))
  }
}
