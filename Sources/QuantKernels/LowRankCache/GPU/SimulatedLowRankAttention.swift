import DeviceModel

/// Ways of a decode step's attention on a simulated GPU, as the command line spells them.
public enum LowRankGPUKernel: String, Sendable, Hashable, CaseIterable {
  /// Binary16 keys and values, whole: scores, softmax and sums by kernels of their own.
  case dense
  /// Palu's: a block rebuilds one head's keys; sums over latents; up-projection fused into the output
  /// projection.
  case palu
  /// Ours: a block rebuilds all heads of a group from latents that it reads once; late up-projection.
  case paluGroup = "palu-group"
}

/// A decode step of attention on a simulated GPU: counted, and timed by the model.
public struct SimulatedLowRankAttention: SimulatedLaunches {
  /// What belongs to the step beside attention itself.
  public struct Scope: Sendable, Hashable {
    /// Projections of the token to queries, keys and values, and of the output; of this width. Nil: only
    /// what low-rank values need, the late up-projection.
    public var modelWidth: Int?
    /// Whether the caches are copied to append a token, as a concatenation of tensors does.
    public var concatenates: Bool

    /// Attention alone when nothing is given.
    public init(modelWidth: Int? = nil, concatenates: Bool = false) {
      self.modelWidth = modelWidth
      self.concatenates = concatenates
    }
  }

  /// Whose text ran.
  public let kernel: LowRankGPUKernel
  /// The sizes.
  public let shape: LowRankDecodeShape
  /// What was counted beside attention itself.
  public let scope: Scope
  public private(set) var device: DeviceSpec
  /// What was launched, in order.
  public private(set) var parts: [SimulatedAttention.Part]
  /// Lane accesses that were simulated (not multiplied by what they stand for).
  public let simulatedLaneAccesses: Int
  /// Seconds that the simulation took on this machine.
  public let seconds: Double

  public var label: String { kernel.rawValue }

  /// The same with other parts, or timed on another device.
  public func replacing(device: DeviceSpec, parts: [SimulatedAttention.Part]) -> Self {
    var copy = self
    copy.device = device
    copy.parts = parts
    return copy
  }

  /// The parts of these names alone.
  public func only(_ names: Set<String>) -> SimulatedLowRankAttention {
    replacing(device: device, parts: parts.filter { names.contains($0.name) })
  }

  /// What reads keys, in any way: scores.
  public static let scoreParts: Set<String> = ["latent scores", "palu rebuild", "group rebuild"]

  /// Counts a decode step on zeros, from one block of each class; exactly what running it counts.
  ///
  /// - Throws: ``QuantError`` `.unsupported` for devices without `mma.m16n8k16` and for what does not
  ///   fit their shared memory; `.invalidArgument` for buffers past 4 GiB.
  public static func count(
    _ kernel: LowRankGPUKernel, shape: LowRankDecodeShape, scope: Scope = Scope(),
    on device: DeviceSpec, simulator: WarpSimulator = WarpSimulator()
  ) throws(QuantError) -> SimulatedLowRankAttention {
    var run = LowRankDecodeRun(kernel, shape, device, simulator, counting: true)
    let operands = try LowRankDecodeOperands(shape, kernel: kernel, contents: nil)
    try run.attend(operands, scope: scope)
    return SimulatedLowRankAttention(
      kernel: kernel, shape: shape, scope: scope, device: device, parts: run.parts,
      simulatedLaneAccesses: run.simulated, seconds: MonotonicClock.seconds(since: run.start))
  }

  /// Runs a decode step with real values.
  ///
  /// - Parameters:
  ///   - kernel: whose text runs.
  ///   - factors: of one rank for all groups of keys and one for all of values; keys `.rebuilt`.
  ///   - layer: which of the factors' layers.
  ///   - rotary: the angles; nil without a rotary embedding.
  ///   - queries: `[queryHeads · headDimension]`, after the rotary embedding; rounded to binary16.
  ///   - keyLatents: `[positions × Σr]`, before it. The dense kernel rebuilds whole keys and values on
  ///     the host, in float32.
  ///   - valueLatents: `[positions × Σr]`.
  ///   - keyType: how latents are stored.
  ///   - valueType: that of keys when nil.
  ///   - firstPosition: the number of the first position.
  ///   - scale: of the scores; 1/√headDimension when nil.
  ///   - device: on which it runs.
  ///   - simulator: which runs its warps.
  /// - Returns: `[queryHeads · headDimension]` binary16 bits, values' bias in it.
  /// - Throws: ``QuantError`` as ``count(_:shape:scope:on:simulator:)``; `.invalidArgument` for wrong
  ///   sizes and a scale that is not finite; `.invalidData` for numbers that are not finite in binary16;
  ///   `.unsupported` for ranks that differ and other key modes.
  public static func run(
    _ kernel: LowRankGPUKernel, factors: LowRankFactors, layer: Int = 0,
    rotary: LowRankLayer.Rotary?, queries: [Float], keyLatents: [Float], valueLatents: [Float],
    keyType: LatentType = .f16, valueType: LatentType? = nil, firstPosition: Int = 0,
    scale: Float? = nil, on device: DeviceSpec, simulator: WarpSimulator = WarpSimulator()
  ) throws(QuantError) -> Run<[UInt16]> {
    let contents = try LowRankDecodeOperands.Contents(
      factors, layer: layer, rotary: rotary, queries: queries, keyLatents: keyLatents,
      valueLatents: valueLatents, scale: scale)
    let shape = try contents.shape(
      keyType: keyType, valueType: valueType ?? keyType, firstPosition: firstPosition)
    var run = LowRankDecodeRun(kernel, shape, device, simulator, counting: false)
    let operands = try LowRankDecodeOperands(shape, kernel: kernel, contents: contents)
    let output = try run.attend(operands, scope: Scope())
    let simulated = SimulatedLowRankAttention(
      kernel: kernel, shape: shape, scope: Scope(), device: device, parts: run.parts,
      simulatedLaneAccesses: run.simulated, seconds: MonotonicClock.seconds(since: run.start))
    return Run(
      output: output,
      launches: run.parts.map { part in
        Run<[UInt16]>.Launch(
          kernel: part.name, counters: part.counters, warpsPerBlock: part.launch.warpsPerBlock,
          sharedBytesPerBlock: part.launch.sharedBytesPerBlock)
      },
      estimate: try simulated.estimate(), seconds: simulated.seconds, isMeasured: false)
  }
}
