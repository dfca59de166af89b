import DeviceModel
import QuantKernels

/// FastAttention's figures on an Ascend 910B2 beside ours: counted on a simulated NPU, timed by the
/// model, and timed again with every number that has no source at a quarter and four times its
/// value.
struct NPUAttentionReproduction {
  /// Kernels at one length, µs.
  struct Row {
    let length: Int
    let isCausal: Bool
    let twoLevel: Double
    let unified: Double
    /// Standard attention with one softmax pass over float32 scores.
    let unfused: Double
    /// Standard attention with passes of their own over binary16 scores.
    let separate: Double
    /// Keys of a first-level block.
    let firstLevelKeys: Int
    /// Bytes of the scores and probabilities that standard attention stores.
    let scoreBytes: Double

    /// Fused against the faster of the unfused.
    var fusedRatio: Double { min(unfused, separate) / twoLevel }
    var levelRatio: Double { unified / twoLevel }
  }

  /// The headlines with one number changed.
  struct Variation {
    let parameter: NPUSpec.Parameter
    let factor: Double
    /// The largest ratio over the lengths of fused against unfused, causal.
    let fusedRatio: Double
    /// The largest and the least ratio of unified against two-level from 4K on.
    let levelRatios: (least: Double, largest: Double)
  }

  /// A published time of one attention on a 910B2.
  struct Calibration {
    let label: String
    let source: String
    let published: Double
    let modelled: Double
  }

  let rows: [Row]
  let variations: [Variation]
  let calibrations: [Calibration]
  /// Bytes of mask read and stored at 64K by mode, one head.
  let maskBytes: [(mode: NPUMaskMode, read: Int, stored: Int)]

  static let heads = 32
  static let width = 128
  static let lengths = [1024, 2048, 4096, 8192, 16384, 32768, 65536, 131_072]
  /// Lengths at which numbers are varied: beyond, ratios change by less than 1 %.
  static let variedLengths = [1024, 4096, 16384, 32768]
  static let factors = [0.25, 4.0]

  init() throws(QuantError) {
    let spec = NPUSpec.ascend910b2
    var rows: [Row] = []
    var varied: [Counted] = []
    for isCausal in [true, false] {
      for length in Self.lengths {
        Console.progress("fast-attention: \(length) keys on \(spec.name)")
        let counted = try Counted(length, isCausal: isCausal, on: spec)
        rows.append(try counted.row(on: spec))
        if isCausal, Self.variedLengths.contains(length) { varied.append(counted) }
      }
    }
    self.rows = rows
    var variations: [Variation] = []
    for parameter in NPUSpec.Parameter.allCases {
      for factor in Self.factors {
        Console.progress("fast-attention: \(parameter.rawValue) × \(factor)")
        let changed = spec.scaled(parameter, by: factor)
        let rows = try varied.map { counted throws(QuantError) in try counted.row(on: changed) }
        let levels = rows.filter { $0.length >= 4096 }.map(\.levelRatio)
        variations.append(
          Variation(
            parameter: parameter, factor: factor,
            fusedRatio: rows.map(\.fusedRatio).max() ?? 0,
            levelRatios: (levels.min() ?? 0, levels.max() ?? 0)))
      }
    }
    self.variations = variations
    calibrations = try Self.published.map { point throws(QuantError) in
      Calibration(
        label: point.label, source: point.source, published: point.microseconds,
        modelled: try Self.microseconds(point.shape, NPUAttentionOptions(), on: spec))
    }
    let shape = NPUAttentionShape(
      queryLength: 65536, keyLength: 65536, heads: 1, headDimension: Self.width)
    let mask = try TileMask(isCausal: true)
    maskBytes = try NPUMaskMode.allCases.map { mode throws(QuantError) in
      let run = try NPUAttention.count(
        shape, options: NPUAttentionOptions(mask: mask, maskMode: mode), on: spec)
      let region = run.npu?.report.launches.first?.regions.first { $0.name == "mask" }
      return (mode, run.npu?.counters.regionReads["mask"] ?? 0, region?.distinctBytes ?? 0)
    }
  }

  /// The largest modelled gain over a few lengths, causal.
  ///
  /// - Throws: ``QuantError`` when Ctrl-C comes.
  static func short() throws(QuantError) -> [Claim] {
    let spec = NPUSpec.ascend910b2
    var best = 0.0
    for length in [4096, 16_384] {
      Console.progress("fast-attention: \(length) keys on \(spec.name)")
      best = max(best, try Counted(length, isCausal: true, on: spec).row(on: spec).fusedRatio)
    }
    return [headline(best)]
  }

  private static func microseconds(
    _ shape: NPUAttentionShape, _ options: NPUAttentionOptions, on spec: NPUSpec
  ) throws(QuantError) -> Double {
    try NPUAttention.count(shape, options: options, on: spec).npu?.estimate.microseconds ?? 0
  }

  /// What kernels do at one length, whatever the device's rates; of the two-level kernel that
  /// depends on the block that its rates make the best.
  private struct Counted {
    let shape: NPUAttentionShape
    let mask: TileMask
    let unified: NPULaunchReport
    let unfused: NPULaunchReport
    let separate: NPULaunchReport

    init(_ length: Int, isCausal: Bool, on spec: NPUSpec) throws(QuantError) {
      if Interruption.isRequested {
        throw QuantError(.cancelled, "reproduce", "interrupted", remedy: "run it again")
      }
      let shape = NPUAttentionShape(
        queryLength: length, keyLength: length, heads: heads, headDimension: width)
      let mask = isCausal ? try TileMask(isCausal: true) : .none
      func report(_ options: NPUAttentionOptions) throws(QuantError) -> NPULaunchReport {
        let run = try NPUAttention.count(shape, options: options, on: spec)
        return run.npu?.report ?? NPULaunchReport(launches: [])
      }
      self.shape = shape
      self.mask = mask
      unified = try report(NPUAttentionOptions(kernel: .unified, mask: mask))
      unfused = try report(
        NPUAttentionOptions(kernel: .unfused, mask: mask, maskMode: .full))
      separate = try report(
        NPUAttentionOptions(
          kernel: .unfused, mask: mask, maskMode: .full, separatePasses: true))
    }

    func row(on spec: NPUSpec) throws(QuantError) -> Row {
      func microseconds(_ report: NPULaunchReport) throws(QuantError) -> Double {
        do throws(DeviceError) {
          return try NPUEstimate(report, on: spec).microseconds
        } catch {
          throw QuantError(error)
        }
      }
      let fused = try NPUAttention.count(
        shape, options: NPUAttentionOptions(mask: mask), on: spec)
      return Row(
        length: shape.queryLength, isCausal: mask.isCausal,
        twoLevel: fused.npu?.estimate.microseconds ?? 0, unified: try microseconds(unified),
        unfused: try microseconds(unfused), separate: try microseconds(separate),
        firstLevelKeys: fused.output.blocks.firstLevelKeys, scoreBytes: shape.scoreBytes)
    }
  }

  private static func square(_ length: Int) -> NPUAttentionShape {
    NPUAttentionShape(queryLength: length, keyLength: length, heads: 1, headDimension: 128)
  }

  private static var published:
    [(label: String, source: String, microseconds: Double, shape: NPUAttentionShape)]
  {
    let hand = "gitcode cann/pto-isa PR 885, a hand-written kernel"
    let fused = "huawei-csl/pto-dsl PR #126, torch_npu"
    func rows(_ keys: Int) -> NPUAttentionShape {
      NPUAttentionShape(queryLength: 3072, keyLength: keys, heads: 1, headDimension: 128)
    }
    return [
      ("one head, 1024 × 1024", hand, 21.0, square(1024)),
      ("one head, 2048 × 2048", hand, 32.5, square(2048)),
      ("one head, 1024 × 1024", "gitcode cann/pto-isa PR 885, torch_npu", 58.5, square(1024)),
      ("one head, 2048 × 2048", "gitcode cann/pto-isa PR 885, torch_npu", 70.8, square(2048)),
      ("one head, 3072 × 8192", fused, 175.5, rows(8192)),
      ("one head, 3072 × 16384", fused, 242.5, rows(16384)),
    ]
  }
}
