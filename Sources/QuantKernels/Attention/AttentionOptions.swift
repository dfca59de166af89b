#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// What a layer's attention computes besides softmax(q·kᵀ)·v.
public struct AttentionOptions: Sendable, Equatable {
  /// Scores are `scale · q·k`; usually 1/√headDimension.
  public var scale: Float
  /// A query sees its own position and the `window − 1` before it; nil: all before it.
  public var window: Int?
  /// A query sees keys of its own chunk only, chunks beginning at multiples of so many positions;
  /// nil: no chunks.
  public var chunk: Int?
  /// Scores become `softCap · tanh(score / softCap)`; nil: they stay.
  public var softCap: Float?
  /// ALiBi: a score gains `slope · (key − query position)`, one slope a query head; nil: nothing.
  public var slopes: [Float]?
  /// A score of a key without value that every query of the head sees, one a query head; nil: none.
  public var sinks: [Float]?
  /// How numbers of float caches are multiplied; quantized caches keep their integers.
  public var products: Products

  /// How queries, keys, probabilities and values are multiplied.
  public enum Products: String, Sendable, Equatable, CaseIterable {
    /// As the float32 numbers that they stand for.
    case float32
    /// Rounded to bfloat16 and summed in float32, where the processor has an instruction for that
    /// (x86-64 with AVX512_BF16, see ``AttentionWorkspace/products(_:for:)``); elsewhere as
    /// float32. On normal data outputs move by a normalized square error of 5e-6 over a bf16 cache,
    /// and of 1.1e-5 over others, whose keys and values are rounded, too.
    case bfloat16
  }

  /// Options; values are checked by the call that takes them.
  public init(
    scale: Float, window: Int? = nil, chunk: Int? = nil, softCap: Float? = nil,
    slopes: [Float]? = nil, sinks: [Float]? = nil, products: Products = .float32
  ) {
    self.scale = scale
    self.window = window
    self.chunk = chunk
    self.softCap = softCap
    self.slopes = slopes
    self.sinks = sinks
    self.products = products
  }

  /// ALiBi's slopes for a number of heads that is a power of two: 2^(−8i/heads), i = 1…heads.
  ///
  /// Source: Press, Smith, Lewis, arXiv 2108.12409, §3.
  public static func alibiSlopes(heads: Int) -> [Float] {
    guard heads > 0 else { return [] }
    return (1...heads).map { Float(exp2(-8 * Double($0) / Double(heads))) }
  }

  func check(heads: Int) throws(QuantError) {
    guard scale.isFinite else {
      throw QuantError(
        .invalidArgument, "attention scale", "\(scale)", remedy: "use 1/√headDimension")
    }
    for (name, positions) in [("window", window), ("chunk", chunk)] {
      if let positions, !(1...Int(Int32.max) << 16 ~= positions) {
        throw QuantError(
          .invalidArgument, "attention \(name)", "\(positions) positions",
          remedy: "use at least 1, or nil for none")
      }
    }
    if let softCap, !(softCap > 0 && softCap.isFinite) {
      throw QuantError(
        .invalidArgument, "attention soft-cap", "\(softCap)",
        remedy: "use a positive number, or nil for none")
    }
    for (name, values) in [("slopes", slopes), ("sinks", sinks)] {
      guard let values else { continue }
      guard values.count == heads, values.allSatisfy(\.isFinite) else {
        throw QuantError(
          .invalidArgument, "attention \(name)",
          "\(values.count) numbers for \(heads) heads, or not all finite",
          remedy: "give a finite one for every query head")
      }
    }
  }
}
