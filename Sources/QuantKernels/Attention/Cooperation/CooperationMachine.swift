import DeviceModel

/// Accelerators that share a host, as the placement of a cache sees them.
public struct CooperationMachine: Sendable, Hashable {
  /// The machine's name.
  public var name: String
  /// Accelerators; each holds 1/G of the heads and of the weights.
  public var devices: Int
  /// Memory of each, bytes.
  public var deviceMemory: Sourced
  /// Rates of each.
  public var device: AcceleratorRate
  /// Memory of the host, bytes.
  public var hostMemory: Sourced
  /// Rates of the host; a launch is the wake-up of its threads.
  public var host: AcceleratorRate
  /// The way between a device and the host.
  public var hostLink: Link
  /// Devices that share one such way.
  public var devicesPerHostLink: Int
  /// Memory of a device that nobody may use, bytes: context, libraries, fragmentation.
  public var reserve: Sourced
  /// Memory of the host that is not for caches, bytes.
  public var hostReserve: Sourced
  /// Buffers of a chunk's hidden states that are alive at once in a layer.
  public var activationBuffers: Sourced
  /// Rows that a prompt is computed by.
  public var promptChunk: Sourced

  /// Eight V100 in a DGX-1.
  ///
  /// - Parameter gigabytes: memory of each, GiB: 16 or 32. Which the paper had is not known.
  public static func dgx1V100(gigabytes: Int) -> CooperationMachine {
    let gibibyte = Double(1 << 30)
    return CooperationMachine(
      name: "8 × V100 of \(gigabytes) GiB", devices: 8,
      deviceMemory: Sourced(
        Double(gigabytes) * gibibyte, .published("V100 data sheet: 16 or 32 GB")),
      device: .v100,
      hostMemory: Sourced(
        512 * gibibyte, .published("NVIDIA forum 148508: DGX-1 has 512 GB of DDR4-2133")),
      host: AcceleratorRate(
        name: "2 × Xeon E5-2698 v4",
        compute: Sourced(
          1.4, .derived("2 · 20 cores · 2.2 GHz · 16 multiply-adds, half of that reached")),
        bandwidth: Sourced(
          110, .derived("8 channels of DDR4-2133: 136.5 GB/s, 80 % of that reached")),
        launch: Sourced(10, .assumed("waking threads and a synchronisation with the device"))),
      hostLink: .pcie3, devicesPerHostLink: Topology.dgx1V100.devicesPerHostLink,
      reserve: Sourced(1 * gibibyte, .assumed("context, libraries, fragmentation")),
      hostReserve: Sourced(32 * gibibyte, .assumed("system, and weights while loading")),
      activationBuffers: Sourced(
        8, .assumed("hidden state, residual, queries, keys, values, attention, MLP twice")),
      promptChunk: Sourced(4096, .assumed("rows that keep tensor cores busy")))
  }

  /// What can be varied, for sensitivities: all that has no source, and the host's memory, which is
  /// another machine's guess.
  public enum Parameter: String, Sendable, CaseIterable {
    /// Bytes of a device that are not given out.
    case deviceReserve = "device reserve"
    /// Bytes of the host that are not given out.
    case hostReserve = "host reserve"
    /// Buffers of activations on a device.
    case activationBuffers = "activation buffers"
    /// Tokens of a prompt that are read at once.
    case promptChunk = "prompt chunk"
    /// Seconds until the host's threads have begun.
    case hostLaunch = "host launch"
    /// Bytes a second of the host's memory.
    case hostMemory = "host memory"
  }

  /// The same machine with one of its numbers multiplied.
  public func scaled(_ parameter: Parameter, by factor: Double) -> CooperationMachine {
    var copy = self
    switch parameter {
    case .deviceReserve: copy.reserve = reserve.scaled(by: factor)
    case .hostReserve: copy.hostReserve = hostReserve.scaled(by: factor)
    case .activationBuffers: copy.activationBuffers = activationBuffers.scaled(by: factor)
    case .promptChunk: copy.promptChunk = promptChunk.scaled(by: factor)
    case .hostLaunch: copy.host.launch = host.launch.scaled(by: factor)
    case .hostMemory: copy.hostMemory = hostMemory.scaled(by: factor)
    }
    return copy
  }

  /// - Throws: ``QuantError`` `.invalidArgument` for numbers without a sense.
  func check() throws(QuantError) {
    func refuse(_ problem: String) -> QuantError {
      QuantError(
        .invalidArgument, "machine \(name)", problem, remedy: "use finite, positive numbers")
    }
    guard (1...Topology.mostDevices).contains(devices), (1...devices).contains(devicesPerHostLink)
    else { throw refuse("\(devices) devices, \(devicesPerHostLink) a host link") }
    for (name, number) in [
      ("device memory", deviceMemory), ("host memory", hostMemory), ("reserve", reserve),
      ("host reserve", hostReserve), ("activation buffers", activationBuffers),
      ("prompt chunk", promptChunk), ("device launch", device.launch), ("host launch", host.launch),
      ("link latency", hostLink.latency),
    ] where !(number.value >= 0 && number.value <= 1e18) {
      throw refuse("\(name) of \(number.value)")
    }
    for (name, number) in [
      ("device compute", device.compute), ("device bandwidth", device.bandwidth),
      ("host compute", host.compute), ("host bandwidth", host.bandwidth),
      ("link bandwidth", hostLink.bandwidth),
    ] where !(number.value > 0 && number.value <= 1e18) {
      throw refuse("\(name) of \(number.value)")
    }
  }
}
