import DeviceModel

/// Kernels that were counted on a simulated GPU and are timed one after another.
public protocol SimulatedLaunches: Sendable {
  /// What reports call them.
  var label: String { get }
  /// The device that they are timed on.
  var device: DeviceSpec { get }
  /// What was launched, in order.
  var parts: [SimulatedAttention.Part] { get }
  /// The same with other parts, or timed on another device.
  func replacing(device: DeviceSpec, parts: [SimulatedAttention.Part]) -> Self
}

extension SimulatedLaunches {
  /// The same kernels and grids on another device of their generation: counters stay, time changes.
  public func moved(to device: DeviceSpec) -> Self {
    var parts = parts
    for index in parts.indices { parts[index].launch = parts[index].launchOn(device) }
    return replacing(device: device, parts: parts)
  }

  /// The same with every part's launch changed: for sensitivities.
  public func changingLaunches(_ change: (inout Launch) -> Void) -> Self {
    var parts = parts
    for index in parts.indices { change(&parts[index].launch) }
    return replacing(device: device, parts: parts)
  }

  /// The modelled time: layer 2 unless `model` is another.
  ///
  /// - Throws: ``QuantError`` when the device cannot hold a launch, or nothing was launched.
  public func estimate(
    _ model: some TimingModel = LatencyBound()
  ) throws(QuantError) -> Estimate {
    var estimates: [Estimate] = []
    for part in parts {
      estimates.append(
        try QuantError.translating { try model.estimate(part.counters, part.launch, device) })
    }
    guard let whole = Estimate.sequence(estimates) else {
      throw QuantError(
        .invalidArgument, "attention on \(device.identifier)", "nothing was launched",
        remedy: "give at least one query")
    }
    return whole
  }

  /// Counters of everything, sites of all kernels one behind the other.
  public var counters: Counters {
    guard parts.count > 1 else { return parts.first?.counters ?? Counters() }
    var total = Counters()
    for part in parts {
      var rest = part.counters
      let sites = rest.sites
      rest.sites = []
      total.add(rest)
      total.sites += sites
    }
    return total
  }
}
