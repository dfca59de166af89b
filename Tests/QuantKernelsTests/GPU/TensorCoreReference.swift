import QuantKernels
import TestSupport

/// Plain loops that the simulated tensor-core kernels are held against.
enum TensorCoreReference {
  static func half(_ value: Float) -> UInt16 { HalfPrecision.half(value) }
  static func float(_ half: UInt16) -> Float { HalfPrecision.float(fromHalf: half) }

  /// `sum` and the chain of fused multiply-adds onto it over a run of k, ascending; a product of two
  /// binary16 is exact in float32, so a plain sum is the fused one.
  static func chain(
    _ a: UnsafeBufferPointer<Float>, _ b: UnsafeBufferPointer<Float>, _ run: Range<Int>,
    from sum: Float = 0
  ) -> Float {
    var sum = sum
    var k = run.lowerBound
    while k < run.upperBound {
      sum += a[k] * b[k]
      k += 1
    }
    return sum
  }

  /// Halves spread evenly over ±`scale`.
  static func spread(_ count: Int, scale: Float = 1, seed: UInt64) -> [UInt16] {
    var random = RepeatableRandom(seed: seed)
    return (0..<count).map { _ in half(.random(in: -scale..<scale, using: &random)) }
  }

  /// Halves of small integers, −3…3.
  static func integers(_ count: Int, seed: UInt64) -> [UInt16] {
    var random = RepeatableRandom(seed: seed)
    return (0..<count).map { _ in half(Float(Int.random(in: -3...3, using: &random))) }
  }

  /// Σ|computed − exact| / Σ|exact|, exact in float64, over `[rows · outputs]`.
  static func meanRelativeError(
    _ computed: [UInt16], input: [UInt16], weights: (_ n: Int, _ k: Int) -> Double, rows: Int,
    outputs: Int, inputs: Int
  ) -> Double {
    var error = 0.0
    var size = 0.0
    for n in 0..<outputs {
      let row = (0..<inputs).map { weights(n, $0) }
      for m in 0..<rows {
        var sum = 0.0
        for k in 0..<inputs { sum += Double(float(input[m * inputs + k])) * row[k] }
        error += (Double(float(computed[m * outputs + n])) - sum).magnitude
        size += sum.magnitude
      }
    }
    return error / size
  }
}
