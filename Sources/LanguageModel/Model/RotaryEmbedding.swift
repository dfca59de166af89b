import QuantKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Rotary position embedding (RoFormer, arXiv 2104.09864) with the scalings that GGUF files carry.
///
/// Each scaling, linear, per-frequency divisors (Llama 3) and YaRN (arXiv 2309.00071), turns an
/// angle that is linear in the position into another that is linear in it. So all of them collapse,
/// once, into one frequency a pair and one magnitude; angles are computed in double, so that long
/// positions lose nothing.
public struct RotaryEmbedding: Sendable, Equatable {
  /// Which two elements of a head form a pair.
  public typealias Style = VectorOperations.RotaryStyle

  /// How positions beyond those of the training are brought into its range.
  public enum Scaling: Sendable, Equatable {
    /// Positions stay.
    case none
    /// Positions are divided by the factor.
    case linear(factor: Double)
    /// YaRN (arXiv 2309.00071).
    case yarn(YaRN)
  }

  /// YaRN's parameters; `betaFast` and `betaSlow` bound the ramp between extrapolated and
  /// interpolated pairs, in rotations over the original context.
  public struct YaRN: Sendable, Equatable {
    /// By how much the context grows.
    public var factor: Double
    /// Positions of the training.
    public var originalContext: Int
    /// Share of extrapolation in the mix, 0 to 1.
    public var extrapolation = 1.0
    /// Factor of every cosine and sine, beside the paper's 1 + 0.1 · ln(factor).
    public var attentionFactor = 1.0
    /// Rotations from which on a pair keeps its frequency.
    public var betaFast = 32.0
    /// Rotations up to which a pair's frequency is divided by the factor.
    public var betaSlow = 1.0

    /// The paper's other parameters.
    public init(factor: Double, originalContext: Int) {
      self.factor = factor
      self.originalContext = originalContext
    }
  }

  /// Elements of a head that are rotated, the leading ones; even.
  public let dimension: Int
  /// θ: pair i turns by `base^(−2i / dimension)` radians a position before scaling.
  public let base: Double
  /// How positions are scaled.
  public let scaling: Scaling
  /// Radians a position of each of the `dimension / 2` pairs.
  public let frequencies: [Double]
  /// Factor of every cosine and sine.
  public let magnitude: Double

  /// - Parameters:
  ///   - divisors: one divisor a pair (`rope_freqs.weight` of Llama 3), or empty.
  ///   - dimension: elements of a head that are rotated, even.
  ///   - base: θ.
  ///   - scaling: how positions are scaled.
  /// - Throws: `QuantError` when the dimension is odd, a number is not positive and finite, or
  ///   the divisors' count is wrong.
  public init(dimension: Int, base: Double, scaling: Scaling, divisors: [Float] = [])
    throws(QuantError)
  {
    func fail(_ problem: String) -> QuantError {
      QuantError(.invalidData, "rotary embedding", problem, remedy: "export the model again")
    }
    guard dimension >= 2, dimension % 2 == 0, dimension <= 1 << 16 else {
      throw fail("dimension \(dimension) is not even and positive")
    }
    guard base.isFinite, base > 0 else { throw fail("base \(base) is not positive") }
    guard divisors.isEmpty || divisors.count == dimension / 2 else {
      throw fail("\(divisors.count) frequency divisors for \(dimension / 2) pairs")
    }
    guard divisors.allSatisfy({ $0.isFinite && $0 > 0 }) else {
      throw fail("a frequency divisor is not positive and finite")
    }
    var frequencies = (0..<dimension / 2).map { pair in
      pow(base, -2 * Double(pair) / Double(dimension))
        / (divisors.isEmpty ? 1 : Double(divisors[pair]))
    }
    var magnitude = 1.0
    switch scaling {
    case .none: break
    case .linear(let factor):
      guard factor.isFinite, factor > 0 else { throw fail("factor \(factor) is not positive") }
      for pair in frequencies.indices { frequencies[pair] /= factor }
    case .yarn(let yarn):
      guard yarn.factor.isFinite, yarn.factor > 0, yarn.originalContext > 0,
        yarn.betaFast > 0, yarn.betaSlow > 0, yarn.extrapolation.isFinite,
        yarn.attentionFactor.isFinite, yarn.attentionFactor > 0, base > 1
      else { throw fail("a YaRN parameter is not positive and finite") }
      /// The pair that turns `rotations` times over the original context.
      func pair(rotations: Double) -> Double {
        Double(dimension) * log(Double(yarn.originalContext) / (rotations * 2 * .pi))
          / (2 * log(base))
      }
      let low = max(0, pair(rotations: yarn.betaFast).rounded(.down))
      let high = min(Double(dimension - 1), pair(rotations: yarn.betaSlow).rounded(.up))
      for index in frequencies.indices {
        let ramp = (Double(index) - low) / max(0.001, high - low)
        let extrapolated = yarn.extrapolation * (1 - min(1, max(0, ramp)))
        frequencies[index] *= (1 - extrapolated) / yarn.factor + extrapolated
      }
      magnitude = yarn.attentionFactor
      if yarn.extrapolation != 0 { magnitude *= 1 + 0.1 * log(max(1, yarn.factor)) }
    }
    self.dimension = dimension
    self.base = base
    self.scaling = scaling
    self.frequencies = frequencies
    self.magnitude = magnitude
  }

  /// Reads `rope.*` of a file, and its tensor `rope_freqs.weight` where there is one.
  init(values: CheckedMetadata, file: GGUFFile, headDimension: Int, contextLength: Int)
    throws(QuantError)
  {
    let dimension = try values.integer(
      "rope.dimension_count", in: 1...headDimension, default: headDimension)
    let base = try values.float("rope.freq_base", in: 1e-3...1e12, default: 10_000)
    let kind = values.metadata.string("\(values.prefix).rope.scaling.type")
    let old = try values.float("rope.scale_linear", in: 0...1e6, default: 0)
    let factor = try values.float("rope.scaling.factor", in: 0...1e6, default: old)
    let scaling: Scaling
    switch kind {
    case nil, "linear": scaling = factor > 0 && factor != 1 ? .linear(factor: factor) : .none
    case "none": scaling = .none
    case "yarn":
      var yarn = YaRN(
        factor: factor > 0 ? factor : 1,
        originalContext: try values.integer(
          "rope.scaling.original_context_length", in: 1...(1 << 28), default: contextLength))
      yarn.extrapolation = try values.float("rope.scaling.yarn_ext_factor", in: 0...1, default: 1)
      yarn.attentionFactor = try values.float(
        "rope.scaling.attn_factor", in: 1e-3...1e3, default: 1)
      yarn.betaFast = try values.float("rope.scaling.yarn_beta_fast", in: 1e-3...1e6, default: 32)
      yarn.betaSlow = try values.float("rope.scaling.yarn_beta_slow", in: 1e-3...1e6, default: 1)
      scaling = .yarn(yarn)
    case let other?:
      throw QuantError(
        .unsupported, "\(values.prefix).rope.scaling.type",
        "rotary scaling '\(other.prefix(64))'", remedy: "use one of none, linear, yarn")
    }
    for name in ["rope_factors_long.weight", "rope_factors_short.weight"]
    where file.tensor(named: name) != nil {
      throw QuantError(
        .unsupported, name, "the decoder does not run longrope",
        remedy: "use a model whose rotary scaling is none, linear, llama3 or yarn")
    }
    var divisors: [Float] = []
    if let tensor = file.tensor(named: "rope_freqs.weight") {
      divisors = try ModelTensors(file: file).vector(tensor, length: dimension / 2)
    }
    try self.init(dimension: dimension, base: base, scaling: scaling, divisors: divisors)
  }

  /// Writes the cosines and sines of one position, `dimension / 2` each.
  func fill(
    position: Int, cosines: UnsafeMutablePointer<Float>, sines: UnsafeMutablePointer<Float>
  ) {
    for pair in 0..<frequencies.count {
      let angle = Double(position) * frequencies[pair]
      cosines[pair] = Float(cos(angle) * magnitude)
      sines[pair] = Float(sin(angle) * magnitude)
    }
  }
}
