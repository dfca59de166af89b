/// How the devices of one machine are connected with each other and with their host.
public struct Topology: Sendable, Hashable {
  /// Lanes between two devices.
  public struct Edge: Sendable, Hashable {
    /// A device.
    public let first: Int
    /// Another.
    public let second: Int
    /// Lanes between them, each used both ways at once.
    public let lanes: Int

    /// Lanes between two devices.
    public init(_ first: Int, _ second: Int, lanes: Int) {
      self.first = first
      self.second = second
      self.lanes = lanes
    }
  }

  /// What lies between the devices.
  public enum Fabric: Sendable, Hashable {
    /// Lanes from device to device.
    case lanes([Edge])
    /// A switch that never blocks; every device has one link into it.
    case crossbar
  }

  /// The name by which reports call it.
  public var name: String
  /// Devices, numbered from 0.
  public var devices: Int
  /// What lies between them.
  public var fabric: Fabric
  /// A lane of an edge, or a device's link into the switch.
  public var link: Link
  /// The way between devices that share no edge; nil: there is none.
  public var bridge: Link?
  /// The way between a device and its host.
  public var host: Link
  /// Devices that share one such way.
  public var devicesPerHostLink: Int
  /// Orders in which rings visit all devices; each takes a lane of every edge that it uses, in both
  /// directions. A switch has one ring, in one direction.
  public var rings: [[Int]]

  /// Whoever builds the catalog's values checks them in a test.
  init(
    unchecked name: String, devices: Int, fabric: Fabric, link: Link, bridge: Link?, host: Link,
    devicesPerHostLink: Int, rings: [[Int]]
  ) {
    self.name = name
    self.devices = devices
    self.fabric = fabric
    self.link = link
    self.bridge = bridge
    self.host = host
    self.devicesPerHostLink = devicesPerHostLink
    self.rings = rings
  }

  /// A machine.
  ///
  /// - Throws: ``DeviceError`` as ``check()``.
  public init(
    name: String, devices: Int, fabric: Fabric, link: Link, bridge: Link? = nil, host: Link,
    devicesPerHostLink: Int = 1, rings: [[Int]]
  ) throws(DeviceError) {
    self.init(
      unchecked: name, devices: devices, fabric: fabric, link: link, bridge: bridge, host: host,
      devicesPerHostLink: devicesPerHostLink, rings: rings)
    try check()
  }

  /// The most devices of a machine.
  public static let mostDevices = 1024

  /// - Throws: ``DeviceError`` `.invalidArgument` for a number of devices outside 1 ... 1024, links
  ///   without a sense, edges to devices that are not there, rings that miss a device, have no way
  ///   between neighbors or use more lanes than there are.
  /// - Complexity: O(devices · rings + edges).
  public func check() throws(DeviceError) {
    func refuse(_ problem: String, _ remedy: String) -> DeviceError {
      DeviceError(.invalidArgument, "topology \(name)", problem, remedy: remedy)
    }
    guard devices >= 1, devices <= Self.mostDevices else {
      throw refuse("\(devices) devices", "use 1 to \(Self.mostDevices)")
    }
    guard devicesPerHostLink >= 1, devicesPerHostLink <= devices else {
      throw refuse(
        "\(devicesPerHostLink) of \(devices) devices on a host link", "use 1 to all of them")
    }
    try link.check()
    try bridge?.check()
    try host.check()
    if case .lanes(let edges) = fabric {
      for edge in edges {
        guard (0..<devices).contains(edge.first), (0..<devices).contains(edge.second),
          edge.first != edge.second, edge.lanes >= 1
        else {
          throw refuse(
            "\(edge.lanes) lanes between devices \(edge.first) and \(edge.second) of \(devices)",
            "connect two different devices by at least one lane")
        }
      }
    }
    var used: [Int: Int] = [:]
    for ring in rings {
      guard ring.sorted() == Array(0..<devices) else {
        throw refuse("the ring \(ring) does not visit every device once", "list each device once")
      }
      if devices == 1 || fabric == .crossbar { continue }
      // A ring of two passes its one edge there and back, which is the two directions of a lane.
      for index in 0..<(devices == 2 ? 1 : devices) {
        let (from, to) = (ring[index], ring[(index + 1) % devices])
        let lanes = self.lanes(from, to)
        let key = min(from, to) * devices + max(from, to)
        used[key, default: 0] += 1
        guard lanes == 0 ? bridge != nil : used[key, default: 0] <= lanes else {
          throw refuse(
            "rings use \(used[key, default: 0]) lanes between devices \(from) and \(to), which "
              + "share \(lanes)", "take another order or fewer rings")
        }
      }
    }
    guard devices == 1 || !rings.isEmpty else {
      throw refuse("no ring", "give an order of the devices")
    }
  }

  /// Lanes between two devices; 0 where there are none, and in a switch.
  public func lanes(_ first: Int, _ second: Int) -> Int {
    guard case .lanes(let edges) = fabric else { return 0 }
    return edges.reduce(0) { sum, edge in
      (edge.first, edge.second) == (first, second) || (edge.first, edge.second) == (second, first)
        ? sum + edge.lanes : sum
    }
  }

  /// Rings counted by direction: how many segments of a message travel at once. Two devices have
  /// both directions of a lane in one ring; a switch's link is shared by all rings.
  public var channels: Int {
    if devices == 1 { return 0 }
    if fabric == .crossbar { return 1 }
    return devices == 2 ? rings.count : 2 * rings.count
  }

  /// The way from one device to another with all their lanes together: direct, through the switch,
  /// or over the bridge; nil where there is none.
  public func path(from first: Int, to second: Int) -> Link? {
    guard first != second, (0..<devices).contains(first), (0..<devices).contains(second) else {
      return nil
    }
    if fabric == .crossbar { return link }
    let lanes = lanes(first, second)
    return lanes == 0 ? bridge : link.scaled(bandwidth: Double(lanes))
  }

  /// The slowest hop of the rings, one lane of it.
  var ringHop: Link {
    guard fabric != .crossbar, devices > 1, let bridge else { return link }
    for ring in rings {
      for index in ring.indices where lanes(ring[index], ring[(index + 1) % devices]) == 0 {
        return Link(
          name: bridge.name,
          latency: bridge.latency.value > link.latency.value ? bridge.latency : link.latency,
          bandwidth: bridge.bandwidth.value < link.bandwidth.value
            ? bridge.bandwidth : link.bandwidth)
      }
    }
    return link
  }

  /// The same machine with α and β of the links between devices multiplied, for sensitivities.
  public func scaled(latency: Double = 1, bandwidth: Double = 1) -> Topology {
    var copy = self
    copy.link = link.scaled(latency: latency, bandwidth: bandwidth)
    copy.bridge = bridge?.scaled(latency: latency, bandwidth: bandwidth)
    return copy
  }
}
