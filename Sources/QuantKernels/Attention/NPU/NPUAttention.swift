import DeviceModel

/// What an attention computed on a simulated NPU.
public struct NPUAttentionOutput: Sendable, Hashable {
  /// Output, `queryLength × heads × headDimension`: binary16 values as floats. Empty where only
  /// counted.
  public var values: [Float]
  /// m + ln ℓ of each row, `queryLength × heads`; −∞ for a row that sees no key. Empty for the
  /// unfused kernel, which has none, and where only counted.
  public var rowSums: [Float]
  /// First-level blocks of keys, second-level ones, rows of a tile, blocks in flight; for the unfused
  /// kernel those of its products.
  public var blocks: NPUAttentionBlocks
  /// Rows whose output was rescaled by another factor than one, summed over first-level blocks; it
  /// depends on values, and is nil where only counted.
  public var rescaledRows: Int?
}

/// The block sizes of an attention on a simulated NPU.
public struct NPUAttentionBlocks: Sendable, Hashable {
  /// Keys between two hand-overs.
  public var firstLevelKeys: Int
  /// Keys of a product on the cube.
  public var secondLevelKeys: Int
  /// Query rows of a tile.
  public var rows: Int
  /// First-level blocks in flight.
  public var slots: Int
}

/// Forward attention on a simulated NPU.
public enum NPUAttention {
  /// Computes an attention with binary16 operands and float32 sums.
  ///
  /// - Parameters:
  ///   - queries: `queryLength × heads × headDimension`; rounded to binary16, as keys and values.
  ///   - keys: `keyLength × keyValueHeads × headDimension`.
  ///   - values: as many.
  ///   - shape: lengths and heads.
  ///   - options: kernel, mask and sizes of its tiles.
  ///   - spec: the device.
  /// - Returns: the output, the counters of all cores and the modelled time.
  /// - Throws: ``QuantError``: `.invalidArgument` for sizes, counts and options that do not go
  ///   together, `.invalidData` for values that are not finite in binary16, `.unsupported` when a
  ///   tile does not fit a buffer of the device.
  /// - Complexity: O(queryLength · keyLength · heads · headDimension).
  public static func run(
    queries: [Float], keys: [Float], values: [Float], shape: NPUAttentionShape,
    options: NPUAttentionOptions = NPUAttentionOptions(), on spec: NPUSpec
  ) throws(QuantError) -> Run<NPUAttentionOutput> {
    let start = MonotonicClock.nanoseconds()
    try check(shape, options, spec)
    for (name, count, wanted) in [
      ("queries", queries.count, shape.queryCount), ("keys", keys.count, shape.keyCount),
      ("values", values.count, shape.keyCount),
    ] where count != wanted {
      throw QuantError(
        .invalidArgument, "NPU attention \(name)", "\(count) floats where the shape has \(wanted)",
        remedy: "give length × heads × head dimension")
    }
    guard shape.scoreBytes < 0x1p36 else {
      throw QuantError(
        .invalidArgument, "NPU attention", "\(shape.scoreBytes) bytes of scores",
        remedy: "count shapes of this size without values")
    }
    let halves = try (
      halves(queries, "queries"), halves(keys, "keys"), halves(values, "values")
    )
    let work = try Work(shape, options.effective, spec, carriesValues: true)
    work.arrays.queries.fill(halves.0)
    work.arrays.keys.fill(halves.1)
    work.arrays.values.fill(halves.2)
    let (report, rescaledRows) = try work.run()
    return try finished(
      NPUAttentionOutput(
        values: work.arrays.output.contents(as: UInt16.self).map(HalfPrecision.float(fromHalf:)),
        rowSums: work.rowSums, blocks: work.blocks, rescaledRows: rescaledRows),
      report, spec, since: start)
  }

  /// Counts an attention: the same operations without values, one tile of each kind for its likes.
  ///
  /// - Returns: counters of all cores and the modelled time, equal to those of a run with values.
  /// - Throws: as ``run(queries:keys:values:shape:options:on:)``.
  /// - Complexity: O(keys · queries / (tile · first-level block)) for tiles of different sizes.
  public static func count(
    _ shape: NPUAttentionShape, options: NPUAttentionOptions = NPUAttentionOptions(),
    on spec: NPUSpec
  ) throws(QuantError) -> Run<NPUAttentionOutput> {
    let start = MonotonicClock.nanoseconds()
    try check(shape, options, spec)
    let work = try Work(shape, options.effective, spec, carriesValues: false)
    let (report, _) = try work.run()
    return try finished(
      NPUAttentionOutput(values: [], rowSums: [], blocks: work.blocks, rescaledRows: nil),
      report, spec, since: start)
  }

  private static func check(
    _ shape: NPUAttentionShape, _ options: NPUAttentionOptions, _ spec: NPUSpec
  ) throws(QuantError) {
    try shape.check()
    try options.check()
    do throws(DeviceError) { try spec.check() } catch { throw QuantError(error) }
  }

  private static func finished(
    _ output: NPUAttentionOutput, _ report: NPULaunchReport, _ spec: NPUSpec, since start: UInt64
  ) throws(QuantError) -> Run<NPUAttentionOutput> {
    do throws(DeviceError) {
      let estimate = try NPUEstimate(report, on: spec)
      var run = Run(
        output: output, seconds: MonotonicClock.seconds(since: start), isMeasured: false)
      run.npu = NPURun(report: report, estimate: estimate)
      return run
    } catch {
      throw QuantError(error)
    }
  }

  private static func halves(_ values: [Float], _ name: String) throws(QuantError) -> [UInt16] {
    var halves = [UInt16]()
    halves.reserveCapacity(values.count)
    for (index, value) in values.enumerated() {
      let half = HalfPrecision.half(value)
      guard HalfPrecision.isFinite(half: half) else {
        throw QuantError(
          .invalidData, "NPU attention \(name)", "element \(index) is \(value)",
          remedy: "give finite values of at most 65504")
      }
      halves.append(half)
    }
    return halves
  }

  /// One of the kernels, ready to run.
  private struct Work {
    let fused: FusedNPUAttention?
    let unfused: UnfusedNPUAttention?
    let arrays: NPUAttentionArrays
    let blocks: NPUAttentionBlocks

    init(
      _ shape: NPUAttentionShape, _ options: NPUAttentionOptions, _ spec: NPUSpec,
      carriesValues: Bool
    ) throws(QuantError) {
      if options.kernel == .unfused {
        fused = nil
        unfused = try QuantError.translating {
          try UnfusedNPUAttention(shape, options, on: spec, carriesValues: carriesValues)
        }
      } else {
        unfused = nil
        fused = try QuantError.translating {
          try FusedNPUAttention(shape, options, on: spec, carriesValues: carriesValues)
        }
      }
      if let fused {
        arrays = fused.arrays
        blocks = NPUAttentionBlocks(
          firstLevelKeys: fused.plan.firstLevelKeys, secondLevelKeys: fused.plan.secondLevelKeys,
          rows: fused.plan.blockRows, slots: fused.plan.slots)
      } else if let unfused {
        arrays = unfused.arrays
        blocks = NPUAttentionBlocks(
          firstLevelKeys: unfused.stackKeys, secondLevelKeys: unfused.blockKeys,
          rows: unfused.blockRows, slots: 1)
      } else {
        throw QuantError(.unsupported, "NPU attention", "no kernel", remedy: "choose one")
      }
    }

    func run() throws(QuantError) -> (NPULaunchReport, rescaledRows: Int) {
      do throws(DeviceError) {
        if let fused {
          let (launch, rows) = try fused.run()
          return (NPULaunchReport(launches: [launch]), rows)
        }
        return (NPULaunchReport(launches: try unfused?.run() ?? []), 0)
      } catch {
        throw QuantError(error)
      }
    }

    /// m + ln ℓ by position and head.
    var rowSums: [Float] {
      guard let fused else { return [] }
      let stored = fused.arrays.rowSums.contents(as: Float.self)
      var sums = [Float](repeating: 0, count: fused.shape.queryLength * fused.shape.heads)
      for tile in fused.tiles.assigned(to: 1)[0] {
        for segment in tile.segments(0..<tile.rows) {
          for row in 0..<segment.rows {
            let offset = FusedNPUCore.rowSumOffset(
              tile, row: segment.row + row, plan: fused.plan, spec: fused.spec)
            sums[(segment.position + row) * fused.shape.heads + segment.head] = stored[offset]
          }
        }
      }
      return sums
    }
  }
}

extension NPUAttentionOptions {
  /// Without a mask there is nothing to read or compare.
  var effective: NPUAttentionOptions {
    var options = self
    if mask == .none { options.maskMode = .computed }
    return options
  }
}
