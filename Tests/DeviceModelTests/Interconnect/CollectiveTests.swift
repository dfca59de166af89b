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

  @Test("Every all-gather leaves all parts on every device")
  func gathersExecuted() throws {
    for machine in try Self.machines() {
      let devices = machine.devices
      for algorithm in CollectiveAlgorithm.allCases {
        guard (try? Collective(topology: machine, algorithm: algorithm)) != nil else { continue }
        for elements in [0, 1, devices - 1, devices, 6 * devices, 97] {
          let schedule = try CollectiveSchedule.allGather(
            elements: elements, algorithm: algorithm, on: machine)
          // nil is what a device does not have yet; part d is its own.
          var values = (0..<devices).map { device in
            (0..<elements).map { element -> Int? in
              let part = elements / devices
              let rest = elements % devices
              let start = device * part + min(device, rest)
              let end = (device + 1) * part + min(device + 1, rest)
              return (start..<end).contains(element) ? element : nil
            }
          }
          for step in schedule.steps {
            let before = values
            for message in step {
              for element in message.elements {
                #expect(before[message.source][element] == element)
                values[message.destination][element] = before[message.source][element]
              }
            }
          }
          #expect(values.allSatisfy { $0 == (0..<elements).map { $0 } })
          if algorithm != .tree {
            #expect(schedule.elementsSent.reduce(0, +) == (devices - 1) * elements)
          }
        }
        let elements = devices * max(1, machine.channels) * 1024
        let collective = try Collective(
          topology: machine, algorithm: algorithm, start: Sourced(0, .assumed("test")))
        let schedule = try CollectiveSchedule.allGather(
          elements: elements, algorithm: algorithm, on: machine)
        let formula = try collective.allGatherMicroseconds(bytes: Double(4 * elements))
        let executed = schedule.microseconds(bytesPerElement: 4, on: machine)
        if algorithm == .tree {
          #expect(executed <= formula * (1 + 1e-12))
          if machine.fabric == .crossbar { #expect(abs(executed - formula) <= 1e-9 * formula) }
        } else {
          #expect(abs(executed - formula) <= 1e-9 * formula, "\(machine.name) \(algorithm)")
        }
      }
    }
  }

  @Test(
    "Every all-to-all takes each part to its place, in the formula's time where parts are equal")
  func exchangesExecuted() throws {
    for machine in try Self.machines() {
      let devices = machine.devices
      for algorithm in CollectiveAlgorithm.allCases {
        guard
          let collective = try? Collective(
            topology: machine, algorithm: algorithm, start: Sourced(0, .assumed("test"))),
          (try? collective.allToAllMicroseconds(bytes: 1)) != nil
        else { continue }
        #expect(algorithm != .tree)
        let counts = (0..<devices).map { source in
          (0..<devices).map { (3 * source + $0) % 4 }
        }
        let schedule = try CollectiveSchedule.allToAll(
          counts: counts, algorithm: algorithm, on: machine)
        var seen = Set<[Int]>()
        for message in schedule.steps.flatMap({ $0 }) {
          let first = counts[message.source][..<message.destination].reduce(0, +)
          let count = counts[message.source][message.destination]
          #expect(message.elements == first..<first + count)
          #expect(message.source != message.destination)
          #expect(seen.insert([message.source, message.destination]).inserted)
        }
        #expect(
          seen.count
            == (0..<devices).reduce(0) { sum, source in
              sum + (0..<devices).count { $0 != source && counts[source][$0] > 0 }
            })
        let equal = [[Int]](repeating: [Int](repeating: 256, count: devices), count: devices)
        let executed = try CollectiveSchedule.allToAll(
          counts: equal, algorithm: algorithm, on: machine
        ).microseconds(bytesPerElement: 4, on: machine)
        let formula = try collective.allToAllMicroseconds(bytes: Double(1024 * (devices - 1)))
        #expect(executed <= formula * (1 + 1e-12))
        if machine.fabric == .crossbar { #expect(abs(executed - formula) <= 1e-9 * formula) }
      }
    }
    #expect(throws: DeviceError.self) {
      try CollectiveSchedule.allToAll(counts: [[1]], algorithm: .ring, on: .dgx1V100)
    }
    #expect(throws: DeviceError.self) {
      try Collective(topology: .pcieV100, algorithm: .tree).allToAllMicroseconds(bytes: 8)
    }
    #expect(throws: DeviceError.self) {
      try Collective(topology: .pcieV100, algorithm: .ring).allGatherMicroseconds(bytes: -1)
    }
  }

  @Test("DGX machines: every number has a source, times grow with size and devices")
  func machinesOfTheCatalog() throws {
    for machine in MultiDeviceMachine.all {
      #expect(try MultiDeviceMachine.named(machine.identifier) == machine)
      #expect(machine.numbers.allSatisfy { !$0.number.provenance.source.isEmpty })
      for operation in MultiDeviceMachine.Operation.allCases {
        var last = 0.0
        for devices in [1, 2, 4, 8] {
          let small = try machine.microseconds(operation, bytes: 1e4, devices: devices)
          let large = try machine.microseconds(operation, bytes: 1e7, devices: devices)
          #expect(devices == 1 ? small.microseconds == 0 : small < large)
          if operation != .allToAll { #expect(small.microseconds >= last) }
          last = small.microseconds
          let slow = try machine.microseconds(
            operation, bytes: 1e4, devices: devices, latency: 4, bandwidth: 0.25)
          #expect(abs(slow.microseconds - 4 * small.microseconds) < 1e-9 || slow > small)
        }
      }
      #expect(throws: DeviceError.self) {
        try machine.microseconds(.allReduce, bytes: 1, devices: 9)
      }
      #expect(throws: DeviceError.self) { try machine.with(latency: -1, bandwidth: nil) }
      #expect(throws: DeviceError.self) { try machine.with(latency: nil, bandwidth: 0) }
    }
    // LL's ring: 3.6 + 14 · 0.47 µs, and 2 · 7/8 of 16 KiB at a quarter of 235 GB/s.
    let time = try MultiDeviceMachine.dgxA100.microseconds(.allReduce, bytes: 16384, devices: 8)
    #expect(time.protocolName == "LL")
    #expect(abs(time.microseconds - (3.6 + 14 * 0.47 + 1.75 * 16.384 / 58.75)) < 1e-9)
    #expect(throws: DeviceError.self) { try MultiDeviceMachine.named("dgx-2") }
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

extension MultiDeviceMachine.CollectiveTime {
  fileprivate static func < (one: Self, other: Self) -> Bool {
    one.microseconds < other.microseconds
  }

  fileprivate static func > (one: Self, other: Self) -> Bool { other < one }
}
