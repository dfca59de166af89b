import DeviceModel

/// What a pass of attention over all layers takes, modelled; µs.
public struct CooperationTime: Sendable, Hashable {
  /// Attention on the devices.
  public var device = 0.0
  /// Attention on the host.
  public var host = 0.0
  /// Queries, results and copied caches between them.
  public var link = 0.0
  /// All of it, with what runs at the same time counted once.
  public var total = 0.0
}

/// A placement, how the host's part is used, and what that takes.
public struct CooperationPlan: Sendable, Hashable {
  /// What lies where.
  public let placement: KeyValuePlacement
  /// How the host's part is used; `computed` where there is none.
  public let hostPart: HostPart
  /// Its time.
  public let time: CooperationTime
  /// Bytes on each device and on the host.
  public let deviceBytes: Int
  /// Bytes of keys and values on the host.
  public let hostBytes: Int
}

extension CooperationPlanner {
  /// µs of attention of `queries` rows over `tokens` keys of one layer on the devices.
  ///
  /// `max(bytes / bandwidth, flop / rate)` of a device's heads: no start of a kernel, which every
  /// placement has once a layer.
  public func deviceMicroseconds(queries: Int, tokens: Int) -> Double {
    if tokens == 0 || queries == 0 { return 0 }
    let heads = Double(model.queryHeads) / Double(machine.devices)
    return machine.device.microseconds(
      flop: 4 * Double(batch) * Double(queries) * Double(tokens) * heads
        * Double(model.headDimension),
      bytes: Double(layerBytesPerDevice(tokens: tokens)))
  }

  /// µs of the same on the host, all heads, with the wake-up of its threads.
  public func hostMicroseconds(queries: Int, tokens: Int) -> Double {
    if tokens == 0 || queries == 0 { return 0 }
    return machine.host.microseconds(
      flop: 4 * Double(batch) * Double(queries) * Double(tokens) * Double(model.queryHeads)
        * Double(model.headDimension),
      bytes: Double(layerBytesOnHost(tokens: tokens)), launches: 1)
  }

  /// Bytes that a device sends to the host and gets back for one layer: its heads' queries down, and
  /// either their outputs up, or (m, ℓ, o) in float32 for a merge.
  ///
  /// Every device has its own heads, so that all links work at once.
  public func exchangeBytes(queries: Int, merges: Bool) -> (down: Double, up: Double) {
    let heads =
      Double(batch) * Double(queries) * Double(model.queryHeads) / Double(machine.devices)
    let elements = heads * Double(model.headDimension)
    return (
      elements * Double(model.elementBytes),
      merges ? (elements + 2 * heads) * 4 : elements * Double(model.elementBytes)
    )
  }

  private func linkMicroseconds(bytes: Double) -> Double {
    machine.hostLink.microseconds(bytes: bytes * Double(machine.devicesPerHostLink))
  }

  /// µs of copying `tokens` tokens of one layer to the devices.
  public func copyMicroseconds(tokens: Int) -> Double {
    tokens == 0 ? 0 : linkMicroseconds(bytes: Double(layerBytesPerDevice(tokens: tokens)))
  }

  /// µs of queries down and results up.
  public func exchangeMicroseconds(queries: Int, merges: Bool) -> Double {
    let bytes = exchangeBytes(queries: queries, merges: merges)
    return linkMicroseconds(bytes: bytes.down) + linkMicroseconds(bytes: bytes.up)
  }

  /// The time of one pass of `queries` rows (1: a decode step) over `tokens` tokens.
  ///
  /// Whole layers: a layer of the host costs the exchange and the host's attention, less the
  /// overlap; or the copy and the device's attention. Token ranges: the host's range runs beside the
  /// device's, or is copied beside it and then attended to.
  ///
  /// - Throws: ``QuantError`` `.invalidArgument` for a placement or lengths that are none.
  public func time(
    _ placement: KeyValuePlacement, _ hostPart: HostPart, queries: Int, tokens: Int
  ) throws(QuantError) -> CooperationTime {
    guard (0...Self.mostTokens).contains(tokens), (0...Self.mostTokens).contains(queries) else {
      throw QuantError(
        .invalidArgument, "time of a placement", "\(queries) rows over \(tokens) tokens",
        remedy: "use 0 to 2^40")
    }
    var time = CooperationTime()
    let layers = Double(model.layers)
    switch placement {
    case .layers(let count):
      guard (0...model.layers).contains(count) else { throw Self.noPlacement(placement) }
      let whole = deviceMicroseconds(queries: queries, tokens: tokens)
      let others = Double(count)
      switch hostPart {
      case .computed:
        let exchange = exchangeMicroseconds(queries: queries, merges: false)
        let host = hostMicroseconds(queries: queries, tokens: tokens)
        time.device = (layers - others) * whole
        time.host = others * host
        time.link = others * exchange
        time.total = time.device + others * max(0, exchange + host - overlap)
      case .copied:
        let copy = copyMicroseconds(tokens: tokens)
        time.device = layers * whole
        time.link = others * copy
        time.total = time.device + others * max(0, copy - overlap)
      }
    case .tokens(let count):
      guard (0...tokens).contains(count) else { throw Self.noPlacement(placement) }
      let own = deviceMicroseconds(queries: queries, tokens: tokens - count)
      if count == 0 {
        time.device = layers * own
        time.total = time.device
        return time
      }
      switch hostPart {
      case .computed:
        let exchange = exchangeMicroseconds(queries: queries, merges: true)
        let host = hostMicroseconds(queries: queries, tokens: count)
        time.device = layers * own
        time.host = layers * host
        time.link = layers * exchange
        time.total = layers * max(own, exchange + host - overlap)
      case .copied:
        let copy = copyMicroseconds(tokens: count)
        let copied = deviceMicroseconds(queries: queries, tokens: count)
        time.device = layers * (own + copied)
        time.link = layers * copy
        time.total = layers * (max(own, copy - overlap) + copied)
      }
    }
    return time
  }

  private static func noPlacement(_ placement: KeyValuePlacement) -> QuantError {
    QuantError(
      .invalidArgument, "placement of a cache", "\(placement): that many there are not",
      remedy: "use 0 to all of them")
  }

  /// The fastest placement that fits, among whole layers and token ranges, the host's part computed
  /// or copied; at equal times the one that leaves less on the host.
  ///
  /// Exact: every number of layers is tried. For token ranges the time is the larger of one line that
  /// falls and one that rises with the range (plus, copied, one that rises), so that its least value
  /// is at an end of what fits or beside the crossing, which bisection finds.
  ///
  /// - Throws: ``QuantError``: `.outOfMemory` when nothing fits, naming what the host lacks;
  ///   `.invalidArgument` for lengths without a sense.
  /// - Complexity: O(layers).
  public func plan(queries: Int = 1, tokens: Int) throws(QuantError) -> CooperationPlan {
    let fewestLayers = try fewestLayersOnHost(tokens: tokens)
    let fewestTokens = try fewestTokensOnHost(tokens: tokens)
    var candidates: [KeyValuePlacement] = []
    var failure: QuantError?
    do throws(QuantError) {
      try checkFits(.layers(onHost: fewestLayers), tokens: tokens)
      candidates += (fewestLayers...model.layers).map { .layers(onHost: $0) }
    } catch { failure = error }
    var mostTokens = tokens
    do throws(QuantError) {
      try checkFits(.tokens(onHost: fewestTokens), tokens: tokens)
      let token = hostBytes(.tokens(onHost: 1), tokens: 1)
      mostTokens = min(tokens, max(fewestTokens, hostFreeBytes / token))
      candidates += [.tokens(onHost: fewestTokens), .tokens(onHost: mostTokens)]
      for part in HostPart.allCases {
        let crossing = try crossing(
          part, queries: queries, tokens: tokens, in: fewestTokens...mostTokens)
        candidates += [.tokens(onHost: crossing), .tokens(onHost: max(fewestTokens, crossing - 1))]
      }
      if fewestTokens < mostTokens { candidates.append(.tokens(onHost: fewestTokens + 1)) }
    } catch { failure = error }
    var best: CooperationPlan?
    for placement in candidates where hostBytes(placement, tokens: tokens) <= hostFreeBytes {
      for part in HostPart.allCases {
        let time = try time(placement, part, queries: queries, tokens: tokens)
        let bytes = hostBytes(placement, tokens: tokens)
        if let best,
          (best.time.total, best.hostBytes) <= (time.total, bytes)
        {
          continue
        }
        best = CooperationPlan(
          placement: placement, hostPart: part, time: time,
          deviceBytes: deviceBytes(placement, tokens: tokens), hostBytes: bytes)
      }
    }
    if let best { return best }
    throw failure
      ?? QuantError(
        .outOfMemory, "\(model.name) on \(machine.name)", "no placement fits",
        remedy: "use a shorter input")
  }

  /// The first range whose host side takes longer than the device's own.
  private func crossing(
    _ part: HostPart, queries: Int, tokens: Int, in range: ClosedRange<Int>
  ) throws(QuantError) -> Int {
    func hostIsLonger(_ count: Int) -> Bool {
      let own = deviceMicroseconds(queries: queries, tokens: tokens - count)
      let other =
        switch part {
        case .computed:
          exchangeMicroseconds(queries: queries, merges: true)
            + hostMicroseconds(queries: queries, tokens: count)
        case .copied: copyMicroseconds(tokens: count)
        }
      return other - overlap > own
    }
    var low = range.lowerBound
    var high = range.upperBound
    while low < high {
      let middle = low + (high - low) / 2
      if hostIsLonger(middle) { high = middle } else { low = middle + 1 }
    }
    return low
  }
}
