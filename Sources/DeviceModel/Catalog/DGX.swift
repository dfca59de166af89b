/// A way in which a collective library moves data: its start, and α and β of a hop.
public struct CollectiveProtocol: Sendable, Hashable {
  /// The library's name for it: `LL`.
  public var name: String
  /// From the call to the first message, µs.
  public var start: Sourced
  /// A hop of an all-reduce.
  public var allReduce: Link
  /// A hop of the others.
  public var other: Link

  /// A way of moving data.
  public init(name: String, start: Sourced, allReduce: Link, other: Link) {
    self.name = name
    self.start = start
    self.allReduce = allReduce
    self.other = other
  }
}

/// Several devices around a switch, as one machine.
public struct MultiDeviceMachine: Sendable, Hashable {
  /// The name by which it is asked for: `dgx-a100`.
  public var identifier: String
  /// The name on the box.
  public var name: String
  /// One of its devices.
  public var device: DeviceSpec
  /// Devices.
  public var devices: Sourced
  /// A device's link into the switch, each way, GB/s on the sheet.
  public var linkPeak: Sourced
  /// What the collective library can choose between.
  public var protocols: [CollectiveProtocol]
  /// The way to the host.
  public var host: Link

  /// Every number with its label and unit, in a fixed order.
  public var numbers: [(label: String, unit: String, number: Sourced)] {
    var list: [(label: String, unit: String, number: Sourced)] = [
      ("devices", "", devices), ("link into the switch, each way", "GB/s", linkPeak),
    ]
    for way in protocols {
      list += [
        ("\(way.name): start", "µs", way.start),
        ("\(way.name): α of a hop", "µs", way.allReduce.latency),
        ("\(way.name): β, all-reduce", "GB/s", way.allReduce.bandwidth),
        ("\(way.name): β, others", "GB/s", way.other.bandwidth),
      ]
    }
    return list + [("host link, one way", "GB/s", host.bandwidth)]
  }

  /// Collectives of a machine.
  public enum Operation: String, Sendable, Hashable, CaseIterable {
    /// Every device ends with the sum of all devices' vectors.
    case allReduce = "all-reduce"
    /// Every device ends with all devices' parts, side by side.
    case allGather = "all-gather"
    /// Every device sends each other device a part of its own.
    case allToAll = "all-to-all"
  }

  /// A collective's time and how it is got.
  public struct CollectiveTime: Sendable, Hashable {
    /// µs.
    public let microseconds: Double
    /// The protocol.
    public let protocolName: String
    /// The algorithm.
    public let algorithm: CollectiveAlgorithm
  }

  /// The fastest way, among the protocols, of a collective over some of the devices.
  ///
  /// - Parameters:
  ///   - bytes: all-reduce: of each device's vector; all-gather: of the gathered one; all-to-all: what
  ///     a device sends to the others.
  ///   - algorithm: ring or tree for reductions and gathers; nil takes the faster one. All-to-alls
  ///     are sent directly, as grouped sends and receives are.
  ///   - latency: factor of α, of hops and starts.
  ///   - bandwidth: factor of β.
  ///   - operation: the collective.
  ///   - devices: how many take part.
  /// - Throws: ``DeviceError`` `.invalidArgument` for devices that the machine does not have, a bad
  ///   size, or factors that are not positive.
  public func microseconds(
    _ operation: Operation, bytes: Double, devices: Int, algorithm: CollectiveAlgorithm? = .ring,
    latency: Double = 1, bandwidth: Double = 1
  ) throws(DeviceError) -> CollectiveTime {
    guard devices >= 1, devices <= self.devices.count else {
      throw DeviceError(
        .invalidArgument, name, "\(devices) of its \(self.devices.count) devices",
        remedy: "use 1 to \(self.devices.count)")
    }
    var best: CollectiveTime?
    for way in protocols {
      let link = (operation == .allReduce ? way.allReduce : way.other)
        .scaled(latency: latency, bandwidth: bandwidth)
      let topology = try Topology.crossbar(devices: devices, link: link, host: host)
      let algorithms: [CollectiveAlgorithm] =
        operation == .allToAll ? [.direct] : algorithm.map { [$0] } ?? [.ring, .tree]
      for algorithm in algorithms {
        let collective = try Collective(
          topology: topology, algorithm: algorithm, start: way.start.scaled(by: latency))
        let time =
          switch operation {
          case .allReduce: try collective.allReduceMicroseconds(bytes: bytes)
          case .allGather: try collective.allGatherMicroseconds(bytes: bytes)
          case .allToAll: try collective.allToAllMicroseconds(bytes: bytes)
          }
        if time < best?.microseconds ?? .infinity {
          best = CollectiveTime(
            microseconds: time, protocolName: way.name, algorithm: algorithm)
        }
      }
    }
    guard let best else {
      throw DeviceError(
        .invalidArgument, name, "no way of moving data", remedy: "give it a protocol")
    }
    return best
  }

  /// The machine with another α, β or both in every protocol; their starts stay.
  ///
  /// - Throws: ``DeviceError`` `.invalidArgument` for an α that is negative or a β that is not
  ///   positive.
  public func with(latency: Double?, bandwidth: Double?) throws(DeviceError) -> MultiDeviceMachine {
    if latency == nil, bandwidth == nil { return self }
    var copy = self
    copy.protocols = protocols.map { way in
      var way = way
      for path in [\CollectiveProtocol.allReduce, \.other] {
        if let latency { way[keyPath: path].latency = Sourced(latency, .assumed("given")) }
        if let bandwidth { way[keyPath: path].bandwidth = Sourced(bandwidth, .assumed("given")) }
      }
      return way
    }
    for way in copy.protocols {
      try way.allReduce.check()
      try way.other.check()
    }
    return copy
  }

  /// Every machine.
  public static let all: [MultiDeviceMachine] = [.dgxA100, .dgxH100]

  /// The machine of that identifier.
  ///
  /// - Throws: ``DeviceError`` with `.unknownDevice`, naming the known ones.
  public static func named(_ identifier: String) throws(DeviceError) -> MultiDeviceMachine {
    if let machine = all.first(where: { $0.identifier == identifier }) { return machine }
    throw DeviceError(
      .unknownDevice, "device \"\(identifier)\"", "no machine of the catalog",
      remedy: "use one of " + all.map(\.identifier).joined(separator: ", "))
  }
}

/// NCCL's tuner at commit 01afd20 (2022): `baseLat`, `hwLat` of NVLink, and how it derives each
/// protocol's bandwidth from the links'.
private let tuner = Provenance.published("NVIDIA/nccl src/graph/tuning.cc: baseLat and hwLat, ring")

extension CollectiveProtocol {
  /// NCCL's three protocols over links of `bandwidth` GB/s: LL sends 4 bytes of flag with 4 of data
  /// and keeps a quarter (all-reduce) or a third of the rate, LL128 0.92 of it.
  static func nccl(bandwidth: Double, _ provenance: Provenance) -> [CollectiveProtocol] {
    func link(_ name: String, _ latency: Double, _ share: Double) -> Link {
      Link(
        name: "NVLink, \(name)", latency: Sourced(latency, tuner),
        bandwidth: Sourced(bandwidth * share, provenance))
    }
    return [
      CollectiveProtocol(
        name: "LL", start: Sourced(3.6, tuner), allReduce: link("LL", 0.47, 1.0 / 4),
        other: link("LL", 0.47, 1.0 / 3)),
      CollectiveProtocol(
        name: "LL128", start: Sourced(10, tuner), allReduce: link("LL128", 1.9, 0.92),
        other: link("LL128", 1.9, 0.92)),
      CollectiveProtocol(
        name: "Simple", start: Sourced(8.4, tuner), allReduce: link("Simple", 3.4, 1),
        other: link("Simple", 3.4, 1)),
    ]
  }
}

extension MultiDeviceMachine {
  /// DGX A100: eight A100 80 GB, NVLink 3 through NVSwitch.
  public static let dgxA100 = MultiDeviceMachine(
    identifier: "dgx-a100", name: "DGX A100 (8 × A100 80 GB)", device: .a100x80,
    devices: Sourced(8, .published("NVIDIA DGX A100 datasheet")),
    linkPeak: Sourced(300, .published("NVIDIA A100 datasheet: 600 GB/s both ways together")),
    protocols: CollectiveProtocol.nccl(
      bandwidth: 235,
      .published("NVIDIA/nccl src/graph/tuning.cc: at most 235 GB/s with capability 8.0; LL ¼, ⅓")),
    host: Link(
      name: "PCI Express 4 x16", latency: Link.pcie3.latency, bandwidth: DeviceSpec.a100x80.pcie))

  /// DGX H100: eight H100 SXM, NVLink 4 through NVSwitch.
  public static let dgxH100 = MultiDeviceMachine(
    identifier: "dgx-h100", name: "DGX H100 (8 × H100 SXM)", device: .h100,
    devices: Sourced(8, .published("NVIDIA DGX H100 datasheet")),
    linkPeak: Sourced(450, .published("NVIDIA H100 datasheet: 900 GB/s both ways together")),
    protocols: CollectiveProtocol.nccl(
      bandwidth: 360,
      .assumed(
        "0.8 of the sheet's 450 GB/s, as the A100's 235 is 0.78 of 300; hops as on the A100")),
    host: Link(
      name: "PCI Express 5 x16", latency: Link.pcie3.latency, bandwidth: DeviceSpec.h100.pcie))
}
