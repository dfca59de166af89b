/// The messages of a collective, step by step: what is counted, and what a test can execute.
public struct CollectiveSchedule: Sendable {
  /// Elements sent from one device to another.
  public struct Message: Sendable, Hashable {
    /// Who sends.
    public let source: Int
    /// Who receives.
    public let destination: Int
    /// Which elements.
    public let elements: Range<Int>
    /// Whether the receiver adds them to its own; else they replace its own.
    public let adds: Bool
    /// The ring it travels on, counted by direction; 0 elsewhere.
    public let channel: Int
  }

  /// Devices.
  public let devices: Int
  /// Elements that each of them holds.
  public let elements: Int
  /// Messages by step; those of one step start together. Empty messages are not sent.
  public let steps: [[Message]]

  /// Messages of all devices.
  public var messages: Int { steps.reduce(0) { $0 + $1.count } }

  /// Elements that each device sends.
  public var elementsSent: [Int] {
    var sent = [Int](repeating: 0, count: devices)
    for step in steps { for message in step { sent[message.source] += message.elements.count } }
    return sent
  }

  /// µs when every step waits for the slowest lane of the one before.
  ///
  /// - Complexity: O(messages).
  public func microseconds(bytesPerElement: Int, on topology: Topology) -> Double {
    var time = 0.0
    for step in steps {
      // Bytes by lane: lanes are a pair of devices and a channel; in a switch the sender's link.
      var lanes: [[Int]: (bytes: Int, link: Link)] = [:]
      for message in step {
        guard let path = topology.path(from: message.source, to: message.destination) else {
          return .infinity
        }
        let bytes = message.elements.count * bytesPerElement
        let isRing = topology.channels > 1 && usesRings
        let key: [Int] =
          topology.fabric == .crossbar
          ? [message.source] : [message.source, message.destination, isRing ? message.channel : 0]
        // A ring has one lane of the edge, other algorithms all of them.
        let hasLanes = topology.lanes(message.source, message.destination) > 0
        let link = usesRings && hasLanes ? topology.link : path
        lanes[key] = ((lanes[key]?.bytes ?? 0) + bytes, link)
      }
      time += lanes.values.map { $0.link.microseconds(bytes: Double($0.bytes)) }.max() ?? 0
    }
    return time
  }

  private let usesRings: Bool

  /// The messages that leave on every device the sum over devices of `elements` elements.
  ///
  /// - Throws: ``DeviceError`` `.invalidArgument` for a negative number of elements or an algorithm
  ///   that the topology has no ways for.
  /// - Complexity: O(messages).
  public static func allReduce(
    elements: Int, algorithm: CollectiveAlgorithm, on topology: Topology
  ) throws(DeviceError) -> CollectiveSchedule {
    guard elements >= 0 else {
      throw DeviceError(
        .invalidArgument, "collective", "\(elements) elements", remedy: "use at least 0")
    }
    _ = try Collective(topology: topology, algorithm: algorithm)
    var steps: [[Message]] = []
    if topology.devices > 1 {
      switch algorithm {
      case .ring: steps = ring(elements, topology)
      case .tree: steps = tree(elements, topology.devices)
      case .direct: steps = direct(elements, topology.devices)
      }
    }
    return CollectiveSchedule(
      devices: topology.devices, elements: elements,
      steps: elements == 0 ? [] : steps.filter { !$0.isEmpty },
      usesRings: algorithm == .ring)
  }

  /// The messages after which every device has the parts of all: device d starts with part d of
  /// `elements`, cut into nearly equal ones.
  ///
  /// - Throws: as ``allReduce(elements:algorithm:on:)``.
  /// - Complexity: O(messages).
  public static func allGather(
    elements: Int, algorithm: CollectiveAlgorithm, on topology: Topology
  ) throws(DeviceError) -> CollectiveSchedule {
    guard elements >= 0 else {
      throw DeviceError(
        .invalidArgument, "collective", "\(elements) elements", remedy: "use at least 0")
    }
    _ = try Collective(topology: topology, algorithm: algorithm)
    let count = topology.devices
    var steps: [[Message]] = []
    if count > 1 {
      switch algorithm {
      case .ring: steps = gatherRing(elements, topology)
      case .tree: steps = gatherTree(elements, count)
      case .direct:
        steps = [
          (0..<count).flatMap { source in
            (0..<count).filter { $0 != source }.map { destination in
              Message(
                source: source, destination: destination,
                elements: part(source, of: count, in: 0..<elements), adds: false, channel: 0)
            }
          }
        ]
      }
    }
    return CollectiveSchedule(
      devices: count, elements: elements,
      steps: steps.map { $0.filter { !$0.elements.isEmpty } }.filter { !$0.isEmpty },
      usesRings: algorithm == .ring)
  }

  /// The messages of an all-to-all; `elements` of a message count in what its source sends, the parts
  /// for device 0, 1, … one after the other.
  ///
  /// - Parameters:
  ///   - counts: `[source][destination]`.
  ///   - algorithm: how messages are sent.
  ///   - topology: the devices and their links.
  /// - Throws: ``DeviceError`` `.invalidArgument` for counts that are no square of the devices, or
  ///   negative, and as ``Collective/allToAllMicroseconds(bytes:)``.
  /// - Complexity: O(messages).
  public static func allToAll(
    counts: [[Int]], algorithm: CollectiveAlgorithm, on topology: Topology
  ) throws(DeviceError) -> CollectiveSchedule {
    let count = topology.devices
    guard counts.count == count,
      counts.allSatisfy({ $0.count == count && $0.allSatisfy { (0...1 << 40).contains($0) } })
    else {
      throw DeviceError(
        .invalidArgument, "all-to-all", "counts for \(counts.count) of \(count) devices",
        remedy: "pass a count for every pair of devices, at least 0")
    }
    _ = try Collective(topology: topology, algorithm: algorithm).allToAllWay()
    var steps: [[Message]] = []
    for shift in 1..<max(count, 1) {
      steps.append(
        (0..<count).map { source in
          let destination = (source + shift) % count
          let first = counts[source][..<destination].reduce(0, +)
          return Message(
            source: source, destination: destination,
            elements: first..<first + counts[source][destination], adds: false, channel: 0)
        })
    }
    if algorithm == .direct { steps = [steps.flatMap { $0 }] }
    return CollectiveSchedule(
      devices: count, elements: counts.map { $0.reduce(0, +) }.max() ?? 0,
      steps: steps.map { $0.filter { !$0.elements.isEmpty } }.filter { !$0.isEmpty },
      // Each message takes the straight way.
      usesRings: false)
  }

  /// Orders in which rings pass, each direction by itself.
  private static func ringOrders(_ topology: Topology) -> [[Int]] {
    topology.channels == topology.rings.count || topology.fabric == .crossbar
      ? Array(topology.rings.prefix(topology.channels))
      : topology.rings.flatMap { [$0, $0.reversed()] }
  }

  private static func gatherRing(_ elements: Int, _ topology: Topology) -> [[Message]] {
    let count = topology.devices
    let orders = ringOrders(topology)
    var steps = [[Message]](repeating: [], count: count - 1)
    for (channel, order) in orders.enumerated() {
      for step in 0..<count - 1 {
        for place in 0..<count {
          // In step s place p passes on what began at place p − s.
          let owner = order[((place - step) % count + count) % count]
          steps[step].append(
            Message(
              source: order[place], destination: order[(place + 1) % count],
              elements: part(
                channel, of: orders.count, in: part(owner, of: count, in: 0..<elements)),
              adds: false, channel: channel))
        }
      }
    }
    return steps
  }

  private static func gatherTree(_ elements: Int, _ devices: Int) -> [[Message]] {
    var upwards: [[Message]] = []
    var downwards: [[Message]] = []
    var distance = 1
    while distance < devices {
      let pairs = stride(from: distance, to: devices, by: 2 * distance)
      upwards.append(
        pairs.map { device in
          // The device has gathered its own part and those of the ones behind it.
          let last = min(device + distance, devices) - 1
          let first = part(device, of: devices, in: 0..<elements).lowerBound
          return Message(
            source: device, destination: device - distance,
            elements: first..<part(last, of: devices, in: 0..<elements).upperBound, adds: false,
            channel: 0)
        })
      downwards.append(
        pairs.map { device in
          Message(
            source: device - distance, destination: device, elements: 0..<elements, adds: false,
            channel: 0)
        })
      distance *= 2
    }
    return upwards + downwards.reversed()
  }

  /// Part `index` of `count` nearly equal ones of a range.
  static func part(_ index: Int, of count: Int, in range: Range<Int>) -> Range<Int> {
    // Quotient and remainder apart, so that nothing overflows.
    let (each, rest) = range.count.quotientAndRemainder(dividingBy: count)
    func edge(_ index: Int) -> Int { range.lowerBound + index * each + min(index, rest) }
    return edge(index)..<edge(index + 1)
  }

  private static func ring(_ elements: Int, _ topology: Topology) -> [[Message]] {
    let count = topology.devices
    let orders = ringOrders(topology)
    var steps = [[Message]](repeating: [], count: 2 * (count - 1))
    for (channel, order) in orders.enumerated() {
      let share = part(channel, of: orders.count, in: 0..<elements)
      for step in 0..<2 * (count - 1) {
        for place in 0..<count {
          // In step s of the first half, place p passes on the sum of segment p − s, which is whole
          // at place p = segment + count − 1; in the second half whole segments go on from there.
          let isSpreading = step >= count - 1
          let shift = isSpreading ? step - (count - 1) - 1 : step
          let segment = ((place - shift) % count + count) % count
          let range = part(segment, of: count, in: share)
          if range.isEmpty { continue }
          steps[step].append(
            Message(
              source: order[place], destination: order[(place + 1) % count], elements: range,
              adds: !isSpreading, channel: channel))
        }
      }
    }
    return steps
  }

  private static func tree(_ elements: Int, _ devices: Int) -> [[Message]] {
    var upwards: [[Message]] = []
    var distance = 1
    while distance < devices {
      upwards.append(
        stride(from: distance, to: devices, by: 2 * distance).map { device in
          Message(
            source: device, destination: device - distance, elements: 0..<elements, adds: true,
            channel: 0)
        })
      distance *= 2
    }
    let downwards = upwards.reversed().map { step in
      step.map { message in
        Message(
          source: message.destination, destination: message.source, elements: message.elements,
          adds: false, channel: 0)
      }
    }
    return upwards + downwards
  }

  private static func direct(_ elements: Int, _ devices: Int) -> [[Message]] {
    var collecting: [Message] = []
    var spreading: [Message] = []
    for owner in 0..<devices {
      let range = part(owner, of: devices, in: 0..<elements)
      if range.isEmpty { continue }
      for other in 0..<devices where other != owner {
        collecting.append(
          Message(source: other, destination: owner, elements: range, adds: true, channel: 0))
        spreading.append(
          Message(source: owner, destination: other, elements: range, adds: false, channel: 0))
      }
    }
    return [collecting, spreading]
  }
}
