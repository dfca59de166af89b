import DeviceModel
import QuantKernels

extension QuickReproduction {
  private static let paper = Paper.quick

  /// The paper's claims beside ours, the headlines first, then every cell.
  var claims: [Claim] { counted + headlines + cells + unscored }

  private func perStep(_ product: SimulatedMatmul, _ value: Int) -> Double {
    Double(value) / Double(max(1, product.warpSteps))
  }

  /// What QUICK removes, counted.
  private var counted: [Claim] {
    let awqWavefronts = perStep(awq, awq.loopCounters.sharedMemory.wavefronts)
    let quickWavefronts = perStep(quick, quick.loopCounters.sharedMemory.wavefronts)
    func site(_ product: SimulatedMatmul, _ name: String) -> Counters.SharedMemory {
      product.counters.sites.first { $0.name == name }?.shared ?? Counters.SharedMemory()
    }
    let writeBack = site(awq, "write back B")
    func m16(_ kernel: String) -> String {
      "quantkernels simulate matmul --device rtx4090 --kernel \(kernel) --m 16 --n 8192 --k 8192"
    }
    return [
      Self.paper.claim(
        "shared wavefronts a warp step, AWQ", source: "derived from AutoAWQ_kernels",
        published: 80, ours: JSON(awqWavefronts), kind: .counted,
        error: 100 * (awqWavefronts / 80 - 1), awqWavefronts == 80 ? .holds : .off,
        command: m16("awq")),
      Self.paper.claim(
        "shared wavefronts a warp step, QUICK", source: "derived from SqueezeBits/QUICK",
        published: 16, ours: JSON(quickWavefronts), kind: .counted,
        error: 100 * (quickWavefronts / 16 - 1), quickWavefronts == 16 ? .holds : .off,
        command: m16("quick")),
      Self.paper.claim(
        "shared wavefronts, AWQ : QUICK", source: "derived from both sources", published: 5,
        ours: JSON(awqWavefronts / quickWavefronts), kind: .counted,
        error: 100 * (awqWavefronts / quickWavefronts / 5 - 1),
        awqWavefronts / quickWavefronts == 5 ? .holds : .off),
      Self.paper.claim(
        "the write-back of weights has bank conflicts (documented rule)",
        source: "QUICK abstract (arXiv 2402.10076)", published: "conflicts",
        ours: .string("\(writeBack.conflicts) of \(writeBack.wavefronts)"), kind: .counted,
        writeBack.conflicts > 0 ? .holds : .fails, command: m16("awq")),
      Self.paper.claim(
        "conflicts a warp step in the store of activations, AWQ and QUICK",
        source: "derived from both sources", published: 4,
        ours: JSON(perStep(quick, site(quick, "store A").conflicts)), kind: .counted,
        error: 100 * (perStep(quick, site(quick, "store A").conflicts) / 4 - 1),
        site(quick, "store A").conflicts == site(awq, "store A").conflicts ? .holds : .off,
        command: m16("quick")),
      Self.paper.claim(
        "conflicts in our improved kernel", source: "none; our own", published: .null,
        ours: JSON(improved.loopCounters.sharedMemory.conflicts), kind: .counted, .unscored,
        command: m16("quick-improved")),
      Self.paper.claim(
        "shared wavefronts a warp step, ours improved", source: "none; our own",
        published: .null,
        ours: JSON(perStep(improved, improved.loopCounters.sharedMemory.wavefronts)),
        kind: .counted, .unscored, command: m16("quick-improved")),
      Self.paper.claim(
        "shared wavefronts a warp step, Marlin", source: "not published", published: .null,
        ours: JSON(perStep(marlin, marlin.loopCounters.sharedMemory.wavefronts)),
        kind: .counted, .unscored, command: m16("marlin")),
    ]
  }

  /// How good the model is, and the abstract's range.
  private var headlines: [Claim] {
    let plain = scores { $0.plain }
    let fitted = scores { $0.fitted }
    func bar(_ name: String, _ value: Double, _ limit: Double) -> Claim {
      Self.paper.claim(
        name, source: PublishedQuick.source, published: .string("≤ \(fixed(limit, 0)) %"),
        ours: JSON(value), kind: .modelled, value <= limit ? .holds : .off)
    }
    let at256 = rows.filter { $0.cell.rows == 256 }.map { $0.plain.awq / $0.plain.quick }
    let least = at256.min() ?? 0
    let most = at256.max() ?? 0
    return [
      bar("mean error of QUICK : AWQ, M ≥ 64, no constant, %", plain.ratio, 17),
      bar("mean error of times, M ≥ 64, no constant, %", plain.time, 22),
      bar("mean error of QUICK : AWQ, one constant a device, %", fitted.ratio, 10),
      bar("mean error of times, one constant a device, %", fitted.time, 15),
      Self.paper.claim(
        "pairs of fp16, AWQ, QUICK in the published order, no constant",
        source: PublishedQuick.source, published: .string("≥ 90 %"),
        ours: .string("\(plain.ranked) of \(plain.pairs)"), kind: .modelled,
        10 * plain.ranked >= 9 * plain.pairs ? .holds : .off),
      Self.paper.claim(
        "the same with one constant a device", source: PublishedQuick.source,
        published: .string("≥ 90 %"), ours: .string("\(fitted.ranked) of \(fitted.pairs)"),
        kind: .modelled, 10 * fitted.ranked >= 9 * fitted.pairs ? .holds : .off),
      Self.paper.claim(
        "the constants: factor on global latency, fitted on M ≤ 32",
        source: "this command", published: .null,
        ours: .string(
          constants.sorted { $0.key < $1.key }.map { "\($0.key) \(fixed($0.value.value, 1))" }
            .joined(separator: ", ")),
        kind: .modelled, .unscored),
      Self.paper.claim(
        "speed-up over AWQ at batch 256, four GPUs", source: "QUICK abstract",
        published: "1.33–1.91", ours: .string("\(fixed(least, 2))–\(fixed(most, 2))"),
        kind: .modelled,
        abs(least / 1.33 - 1) <= 0.17 && abs(most / 1.91 - 1) <= 0.17 ? .holds : .off),
    ]
  }

  /// Every cell of the published table: times and ratio, with and without a constant.
  private var cells: [Claim] {
    rows.flatMap { row -> [Claim] in
      let cell = row.cell
      let place = "\(cell.device.identifier) M=\(cell.rows)"
      func command(_ kernel: String) -> String {
        "quantkernels simulate matmul --device \(cell.device.identifier) --kernel \(kernel) "
          + "--m \(cell.rows) --n 8192 --k 8192"
      }
      func time(_ kernel: String, _ published: Double, _ ours: Double, _ tag: String) -> Claim {
        let error = 100 * (ours / published - 1)
        return Self.paper.claim(
          "\(place) \(kernel) µs\(tag)", source: PublishedQuick.source,
          published: JSON(published), ours: JSON(ours), kind: .modelled, error: error,
          abs(error) <= 22 ? .holds : .off,
          command: command(kernel) + (tag.isEmpty ? "" : " --fitted"))
      }
      var list: [Claim] = []
      for (times, tag) in [(row.plain, ""), (row.fitted, ", constant")] {
        if let half = cell.half {
          list.append(time("fp16", cell.microseconds(half), times.half, tag))
        }
        list.append(time("awq", cell.microseconds(cell.awq), times.awq, tag))
        list.append(time("quick", cell.microseconds(cell.quick), times.quick, tag))
        let published = cell.quick / cell.awq
        let ours = times.awq / times.quick
        let error = 100 * (ours / published - 1)
        list.append(
          Self.paper.claim(
            "\(place) QUICK : AWQ\(tag)", source: PublishedQuick.source,
            published: JSON(published), ours: JSON(ours), kind: .modelled, error: error,
            abs(error) <= 17 ? .holds : .off))
      }
      return list
    }
  }

  /// Causes of the speed-up, our own kernel and Marlin: nothing published to score them by.
  private var unscored: [Claim] {
    rows.filter { $0.cell.rows >= 64 }.flatMap { row -> [Claim] in
      let place = "\(row.cell.device.identifier) M=\(row.cell.rows)"
      let causes = row.causes.factors.map { "\($0.cause.rawValue) \(fixed($0.factor, 2))" }
        .joined(separator: " × ")
      return [
        Self.paper.claim(
          "\(place) causes of QUICK's speed-up", source: "not published", published: .null,
          ours: .string(causes), kind: .modelled, .unscored),
        Self.paper.claim(
          "\(place) quick-improved µs", source: "our own kernel", published: .null,
          ours: JSON(row.plain.improved), kind: .modelled, .unscored),
        Self.paper.claim(
          "\(place) marlin µs", source: "no published cell on these devices", published: .null,
          ours: JSON(row.plain.marlin), kind: .modelled, .unscored),
      ]
    }
  }
}
