import DeviceModel

/// What an attention does on a simulated GPU: counted, and timed by the model.
///
/// ``run(_:shape:queries:keys:values:scale:on:options:simulator:)`` computes real values;
/// ``count(_:shape:on:options:simulator:)`` counts any length from a few steps of one block of each
/// class.
public struct SimulatedAttention: SimulatedLaunches {
  /// One kernel that was launched.
  public struct Part: Sendable {
    /// Its name.
    public let name: String
    /// What it did in the whole grid.
    public let counters: Counters
    /// How it is launched on the device.
    public internal(set) var launch: Launch
    let launchOn: @Sendable (DeviceSpec) -> Launch
  }

  /// The kernel.
  public let kernel: GPUAttentionKernel
  /// The sizes.
  public let shape: DeviceAttentionShape
  /// The kernel's name.
  public var label: String { kernel.rawValue }
  /// The device.
  public private(set) var device: DeviceSpec
  /// What was launched, in order: one kernel when fused, three when not, none without queries.
  public private(set) var parts: [Part]
  /// Lane accesses that were simulated (not multiplied by what they stand for).
  public let simulatedLaneAccesses: Int
  /// Seconds that the simulation took on this machine.
  public let seconds: Double

  /// Useful work, multiplications and additions of visible pairs.
  public var flop: Double { shape.flop }

  /// Bytes of device memory beside queries, keys, values and output.
  public var workspaceBytes: Int {
    kernel == .unfused
      ? shape.heads * shape.queryLength * ((shape.keyLength + 63) / 64 * 64) * 2 : 0
  }

  /// The same with other parts, or timed on another device.
  public func replacing(device: DeviceSpec, parts: [SimulatedAttention.Part]) -> Self {
    var copy = self
    copy.device = device
    copy.parts = parts
    return copy
  }

  /// Counts an attention on zeros, scaled up from a few key tiles of one block of each class; exactly
  /// what running it on finite values counts.
  ///
  /// - Throws: ``QuantError`` for a shape or device that the kernel does not take, and operands past
  ///   4 GiB.
  public static func count(
    _ kernel: GPUAttentionKernel, shape: DeviceAttentionShape, on device: DeviceSpec,
    options: FlashAttentionKernel.Options = FlashAttentionKernel.Options(),
    simulator: WarpSimulator = WarpSimulator()
  ) throws(QuantError) -> SimulatedAttention {
    let buffers = try AttentionBuffers(shape, scale: nil, contents: nil)
    return try launch(
      kernel, shape, buffers, device, options, simulator, counting: true)
  }

  /// Runs an attention with real values.
  ///
  /// - Parameters:
  ///   - queries: `[queryLength, heads, headDimension]` binary16 bits; the output has the same order.
  ///   - keys: `[keyLength, keyValueHeads, headDimension]`; `values` likewise.
  ///   - scale: of the scores, of either sign; nil for 1/√headDimension.
  ///   - kernel: which kernel.
  ///   - shape: lengths, heads and mask.
  ///   - values: as `keys`.
  ///   - device: the simulated device.
  ///   - options: tiles and layouts of the flash kernel.
  ///   - simulator: bank policy, checks and threads.
  /// - Returns: the output as binary16 bits, the launches with their counters, and the modelled time
  ///   (nil without queries).
  /// - Throws: as ``count(_:shape:on:options:simulator:)``, and for wrong lengths and a scale that is
  ///   not finite.
  public static func run(
    _ kernel: GPUAttentionKernel, shape: DeviceAttentionShape, queries: [UInt16], keys: [UInt16],
    values: [UInt16], scale: Float? = nil, on device: DeviceSpec,
    options: FlashAttentionKernel.Options = FlashAttentionKernel.Options(),
    simulator: WarpSimulator = WarpSimulator()
  ) throws(QuantError) -> Run<[UInt16]> {
    let buffers = try AttentionBuffers(
      shape, scale: scale, contents: (queries: queries, keys: keys, values: values))
    let done = try launch(
      kernel, shape, buffers, device, options, simulator, counting: false)
    return Run(
      output: buffers.result(shape),
      launches: done.parts.map { part in
        Run<[UInt16]>.Launch(
          kernel: part.name, counters: part.counters, warpsPerBlock: part.launch.warpsPerBlock,
          sharedBytesPerBlock: part.launch.sharedBytesPerBlock)
      },
      estimate: done.parts.isEmpty ? nil : try done.estimate(), seconds: done.seconds,
      isMeasured: false)
  }

  private static func launch(
    _ kernel: GPUAttentionKernel, _ shape: DeviceAttentionShape, _ buffers: AttentionBuffers,
    _ device: DeviceSpec, _ options: FlashAttentionKernel.Options, _ simulator: WarpSimulator,
    counting: Bool
  ) throws(QuantError) -> SimulatedAttention {
    try kernel.requireSupport(on: device)
    let isVolta = device.capability.value < 8
    var parts: [Part] = []
    var simulated = 0
    let start = MonotonicClock.nanoseconds()
    func run(_ text: some AttentionKernel) throws(QuantError) {
      guard text.blocks > 0 else { return }
      let launch = text.launch(on: device)
      let result = try QuantError.translating {
        // What the device cannot hold is refused before anything is simulated.
        _ = try Occupancy.of(launch, on: device)
        if counting { return try simulator.countRepeating(text) }
        let counters = try simulator.run(text)
        return (counters: counters, simulatedLaneAccesses: counters.laneAccesses)
      }
      simulated += result.simulatedLaneAccesses
      parts.append(
        Part(
          name: text.name, counters: result.counters, launch: launch,
          launchOn: { text.launch(on: $0) }))
    }
    switch kernel {
    case .flash, .volta:
      try run(
        FlashAttentionKernel(shape, buffers, options: options, isVolta: kernel == .volta))
    case .xformers:
      try run(MemoryEfficientKernel(shape, buffers))
    case .unfused:
      // Without keys there is nothing to multiply and the output stays 0.
      if shape.queryLength > 0, shape.keyLength > 0 {
        let scores = try UnfusedScores(shape, strip: counting)
        try run(UnfusedProduct(.scores, shape, buffers, scores, isVolta: isVolta))
        try run(UnfusedSoftmax(shape: shape, scores: scores, buffers: buffers))
        try run(UnfusedProduct(.output, shape, buffers, scores, isVolta: isVolta))
      }
    }
    return SimulatedAttention(
      kernel: kernel, shape: shape, device: device, parts: parts,
      simulatedLaneAccesses: simulated, seconds: MonotonicClock.seconds(since: start))
  }
}
