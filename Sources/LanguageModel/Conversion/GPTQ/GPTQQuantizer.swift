import QuantKernels
import Synchronization

/// Quantizes a linear layer column by column, each column's error made up for by those after it.
///
/// Groups are runs of the order of quantization, so that with act-order the inputs that matter most
/// share their scales with one another (`desc_act`).
struct GPTQQuantizer {
  let factor: GPTQFactor
  let groupSize: Int
  let symmetric: Bool
  let pool: WorkerPool

  /// Rows that run along the factor together: it is read once for all of them.
  private static let blockRows = 16

  /// - Parameter values: `[rows × columns]`, by original input.
  /// - Returns: the layer, with ``Int4Matrix/inputPermutation`` where inputs were reordered.
  /// - Throws: `QuantError` as ``Int4Matrix``.
  /// - Complexity: O(rows · columns²).
  func quantize(_ values: [Float], rows: Int, columns: Int) throws(QuantError) -> Int4Matrix {
    let blocks = (rows + Self.blockRows - 1) / Self.blockRows
    let results = Mutex<[Result<Int4Matrix, QuantError>?]>(Array(repeating: nil, count: blocks))
    pool.run(parts: blocks) { part, _ in
      let first = part * Self.blockRows
      let range = first..<min(first + Self.blockRows, rows)
      let result = Result { () throws(QuantError) in
        try block(values, rows: range, columns: columns)
      }
      results.withLock { $0[part] = result }
    }
    var parts: [Int4Matrix] = []
    for result in results.withLock({ $0 }) { if let result { parts.append(try result.get()) } }
    return try Int4Matrix.joined(parts)
  }

  private func block(
    _ values: [Float], rows: Range<Int>, columns: Int
  ) throws(QuantError) -> Int4Matrix {
    // Weights in the order of quantization; they change as errors are handed on.
    var weights: [Float] = []
    weights.reserveCapacity(rows.count * columns)
    for row in rows {
      for input in factor.order {
        weights.append(factor.isDead[Int(input)] ? 0 : values[row * columns + Int(input)])
      }
    }
    let groups = columns / groupSize
    var codes = [UInt8](repeating: 0, count: rows.count * columns)
    var scales = [Float](repeating: 0, count: rows.count * groups)
    var zeros = [UInt8](repeating: 8, count: rows.count * groups)
    for group in 0..<groups {
      let start = group * groupSize
      // The group's scale, from its weights as they are by now.
      let now = (0..<rows.count).flatMap {
        weights[$0 * columns + start..<$0 * columns + start + groupSize]
      }
      let found = try Int4Matrix(
        quantizing: now, rows: rows.count, columns: groupSize, groupSize: groupSize,
        symmetric: symmetric)
      for row in 0..<rows.count {
        scales[row * groups + group] = found.scales[row]
        if case .zeroPoints(let points) = found.offsets {
          zeros[row * groups + group] = points[row]
        }
      }
      factor.upper.withUnsafeBufferPointer { upper in
        weights.withUnsafeMutableBufferPointer { weights in
          guard let u = upper.baseAddress, let w = weights.baseAddress else { return }
          for column in start..<start + groupSize {
            let along = u + column * columns
            for row in 0..<rows.count {
              let own = w + row * columns
              let scale = scales[row * groups + group]
              let zero = Float(zeros[row * groups + group])
              let place = scale == 0 ? zero : own[column] / scale + zero
              let code = min(max(place.rounded(.toNearestOrEven), 0), 15)
              codes[row * columns + column] = UInt8(code)
              let error = (own[column] - scale * (code - zero)) / along[column]
              if error == 0 { continue }
              for later in column + 1..<max(columns, column + 1) {
                own[later] -= error * along[later]
              }
            }
          }
        }
      }
    }
    let isOrdered = factor.order.indices.allSatisfy { Int(factor.order[$0]) == $0 }
    return try Int4Matrix(
      rows: rows.count, columns: columns, groupSize: groupSize, codes: codes, scales: scales,
      offsets: symmetric ? .symmetric : .zeroPoints(zeros),
      inputPermutation: isOrdered ? nil : factor.order)
  }

  /// Σ over outputs of the squared error over the calibration's inputs, d H dᵀ for each row d of the
  /// difference; and the same of the weights themselves.
  ///
  /// - Parameter matrix: of the same shape, by whatever order of inputs.
  /// - Complexity: O(rows · columns²).
  static func outputError(
    of matrix: Int4Matrix, from values: [Float], sums: [Double], pool: WorkerPool
  ) throws(QuantError) -> (error: Double, energy: Double) {
    let columns = matrix.columns
    var difference = values
    for (index, value) in matrix.dequantized().enumerated() {
      let (row, column) = index.quotientAndRemainder(dividingBy: columns)
      let input = matrix.inputPermutation.map { Int($0[column]) } ?? column
      difference[row * columns + input] -= value
    }
    // Scaled, so that float32 holds the sums of any text.
    let largest = max(sums.reduce(0) { max($0, abs($1)) }, .leastNormalMagnitude)
    let hessian = sums.map { Float($0 / largest) }
    func energy(_ rows: [Float]) throws(QuantError) -> Double {
      let products = try FloatMatrix.product(rows, by: hessian, depth: columns, pool: pool)
      return zip(rows, products).reduce(0) { $0 + Double($1.0) * Double($1.1) } * largest
    }
    return (try energy(difference), try energy(values))
  }
}
