/// What a collective costs on a topology: alpha–beta.
public struct Collective: Sendable, Hashable {
  /// The machine.
  public let topology: Topology
  /// How it adds up.
  public let algorithm: CollectiveAlgorithm
  /// From the call to the first message, µs.
  public var start: Sourced

  /// What a call of a collective library costs before anything is sent.
  public static let ringStart = Sourced(
    8.4, .published("NVIDIA/nccl src/graph/tuning.cc: baseLat, ring, Simple"))

  /// A way of adding up on a machine.
  ///
  /// - Throws: ``DeviceError`` `.invalidArgument` for a topology that is none (``Topology/check()``),
  ///   and for an algorithm that needs ways between devices that have none.
  public init(
    topology: Topology, algorithm: CollectiveAlgorithm, start: Sourced = ringStart
  ) throws(DeviceError) {
    try topology.check()
    guard start.value >= 0, start.value.isFinite else {
      throw DeviceError(
        .invalidArgument, "collective", "a start of \(start.value) µs",
        remedy: "use a finite number, at least 0")
    }
    self.topology = topology
    self.algorithm = algorithm
    self.start = start
    // Pairs that share no lane, and have no other way, cannot talk.
    let pairs: [(Int, Int)] =
      switch algorithm {
      case .ring: []
      case .tree: Self.treePairs(topology.devices)
      case .direct:
        (0..<topology.devices).flatMap { first in
          (0..<first).map { (first, $0) }
        }
      }
    var slowest: Link?
    for (first, second) in pairs {
      guard let path = topology.path(from: first, to: second) else {
        throw DeviceError(
          .invalidArgument, "\(algorithm.rawValue) all-reduce on \(topology.name)",
          "devices \(first) and \(second) share no link", remedy: "use the ring algorithm")
      }
      slowest = slowest.map { Self.slower($0, path) } ?? path
    }
    self.slowest = slowest ?? topology.link
  }

  /// The worst α and the worst β among the ways that tree and direct use.
  private let slowest: Link

  private static func slower(_ one: Link, _ other: Link) -> Link {
    Link(
      name: one.name,
      latency: one.latency.value >= other.latency.value ? one.latency : other.latency,
      bandwidth: one.bandwidth.value <= other.bandwidth.value ? one.bandwidth : other.bandwidth)
  }

  private static func treePairs(_ devices: Int) -> [(Int, Int)] {
    var pairs: [(Int, Int)] = []
    var distance = 1
    while distance < devices {
      for device in stride(from: distance, to: devices, by: 2 * distance) {
        pairs.append((device, device - distance))
      }
      distance *= 2
    }
    return pairs
  }

  /// The algorithm that takes the least time for a message, among those that the topology allows.
  ///
  /// - Throws: ``DeviceError`` `.invalidArgument` for a bad topology or a negative size.
  public static func fastest(
    bytes: Double, on topology: Topology, start: Sourced = ringStart
  ) throws(DeviceError) -> Collective {
    var best = try Collective(topology: topology, algorithm: .ring, start: start)
    for algorithm in [CollectiveAlgorithm.tree, .direct] {
      guard
        let other = try? Collective(topology: topology, algorithm: algorithm, start: start)
      else { continue }
      if try other.allReduceMicroseconds(bytes: bytes) < best.allReduceMicroseconds(bytes: bytes) {
        best = other
      }
    }
    return best
  }

  /// Steps of an all-reduce: 2 (G − 1) around rings, 2 ⌈log₂ G⌉ in trees, 2 directly.
  public var steps: Int {
    let devices = topology.devices
    if devices == 1 { return 0 }
    return switch algorithm {
    case .ring: 2 * (devices - 1)
    case .tree: 2 * (Int.bitWidth - (devices - 1).leadingZeroBitCount)
    case .direct: 2
    }
  }

  /// µs of an all-reduce of `bytes` on each of G devices; nothing for no bytes and for one device.
  ///
  /// Ring: 2 (G − 1) α + 2 (G − 1)/G · n/β over the lanes of all rings; tree: 2 ⌈log₂ G⌉ (α + n/β);
  /// direct: 2 α + 2 n/(G β) over lanes, 2 α + 2 (G − 1)/G · n/β through a switch. Each after the
  /// start. Segments are taken as equal, so the time of parts is never less than that of their sum.
  ///
  /// - Throws: ``DeviceError`` `.invalidArgument` for a negative or infinite size.
  public func allReduceMicroseconds(bytes: Double) throws(DeviceError) -> Double {
    try Self.check(bytes: bytes, "all-reduce")
    let devices = Double(topology.devices)
    if devices == 1 || bytes == 0 { return 0 }
    let share = 2 * (devices - 1) / devices * bytes
    let sent: Double
    switch algorithm {
    case .ring:
      let hop = topology.ringHop
      sent =
        Double(steps) * hop.latency.value
        + share / (hop.bandwidth.value * 1e3 * Double(topology.channels))
    case .tree:
      sent = Double(steps) * slowest.microseconds(bytes: bytes)
    case .direct:
      sent =
        2 * slowest.latency.value
        + (topology.fabric == .crossbar ? share : 2 * bytes / devices)
        / (slowest.bandwidth.value * 1e3)
    }
    return start.value + sent
  }

  private static func check(bytes: Double, _ name: String) throws(DeviceError) {
    guard bytes >= 0, bytes.isFinite else {
      throw DeviceError(
        .invalidArgument, name, "\(bytes) bytes", remedy: "use a finite number, at least 0")
    }
  }

  /// µs of an all-gather that leaves `bytes` on each of G devices, 1/G of it from each; nothing for
  /// no bytes and for one device.
  ///
  /// Ring: (G − 1) α + (G − 1)/G · n/β over the lanes of all rings. Tree: parts are collected in
  /// messages that double, the whole is spread: 2 ⌈log₂ G⌉ α + (Σ min(2^s, G − 2^s)/G + ⌈log₂ G⌉) n/β.
  /// Direct: α + n/(G β) over lanes, α + (G − 1)/G · n/β through a switch. Each after the start.
  ///
  /// - Throws: ``DeviceError`` `.invalidArgument` for a negative or infinite size.
  public func allGatherMicroseconds(bytes: Double) throws(DeviceError) -> Double {
    try Self.check(bytes: bytes, "all-gather")
    let devices = topology.devices
    if devices == 1 || bytes == 0 { return 0 }
    let part = bytes / Double(devices)
    let sent: Double
    switch algorithm {
    case .ring:
      let hop = topology.ringHop
      sent =
        Double(devices - 1)
        * (hop.latency.value
          + part / (hop.bandwidth.value * 1e3 * Double(topology.channels)))
    case .tree:
      var time = 0.0
      var distance = 1
      while distance < devices {
        time += slowest.microseconds(bytes: part * Double(min(distance, devices - distance)))
        time += slowest.microseconds(bytes: bytes)
        distance *= 2
      }
      sent = time
    case .direct:
      sent = slowest.microseconds(
        bytes: topology.fabric == .crossbar ? part * Double(devices - 1) : part)
    }
    return start.value + sent
  }

  /// µs of an all-to-all in which every device sends `bytes` to the others, in G − 1 equal messages;
  /// nothing for no bytes and for one device.
  ///
  /// Ring: pairs exchange in G − 1 steps, step s with the device s places on: (G − 1) α + n/β. Direct:
  /// all at once, α + n/β through a switch and α + n/((G − 1) β) over lanes. Each after the start.
  ///
  /// - Throws: ``DeviceError`` `.invalidArgument` for a negative or infinite size, for trees, and for
  ///   devices without a way between them.
  public func allToAllMicroseconds(bytes: Double) throws(DeviceError) -> Double {
    try Self.check(bytes: bytes, "all-to-all")
    let way = try allToAllWay()
    let devices = topology.devices
    if devices == 1 || bytes == 0 { return 0 }
    let message = bytes / Double(devices - 1)
    let sent =
      switch algorithm {
      case .direct:
        way.microseconds(bytes: topology.fabric == .crossbar ? bytes : message)
      case .ring, .tree: Double(devices - 1) * way.microseconds(bytes: message)
      }
    return start.value + sent
  }

  /// The worst way between two devices.
  ///
  /// - Throws: ``DeviceError`` `.invalidArgument` where there is none, and for trees.
  func allToAllWay() throws(DeviceError) -> Link {
    guard algorithm != .tree else {
      throw DeviceError(
        .invalidArgument, "tree all-to-all on \(topology.name)", "every device has other data",
        remedy: "use ring or direct")
    }
    if topology.fabric == .crossbar || topology.devices == 1 { return topology.link }
    return try Collective(topology: topology, algorithm: .direct, start: start).slowest
  }
}
