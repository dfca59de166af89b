import ArgumentParser
import QuantKernels

/// `bench latent-attention`: a decode step over low-rank latents beside dense caches, interleaved.
struct BenchLatentAttention: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "latent-attention",
    abstract: "A decode step's attention over low-rank latents, beside dense caches.",
    discussion: """
      One query over caches that are cold: each run rotates through copies that fill twice the \
      last-level cache. The runs of all caches take turns. Factors are random: the time does not \
      depend on them. The late up-projection of values is part of the time, with factors that stay \
      in a cache.

      EXAMPLES
        quantkernels bench latent-attention --kv-length 16384 --kv-heads 8
        quantkernels bench latent-attention --kv-length 4096 --keys rebuilt --group 1 --threads 1
      """)

  @OptionGroup var common: CommonOptions
  @OptionGroup var limitOptions: LimitOptions

  @Option(name: .long, help: "Positions of keys and values.")
  var kvLength = 16384

  @Option(name: .long, help: "Query heads.")
  var heads = 32

  @Option(name: .long, help: "Heads of keys and values.")
  var kvHeads = 8

  @Option(name: .long, help: "Elements of a head.")
  var headDim = 128

  @Option(name: .long, help: "Latents of a group, as a share of its heads' elements.")
  var ratio = 0.5

  @Option(name: .long, help: "Key-value heads that share a latent.")
  var group = 4

  @Option(name: .long, help: "How keys are cached: rotated, commuting or rebuilt.")
  var keys = LowRankFactors.KeyMode.rotated.rawValue

  @Option(name: .long, help: "Bits of keys: 2, 3, 4, 8, 16 or 32.")
  var keyBits = 4

  @Option(name: .long, help: "Bits of latents of values.")
  var valueBits = 4

  @Option(name: .long, help: "Dense caches beside it, separated by commas.")
  var beside = "f16,q4_0"

  func run() throws {
    guard let mode = LowRankFactors.KeyMode(rawValue: keys) else {
      throw QuantError(
        .invalidArgument, "--keys \(keys)", "no such way",
        remedy: "use rotated, commuting or rebuilt")
    }
    for (name, value) in [("--kv-length", kvLength), ("--heads", heads), ("--kv-heads", kvHeads)]
    where !(1...1 << 24 ~= value) {
      throw QuantError(
        .invalidArgument, "\(name) \(value)", "no size", remedy: "use 1 to \(1 << 24)")
    }
    guard ratio > 0, ratio <= 1 else {
      throw QuantError(
        .invalidArgument, "--ratio \(ratio)", "no share", remedy: "use more than 0, at most 1")
    }
    let types = try beside.split(separator: ",").map { name throws(QuantError) in
      guard let type = KeyValueType(rawValue: String(name)) else {
        throw QuantError(
          .invalidArgument, "--beside \(name)", "no such type",
          remedy: "use "
            + KeyValueType.allCases.map(\.rawValue).joined(separator: ", "))
      }
      return type
    }
    let example = LatentAttentionCase(
      keyValueLength: kvLength, heads: heads, keyValueHeads: kvHeads, headDimension: headDim,
      ratio: ratio, group: group, keyMode: mode, keyType: try LatentType(bits: keyBits),
      valueType: try LatentType(bits: valueBits), beside: types)
    // Sizes that do not fit are refused before anything takes time.
    let layer = try example.randomLayer()
    let pool = WorkerPool(threads: common.threadCount)
    let limits = try limitOptions.open(pool: pool)
    let result = try example.measure(layer, options: limitOptions, limits: limits, pool: pool)
    Console.clearProgress()
    report(result, limits)
  }

  private func report(_ result: LatentAttentionCase.Result, _ limits: MachineLimits) {
    let samples = result.limits
    let cost = result.cost
    let balance = LowRankBalance(
      bytesPerSecond: samples.read.median * 1e9,
      floatMultipliesPerSecond: samples.float32.median * 0.5e9,
      digitMultipliesPerSecond: samples.int8.median * 0.5e9)
    let least = balance.secondsPerToken(cost)
    let bytesTime = least.bytes * Double(kvLength) * 1e6
    let multiplyTime = least.multiplies * Double(kvLength) * 1e6
    let bound = bytesTime > multiplyTime ? "bytes" : "multiply-accumulates"
    var rows: [JSON] = []
    var text = """
      a decode step over \(kvLength) positions, \(heads) heads of \(headDim), \(kvHeads) of keys \
      and values, \(limits.threads) thread(s), \(limits.instructionSet.rawValue)
      low-rank: \(cost.keyMode.rawValue) keys of \(keyBits) bits, \(cost.valueWidths.count) groups \
      of \(cost.valueWidths.first ?? 0) latents of \(valueBits) bits; \
      \(cost.multiplies(positions: 1) - cost.multiplies(positions: 0)) MAC a position, \
      \(cost.multiplies(positions: 0)) a step
        limits: bytes \(fixed(bytesTime, 1)) µs, multiply-accumulates \(fixed(multiplyTime, 1)) µs: \
      bound by \(bound); machine \(fixed(balance.floatsPerByte, 1)) FLOP a byte\
      \(cost.keyMode == .rebuilt ? ", rebuilding wants \(fixed(cost.rebuildBalance ?? .infinity, 1))" : "")

      """
    for row in result.rows {
      let time = row.microseconds
      let bytes = row.bytesPerPosition
      let gigabytes = Double(bytes * kvLength) / time.median * 1e-3
      let times = time.median / result.rows[0].microseconds.median
      text +=
        "  \(padded(row.name, 9, left: true)) \(padded(time.text(), 28, left: true)) µs  "
        + "\(padded(String(bytes), 5)) bytes a position  \(padded(fixed(gigabytes, 2), 6)) GB/s  "
        + "\(fixed(times, 2))× the low-rank time\n"
      rows.append([
        "cache": JSON(row.name), "microseconds": time.json, "bytesPerPosition": JSON(bytes),
        "gigabytesPerSecond": JSON(gigabytes), "timesLowRank": JSON(times),
      ])
    }
    common.finish(
      [
        "keyValueLength": JSON(kvLength), "heads": JSON(heads), "keyValueHeads": JSON(kvHeads),
        "headDimension": JSON(headDim), "keyMode": JSON(cost.keyMode.rawValue),
        "keyBits": JSON(keyBits), "valueBits": JSON(valueBits), "group": JSON(group),
        "latents": JSON(cost.valueWidths.first ?? 0), "caches": .array(rows),
        "bytesMicroseconds": JSON(bytesTime), "multiplyMicroseconds": JSON(multiplyTime),
        "bound": JSON(bound), "threads": JSON(limits.threads),
        "instructionSet": JSON(limits.instructionSet.rawValue),
        "readGigabytesPerSecond": samples.read.json, "int8GigaMACPerSecond": samples.int8.json,
        "float32GigaflopPerSecond": samples.float32.json,
      ], text: String(text.dropLast()))
  }
}
