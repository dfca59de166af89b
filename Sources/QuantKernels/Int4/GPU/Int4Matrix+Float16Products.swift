import DeviceModel

/// Arithmetic declared to the last rounding, so that different machines give the same bits.
///
/// Spelled as an argument: `weights.matmul(x, arithmetic: .float16Products(splits: 8))`.
public struct DeclaredArithmetic: Sendable, Hashable {
  /// Splits of K whose partial sums are rounded to binary16.
  public let splits: Int

  /// What the tensor-core kernels compute (AWQ, QUICK and kin):
  ///
  /// - activations and scales rounded to binary16;
  /// - weights (code − zeroPoint) · scale rounded to binary16 once;
  /// - products exact, added in ascending k to a float32 sum, each sum rounded once;
  /// - split z adds the steps z, z + splits, z + 2·splits, … of 32 inputs, and its sum is rounded to
  ///   binary16;
  /// - with more than one split their sums are added in order in float32, from +0, and rounded to
  ///   binary16.
  ///
  /// NaN (a sum past binary16 in two splits of opposite signs) is 0x7FFF.
  ///
  /// - Parameter splits: 1…1024; 1 for kernels that do not split K.
  public static func float16Products(splits: Int = 1) -> DeclaredArithmetic {
    DeclaredArithmetic(splits: splits)
  }
}

extension Int4Matrix {
  /// `y = x · Wᵀ` on this CPU in a declared arithmetic: the reference that simulated kernels equal bit
  /// for bit.
  ///
  /// - Parameters:
  ///   - x: `[M × columns]`, row-major, M at least 1, finite and below 65,520.
  ///   - arithmetic: what is rounded where.
  ///   - pool: the workers to use; the result does not depend on them.
  /// - Returns: `[M × rows]` floats that binary16 represents.
  /// - Throws: ``QuantError`` when `x` is not as above, the splits are not 1…1024, or the matrix is
  ///   one that the kernels refuse (see ``Int4DeviceWeights/init(_:order:)``).
  /// - Complexity: O(M · rows · columns), without blocking: for tests and small products.
  public func matmul(
    _ x: [Float], arithmetic: DeclaredArithmetic, pool: WorkerPool = .standard
  ) throws(QuantError) -> [Float] {
    let subject = "float16 products by \(rows)×\(columns) weights"
    guard arithmetic.splits > 0, arithmetic.splits <= SplitKGrid.maximumSplits else {
      throw QuantError(
        .invalidArgument, subject, "\(arithmetic.splits) splits of K",
        remedy: "use 1…\(SplitKGrid.maximumSplits)")
    }
    let activations = try HalfActivations(x, for: self)
    let halves = activations.buffer.contents(as: UInt16.self).map {
      HalfPrecision.float(fromHalf: $0)
    }
    let weights = try float16Weights(subject)
    let count = activations.rows
    let pitch = activations.layout.pitch
    let splits = arithmetic.splits
    let (rows, columns) = (rows, columns)
    var y = [Float](repeating: 0, count: count * rows)
    y.withUnsafeMutableBufferPointer { y in
      nonisolated(unsafe) let y = y
      pool.run(parts: count) { i, _ in
        // Columns of outputs side by side: each sum keeps its own order.
        var sums = [Float](repeating: 0, count: rows)
        var totals = [Float](repeating: 0, count: rows)
        for split in 0..<splits {
          for n in 0..<rows { sums[n] = 0 }
          for first in stride(from: 32 * split, to: columns, by: 32 * splits) {
            for k in first..<min(first + 32, columns) {
              let a = halves[i * pitch + k]
              let start = k * rows
              // The product is exact in float32, so that fused or not the sum is the same.
              for n in 0..<rows { sums[n] += a * weights[start + n] }
            }
          }
          for n in 0..<rows {
            let half = HalfPrecision.float(fromHalf: HalfPrecision.canonicalHalf(sums[n]))
            totals[n] = splits == 1 ? half : totals[n] + half
          }
        }
        for n in 0..<rows {
          y[i * rows + n] = HalfPrecision.float(
            fromHalf: HalfPrecision.canonicalHalf(totals[n]))
        }
      }
    }
    return y
  }

  /// Weights as the kernels' registers hold them, `[columns × rows]`.
  private func float16Weights(_ subject: String) throws(QuantError) -> [Float] {
    let scales = try halfScales(subject).map { HalfPrecision.float(fromHalf: $0) }
    let zeros = try fourBitZeroPoints(subject)
    var weights = [Float](repeating: 0, count: rows * columns)
    for n in 0..<rows {
      for group in 0..<groups {
        let scale = scales[n * groups + group]
        let zero = Float(zeros[n * groups + group])
        // The sixteen values that a weight of this group can have.
        let values = (0..<16).map {
          HalfPrecision.float(fromHalf: HalfPrecision.half((Float($0) - zero) * scale))
        }
        for k in group * groupSize..<(group + 1) * groupSize {
          weights[k * rows + n] = values[Int(codes[n * columns + k])]
        }
      }
    }
    return weights
  }
}

extension HalfPrecision {
  /// ``half(_:)`` with every NaN as 0x7FFF, NVIDIA's canonical one.
  static func canonicalHalf(_ value: Float) -> UInt16 { value.isNaN ? 0x7FFF : half(value) }
}
