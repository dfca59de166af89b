import QuantKernels

/// What `bench attention` says about one case.
struct AttentionReport {
  let attention: AttentionCase
  let result: AttentionCase.Result
  let limits: MachineLimits

  private var seconds: Double { result.rounds.microseconds.median * 1e-6 }
  var gigaflops: Double { attention.operations / seconds * 1e-9 }
  private var gigabytes: Double { result.keyValueBytes / seconds * 1e-9 }
  private var bytesTime: Double { result.keyValueBytes / result.rounds.limits.read.median * 1e-9 }
  private var peak: Double {
    let limits = result.rounds.limits
    return (result.products == .bfloat16 ? limits.bfloat16 : limits.float32).median
  }
  private var operationsTime: Double { attention.operations / peak * 1e-9 }
  private var roofline: Double { max(bytesTime, operationsTime) / seconds }
  private var bound: String {
    bytesTime > operationsTime ? "bandwidth" : "\(result.products.rawValue) peak"
  }
  private var kernel: String {
    if result.products == .bfloat16 {
      return "qk_attention_pairs_\(attention.type.rawValue)__avx512bf16"
    }
    let level = limits.instructionSet == .scalar ? "scalar" : limits.instructionSet.rawValue
    return "qk_attention_\(attention.type.rawValue)__\(level)"
  }

  private var unfused: JSON {
    guard let unfused = result.unfused else { return .null }
    return [
      "microseconds": unfused.microseconds.json, "scratchBytes": JSON(unfused.bytes),
      "timesAsLong": JSON(unfused.microseconds.median / result.rounds.microseconds.median),
      "largestDifference": JSON(unfused.difference),
    ]
  }

  var json: JSON {
    [
      "queryLength": JSON(attention.queryLength), "keyValueLength": JSON(attention.keyValueLength),
      "heads": JSON(attention.heads), "keyValueHeads": JSON(attention.keyValueHeads),
      "headDimension": JSON(attention.headDimension),
      "keyValueType": JSON(attention.type.rawValue), "causal": .bool(attention.isCausal),
      "window": attention.window.map { JSON($0) } ?? .null,
      "pageSize": attention.pageSize.map { JSON($0) } ?? .null,
      "microseconds": result.rounds.microseconds.json, "gigaflopPerSecond": JSON(gigaflops),
      "keyValueGigabytesPerSecond": JSON(gigabytes), "shareOfRoofline": JSON(roofline),
      "bound": JSON(bound), "products": JSON(result.products.rawValue), "kernel": JSON(kernel),
      "keyValueBytes": JSON(result.keyValueBytes),
      "copies": JSON(result.copies), "threads": JSON(limits.threads),
      "instructionSet": JSON(limits.instructionSet.rawValue),
      "readGigabytesPerSecond": result.rounds.limits.read.json,
      "float32GigaflopPerSecond": result.rounds.limits.float32.json,
      "bfloat16GigaflopPerSecond": result.rounds.limits.bfloat16.json,
      "scratchBytes": JSON(result.scratchBytes), "unfused": unfused,
    ]
  }

  var text: String {
    let window = attention.window.map { ", window \($0)" } ?? ""
    let pages = attention.pageSize.map { ", pages of \($0)" } ?? ""
    let beside =
      result.unfused.map { unfused in
        "\n  scratch     \(result.scratchBytes) bytes\n  unfused     "
          + "\(unfused.microseconds.text()) µs, "
          + "\(fixed(unfused.microseconds.median / result.rounds.microseconds.median, 2)) times as "
          + "long, \(unfused.bytes) bytes, outputs within "
          + "\(fixed(unfused.difference * 1e6, 2))e-6"
      } ?? ""
    return """
      attention of \(attention.queryLength) queries over \(attention.keyValueLength) positions, \
      \(attention.heads) heads of \(attention.headDimension), \(attention.keyValueHeads) of keys \
      and values in \(attention.type.rawValue)\(attention.isCausal ? ", causal" : "")\(window)\
      \(pages)
      \(limits.threads) thread\(limits.threads == 1 ? "" : "s"), \(kernel), \
      \(result.copies > 1 ? "cold" : "warm")
        time        \(result.rounds.microseconds.text()) µs, \(result.rounds.microseconds.samples.count) runs
        operations  \(fixed(gigaflops, 1)) GFLOP/s, \
      \(fixed(gigaflops / peak * 100, 1)) % of \(result.products.rawValue) peak
        keys and values  \(fixed(gigabytes, 1)) GB/s, \
      \(fixed(gigabytes / result.rounds.limits.read.median * 100, 1)) % of read bandwidth
        roofline    \(fixed(roofline * 100, 1)) %, bound by \(bound)\(beside)
      """
  }
}
