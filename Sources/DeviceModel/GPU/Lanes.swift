/// One value a lane of a warp.
public typealias Lanes<Scalar: SIMDScalar> = SIMD32<Scalar>

extension SIMD32 where Scalar == UInt32 {
  /// Each lane's own number, 0…31.
  public static var laneIndex: Self { laneNumbers }

  /// The values that `value` gives for lanes 0…31.
  ///
  /// - Throws: what `value` throws.
  @inlinable
  public static func each<Failure: Error>(
    _ value: (UInt32) throws(Failure) -> UInt32
  ) throws(Failure) -> Self {
    var lanes = Self()
    for lane in 0..<32 { lanes[lane] = try value(UInt32(lane)) }
    return lanes
  }
}

private let laneNumbers: SIMD32<UInt32> = {
  var lanes = SIMD32<UInt32>()
  for lane in 0..<32 { lanes[lane] = UInt32(lane) }
  return lanes
}()

/// Which lanes of a warp take part; bit i is lane i.
public struct LaneMask: OptionSet, Sendable, Hashable {
  public let rawValue: UInt32

  public init(rawValue: UInt32) { self.rawValue = rawValue }

  /// All 32 lanes.
  public static let all = LaneMask(rawValue: .max)

  /// Lanes `0..<count`; all of them from 32 on.
  public static func first(_ count: Int) -> LaneMask {
    count >= 32 ? .all : LaneMask(rawValue: count <= 0 ? 0 : 1 << UInt32(count) - 1)
  }

  /// The lanes for which `condition` holds.
  @inlinable
  public init(where condition: (Int) -> Bool) {
    var bits: UInt32 = 0
    for lane in 0..<32 where condition(lane) { bits |= 1 << UInt32(lane) }
    self.init(rawValue: bits)
  }

  /// How many lanes take part.
  public var count: Int { rawValue.nonzeroBitCount }

  /// Whether the lane takes part.
  public subscript(lane: Int) -> Bool { rawValue >> UInt32(lane) & 1 == 1 }
}
