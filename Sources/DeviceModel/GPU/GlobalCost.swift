import CDeviceModel

/// What one warp-wide access to global memory asks of the caches.
public struct GlobalCost: Sendable, Hashable {
  /// 1, or 0 when no lane takes part.
  public let requests: Int
  /// Distinct 32-byte sectors.
  public let sectors: Int
  /// Distinct 128-byte lines (tags).
  public let lines: Int

  /// A cost.
  public init(requests: Int, sectors: Int, lines: Int) {
    self.requests = requests
    self.sectors = sectors
    self.lines = lines
  }
}

/// Sectors and lines of a warp-wide global access whose addresses are multiples of its width, counted
/// from a 128-byte boundary.
///
/// Source: CUDA C++ Programming Guide, global memory: a request touches the distinct 32-byte sectors
/// of its active lanes, whatever the width (at most 16 bytes a lane, so a lane stays in one sector).
///
/// - Complexity: O(active lanes).
public func globalCost(addresses: Lanes<UInt32>, mask: LaneMask = .all) -> GlobalCost {
  guard mask.rawValue != 0 else { return GlobalCost(requests: 0, sectors: 0, lines: 0) }
  let cost = unsafe withUnsafeBytes(of: addresses) { addresses in
    unsafe cdm_coalesce(
      addresses.baseAddress?.assumingMemoryBound(to: UInt32.self), mask.rawValue)
  }
  return GlobalCost(requests: 1, sectors: Int(cost.sectors), lines: Int(cost.lines))
}
