import DeviceModel

/// A carrier whose traffic is counted as that of other links: values travel by the one it wraps,
/// messages, bytes and time are the modelled collective's.
public final class ModelledCommunicator: Communicator, @unchecked Sendable {
  public var rank: Int { carrier.rank }
  public var ranks: Int { carrier.ranks }
  /// What is modelled.
  public let collective: Collective
  /// Bytes of an element on the modelled links: 2 where the devices would send half precision.
  public let bytesPerElement: Int
  private let carrier: any Communicator
  private let monitor = Monitor()
  private var counted = CommunicationTraffic()

  /// - Throws: ``QuantError`` `.invalidArgument` when the machine has another number of devices than
  ///   there are ranks, or an element no bytes.
  public init(
    _ carrier: any Communicator, as collective: Collective, bytesPerElement: Int = 4
  ) throws(QuantError) {
    guard collective.topology.devices == carrier.ranks, (1...8).contains(bytesPerElement) else {
      throw QuantError(
        .invalidArgument, "modelled links",
        "\(collective.topology.devices) devices and \(bytesPerElement) bytes an element for "
          + "\(carrier.ranks) ranks",
        remedy: "model as many devices as there are ranks, and 1 to 8 bytes")
    }
    self.carrier = carrier
    self.collective = collective
    self.bytesPerElement = bytesPerElement
  }

  public var traffic: CommunicationTraffic {
    var traffic = monitor.locked { counted }
    traffic.seconds = carrier.traffic.seconds
    return traffic
  }

  public func allReduce(_ values: UnsafeMutableBufferPointer<Float>) throws(QuantError) {
    try carrier.allReduce(values)
    if ranks == 1 || values.isEmpty { return }
    try count { () throws(DeviceError) in
      (
        try CollectiveSchedule.allReduce(
          elements: values.count, algorithm: collective.algorithm, on: collective.topology),
        try collective.allReduceMicroseconds(bytes: bytes(values.count))
      )
    }
  }

  public func allGather(
    _ own: UnsafeBufferPointer<Float>, into all: UnsafeMutableBufferPointer<Float>
  ) throws(QuantError) {
    try carrier.allGather(own, into: all)
    if ranks == 1 || own.isEmpty { return }
    try count { () throws(DeviceError) in
      (
        try CollectiveSchedule.allGather(
          elements: all.count, algorithm: collective.algorithm, on: collective.topology),
        try collective.allGatherMicroseconds(bytes: bytes(all.count))
      )
    }
  }

  /// Time is that of this rank's messages as if all ranks sent as much; those of a tree, which has no
  /// all-to-all, go straight.
  ///
  /// - Throws: ``QuantError``: what the carrier throws.
  public func allToAll(
    _ values: UnsafeBufferPointer<Float>, counts: [Int],
    into received: UnsafeMutableBufferPointer<Float>, receivedCounts: [Int]
  ) throws(QuantError) {
    try carrier.allToAll(values, counts: counts, into: received, receivedCounts: receivedCounts)
    var sent = counts
    sent[rank] = 0
    if ranks == 1 || values.isEmpty { return }
    try count { () throws(DeviceError) in
      let straight =
        collective.algorithm == .tree
        ? try Collective(
          topology: collective.topology, algorithm: .direct, start: collective.start) : collective
      var all = [[Int]](repeating: [Int](repeating: 0, count: ranks), count: ranks)
      all[rank] = sent
      return (
        try CollectiveSchedule.allToAll(
          counts: all, algorithm: straight.algorithm, on: collective.topology),
        try straight.allToAllMicroseconds(bytes: bytes(sent.reduce(0, +)))
      )
    }
  }

  private func bytes(_ elements: Int) -> Double { Double(elements) * Double(bytesPerElement) }

  /// Counts this rank's messages of a collective.
  private func count(
    _ modelled: () throws(DeviceError) -> (schedule: CollectiveSchedule, microseconds: Double)
  ) throws(QuantError) {
    do throws(DeviceError) {
      let (schedule, time) = try modelled()
      monitor.locked {
        counted.collectives += 1
        counted.messages += schedule.steps.reduce(0) { sum, step in
          sum + step.count { $0.source == rank }
        }
        counted.bytes += schedule.elementsSent[rank] * bytesPerElement
        counted.modelledMicroseconds += time
      }
    } catch {
      throw QuantError(error)
    }
  }

  public func barrier() throws(QuantError) { try carrier.barrier() }

  public func abort(_ error: QuantError) { carrier.abort(error) }
}
