import DeviceModel
import QuantKernels
import TestSupport

/// Random inputs of an attention, and its result in float64 from the definition.
struct NPUAttentionCase {
  let shape: NPUAttentionShape
  let queries: [Float]
  let keys: [Float]
  let values: [Float]

  init(_ shape: NPUAttentionShape, seed: UInt64 = 1, spread: Float = 1) {
    var random = RepeatableRandom(seed: seed)
    /// A value of a normal distribution, by the sum of twelve uniform ones, in binary16.
    func normals(_ count: Int, _ spread: Float) -> [Float] {
      (0..<count).map { _ in
        let sum = (0..<12).reduce(Float(-6)) { sum, _ in
          sum + Float.random(in: 0..<1, using: &random)
        }
        return HalfPrecision.float(fromHalf: HalfPrecision.half(sum * spread))
      }
    }
    self.shape = shape
    queries = normals(shape.queryCount, spread)
    keys = normals(shape.keyCount, spread)
    values = normals(shape.keyCount, 1)
  }

  struct Reference {
    var values: [Double] = []
    var rowSums: [Double] = []
  }

  /// softmax(scale · q·k over visible keys) · v.
  func reference(_ mask: TileMask, scale: Double? = nil) -> Reference {
    let d = shape.headDimension
    let scale = scale ?? 1 / Double(d).squareRoot()
    var result = Reference()
    for row in 0..<shape.queryLength {
      for head in 0..<shape.heads {
        let keyHead = head / shape.group
        let query = (row * shape.heads + head) * d
        var scores: [(key: Int, score: Double)] = []
        for key in 0..<shape.keyLength where !mask.isMasked(row: row, key: key) {
          let start = (key * shape.keyValueHeads + keyHead) * d
          var sum = 0.0
          for x in 0..<d { sum += Double(queries[query + x]) * Double(keys[start + x]) }
          scores.append((key, sum * scale))
        }
        let largest = scores.map(\.score).max() ?? -.infinity
        var total = 0.0
        var output = [Double](repeating: 0, count: d)
        for (key, score) in scores {
          let weight = exponential(score - largest)
          total += weight
          let start = (key * shape.keyValueHeads + keyHead) * d
          for x in 0..<d { output[x] += weight * Double(values[start + x]) }
        }
        result.values += output.map { total > 0 ? $0 / total : 0 }
        result.rowSums.append(total > 0 ? largest + logarithm(total) : -.infinity)
      }
    }
    return result
  }

  /// ln by Newton's method on the C library's exponential.
  private func logarithm(_ x: Double) -> Double {
    var y = 0.0
    for _ in 0..<100 {
      let power = exponential(y)
      y += 2 * (x - power) / (x + power)
    }
    return y
  }

  func run(
    _ options: NPUAttentionOptions, on spec: NPUSpec = .ascend910b2
  ) throws -> Run<NPUAttentionOutput> {
    try NPUAttention.run(
      queries: queries, keys: keys, values: values, shape: shape, options: options, on: spec)
  }
}

/// Σ(a − b)² / Σb².
func normalizedError(_ found: [Float], _ wanted: [Double]) -> Double {
  var difference = 0.0
  var size = 0.0
  for (a, b) in zip(found, wanted) {
    difference += (Double(a) - b) * (Double(a) - b)
    size += b * b
  }
  return size > 0 ? difference / size : difference
}

extension NPUAttentionOptions {
  /// Every kernel that reads masks as asked, for a mask.
  static func all(_ mask: TileMask, firstLevelKeys: Int, secondLevelKeys: Int) -> [Self] {
    var list: [Self] = []
    for mode in NPUMaskMode.allCases {
      for kernel in [NPUAttentionKernel.unified, .twoLevel] {
        list.append(
          Self(
            kernel: kernel, mask: mask, maskMode: mode,
            firstLevelKeys: kernel == .unified ? nil : firstLevelKeys,
            secondLevelKeys: secondLevelKeys))
      }
    }
    for separate in [false, true] {
      list.append(
        Self(
          kernel: .unfused, mask: mask, maskMode: .full, firstLevelKeys: firstLevelKeys,
          secondLevelKeys: secondLevelKeys, separatePasses: separate))
    }
    return list
  }
}
