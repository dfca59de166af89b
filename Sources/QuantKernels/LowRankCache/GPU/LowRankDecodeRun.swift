import DeviceModel

/// The launches of a decode step, one after another.
struct LowRankDecodeRun {
  let kernel: LowRankGPUKernel
  let shape: LowRankDecodeShape
  let device: DeviceSpec
  let simulator: WarpSimulator
  let counting: Bool
  let start = MonotonicClock.nanoseconds()
  private(set) var parts: [SimulatedAttention.Part] = []
  private(set) var simulated = 0

  init(
    _ kernel: LowRankGPUKernel, _ shape: LowRankDecodeShape, _ device: DeviceSpec,
    _ simulator: WarpSimulator, counting: Bool
  ) {
    self.kernel = kernel
    self.shape = shape
    self.device = device
    self.simulator = simulator
    self.counting = counting
  }

  private mutating func launch(_ kernel: some TimedKernel) throws(QuantError) {
    let launch = kernel.launch(on: device)
    let result = try QuantError.translating {
      // What the device cannot hold is refused before anything is simulated.
      _ = try Occupancy.of(launch, on: device)
      if counting { return try simulator.count(kernel) }
      let counters = try simulator.run(kernel)
      return (counters: counters, simulatedLaneAccesses: counters.laneAccesses)
    }
    simulated += result.simulatedLaneAccesses
    parts.append(
      SimulatedAttention.Part(
        name: kernel.name, counters: result.counters, launch: launch,
        launchOn: { kernel.launch(on: $0) }))
  }

  /// - Returns: what attention gives, `[queryHeads · headDimension]` halves; of zeros when only counting.
  @discardableResult
  mutating func attend(
    _ operands: LowRankDecodeOperands, scope: SimulatedLowRankAttention.Scope
  ) throws(QuantError) -> [UInt16] {
    guard device.capability.value >= 8 else {
      throw QuantError(
        .unsupported, "\(kernel.rawValue) on \(device.identifier)",
        "compute capability \(device.capability): there is no mma.m16n8k16 and no asynchronous copy",
        remedy: "choose a device of 8.0 or later")
    }
    if let width = scope.modelWidth { try projectToken(width, operands) }
    if scope.concatenates {
      try launch(CacheCopy("append keys", of: operands.keys.buffer))
      try launch(CacheCopy("append values", of: operands.values.buffer))
    }
    let scores = try UnfusedScores(
      DeviceAttentionShape(
        queryLength: 1, keyLength: shape.positions, heads: shape.queryHeads,
        headDimension: shape.headDimension), strip: false)
    try launch(
      LatentScoresKernel(
        operands.way, tile: operands.tile, latents: operands.keys,
        right: operands.up ?? operands.queries, queries: operands.queries, scores: scores,
        scale: operands.scale, phases: operands.phases, firstPosition: shape.firstPosition,
        headsPerUnit: operands.up == nil ? 1 : shape.headsPerGroup))
    try launch(DecodeSoftmax(scores: scores, heads: shape.queryHeads, keys: shape.positions))
    let sums = try LatentSumsKernel(
      operands.values, scores: scores, rows: shape.queryHeads / operands.values.units,
      multiprocessors: Int(device.multiprocessors.value))
    try launch(sums)
    let added = try SplitSums(sums)
    try launch(added)
    guard let valueUp = operands.valueUp else {
      if let width = scope.modelWidth { try projectOutput(width) }
      return halves(added.output, pitch: added.pitch, width: shape.headDimension)
    }
    // Palu has the up-projection in its output projection.
    if let width = scope.modelWidth, kernel == .palu {
      try launch(
        try DecodeProjection(
          "fused output projection",
          weights: Self.weights(width, shape.queryHeads * shape.valueRank)))
      return []
    }
    let late = try DecodeProjection(
      "late up-projection", weights: valueUp, vectorsPerSet: shape.queriesPerHead,
      input: added.output, inputPitch: added.pitch)
    try launch(late)
    if let width = scope.modelWidth { try projectOutput(width) }
    return halves(late.output, pitch: late.outputPitch, width: shape.headDimension)
  }

  private func halves(_ buffer: GlobalBuffer, pitch: Int, width: Int) -> [UInt16] {
    guard !counting else { return [] }
    let stored = buffer.contents(as: UInt16.self)
    return (0..<shape.queryHeads).flatMap { stored[$0 * pitch..<$0 * pitch + width] }
  }

  // MARK: Projections

  private static func weights(_ rows: Int, _ columns: Int) throws(QuantError) -> DecodeOperand {
    try DecodeOperand(
      "projection", sets: 1, rows: rows, columns: columns, rowStep: 1, columnStep: 8, value: nil)
  }

  /// Queries, and keys and values or their latents; without a rotary embedding also queries over the
  /// latents.
  private mutating func projectToken(
    _ width: Int, _ operands: LowRankDecodeOperands
  ) throws(QuantError) {
    for (name, rows) in [
      ("query projection", shape.queryHeads * shape.headDimension),
      ("key projection", operands.keys.units * operands.keys.width),
      ("value projection", operands.values.units * operands.values.width),
    ] {
      try launch(DecodeProjection(name, weights: Self.weights(rows, width)))
    }
    if kernel != .dense, operands.up == nil {
      try launch(
        DecodeProjection(
          "queries over latents",
          weights: DecodeOperand(
            "up-projection of keys", sets: shape.keyValueHeads, rows: shape.keyRank,
            columns: shape.headDimension, rowStep: 1, columnStep: 8, value: nil),
          vectorsPerSet: shape.queriesPerHead))
    }
  }

  private mutating func projectOutput(_ width: Int) throws(QuantError) {
    try launch(
      DecodeProjection(
        "output projection",
        weights: Self.weights(width, shape.queryHeads * shape.headDimension)))
  }
}
