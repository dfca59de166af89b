/// Chunks that are computed and then communicated, one at a time each: a flow shop of two machines.
///
/// Times are µs.
public struct FlowShop: Sendable, Hashable {
  /// One chunk.
  public struct Job: Sendable, Hashable {
    /// Its time on the compute units.
    public let compute: Double
    /// Its time on the links, which begins after its computation.
    public let communicate: Double

    /// A chunk's times.
    public init(compute: Double, communicate: Double) {
      self.compute = compute
      self.communicate = communicate
    }
  }

  /// When what happens.
  public struct Timeline: Sendable, Hashable {
    /// Indices of jobs in the order in which they run on both machines.
    public let order: [Int]
    /// By position in `order`: start and end of the computation.
    public let compute: [Range<Double>]
    /// The same of the communication.
    public let communicate: [Range<Double>]
    /// The end of the last communication.
    public let makespan: Double
    /// What computation takes by itself.
    public let computeTotal: Double

    /// Communication that no computation hides.
    public var exposed: Double { makespan - computeTotal }
  }

  /// The chunks.
  public let jobs: [Job]

  /// - Throws: ``DeviceError`` `.invalidArgument` for a time that is negative, infinite or no
  ///   number.
  public init(_ jobs: [Job]) throws(DeviceError) {
    for (index, job) in jobs.enumerated() {
      guard job.compute >= 0, job.communicate >= 0, job.compute.isFinite, job.communicate.isFinite
      else {
        throw DeviceError(
          .invalidArgument, "chunk \(index)",
          "\(job.compute) µs of computation, \(job.communicate) of communication",
          remedy: "use finite times, at least 0")
      }
    }
    self.jobs = jobs
  }

  /// The order with the least makespan: chunks that compute for less than they communicate by
  /// ascending computation, then the others by descending communication. Equal chunks keep their
  /// order.
  ///
  /// Source: Johnson, Optimal two- and three-stage production schedules with setup times included
  /// (1954).
  public var johnsonOrder: [Int] {
    let first = jobs.indices.filter { jobs[$0].compute < jobs[$0].communicate }
    let second = jobs.indices.filter { jobs[$0].compute >= jobs[$0].communicate }
    return first.sorted { (jobs[$0].compute, $0) < (jobs[$1].compute, $1) }
      + second.sorted { (-jobs[$0].communicate, $0) < (-jobs[$1].communicate, $1) }
  }

  /// What happens in an order; in Johnson's when none is given.
  ///
  /// - Throws: ``DeviceError`` `.invalidArgument` for an order that does not name every chunk once.
  public func timeline(order: [Int]? = nil) throws(DeviceError) -> Timeline {
    let order = order ?? johnsonOrder
    guard order.sorted() == Array(jobs.indices) else {
      throw DeviceError(
        .invalidArgument, "order of chunks", "\(order) for \(jobs.count) chunks",
        remedy: "name every chunk once")
    }
    var compute: [Range<Double>] = []
    var communicate: [Range<Double>] = []
    var computed = 0.0
    var sent = 0.0
    for index in order {
      let start = computed
      computed += jobs[index].compute
      compute.append(start..<computed)
      let begin = max(computed, sent)
      sent = begin + jobs[index].communicate
      communicate.append(begin..<sent)
    }
    return Timeline(
      order: order, compute: compute, communicate: communicate, makespan: sent,
      computeTotal: computed)
  }

  /// What no order can beat: all computation and the shortest communication, or the shortest
  /// computation and all communication.
  public var lowerBound: Double {
    let compute = jobs.reduce(0) { $0 + $1.compute }
    let communicate = jobs.reduce(0) { $0 + $1.communicate }
    let leastCompute = jobs.map(\.compute).min() ?? 0
    let leastCommunicate = jobs.map(\.communicate).min() ?? 0
    return max(compute + leastCommunicate, leastCompute + communicate)
  }

  /// What computation takes by itself.
  public var computeTotal: Double { jobs.reduce(0) { $0 + $1.compute } }
}
