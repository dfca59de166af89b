import DeviceModel
import QuantKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// QUICK's figures beside ours: counted on simulated warps, timed by the model.
struct QuickReproduction {
  /// One device and M: published and modelled times of the kernels.
  struct Row {
    let cell: PublishedQuick.Cell
    /// µs without a fitted constant, and with the device's.
    let plain: Times
    let fitted: Times
    /// The speed-up of QUICK over AWQ taken apart, without a fitted constant.
    let causes: SpeedupCauses
  }

  struct Times {
    let half: Double
    let awq: Double
    let quick: Double
    let improved: Double
    let marlin: Double
  }

  let rows: [Row]
  /// The devices' constants: load factors of the global latency, fitted on M ≤ 32.
  let constants: [String: FittedConstant]
  /// At M = 16 on one device: what a warp does in a step.
  let awq: SimulatedMatmul
  let quick: SimulatedMatmul
  let improved: SimulatedMatmul
  let marlin: SimulatedMatmul

  /// Counts every kernel at every M once, and times it on every device.
  init(threads: Int) throws(QuantError) {
    let simulator = WarpSimulator(
      threads: threads, isCancelled: { Interruption.isRequested })
    var counted = Counted(simulator: simulator)
    var cells: [(cell: PublishedQuick.Cell, products: Products)] = []
    for (number, cell) in PublishedQuick.cells.enumerated() {
      Console.progress("quick: cell \(number + 1) of \(PublishedQuick.cells.count)")
      cells.append((cell, try counted.products(cell)))
    }
    constants = try Self.fit(cells)
    let fitted = LatencyBound(latencyFactors: constants)
    rows = try cells.map { cell, products throws(QuantError) in
      Row(
        cell: cell, plain: try products.times(LatencyBound(), cell.device),
        fitted: try products.times(fitted, cell.device),
        causes: try products.causes(cell.device))
    }
    let small = try counted.products(
      PublishedQuick.Cell(device: .rtx4090, rows: 16, half: nil, awq: 1, quick: 1))
    awq = small.awq
    quick = small.quick
    improved = small.improved
    marlin = small.marlin
  }

  /// Wavefronts of both kernels, and their speed at the largest batch on one device.
  ///
  /// - Throws: ``QuantError`` when Ctrl-C comes.
  static func short(threads: Int) throws(QuantError) -> [Claim] {
    Console.progress("quick")
    let device = DeviceSpec.rtx4090
    let simulator = WarpSimulator(
      threads: threads, isCancelled: { Interruption.isRequested })
    func count(_ kernel: GPUKernel, _ rows: Int) throws(QuantError) -> SimulatedMatmul {
      try SimulatedMatmul.count(
        kernel, rows: rows, outputs: PublishedQuick.outputs, inputs: PublishedQuick.inputs,
        groupSize: PublishedQuick.group, on: device, splits: 8, simulator: simulator)
    }
    let (awq, quick) = (try count(.awq, 16), try count(.quick, 16))
    var claims = [wavefrontRatio(awq, quick), writeBack(awq)]
    let largest = PublishedQuick.cells.last {
      $0.device.identifier == device.identifier
    }
    if let largest {
      let published = largest.quick / largest.awq
      let ours =
        try count(.awq, largest.rows).estimate().microseconds
        / count(.quick, largest.rows).estimate().microseconds
      let error = 100 * (ours / published - 1)
      claims.append(
        Paper.quick.claim(
          "speed-up over AWQ at batch \(largest.rows) on \(device.identifier)",
          source: PublishedQuick.source, published: JSON(published), ours: JSON(ours),
          kind: .modelled, error: error, abs(error) <= 17 ? .holds : .partly,
          reason: "the modelled ratio is off by more than 17 %"))
    }
    return claims
  }

  /// One constant a device: the factor on the latency of global loads, on a grid of 0.1 from 1 to 4,
  /// with the least mean |log error| of AWQ's and QUICK's times at M ≤ 32. Larger M are never looked
  /// at.
  private static func fit(
    _ cells: [(cell: PublishedQuick.Cell, products: Products)]
  ) throws(QuantError) -> [String: FittedConstant] {
    var constants: [String: FittedConstant] = [:]
    for device in Set(cells.map(\.cell.device)) {
      let small = cells.filter { $0.cell.device == device && $0.cell.rows <= 32 }
      var best = (loss: Double.infinity, value: 1.0)
      for step in 10...40 {
        let value = Double(step) / 10
        let model = LatencyBound(latencyFactors: [
          device.identifier: FittedConstant(value, fittedOn: "trial")
        ])
        var loss = 0.0
        for (cell, products) in small {
          for (product, speed) in [(products.awq, cell.awq), (products.quick, cell.quick)] {
            loss += abs(
              log(try product.estimate(model).microseconds / cell.microseconds(speed)))
          }
        }
        if loss < best.loss { best = (loss, value) }
      }
      constants[device.identifier] = FittedConstant(
        best.value, fittedOn: "AWQ and QUICK, M ≤ 32, 8192 × 8192")
    }
    return constants
  }

  /// Counters by kernel, M and splits, which devices share.
  private struct Counted {
    let simulator: WarpSimulator
    private var known: [String: SimulatedMatmul] = [:]
    private var halves: [Int: [SimulatedMatmul]] = [:]

    init(simulator: WarpSimulator) { self.simulator = simulator }

    mutating func products(_ cell: PublishedQuick.Cell) throws(QuantError) -> Products {
      let device = cell.device
      let quickSplits = device.identifier.hasPrefix("a100") ? 16 : 8
      let m = cell.rows
      if halves[m] == nil {
        halves[m] = try SimulatedMatmul.halfCandidates(
          rows: m, outputs: PublishedQuick.outputs, inputs: PublishedQuick.inputs, on: device,
          simulator: simulator)
      }
      return Products(
        halves: (halves[m] ?? []).map { $0.moved(to: device) },
        awq: try count(.awq, m, device, splits: 8),
        quick: try count(.quick, m, device, splits: quickSplits),
        quickAsAWQ: try count(.quick, m, device, splits: 8),
        improved: try count(.quickImproved, m, device, splits: 8),
        // Marlin's grid is the device's.
        marlin: try count(.marlin, m, device, splits: nil))
    }

    private mutating func count(
      _ kernel: GPUKernel, _ m: Int, _ device: DeviceSpec, splits: Int?
    ) throws(QuantError) -> SimulatedMatmul {
      let key = "\(kernel.rawValue) \(m) \(splits.map(String.init) ?? device.identifier)"
      if let product = known[key] { return product.moved(to: device) }
      let product = try SimulatedMatmul.count(
        kernel, rows: m, outputs: PublishedQuick.outputs, inputs: PublishedQuick.inputs,
        groupSize: PublishedQuick.group, on: device, splits: splits, simulator: simulator)
      known[key] = product
      return product
    }
  }

  private struct Products {
    let halves: [SimulatedMatmul]
    let awq: SimulatedMatmul
    let quick: SimulatedMatmul
    /// QUICK with AWQ's splits, so that splits are not counted as a cause.
    let quickAsAWQ: SimulatedMatmul
    let improved: SimulatedMatmul
    let marlin: SimulatedMatmul

    func times(_ model: LatencyBound, _ device: DeviceSpec) throws(QuantError) -> Times {
      var half = Double.infinity
      for candidate in halves { half = min(half, try candidate.estimate(model).microseconds) }
      return Times(
        half: half, awq: try awq.estimate(model).microseconds,
        quick: try quick.estimate(model).microseconds,
        improved: try improved.estimate(model).microseconds,
        marlin: try marlin.estimate(model).microseconds)
    }

    /// AWQ; then without the traffic of its write-back; then QUICK's tile.
    func causes(_ device: DeviceSpec) throws(QuantError) -> SpeedupCauses {
      let noWriteBack = awq.timedCounters.removingSharedTraffic(
        of: ["write back B", "ldmatrix.trans B"])
      var changes: [(cause: SpeedupCauses.Cause, kernel: SpeedupCauses.Case)] = [
        (.noWriteBack, SpeedupCauses.Case(noWriteBack, awq.launch))
      ]
      if quick.shape.rows > 16 {
        changes.append(
          (.largerTile, SpeedupCauses.Case(quickAsAWQ.timedCounters, quickAsAWQ.launch)))
      }
      do throws(DeviceError) {
        return try SpeedupCauses(
          from: SpeedupCauses.Case(awq.timedCounters, awq.launch), through: changes,
          to: SpeedupCauses.Case(quick.timedCounters, quick.launch), model: LatencyBound(),
          on: device)
      } catch {
        throw QuantError(error)
      }
    }
  }

  // MARK: Scores

  /// How far the model is from the published cells with M ≥ 64.
  struct Scores {
    /// Mean absolute error of the ratio QUICK : AWQ, percent.
    let ratio: Double
    /// Mean absolute error of AWQ's and QUICK's times, percent.
    let time: Double
    /// Pairs of fp16, AWQ and QUICK in the published order, all M, ties within 3 % left out.
    let ranked: Int
    let pairs: Int
  }

  func scores(_ times: (Row) -> Times) -> Scores {
    var ratios: [Double] = []
    var errors: [Double] = []
    var ranked = 0
    var pairs = 0
    for row in rows {
      let cell = row.cell
      let ours = times(row)
      let published = (awq: cell.microseconds(cell.awq), quick: cell.microseconds(cell.quick))
      if cell.rows >= 64 {
        ratios.append(
          abs(ours.awq / ours.quick / (published.awq / published.quick) - 1))
        errors += [abs(ours.awq / published.awq - 1), abs(ours.quick / published.quick - 1)]
      }
      let both: [(Double?, Double)] = [
        (cell.half.map(cell.microseconds), ours.half), (published.awq, ours.awq),
        (published.quick, ours.quick),
      ]
      for first in 0..<3 {
        for second in 0..<first {
          guard let one = both[first].0, let other = both[second].0, abs(one / other - 1) > 0.03
          else { continue }
          pairs += 1
          if (one < other) == (both[first].1 < both[second].1) { ranked += 1 }
        }
      }
    }
    func percent(_ values: [Double]) -> Double {
      100 * values.reduce(0, +) / Double(max(1, values.count))
    }
    return Scores(ratio: percent(ratios), time: percent(errors), ranked: ranked, pairs: pairs)
  }
}
