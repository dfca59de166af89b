import DeviceModel
import QuantKernels
import TestSupport

/// Inputs of a simulated attention and their float64 reference, written apart from the kernels.
struct DeviceAttentionCase: Sendable, CustomStringConvertible {
  var queryLength: Int
  var keyLength: Int
  var heads = 1
  var keyValueHeads = 1
  var width: Int
  var causal = false
  var scale: Float?
  /// Factor on queries, for large scores.
  var spread: Float = 1

  var description: String {
    "\(queryLength)×\(keyLength), \(heads)/\(keyValueHeads) heads of \(width)"
      + (causal ? ", causal" : "") + (scale.map { ", scale \($0)" } ?? "")
      + (spread == 1 ? "" : ", spread \(spread)")
  }

  func shape() throws -> DeviceAttentionShape {
    try DeviceAttentionShape(
      queryLength: queryLength, keyLength: keyLength, heads: heads, keyValueHeads: keyValueHeads,
      headDimension: width, isCausal: causal)
  }

  private func normals(_ count: Int, _ seed: UInt64, _ factor: Float = 1) -> [UInt16] {
    var random = RepeatableRandom(seed: seed)
    return random.normals(count).map { HalfPrecision.half($0 * factor) }
  }

  var queries: [UInt16] { normals(queryLength * heads * width, 11, spread) }
  var keys: [UInt16] { normals(keyLength * keyValueHeads * width, 12) }
  var values: [UInt16] { normals(keyLength * keyValueHeads * width, 13) }

  /// An output, and what its error may be.
  struct Reference {
    var output: [Double]
    /// Σ p|v| of each element, p summing to 1.
    var size: [Double]
    /// The most by which a score's exponent can be off in float32, times the row's Σ p|v|.
    var bound: [Double]
  }

  /// softmax(scale·Q·Kᵀ)·V in float64 over the same halves, and a bound for float32 sums and P
  /// rounded to binary16:
  ///
  /// - a score is a chain of d fused products, off by at most d·u·Σ|q·k| (u = 2⁻²⁴), its product with
  ///   the scale and log₂e and the subtraction of the maximum by 4u of their size; p then by the
  ///   factor e^δ − 1 ≤ 2δ, in the numerator and the sum alike: 4δ·Σp|v|;
  /// - the exponential is off by at most 4u, sums of n terms by n·u;
  /// - P is rounded to binary16: 2⁻¹¹ of itself, or 2⁻²⁵ where it is subnormal, the sum being at least
  ///   1 when the row's largest p is 1;
  /// - the output is rounded to binary16: 2⁻¹¹ of itself, or 2⁻²⁵.
  func reference(
    queries: [UInt16]? = nil, keys: [UInt16]? = nil, values: [UInt16]? = nil
  ) -> Reference {
    let q = (queries ?? self.queries).map { Double(HalfPrecision.float(fromHalf: $0)) }
    let k = (keys ?? self.keys).map { Double(HalfPrecision.float(fromHalf: $0)) }
    let v = (values ?? self.values).map { Double(HalfPrecision.float(fromHalf: $0)) }
    let scale = Double(self.scale ?? 1 / Float(width).squareRoot())
    var result = Reference(
      output: Array(repeating: 0, count: q.count), size: Array(repeating: 0, count: q.count),
      bound: Array(repeating: 0, count: q.count))
    let u = 0x1p-24
    for row in 0..<queryLength {
      let visible = causal ? min(keyLength, row + keyLength - queryLength + 1) : keyLength
      if visible <= 0 { continue }
      for head in 0..<heads {
        let at = (row * heads + head) * width
        let kv = head / (heads / keyValueHeads)
        var scores: [Double] = []
        var off = 0.0
        for key in 0..<visible {
          let to = (key * keyValueHeads + kv) * width
          var sum = 0.0
          var size = 0.0
          for i in 0..<width {
            sum += q[at + i] * k[to + i]
            size += (q[at + i] * k[to + i]).magnitude
          }
          scores.append(sum * scale)
          off = max(off, (Double(width) * size + 4 * sum.magnitude) * u * scale.magnitude)
        }
        let top = scores.max() ?? 0
        off += 4 * u * top.magnitude
        let p = scores.map { exponential($0 - top) }
        let total = p.reduce(0, +)
        for i in 0..<width {
          var sum = 0.0
          var size = 0.0
          var largest = 0.0
          for key in 0..<visible {
            let value = v[(key * keyValueHeads + kv) * width + i]
            sum += p[key] * value
            size += p[key] * value.magnitude
            largest = max(largest, value.magnitude)
          }
          result.output[at + i] = sum / total
          result.size[at + i] = size / total
          let n = Double(visible)
          result.bound[at + i] =
            (4 * off + 0x1p-11 + (2 * n + 16) * u) * size / total
            + n * 0x1p-25 * largest / total + (0x1p-11 * sum / total).magnitude + 0x1p-25
        }
      }
    }
    return result
  }

  /// Largest error in units of its bound, and the normalized mean square error.
  static func errors(_ output: [UInt16], _ reference: Reference) -> (worst: Double, nmse: Double) {
    var worst = 0.0
    var square = 0.0
    var size = 0.0
    for (index, half) in output.enumerated() {
      let error = Double(HalfPrecision.float(fromHalf: half)) - reference.output[index]
      // A row that sees nothing has a bound of 0 and must be 0.
      if error != 0 { worst = max(worst, error.magnitude / max(reference.bound[index], 1e-300)) }
      if error.isNaN { worst = .infinity }
      square += error * error
      size += reference.output[index] * reference.output[index]
    }
    return (worst, size > 0 ? square / size : square)
  }

  func run(
    _ kernel: GPUAttentionKernel, _ options: FlashAttentionKernel.Options = .init(),
    checks: Bool = false, queries: [UInt16]? = nil, keys: [UInt16]? = nil,
    values: [UInt16]? = nil
  ) throws -> Run<[UInt16]> {
    try SimulatedAttention.run(
      kernel, shape: shape(), queries: queries ?? self.queries, keys: keys ?? self.keys,
      values: values ?? self.values, scale: scale,
      on: kernel == .flash ? .a100x80 : .v100, options: options,
      simulator: WarpSimulator(checks: checks))
  }
}
