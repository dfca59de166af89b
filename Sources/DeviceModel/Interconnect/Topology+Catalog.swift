extension Topology {
  /// Eight V100 as in a DGX-1: a cube mesh of NVLink 2, six lanes a device.
  ///
  /// Source of the edges: the topology file of a DGX-1 with V100 in NVIDIA/nccl issue #671. The three
  /// rings are its decomposition into cycles through all devices: two over the double lanes (the same
  /// order twice), one over the single ones; they use every lane once. Two devices share a PCI
  /// Express switch and its way to the host.
  public static let dgx1V100 = Topology(
    unchecked: "8 × V100 (DGX-1)", devices: 8,
    fabric: .lanes([
      Edge(0, 1, lanes: 1), Edge(0, 2, lanes: 1), Edge(0, 3, lanes: 2), Edge(0, 4, lanes: 2),
      Edge(1, 2, lanes: 2), Edge(1, 3, lanes: 1), Edge(1, 5, lanes: 2), Edge(2, 3, lanes: 2),
      Edge(2, 6, lanes: 1), Edge(3, 7, lanes: 1), Edge(4, 5, lanes: 1), Edge(4, 6, lanes: 1),
      Edge(4, 7, lanes: 2), Edge(5, 6, lanes: 2), Edge(5, 7, lanes: 1), Edge(6, 7, lanes: 2),
    ]),
    link: .nvlink2, bridge: .pcie3, host: .pcie3, devicesPerHostLink: 2,
    rings: [
      [0, 3, 2, 1, 5, 6, 7, 4], [0, 3, 2, 1, 5, 6, 7, 4], [0, 1, 3, 7, 5, 4, 6, 2],
    ])

  /// Eight V100 without NVLink, all through PCI Express.
  public static let pcieV100 = Topology(
    unchecked: "8 × V100 (PCI Express)", devices: 8, fabric: .crossbar, link: .pcie3, bridge: nil,
    host: .pcie3, devicesPerHostLink: 2, rings: [Array(0..<8)])

  /// Eight Ascend 910A: two meshes of four over HCCS, PCI Express between them.
  public static let ascend910A = Topology(
    unchecked: "8 × Ascend 910A", devices: 8,
    fabric: .lanes(meshEdges(0..<4) + meshEdges(4..<8)),
    link: .hccs910A, bridge: .pcie3, host: .pcie3, devicesPerHostLink: 1,
    rings: [[0, 1, 2, 3, 7, 6, 5, 4]])

  /// Eight Ascend 910B: every pair connected by HCCS.
  ///
  /// Source: hiascend.com, PyTorch performance tuning, hardware of 8 devices ("Fullmesh"). The three
  /// rings use six of a device's seven lanes; the four lanes left form no ring.
  public static let ascend910B = Topology(
    unchecked: "8 × Ascend 910B", devices: 8, fabric: .lanes(meshEdges(0..<8)), link: .hccs910B,
    bridge: nil, host: .pcie3, devicesPerHostLink: 1, rings: meshRings(8))

  /// Devices in a ring, `lanes` between neighbors.
  ///
  /// - Throws: ``DeviceError`` as ``check()``.
  public static func ring(
    devices: Int, lanes: Int = 1, link: Link, host: Link
  ) throws(DeviceError) -> Topology {
    guard devices >= 1, devices <= mostDevices, lanes >= 1, lanes <= 1024 else {
      throw DeviceError(
        .invalidArgument, "ring", "\(devices) devices with \(lanes) lanes",
        remedy: "use 1 to \(mostDevices) devices and 1 to 1024 lanes")
    }
    let edges =
      devices == 1
      ? [] : (0..<(devices == 2 ? 1 : devices)).map { Edge($0, ($0 + 1) % devices, lanes: lanes) }
    return try Topology(
      name: "ring of \(devices)", devices: devices, fabric: .lanes(edges), link: link, host: host,
      rings: Array(repeating: Array(0..<devices), count: lanes))
  }

  /// Devices around a switch that never blocks.
  ///
  /// - Throws: ``DeviceError`` as ``check()``.
  public static func crossbar(
    devices: Int, link: Link, host: Link
  ) throws(DeviceError) -> Topology {
    guard devices >= 1, devices <= mostDevices else {
      throw DeviceError(
        .invalidArgument, "switch", "\(devices) devices", remedy: "use 1 to \(mostDevices)")
    }
    return try Topology(
      name: "switch of \(devices)", devices: devices, fabric: .crossbar, link: link, host: host,
      rings: [Array(0..<devices)])
  }

  /// A lane between every two devices of a range.
  private static func meshEdges(_ devices: Range<Int>) -> [Edge] {
    devices.flatMap { first in
      (first + 1..<devices.upperBound).map { Edge(first, $0, lanes: 1) }
    }
  }

  /// n/2 − 1 cycles through an even number n of devices that share no lane (Walecki): one device
  /// stands in the middle, the others on a circle, and zigzags across it are turned step by step.
  private static func meshRings(_ devices: Int) -> [[Int]] {
    let circle = devices - 1
    return (0..<devices / 2 - 1).map { turn in
      var order = [devices - 1]
      for step in 0..<circle {
        let offset = step % 2 == 0 ? step / 2 : circle - (step + 1) / 2
        order.append((turn + offset) % circle)
      }
      return order
    }
  }
}
