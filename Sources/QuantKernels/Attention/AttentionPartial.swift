#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// One query row's attention over some of its keys: the largest score m, the sum ℓ of exp(score − m)
/// and the output before division, Σ exp(score − m) · value.
///
/// Parts over different keys merge to the part over all of them, so that a cache can lie in several
/// places. Scores are natural: softmax takes exp of them.
///
/// Source: Milakov and Gimelshein, Online normalizer calculation for softmax (arXiv 1805.02867);
/// Flash-Decoding.
public struct AttentionPartial: Sendable, Equatable {
  /// The largest score; −∞ where no key was seen.
  public private(set) var maximum: Float
  /// Σ exp(score − maximum); 0 where no key was seen.
  public private(set) var sum: Float
  /// Σ exp(score − maximum) · value.
  public private(set) var output: [Float]

  /// A row that has seen no key yet, its values `width` wide.
  ///
  /// - Throws: ``QuantError`` `.invalidArgument` for a negative width.
  public init(width: Int) throws(QuantError) {
    guard width >= 0, width <= 1 << 30 else {
      throw QuantError(
        .invalidArgument, "partial attention", "values of \(width) elements",
        remedy: "use 0 to 2^30")
    }
    maximum = -.infinity
    sum = 0
    output = [Float](repeating: 0, count: width)
  }

  /// A part that was computed elsewhere.
  ///
  /// - Throws: ``QuantError`` `.invalidArgument` for a negative sum, and for an empty part (sum 0)
  ///   whose maximum is not −∞.
  public init(maximum: Float, sum: Float, output: [Float]) throws(QuantError) {
    guard !(sum < 0), sum != 0 || maximum == -.infinity else {
      throw QuantError(
        .invalidArgument, "partial attention", "maximum \(maximum) with a sum of \(sum)",
        remedy: "pass a positive sum, or 0 with a maximum of −∞")
    }
    self.maximum = maximum
    self.sum = sum
    self.output = output
  }

  /// Whether it has seen no key.
  public var isEmpty: Bool { sum == 0 }

  /// Takes in the part over other keys.
  ///
  /// Merging with an empty part changes no bit. Terms are scaled and added in float64 and rounded
  /// once, so that a merge costs half a unit in the last place: two ways of bracketing three parts
  /// differ by at most 2 units in the last place of the sums of magnitudes.
  ///
  /// - Throws: ``QuantError`` `.invalidArgument` when the widths differ; nothing changes.
  /// - Complexity: O(width).
  public mutating func merge(_ other: AttentionPartial) throws(QuantError) {
    guard other.output.count == output.count else {
      throw QuantError(
        .invalidArgument, "partial attention",
        "values of \(other.output.count) elements merged into \(output.count)",
        remedy: "merge parts of the same row")
    }
    if other.isEmpty { return }
    if isEmpty {
      self = other
      return
    }
    let largest = max(maximum, other.maximum)
    let own = exp(Double(maximum) - Double(largest))
    let theirs = exp(Double(other.maximum) - Double(largest))
    sum = Float(Double(sum) * own + Double(other.sum) * theirs)
    for index in output.indices {
      output[index] = Float(Double(output[index]) * own + Double(other.output[index]) * theirs)
    }
    // Not `largest`, which would hide that one of them is no number.
    maximum = maximum.isNaN || other.maximum.isNaN ? .nan : largest
  }

  /// The attention: output over sum; zeros where no key was seen.
  public var normalized: [Float] {
    isEmpty ? output.map { _ in 0 } : output.map { $0 / sum }
  }

  /// m + ln ℓ; −∞ where no key was seen.
  public var logSumExp: Float {
    isEmpty ? -.infinity : Float(Double(maximum) + log(Double(sum)))
  }

  /// Lets the row see keys in ascending order, `tile` at a time: float32 scores and sums, rescaled
  /// once a tile.
  ///
  /// - Parameters:
  ///   - query: as many floats as a key has.
  ///   - keys: `[positions × query.count]`; `values`: `[positions × width]`.
  ///   - scale: what scores are multiplied by.
  ///   - values: `[positions × width]`.
  ///   - tile: keys between two rescalings, at least 1.
  /// - Throws: ``QuantError`` `.invalidArgument` for sizes that do not fit, a tile below 1 and a
  ///   scale that is not finite; nothing changes.
  /// - Complexity: O(positions · (query.count + width)).
  public mutating func attend(
    query: ArraySlice<Float>, keys: ArraySlice<Float>, values: ArraySlice<Float>, scale: Float,
    tile: Int
  ) throws(QuantError) {
    let width = output.count
    guard tile >= 1, scale.isFinite, query.count >= 1, keys.count % query.count == 0,
      values.count == keys.count / query.count * width
    else {
      throw QuantError(
        .invalidArgument, "partial attention",
        "a query of \(query.count), \(keys.count) floats of keys and \(values.count) of values of "
          + "\(width), scale \(scale), tiles of \(tile)",
        remedy: "pass a key and a value for every position, and tiles of at least 1")
    }
    let positions = keys.count / query.count
    query.withUnsafeBufferPointer { query in
      keys.withUnsafeBufferPointer { keys in
        values.withUnsafeBufferPointer { values in
          for start in stride(from: 0, to: positions, by: tile) {
            see(
              start..<min(start + tile, positions), query: query, keys: keys, values: values,
              scale: scale)
          }
        }
      }
    }
  }

  private mutating func see(
    _ tile: Range<Int>, query: UnsafeBufferPointer<Float>, keys: UnsafeBufferPointer<Float>,
    values: UnsafeBufferPointer<Float>, scale: Float
  ) {
    var scores = [Float](repeating: 0, count: tile.count)
    var largest = maximum
    for (index, position) in tile.enumerated() {
      var score: Float = 0
      for element in query.indices {
        score += query[element] * keys[position * query.count + element]
      }
      scores[index] = score * scale
      largest = scores[index] > largest || scores[index].isNaN ? scores[index] : largest
    }
    // Where all scores are −∞, −∞ − (−∞) would be no number.
    let base = largest == -.infinity ? 0 : largest
    let factor = isEmpty ? 1 : exp(maximum - base)
    let width = output.count
    output.withUnsafeMutableBufferPointer { output in
      if factor != 1 { for element in output.indices { output[element] *= factor } }
      sum *= factor
      for (index, position) in tile.enumerated() {
        let weight = exp(scores[index] - base)
        // A key that weighs nothing adds nothing, not 0 · ∞.
        if weight == 0 { continue }
        sum += weight
        for element in 0..<width { output[element] += weight * values[position * width + element] }
      }
    }
    maximum = sum == 0 ? -.infinity : largest
  }
}
