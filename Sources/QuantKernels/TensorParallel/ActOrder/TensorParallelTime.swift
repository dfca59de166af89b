import DeviceModel

/// Modelled time of a feed-forward block on a machine of several devices: kernels limited by memory
/// or compute, each with its start, and collectives by α and β. One after the other: at a few rows
/// nothing is left to hide behind.
public struct TensorParallelTime: Sendable {
  /// How weights lie in memory.
  public enum Weights: String, Sendable, Hashable, CaseIterable {
    /// 4-bit codes, binary16 scales and 4-bit zero points.
    case int4
    /// Binary16, dequantized offline: no groups.
    case float16 = "fp16"
  }

  /// Factors of what the model rests on, for sensitivities.
  public struct Factors: Sendable, Hashable {
    /// Of α: hops and starts.
    public var latency = 1.0
    /// Of β.
    public var bandwidth = 1.0
    /// Of a kernel's start.
    public var launch = 1.0

    /// Factors of α, β and a kernel's start.
    public init(latency: Double = 1, bandwidth: Double = 1, launch: Double = 1) {
      self.latency = latency
      self.bandwidth = bandwidth
      self.launch = launch
    }
  }

  /// A kernel or a collective.
  public struct Step: Sendable, Hashable {
    /// What it does.
    public let name: String
    /// µs.
    public let microseconds: Double
    /// Whether it is a collective.
    public let isCollective: Bool
  }

  /// The machine.
  public let machine: MultiDeviceMachine
  /// How weights lie.
  public let weights: Weights
  /// Factors.
  public let factors: Factors
  /// The algorithm of reductions and gathers; nil takes the faster one.
  public let algorithm: CollectiveAlgorithm?

  /// A model of blocks on a machine.
  public init(
    machine: MultiDeviceMachine, weights: Weights = .int4, factors: Factors = Factors(),
    algorithm: CollectiveAlgorithm? = .ring
  ) {
    self.machine = machine
    self.weights = weights
    self.factors = factors
    self.algorithm = algorithm
  }

  private var rate: AcceleratorRate {
    AcceleratorRate(
      name: machine.device.name, compute: machine.device.float16Peak,
      bandwidth: Sourced(
        machine.device.dramBandwidth, .derived("peak and share of the catalog's device")),
      launch: machine.device.launchMicroseconds.scaled(by: factors.launch))
  }

  /// The steps of one call, in order, on the busiest rank.
  ///
  /// - Parameters:
  ///   - hasInputOrder: whether inputs are gathered by P1 first.
  ///   - plan: what the call counts.
  /// - Throws: ``QuantError`` `.invalidArgument` for more ranks than the machine has devices.
  public func steps(
    _ plan: TensorParallelPlan, hasInputOrder: Bool = true
  ) throws(QuantError) -> [Step] {
    let shape = plan.shape
    let ranks = plan.ranks.count
    let part = shape.hidden / ranks
    let rows = Double(plan.count)
    let rate = rate
    var steps: [Step] = []
    func kernel(_ name: String, flop: Double = 0, bytes: Double) {
      steps.append(
        Step(
          name: name, microseconds: rate.microseconds(flop: flop, bytes: bytes, launches: 1),
          isCollective: false))
    }
    func product(_ name: String, inputs: Int, outputs: Int, groups: Int) {
      let elements = Double(inputs) * Double(outputs)
      let bytes =
        weights == .int4
        ? elements / 2 + Double(groups) * Double(outputs) * 2.5 : 2 * elements
      kernel(
        name, flop: 2 * rows * elements,
        bytes: bytes + 2 * rows * (Double(inputs) + Double(outputs)))
    }
    func moved(_ name: String, elements: Int) {
      // Read and written in binary16.
      kernel(name, bytes: 4 * Double(elements))
    }
    func collective(
      _ operation: MultiDeviceMachine.Operation, bytes: Double
    ) throws(QuantError) {
      if ranks == 1 { return }
      do throws(DeviceError) {
        let time = try machine.microseconds(
          operation, bytes: bytes, devices: ranks, algorithm: algorithm,
          latency: factors.latency, bandwidth: factors.bandwidth)
        steps.append(
          Step(
            name: "\(operation.rawValue) (\(time.protocolName), \(time.algorithm.rawValue))",
            microseconds: time.microseconds, isCollective: true))
      } catch {
        throw QuantError(error)
      }
    }
    if hasInputOrder { moved("inputs by P1", elements: plan.count * shape.inputs) }
    let width = shape.isGated ? 2 * part : part
    product(
      shape.isGated ? "gate and up" : "up", inputs: shape.inputs, outputs: width,
      groups: shape.inputs / shape.groupSize)
    kernel("activation", bytes: 2 * rows * Double(width + part))
    switch plan.scheme {
    case .naive:
      try collective(.allGather, bytes: rows * Double(shape.hidden) * 2)
      moved("all channels by P2", elements: plan.count * shape.hidden)
      moved("own part", elements: plan.count * part)
    case .allToAll:
      moved("channels by destination", elements: plan.count * part)
      try collective(.allToAll, bytes: Double(plan.exchangeBytes * 2 / plan.bytesPerElement))
      moved("channels by place", elements: plan.count * part)
    case .localSort: moved("own channels by group", elements: plan.count * part)
    case .tpAware: break
    }
    product("down", inputs: part, outputs: shape.outputs, groups: plan.groupSwitches)
    try collective(.allReduce, bytes: rows * Double(shape.outputs) * 2)
    return steps
  }

  /// µs of one call.
  ///
  /// - Throws: as ``steps(_:hasInputOrder:)``.
  public func microseconds(_ plan: TensorParallelPlan) throws(QuantError) -> Double {
    try steps(plan).reduce(0) { $0 + $1.microseconds }
  }
}
