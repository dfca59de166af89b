/// One lane of a connection, in one direction: a message of n bytes takes α + n / β.
public struct Link: Sendable, Hashable {
  /// What it is: `NVLink 2`.
  public var name: String
  /// α: from the start of an empty message to its arrival, µs.
  public var latency: Sourced
  /// β: what it sustains one way, GB/s (10⁹ bytes).
  public var bandwidth: Sourced

  /// A link with the given α and β.
  public init(name: String, latency: Sourced, bandwidth: Sourced) {
    self.name = name
    self.latency = latency
    self.bandwidth = bandwidth
  }

  /// µs of one message.
  public func microseconds(bytes: Double) -> Double {
    latency.value + bytes / (bandwidth.value * 1e3)
  }

  /// The same link with α and β multiplied, for sensitivities.
  public func scaled(latency: Double = 1, bandwidth: Double = 1) -> Link {
    Link(
      name: name, latency: self.latency.scaled(by: latency),
      bandwidth: self.bandwidth.scaled(by: bandwidth))
  }

  /// - Throws: ``DeviceError`` `.invalidArgument` unless α is finite and not negative, and β finite
  ///   and positive.
  func check() throws(DeviceError) {
    guard latency.value >= 0, latency.value.isFinite else {
      throw DeviceError(
        .invalidArgument, "link \(name)", "latency \(latency.value) µs",
        remedy: "use a finite number, at least 0")
    }
    guard bandwidth.value > 0, bandwidth.value.isFinite else {
      throw DeviceError(
        .invalidArgument, "link \(name)", "bandwidth \(bandwidth.value) GB/s",
        remedy: "use a finite number above 0")
    }
  }
}

/// NCCL's own constants: what its tuner assumes of rings with the protocol for large messages.
private let tuner = Provenance.published(
  "NVIDIA/nccl src/graph/tuning.cc: hwLat, ring, Simple; topo.h: bandwidths")

extension Link {
  /// A lane between two V100: 25 GB/s each way on the sheet, 20 in NCCL's tuner.
  public static let nvlink2 = Link(
    name: "NVLink 2", latency: Sourced(3.4, tuner), bandwidth: Sourced(20, tuner))

  /// PCI Express 3, 16 lanes: 16 GB/s on the sheet, 12 in NCCL's tuner.
  public static let pcie3 = Link(
    name: "PCI Express 3 x16", latency: Sourced(5.7, tuner), bandwidth: Sourced(12, tuner))

  /// One of the three links of an Ascend 910A: 240 Gb/s.
  public static let hccs910A = Link(
    name: "HCCS of the 910A", latency: Sourced(5, .assumed("no measurement found")),
    bandwidth: Sourced(30, .published("Hot Chips slides of the Ascend 910: 3 × 240 Gb/s")))

  /// One of the seven links of an Ascend 910B in a mesh of eight.
  public static let hccs910B = Link(
    name: "HCCS of the 910B", latency: Sourced(5, .assumed("no measurement found")),
    bandwidth: Sourced(28, .recalled("392 GB/s both ways over seven links")))

  /// 100 Gb/s Ethernet between machines: 12.5 GB/s on the sheet.
  public static let ethernet100 = Link(
    name: "100 Gb Ethernet",
    latency: Sourced(
      9.6, .published("NVIDIA/nccl src/graph/tuning.cc: hwLat, network, ring, Simple")),
    bandwidth: Sourced(11.5, .assumed("0.92 of the line rate, for headers; no measurement found")))

  /// PCI Express 4, 16 lanes: 32 GB/s on the sheet.
  public static let pcie4 = Link(
    name: "PCI Express 4 x16", latency: Sourced(5.7, tuner),
    bandwidth: Sourced(24, .derived("NCCL's 12 GB/s of PCI Express 3, twice")))
}
