/// Products in float64, written from the definition: what every kernel is held against.
public struct ReferenceProduct {
  /// `[count × rows]`, row-major.
  public let values: [Double]
  /// For each value, Σ|x|·max|w| over its groups of 32: rounding errors are small against this.
  public let magnitudes: [Double]

  /// `x`: `[count × columns]`, `w`: `[rows × columns]`.
  ///
  /// With `quantized` the activations are first rounded as the fast mode defines it: in groups of
  /// 32, scale = max|x| / 127 in float32, code = round to even of x · (127 / max|x|) in float32.
  public init(x: [Float], w: [Float], count: Int, rows: Int, columns: Int, quantized: Bool) {
    var values: [Double] = []
    var magnitudes: [Double] = []
    for i in 0..<count {
      var row = (0..<columns).map { Double(x[i * columns + $0]) }
      if quantized {
        for first in stride(from: 0, to: columns, by: 32) {
          let group = first..<min(first + 32, columns)
          let largest = group.map { abs(x[i * columns + $0]) }.max() ?? 0
          for k in group {
            let code =
              largest == 0 ? 0 : (x[i * columns + k] * (127 / largest)).rounded(.toNearestOrEven)
            row[k] = Double(code) * Double(largest / 127)
          }
        }
      }
      for n in 0..<rows {
        var sum = 0.0
        var magnitude = 0.0
        for first in stride(from: 0, to: columns, by: 32) {
          let group = first..<min(first + 32, columns)
          var largest = 0.0
          var input = 0.0
          for k in group {
            let weight = Double(w[n * columns + k])
            sum += row[k] * weight
            largest = max(largest, abs(weight))
            input += abs(row[k])
          }
          magnitude += largest * input
        }
        values.append(sum)
        magnitudes.append(magnitude)
      }
    }
    self.values = values
    self.magnitudes = magnitudes
  }

  /// The first element of `found` that is off by more than `roundings` float32 roundings of its
  /// magnitude, described; nil when all are within.
  public func mismatch(_ found: [Float], roundings: Double) -> String? {
    guard found.count == values.count else { return "\(found.count) values for \(values.count)" }
    for (index, value) in values.enumerated() {
      let bound = magnitudes[index] * roundings * 0x1p-24 + 1e-30
      if !(abs(Double(found[index]) - value) <= bound) {
        return "element \(index): \(found[index]), expected \(value) ± \(bound)"
      }
    }
    return nil
  }
}
