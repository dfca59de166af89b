import CDeviceModel

/// What one warp-wide access costs shared memory's data stage.
public struct BankCost: Sendable, Hashable {
  /// Passes of the data stage.
  public let wavefronts: Int
  /// Passes that the access would take without conflicts: its phases with an active lane.
  public let ideal: Int
  /// Passes beyond the least.
  public var conflicts: Int { wavefronts - ideal }

  /// A cost.
  public init(wavefronts: Int, ideal: Int) {
    self.wavefronts = wavefronts
    self.ideal = ideal
  }
}

/// The passes of a warp-wide access: in each phase of consecutive lanes the most distinct 4-byte
/// words in any one of 32 banks, summed over the phases.
///
/// Source: CUDA C++ Programming Guide, shared memory of compute capability 5.x and later; the phases
/// of 8- and 16-byte accesses as NVIDIA/cutlass issue 328 states them; 334 of 334 published counter
/// readings agree (te42kyfo/gpu-benches `gpu-strides`). Pure; an access with an empty mask is free.
///
/// - Complexity: O(active lanes · most words in a bank).
public func bankCost(_ access: Access, policy: BankPolicy = .m1) -> BankCost {
  guard access.mask.rawValue != 0 else { return BankCost(wavefronts: 0, ideal: 0) }
  var phase = access.lanesPerPhase
  if policy.pairMerge, access.operation == .load, access.width >= 8,
    access.pairsAreEqual(1) || access.pairsAreEqual(2)
  {
    phase *= 2
  }
  let passes = unsafe withUnsafeBytes(of: access.addresses) { addresses in
    unsafe cdm_bank_passes(
      addresses.baseAddress?.assumingMemoryBound(to: UInt32.self), access.mask.rawValue,
      UInt32(access.width), UInt32(phase))
  }
  var wavefronts = Int(passes.wavefronts)
  var ideal = Int(passes.ideal)
  if !policy.skipEmptyPhases {
    // The phases that the instruction has: a matrix operation's are its matrices.
    let isMatrix = access.operation == .ldmatrix || access.operation == .stmatrix
    let phases = isMatrix ? access.mask.count / 8 : 32 / phase
    wavefronts += phases - ideal
    ideal = phases
  }
  if policy.splitStorePenalty > 0, access.operation == .store, access.width == 16,
    !access.isConsecutive
  {
    wavefronts += policy.splitStorePenalty
  }
  return BankCost(wavefronts: wavefronts, ideal: ideal)
}

extension Access {
  /// Every active lane's address equals that of lane xor `distance`, which is active too.
  fileprivate func pairsAreEqual(_ distance: Int) -> Bool {
    for lane in 0..<32 where mask[lane] {
      let partner = lane ^ distance
      guard mask[partner], addresses[lane] == addresses[partner] else { return false }
    }
    return true
  }

  /// The active lanes cover one consecutive run of bytes, each byte once, in any order.
  var isConsecutive: Bool {
    var active: [UInt32] = []
    for lane in 0..<32 where mask[lane] { active.append(addresses[lane]) }
    active.sort()
    for (lower, upper) in zip(active, active.dropFirst()) where upper - lower != UInt32(width) {
      return false
    }
    return true
  }

  /// For a picture of the access: the distinct words that each bank serves in each phase.
  ///
  /// - Returns: one row of 32 counts a phase; the largest of a row is the phase's passes.
  public func bankLoad() -> [[Int]] {
    stride(from: 0, to: 32, by: lanesPerPhase).map { first in
      var words = [Set<UInt32>](repeating: [], count: 32)
      for lane in first..<first + lanesPerPhase where mask[lane] {
        let start = addresses[lane] / 4
        for word in start..<start + UInt32(max(1, width / 4)) { words[Int(word % 32)].insert(word) }
      }
      return words.map(\.count)
    }
  }
}
