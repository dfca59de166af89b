import DeviceModel
import Testing

@Suite("Links and topologies")
struct TopologyTests {
  static let catalog: [Topology] = [.dgx1V100, .pcieV100, .ascend910A, .ascend910B]

  static func link(_ latency: Double, _ bandwidth: Double) -> Link {
    Link(
      name: "test", latency: Sourced(latency, .assumed("test")),
      bandwidth: Sourced(bandwidth, .assumed("test")))
  }

  @Test("The catalog's machines are sound: rings visit all, and use no lane twice")
  func catalog() throws {
    for topology in Self.catalog {
      try topology.check()
      for link in [topology.link, topology.host] + (topology.bridge.map { [$0] } ?? []) {
        #expect(!link.latency.provenance.source.isEmpty)
        #expect(!link.bandwidth.provenance.source.isEmpty)
      }
    }
  }

  @Test("A DGX-1 has six lanes a device, and its three rings use all of them")
  func cubeMesh() {
    let machine = Topology.dgx1V100
    for device in 0..<8 {
      let lanes = (0..<8).map { machine.lanes(device, $0) }
      #expect(lanes.reduce(0, +) == 6)
      var used = [Int](repeating: 0, count: 8)
      for ring in machine.rings {
        for index in 0..<8 where ring[index] == device {
          used[ring[(index + 1) % 8]] += 1
          used[ring[(index + 7) % 8]] += 1
        }
      }
      #expect(used == lanes)
    }
    #expect(machine.channels == 6)
    #expect(machine.path(from: 0, to: 3)?.bandwidth.value == 40)
    #expect(machine.path(from: 0, to: 5) == .pcie3)
    #expect(machine.path(from: 0, to: 0) == nil && machine.path(from: 0, to: 8) == nil)
  }

  @Test("910A: two meshes of four; 910B: one of eight, six of whose seven lanes are in rings")
  func ascend() {
    for first in 0..<8 {
      for second in 0..<8 where first != second {
        #expect(Topology.ascend910A.lanes(first, second) == (first / 4 == second / 4 ? 1 : 0))
        #expect(Topology.ascend910B.lanes(first, second) == 1)
      }
    }
    #expect(Topology.ascend910B.channels == 6)
    #expect(Topology.ascend910A.channels == 2)
  }

  private func refusal(_ body: () throws -> Void) -> DeviceError.Code? {
    do { try body() } catch { return (error as? DeviceError)?.code }
    return nil
  }

  @Test("What is no machine is refused")
  func refusals() {
    let good = Self.link(1, 10)
    func make(
      devices: Int = 3, edges: [Topology.Edge]? = nil, link: Link? = nil, sharing: Int = 1,
      rings: [[Int]] = [[0, 1, 2]]
    ) -> DeviceError.Code? {
      refusal {
        _ = try Topology(
          name: "test", devices: devices,
          fabric: .lanes(
            edges ?? [
              Topology.Edge(0, 1, lanes: 1), Topology.Edge(1, 2, lanes: 1),
              Topology.Edge(2, 0, lanes: 1),
            ]), link: link ?? good, host: good, devicesPerHostLink: sharing, rings: rings)
      }
    }
    #expect(make() == nil)
    #expect(make(devices: 0) == .invalidArgument)
    #expect(make(devices: -1) == .invalidArgument)
    #expect(make(devices: Int.max) == .invalidArgument)
    #expect(make(sharing: 0) == .invalidArgument)
    #expect(make(sharing: 4) == .invalidArgument)
    #expect(make(rings: []) == .invalidArgument)
    #expect(make(rings: [[0, 1]]) == .invalidArgument)
    #expect(make(rings: [[0, 1, 1]]) == .invalidArgument)
    #expect(make(rings: [[0, 1, 2], [2, 1, 0]]) == .invalidArgument)
    #expect(make(edges: [Topology.Edge(0, 1, lanes: 1)]) == .invalidArgument)
    #expect(make(edges: [Topology.Edge(0, 3, lanes: 1)]) == .invalidArgument)
    #expect(make(edges: [Topology.Edge(1, 1, lanes: 1)]) == .invalidArgument)
    #expect(make(edges: [Topology.Edge(0, 1, lanes: 0)]) == .invalidArgument)
    for bad in [
      Self.link(-1, 10), Self.link(.nan, 10), Self.link(.infinity, 10), Self.link(1, 0),
      Self.link(1, -1), Self.link(1, .nan), Self.link(1, .infinity),
    ] {
      #expect(make(link: bad) == .invalidArgument)
    }
    for devices in [0, -1, 1025, Int.max] {
      #expect(
        refusal { _ = try Topology.ring(devices: devices, link: good, host: good) }
          == .invalidArgument)
      #expect(
        refusal { _ = try Topology.crossbar(devices: devices, link: good, host: good) }
          == .invalidArgument)
    }
    #expect(
      refusal { _ = try Topology.ring(devices: 2, lanes: 0, link: good, host: good) }
        == .invalidArgument)
  }

  @Test("A memory refuses what does not fit and remembers its peak")
  func memory() throws {
    var memory = try MemoryPool(name: "test", capacity: 100)
    try memory.reserve(60, for: "a")
    #expect(refusal { try memory.reserve(41, for: "b") } == .outOfMemory)
    #expect(refusal { try memory.reserve(-1, for: "b") } == .invalidArgument)
    #expect(refusal { try memory.release(61) } == .invalidArgument)
    try memory.reserve(40, for: "b")
    try memory.release(90)
    #expect(memory.used == 10 && memory.peak == 100 && memory.free == 90)
    #expect(refusal { _ = try MemoryPool(name: "test", capacity: -1) } == .invalidArgument)
  }
}
