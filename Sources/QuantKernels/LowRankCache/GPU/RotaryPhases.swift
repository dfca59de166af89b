#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// How a kernel gets the cosines and sines of its positions.
enum RotaryPhases: Sendable {
  /// No rotary embedding.
  case none
  /// As Palu's kernel: position times frequency in float32, cosine and sine rounded to binary16. At
  /// 65,536 positions the angle is off by up to 4e-3.
  case float32([Double], magnitude: Double)
  /// Turns in 64-bit fixed point, of which a position's multiple loses its whole turns by overflow:
  /// two wide multiply-adds, and the angle is within 1e-9 at every position.
  case fixedPoint([Double], magnitude: Double)

  /// Pairs that turn.
  var pairs: Int {
    switch self {
    case .none: 0
    case .float32(let frequencies, _), .fixedPoint(let frequencies, _): frequencies.count
    }
  }

  /// The angle, radians; of fixed point within a turn.
  func angle(pair: Int, position: Int) -> Double {
    switch self {
    case .none: 0
    case .float32(let frequencies, _):
      Double(Float(position) * Float(frequencies[pair]))
    case .fixedPoint(let frequencies, _):
      Double(UInt32(truncatingIfNeeded: phase(frequencies[pair], position) >> 32)) * 0x1p-32 * 2
        * .pi
    }
  }

  /// Turns times 2⁶⁴, whole turns gone.
  private func phase(_ frequency: Double, _ position: Int) -> UInt64 {
    let turns = (frequency / (2 * .pi)).truncatingRemainder(dividingBy: 1)
    let fraction = turns < 0 ? turns + 1 : turns
    // A double holds 53 bits of the fraction, as exactly as the frequency itself is known.
    let step = fraction >= 1 ? 0 : UInt64(fraction * 0x1p64)
    // Half a unit of the 32 bits that are kept.
    return step &* UInt64(truncatingIfNeeded: position) &+ 0x8000_0000
  }

  /// Cosine and sine as the kernel multiplies with them.
  ///
  /// A GPU's fast instructions are within 2⁻²¹ of them inside a turn (CUDA C++ Programming Guide);
  /// here they are rounded once.
  func turn(pair: Int, position: Int) -> (cosine: Float, sine: Float) {
    switch self {
    case .none: return (1, 0)
    case .float32(_, let magnitude):
      guard pair < pairs else { return (1, 0) }
      let angle = angle(pair: pair, position: position)
      func half(_ x: Double) -> Float {
        HalfPrecision.float(fromHalf: HalfPrecision.half(Float(x * magnitude)))
      }
      return (half(cos(angle)), half(sin(angle)))
    case .fixedPoint(_, let magnitude):
      guard pair < pairs else { return (1, 0) }
      let angle = angle(pair: pair, position: position)
      return (Float(cos(angle) * magnitude), Float(sin(angle) * magnitude))
    }
  }

  /// Whether keys are rounded to binary16 before they turn.
  var roundsKeys: Bool {
    if case .float32 = self { true } else { false }
  }
}
