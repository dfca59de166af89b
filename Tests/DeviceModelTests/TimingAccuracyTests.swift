import DeviceModel
import Foundation
import Testing

@Suite("Modelled times beside the published ones")
struct TimingAccuracyTests {
  struct Scores {
    var ratio: [Double] = []
    var time: [Double] = []
    var low: [Double] = []
    var float16: [Double] = []
    var ranked = 0
    var pairs = 0

    static func mean(_ values: [Double]) -> Double {
      100 * values.reduce(0) { $0 + abs($1) } / Double(max(1, values.count))
    }
  }

  static func add(
    _ model: LatencyBound, _ device: (spec: DeviceSpec, cells: [[Double?]]), to scores: inout Scores
  ) throws {
    for (m, cells) in zip(PublishedCells.rows, device.cells) {
      let published = cells.map { $0.map { PublishedCells.microseconds($0, m: m) } }
      let times = try AnalyticKernel.allCases.map { kernel in
        let item = try kernel.kernel(m: m, on: device.spec)
        return try model.estimate(item.counters, item.launch, device.spec).microseconds
      }
      let awq = times[1] / published[1]! - 1
      let quick = times[2] / published[2]! - 1
      let ratio = times[1] / times[2] / (published[1]! / published[2]!) - 1
      if m >= 64 {
        scores.ratio.append(ratio)
        scores.time += [awq, quick]
      } else {
        scores.low += [log(1 + awq), log(1 + quick)]
      }
      if let value = published[0] { scores.float16.append(times[0] / value - 1) }
      for first in 0..<3 {
        for second in 0..<first {
          guard let one = published[first], let other = published[second],
            abs(one / other - 1) > 0.03
          else { continue }
          scores.pairs += 1
          if (one < other) == (times[first] < times[second]) { scores.ranked += 1 }
        }
      }
    }
  }

  @Test(
    "Without a fitted constant: ratios within 17 %, times within 22 % on average, M at least 64")
  func withoutConstant() throws {
    var scores = Scores()
    for device in PublishedCells.devices {
      try Self.add(LatencyBound(), device, to: &scores)
    }
    #expect(scores.ratio.count == 12 && scores.time.count == 24)
    #expect(Scores.mean(scores.ratio) <= 17)
    #expect(Scores.mean(scores.time) <= 22)
  }

  @Test("With one constant a device, fitted on M at most 32: 10 %, 15 %, nine pairs of ten ranked")
  func withConstant() throws {
    var scores = Scores()
    for device in PublishedCells.devices {
      try Self.add(.fitted, device, to: &scores)
    }
    #expect(Scores.mean(scores.ratio) <= 10)
    #expect(Scores.mean(scores.time) <= 15)
    #expect(Double(scores.ranked) >= 0.9 * Double(scores.pairs))
  }

  @Test("The stored constants are what the fit on M at most 32 gives")
  func constantsAreFitted() throws {
    for device in PublishedCells.devices {
      let spec = device.spec
      var cells: [(kernel: SpeedupCauses.Case, published: Double)] = []
      for (m, row) in zip(PublishedCells.rows, device.cells) where m <= 32 {
        cells += [
          (AnalyticKernel.awq(m: m, on: spec), PublishedCells.microseconds(row[1]!, m: m)),
          (AnalyticKernel.quick(m: m, on: spec), PublishedCells.microseconds(row[2]!, m: m)),
        ]
      }
      var best = (loss: Double.infinity, value: 0.0)
      for step in 10...40 {
        let value = Double(step) / 10
        let model = LatencyBound(latencyFactors: [
          spec.identifier: FittedConstant(value, fittedOn: "trial")
        ])
        let loss = try cells.reduce(0) { sum, cell in
          let time = try model.estimate(cell.kernel.counters, cell.kernel.launch, spec)
          return sum + abs(log(time.microseconds / cell.published))
        }
        if loss < best.loss { best = (loss, value) }
      }
      let stored = LatencyBound.fitted.latencyFactors[spec.identifier]?.value
      #expect(stored == best.value, "\(spec.identifier): \(best.value)")
    }
  }
}
