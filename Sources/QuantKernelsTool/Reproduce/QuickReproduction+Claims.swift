import DeviceModel
import QuantKernels

extension QuickReproduction {
  private static let paper = Paper.quick

  /// The paper's claims beside ours, the headlines first, then every cell.
  var claims: [Claim] { counted + headlines + Self.unchecked + cells + unscored }

  private static func perStep(_ product: SimulatedMatmul, _ value: Int) -> Double {
    Double(value) / Double(max(1, product.warpSteps))
  }

  /// Shared wavefronts of the main loop, a warp and a step.
  private static func wavefronts(_ product: SimulatedMatmul) -> Double {
    perStep(product, product.loopCounters.sharedMemory.wavefronts)
  }

  private static func site(
    _ product: SimulatedMatmul, _ name: String
  ) -> Counters.SharedMemory {
    product.counters.sites.first { $0.name == name }?.shared ?? Counters.SharedMemory()
  }

  private static func m16(_ kernel: String) -> String {
    "quantkernels simulate matmul --device rtx4090 --kernel \(kernel) --m 16 --n 8192 --k 8192"
  }

  private static let differs =
    "the simulated kernel's count differs from what its source gives by hand"

  /// The traffic that QUICK saves.
  static func wavefrontRatio(_ awq: SimulatedMatmul, _ quick: SimulatedMatmul) -> Claim {
    let ratio = wavefronts(awq) / wavefronts(quick)
    return paper.claim(
      "shared wavefronts, AWQ : QUICK", source: "derived from both sources", published: 5,
      ours: JSON(ratio), kind: .counted, error: 100 * (ratio / 5 - 1),
      ratio == 5 ? .holds : .partly,
      reason: differs)
  }

  /// The conflicts that it says it saves.
  static func writeBack(_ awq: SimulatedMatmul) -> Claim {
    let writeBack = site(awq, "write back B")
    return paper.claim(
      "the write-back of weights has bank conflicts (documented rule)",
      source: "QUICK abstract (arXiv 2402.10076)", published: "conflicts",
      ours: .string("\(writeBack.conflicts) of \(writeBack.wavefronts)"), kind: .counted,
      writeBack.conflicts > 0 ? .holds : .fails,
      reason:
        "rows are padded by 16 bytes, so eight neighboring lanes never meet in a bank and the "
        + "store takes no more passes than its bytes need; what QUICK removes is the traffic. A real "
        + "H100 counts no extra pass either (Benchmarks/hardware/results)",
      command: m16("awq"))
  }

  /// What QUICK removes, counted.
  private var counted: [Claim] {
    let stored = Self.site(quick, "store A").conflicts
    func wavefronts(
      _ name: String, _ product: SimulatedMatmul, source: String, published: Double?,
      command: String
    ) -> Claim {
      let ours = Self.wavefronts(product)
      return Self.paper.claim(
        "shared wavefronts a warp step, \(name)", source: source,
        published: published.map { JSON($0) } ?? .null, ours: JSON(ours), kind: .counted,
        error: published.map { 100 * (ours / $0 - 1) },
        published.map { ours == $0 ? .holds : .partly } ?? .unscored, reason: Self.differs,
        command: Self.m16(command))
    }
    return [
      wavefronts(
        "AWQ", awq, source: "derived from AutoAWQ_kernels", published: 80, command: "awq"),
      wavefronts(
        "QUICK", quick, source: "derived from SqueezeBits/QUICK", published: 16, command: "quick"),
      Self.wavefrontRatio(awq, quick), Self.writeBack(awq),
      Self.paper.claim(
        "conflicts a warp step in the store of activations, AWQ and QUICK",
        source: "derived from both sources", published: 4,
        ours: JSON(Self.perStep(quick, stored)), kind: .counted,
        error: 100 * (Self.perStep(quick, stored) / 4 - 1),
        stored == Self.site(awq, "store A").conflicts ? .holds : .partly, reason: Self.differs,
        command: Self.m16("quick")),
      Self.paper.claim(
        "conflicts in our improved kernel", source: "none; our own",
        ours: JSON(improved.loopCounters.sharedMemory.conflicts), kind: .counted,
        command: Self.m16("quick-improved")),
      wavefronts(
        "ours improved", improved, source: "none; our own", published: nil,
        command: "quick-improved"),
      wavefronts("Marlin", marlin, source: "not published", published: nil, command: "marlin"),
    ]
  }

  /// What would take a GPU and a whole decoder on it.
  private static var unchecked: [Claim] {
    [
      paper.unchecked(
        "tokens/s over AutoAWQ end to end: Llama-2-13B on L40 at batch 256",
        source: "QUICK abstract and README", published: "1.94×",
        reason: "it needs the GPU's wall clock over a whole decoder in Python; the model times one "
          + "product"),
      paper.unchecked(
        "tokens/s in vLLM over AWQ: Vicuna-13B and Llama-2-70B on A6000",
        source: "SqueezeBits/QUICK README", published: "1.27×, 1.29×",
        reason: "it needs the GPU's wall clock over a serving engine and its request trace"),
      paper.unchecked(
        "perplexity equal to AutoAWQ's", source: "SqueezeBits/QUICK README", published: "equal",
        reason: "no figure or model is named; packing moves codes and scales unchanged, and "
          + "awq → quick → awq is bit-exact (`convert`)"),
    ]
  }

  /// How good the model is, and the abstract's range.
  private var headlines: [Claim] {
    let plain = scores { $0.plain }
    let fitted = scores { $0.fitted }
    func bar(_ name: String, _ value: Double, _ limit: Double) -> Claim {
      Self.paper.claim(
        name, source: PublishedQuick.source, published: .string("≤ \(fixed(limit, 0)) %"),
        ours: JSON(value), kind: .modelled, value <= limit ? .holds : .partly,
        reason: "the model is off by more than it is allowed to be")
    }
    let order = "more than a tenth of the pairs are in another order than published"
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
        10 * plain.ranked >= 9 * plain.pairs ? .holds : .partly, reason: order),
      Self.paper.claim(
        "the same with one constant a device", source: PublishedQuick.source,
        published: .string("≥ 90 %"), ours: .string("\(fitted.ranked) of \(fitted.pairs)"),
        kind: .modelled, 10 * fitted.ranked >= 9 * fitted.pairs ? .holds : .partly, reason: order),
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
        abs(least / 1.33 - 1) <= 0.17 && abs(most / 1.91 - 1) <= 0.17 ? .holds : .partly,
        reason: "an end of the modelled range is more than 17 % from the published one"),
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
          abs(error) <= 22 ? .holds : .partly,
          reason: "the modelled time is off by more than 22 %",
          command: command(kernel) + (tag.isEmpty ? "" : " --fitted"), isDetail: true)
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
            abs(error) <= 17 ? .holds : .partly,
            reason: "the modelled ratio is off by more than 17 %", isDetail: true))
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
          ours: .string(causes), kind: .modelled, .unscored, isDetail: true),
        Self.paper.claim(
          "\(place) quick-improved µs", source: "our own kernel", published: .null,
          ours: JSON(row.plain.improved), kind: .modelled, .unscored, isDetail: true),
        Self.paper.claim(
          "\(place) marlin µs", source: "no published cell on these devices", published: .null,
          ours: JSON(row.plain.marlin), kind: .modelled, .unscored, isDetail: true),
      ]
    }
  }
}
