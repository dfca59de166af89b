import DeviceModel

/// Where a cache that does not fit the devices is put, and what attention then takes.
///
/// Pure functions of a model, a machine and the lengths. Per device of G, n layers, batch b, S
/// tokens, e bytes an element:
/// - cache of a layer: 2 · b · S · ⌈n_kv / G⌉ · d · e;
/// - free memory: memory − weights / G − activations − reserve;
/// - layers on the devices: min(n, ⌊free / cache of a layer⌋); the rest are the host's, which must
///   hold 2 · b · S · n_kv · d · e for each.
///
/// FastAttention (arXiv 2410.16663) gives the idea in words; formulas and token ranges are ours.
public struct CooperationPlanner: Sendable, Hashable {
  /// The model.
  public let model: DecoderShape
  /// The machine.
  public let machine: CooperationMachine
  /// Sequences at once.
  public let batch: Int
  /// µs of other device work that the host's part of a layer can hide behind: 0 inside one
  /// sequence's chain of layers, another micro-batch's layer otherwise.
  public let overlap: Double

  /// A model on a machine.
  ///
  /// - Throws: ``QuantError`` `.invalidArgument` for sizes and numbers without a sense.
  public init(
    model: DecoderShape, machine: CooperationMachine, batch: Int = 1, overlap: Double = 0
  ) throws(QuantError) {
    self.model = model
    self.machine = machine
    self.batch = batch
    self.overlap = overlap
    try model.check()
    try machine.check()
    guard batch >= 1, batch <= 1 << 20, overlap >= 0, overlap.isFinite else {
      throw QuantError(
        .invalidArgument, "placement of a cache", "batch \(batch), overlap \(overlap) µs",
        remedy: "use a batch of 1 to 2^20 and a finite overlap of at least 0")
    }
  }

  /// The longest sequence that is asked for.
  public static let mostTokens = 1 << 40

  private func check(tokens: Int) throws(QuantError) {
    guard tokens >= 0, tokens <= Self.mostTokens else {
      throw QuantError(
        .invalidArgument, "placement of a cache", "\(tokens) tokens", remedy: "use 0 to 2^40")
    }
  }

  // MARK: Memory

  /// Bytes of one layer's cache of `tokens` tokens on each device; `Int.max` where that overflows.
  public func layerBytesPerDevice(tokens: Int) -> Int {
    let heads = (model.keyValueHeads + machine.devices - 1) / machine.devices
    return MemoryRequirement.sum(
      [[2, batch, tokens, heads, model.headDimension, model.elementBytes]])
  }

  /// The same on the host, which has all heads once.
  public func layerBytesOnHost(tokens: Int) -> Int {
    MemoryRequirement.sum(
      [[2, batch, tokens, model.keyValueHeads, model.headDimension, model.elementBytes]])
  }

  /// Bytes of activations on each device: the machine's buffers of a chunk's hidden states.
  public func activationBytes(tokens: Int) -> Double {
    let rows = min(Double(tokens), max(1, machine.promptChunk.value))
    return machine.activationBuffers.value * Double(batch) * rows * Double(model.width)
      * Double(model.elementBytes)
  }

  /// Bytes of a device that caches can have.
  ///
  /// - Throws: ``QuantError`` `.outOfMemory` when weights and activations do not fit,
  ///   `.invalidArgument` for lengths without a sense.
  public func freeBytes(tokens: Int) throws(QuantError) -> Int {
    try check(tokens: tokens)
    let weights =
      model.parameters.value * Double(model.elementBytes) / Double(machine.devices)
    let free =
      machine.deviceMemory.value - weights - activationBytes(tokens: tokens) - machine.reserve.value
    guard free >= 0 else {
      throw QuantError(
        .outOfMemory, "\(model.name) on \(machine.name)",
        "weights, activations and reserve exceed a device's memory by \(Int(-free) >> 20) MiB",
        remedy: "use more devices, shorter chunks of the prompt or smaller weights")
    }
    return Int(free)
  }

  /// Bytes that the host has for caches.
  public var hostFreeBytes: Int {
    Int(max(0, machine.hostMemory.value - machine.hostReserve.value))
  }

  /// Layers whose cache fits the devices.
  ///
  /// - Throws: as ``freeBytes(tokens:)``.
  public func layersOnDevice(tokens: Int) throws(QuantError) -> Int {
    let layer = layerBytesPerDevice(tokens: tokens)
    let free = try freeBytes(tokens: tokens)
    return layer == 0 ? model.layers : min(model.layers, free / layer)
  }

  /// The fewest layers that must be on the host.
  ///
  /// - Throws: as ``freeBytes(tokens:)``.
  public func fewestLayersOnHost(tokens: Int) throws(QuantError) -> Int {
    model.layers - (try layersOnDevice(tokens: tokens))
  }

  /// The fewest first tokens of every layer that must be on the host.
  ///
  /// - Throws: as ``freeBytes(tokens:)``.
  public func fewestTokensOnHost(tokens: Int) throws(QuantError) -> Int {
    let free = try freeBytes(tokens: tokens)
    let token = MemoryRequirement.sum([[layerBytesPerDevice(tokens: 1), model.layers]])
    return max(0, tokens - free / token)
  }

  /// Bytes on the host.
  public func hostBytes(_ placement: KeyValuePlacement, tokens: Int) -> Int {
    switch placement {
    case .layers(let count):
      MemoryRequirement.sum([[count, layerBytesOnHost(tokens: tokens)]])
    case .tokens(let count):
      MemoryRequirement.sum([[model.layers, layerBytesOnHost(tokens: count)]])
    }
  }

  /// Bytes of caches on each device.
  public func deviceBytes(_ placement: KeyValuePlacement, tokens: Int) -> Int {
    switch placement {
    case .layers(let count):
      MemoryRequirement.sum([[model.layers - count, layerBytesPerDevice(tokens: tokens)]])
    case .tokens(let count):
      MemoryRequirement.sum([[model.layers, layerBytesPerDevice(tokens: tokens - count)]])
    }
  }

  /// - Throws: ``QuantError``: `.outOfMemory` when the host's or a device's part does not fit,
  ///   `.invalidArgument` for a placement that is none.
  public func checkFits(_ placement: KeyValuePlacement, tokens: Int) throws(QuantError) {
    let free = try freeBytes(tokens: tokens)
    let (count, most) =
      switch placement {
      case .layers(let count): (count, model.layers)
      case .tokens(let count): (count, tokens)
      }
    guard (0...most).contains(count) else {
      throw QuantError(
        .invalidArgument, "placement of a cache", "\(placement) of \(most)",
        remedy: "use 0 to all of them")
    }
    let device = deviceBytes(placement, tokens: tokens)
    guard device <= free else {
      throw QuantError(
        .outOfMemory, "\(model.name) on \(machine.name)",
        "\(tokens) tokens with \(placement) take \(device >> 20) MiB of each device, where "
          + "\(free >> 20) MiB are free",
        remedy: "put more on the host")
    }
    let host = hostBytes(placement, tokens: tokens)
    guard host <= hostFreeBytes else {
      throw QuantError(
        .outOfMemory, "\(model.name) on \(machine.name)",
        "\(tokens) tokens with \(placement) take \(host >> 20) MiB of the host, where "
          + "\(hostFreeBytes >> 20) MiB are free",
        remedy: "use a shorter input, a smaller batch or a quantized cache")
    }
  }

  /// The longest input that fits; 0 where the weights alone do not.
  ///
  /// - Parameters:
  ///   - usesHost: whether the host's memory may be used.
  ///   - byTokens: whether by token ranges, which waste nothing, or by whole layers.
  /// - Complexity: 40 checks, as memory never falls with the length.
  public func longestInput(usesHost: Bool, byTokens: Bool = false) -> Int {
    func fits(_ tokens: Int) -> Bool {
      do throws(QuantError) {
        let placement: KeyValuePlacement =
          !usesHost
          ? .layers(onHost: 0)
          : byTokens
            ? .tokens(onHost: try fewestTokensOnHost(tokens: tokens))
            : .layers(onHost: try fewestLayersOnHost(tokens: tokens))
        try checkFits(placement, tokens: tokens)
        return true
      } catch {
        return false
      }
    }
    var low = 0
    var high = Self.mostTokens
    if fits(high) { return high }
    while high - low > 1 {
      let middle = low + (high - low) / 2
      if fits(middle) { low = middle } else { high = middle }
    }
    return low
  }
}
