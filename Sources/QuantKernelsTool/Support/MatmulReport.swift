import QuantKernels

/// What `bench matmul` says about one product.
struct MatmulReport {
  let shape: MatmulShape
  let weights: any MeasuredWeights
  let copies: Int
  let isExact: Bool
  let result: TimedRounds
  let limits: MachineLimits

  private var seconds: Double { result.microseconds.median * 1e-6 }
  var gigaMACs: Double {
    Double(shape.tokens) * Double(shape.outputs) * Double(shape.inputs) / seconds * 1e-9
  }
  var gigabytes: Double { Double(weights.byteCount) / seconds * 1e-9 }
  var shareOfInt8: Double { gigaMACs / result.limits.int8.median }
  private var shareOfFloat: Double { 2 * gigaMACs / result.limits.float32.median }
  var shareOfRead: Double { gigabytes / result.limits.read.median }
  private var kernel: String {
    weights.kernelName(count: shape.tokens, arithmetic: isExact ? .exact : .fast)
  }
  private var name: String {
    let group = shape.group.map { " group \($0)" } ?? ""
    return weights.typeName + group + (shape.symmetric ? " symmetric" : "")
  }

  var json: JSON {
    [
      "format": JSON(weights.typeName), "m": JSON(shape.tokens), "n": JSON(shape.outputs),
      "k": JSON(shape.inputs), "group": shape.group.map { JSON($0) } ?? .null,
      "symmetric": .bool(shape.symmetric),
      "microseconds": result.microseconds.json,
      "gigaMACPerSecond": JSON(gigaMACs), "weightGigabytesPerSecond": JSON(gigabytes),
      "kernel": JSON(kernel), "shareOfInt8Peak": JSON(shareOfInt8),
      "shareOfReadBandwidth": JSON(shareOfRead), "shareOfFloat32Peak": JSON(shareOfFloat),
      "threads": JSON(limits.threads), "instructionSet": JSON(limits.instructionSet.rawValue),
      "weightBytes": JSON(weights.byteCount), "cold": .bool(copies > 1), "copies": JSON(copies),
      "readGigabytesPerSecond": result.limits.read.json,
      "int8GigaMACPerSecond": result.limits.int8.json,
      "float32GigaflopPerSecond": result.limits.float32.json,
    ]
  }

  var text: String {
    """
    \(name) M=\(shape.tokens) N=\(shape.outputs) K=\(shape.inputs), \
    \(limits.threads) thread\(limits.threads == 1 ? "" : "s"), \(kernel), \(temperature)
      time      \(result.microseconds.text()) µs, \(result.microseconds.samples.count) runs
      products  \(fixed(gigaMACs, 1)) GMAC/s, \(fixed(shareOfInt8 * 100, 1)) % of int8 peak, \
    \(fixed(shareOfFloat * 100, 1)) % of float32 peak
      weights   \(fixed(gigabytes, 1)) GB/s, \(fixed(shareOfRead * 100, 1)) % of read bandwidth \
    (\(fixed(result.limits.read.median, 1)) GB/s)
    """
  }

  private var temperature: String { copies > 1 ? "cold" : "warm" }

  static func tableHead(_ limits: MachineLimits) -> String {
    """
    matrix products, \(limits.threads) thread\(limits.threads == 1 ? "" : "s"), \
    \(limits.instructionSet.rawValue)
      weights                    M      N      K          µs  (min–max)               GMAC/s  \
    of int8   GB/s  of read
    """
  }

  var row: String {
    let cells = [
      padded(name, 22, left: true), padded(String(shape.tokens), 5),
      padded(String(shape.outputs), 6), padded(String(shape.inputs), 6),
      padded(fixed(result.microseconds.median, 1), 11),
      padded(
        "(\(fixed(result.microseconds.minimum, 1))–\(fixed(result.microseconds.maximum, 1)))", 22,
        left: true),
      padded(fixed(gigaMACs, 1), 7), padded(fixed(shareOfInt8 * 100, 1) + " %", 8),
      padded(fixed(gigabytes, 1), 6), padded(fixed(shareOfRead * 100, 1) + " %", 8), temperature,
    ]
    return "  " + cells.joined(separator: " ")
  }
}
