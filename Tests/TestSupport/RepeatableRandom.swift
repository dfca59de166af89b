/// A seeded generator (SplitMix64), so that every test and benchmark repeats.
public struct RepeatableRandom: RandomNumberGenerator, Sendable {
  private var state: UInt64

  public init(seed: UInt64) { state = seed }

  public mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// `count` values of a normal distribution (mean 0, variance 1), by the sum of twelve uniforms.
  public mutating func normals(_ count: Int) -> [Float] {
    (0..<count).map { _ in
      (0..<12).reduce(Float(-6)) { sum, _ in sum + .random(in: 0..<1, using: &self) }
    }
  }
}
