import DeviceModel
import Testing

@Suite("Collectives")
struct CollectiveTests {
  /// Runs the messages on values: those of one step start from what was there before it.
  private func execute(_ schedule: CollectiveSchedule) -> [[Int]] {
    var values = (0..<schedule.devices).map { device in
      (0..<schedule.elements).map { (device + 1) * ($0 + 3) }
    }
    for step in schedule.steps {
      let before = values
      for message in step {
        for element in message.elements {
          let sent = before[message.source][element]
          if message.adds {
            values[message.destination][element] += sent
          } else {
            values[message.destination][element] = sent
          }
        }
      }
    }
    return values
  }

  private static func machines() throws -> [Topology] {
    var list: [Topology] = [.dgx1V100, .pcieV100, .ascend910A, .ascend910B]
    for devices in [1, 2, 3, 4, 5, 7, 8, 16] {
      list.append(
        try Topology.ring(
          devices: devices, lanes: 2, link: TopologyTests.link(1, 10),
          host: TopologyTests.link(1, 10)))
      list.append(
        try Topology.crossbar(
          devices: devices, link: TopologyTests.link(1, 10), host: TopologyTests.link(1, 10)))
    }
    return list
  }

  @Test("Every algorithm leaves the sum on every device, and sends 2 (G − 1) n elements in all")
  func executed() throws {
    for machine in try Self.machines() {
      let devices = machine.devices
      for algorithm in CollectiveAlgorithm.allCases {
        guard (try? Collective(topology: machine, algorithm: algorithm)) != nil else { continue }
        for elements in [0, 1, 2, devices - 1, devices, 6 * devices, 100, 97] {
          let schedule = try CollectiveSchedule.allReduce(
            elements: elements, algorithm: algorithm, on: machine)
          let all = devices * (devices + 1) / 2
          let expected = (0..<elements).map { all * ($0 + 3) }
          let found = execute(schedule)
          #expect(found.allSatisfy { $0 == expected }, "\(machine.name) \(algorithm) \(elements)")
          #expect(schedule.elementsSent.reduce(0, +) == 2 * (devices - 1) * elements)
          #expect(schedule.steps.allSatisfy { $0.allSatisfy { !$0.elements.isEmpty } })
          for step in schedule.steps {
            for message in step {
              #expect(machine.path(from: message.source, to: message.destination) != nil)
            }
          }
          if devices == 1 || elements == 0 { #expect(schedule.messages == 0) }
        }
      }
    }
  }

  @Test("Counted bytes, messages and steps are the formulas' where segments are equal")
  func counters() throws {
    for machine in try Self.machines() where machine.devices > 1 {
      let devices = machine.devices
      let elements = devices * machine.channels * 12
      let ring = try CollectiveSchedule.allReduce(
        elements: elements, algorithm: .ring, on: machine)
      #expect(ring.elementsSent.allSatisfy { $0 == 2 * (devices - 1) * elements / devices })
      #expect(ring.steps.count == 2 * (devices - 1))
      #expect(ring.messages == 2 * (devices - 1) * devices * machine.channels)
      guard (try? Collective(topology: machine, algorithm: .direct)) != nil else { continue }
      let direct = try CollectiveSchedule.allReduce(
        elements: elements, algorithm: .direct, on: machine)
      #expect(direct.steps.count == 2)
      #expect(direct.elementsSent.allSatisfy { $0 == 2 * (devices - 1) * elements / devices })
      let tree = try CollectiveSchedule.allReduce(
        elements: elements, algorithm: .tree, on: machine)
      #expect(tree.messages == 2 * (devices - 1))
    }
  }

  @Test("The closed formulas are the times of the executed messages")
  func times() throws {
    for machine in try Self.machines() {
      let elements = machine.devices * max(1, machine.channels) * 1024
      for algorithm in CollectiveAlgorithm.allCases {
        guard
          let collective = try? Collective(
            topology: machine, algorithm: algorithm, start: Sourced(0, .assumed("test")))
        else { continue }
        let schedule = try CollectiveSchedule.allReduce(
          elements: elements, algorithm: algorithm, on: machine)
        let formula = try collective.allReduceMicroseconds(bytes: Double(4 * elements))
        let executed = schedule.microseconds(bytesPerElement: 4, on: machine)
        #expect(schedule.steps.count == collective.steps)
        // The tree's formula takes the slowest pair for every step.
        if algorithm == .tree {
          #expect(executed <= formula * (1 + 1e-12))
        } else {
          #expect(abs(executed - formula) <= 1e-9 * formula, "\(machine.name) \(algorithm)")
        }
      }
    }
  }

  /// ASTRA-sim's inputs for eight H100: 400 GB/s, 936.25 ns; 1 MiB takes 13.1 µs + 4.6 µs.
  @Test("A known value")
  func known() throws {
    let machine = try Topology.crossbar(
      devices: 8, link: TopologyTests.link(0.93625, 400), host: TopologyTests.link(1, 10))
    let ring = try Collective(
      topology: machine, algorithm: .ring, start: Sourced(0, .assumed("test")))
    let time = try ring.allReduceMicroseconds(bytes: 1_048_576)
    #expect(abs(time - (14 * 0.93625 + 1.75 * 1.048576 / 0.4)) < 1e-9)
    #expect(abs(time - 17.7) < 0.05)
  }

  @Test("The fastest algorithm is none of the slower ones")
  func fastest() throws {
    for machine in try Self.machines() {
      for bytes in [0.0, 100, 1e5, 1e8] {
        let best = try Collective.fastest(bytes: bytes, on: machine)
          .allReduceMicroseconds(bytes: bytes)
        for algorithm in CollectiveAlgorithm.allCases {
          guard let other = try? Collective(topology: machine, algorithm: algorithm) else {
            continue
          }
          #expect(try best <= other.allReduceMicroseconds(bytes: bytes))
        }
      }
    }
  }

  @Test("One device and no bytes cost nothing; bad sizes and missing ways are refused")
  func edges() throws {
    let one = try Topology.ring(
      devices: 1, link: TopologyTests.link(1, 10), host: TopologyTests.link(1, 10))
    for algorithm in CollectiveAlgorithm.allCases {
      let collective = try Collective(topology: one, algorithm: algorithm)
      #expect(try collective.allReduceMicroseconds(bytes: 1e9) == 0)
      #expect(collective.steps == 0)
    }
    let ring = try Collective(topology: .dgx1V100, algorithm: .ring)
    #expect(try ring.allReduceMicroseconds(bytes: 0) == 0)
    for bad in [-1, Double.nan, .infinity] {
      let error = #expect(throws: DeviceError.self) { try ring.allReduceMicroseconds(bytes: bad) }
      #expect(error?.code == .invalidArgument)
    }
    #expect(throws: DeviceError.self) {
      try CollectiveSchedule.allReduce(elements: -1, algorithm: .ring, on: .dgx1V100)
    }
    #expect(throws: DeviceError.self) {
      try Collective(topology: .dgx1V100, algorithm: .ring, start: Sourced(-1, .assumed("test")))
    }
    // A ring of five has no way across it.
    let five = try Topology.ring(
      devices: 5, link: TopologyTests.link(1, 10), host: TopologyTests.link(1, 10))
    let error = #expect(throws: DeviceError.self) {
      try Collective(topology: five, algorithm: .direct)
    }
    #expect(error?.description.contains("share no link") == true)
    var broken = five
    broken.rings = [[0]]
    #expect(throws: DeviceError.self) { try Collective(topology: broken, algorithm: .ring) }
  }
}
