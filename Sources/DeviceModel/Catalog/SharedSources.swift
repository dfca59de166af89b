extension Provenance {
  /// NVIDIA's table of limits by compute capability.
  static let programmingGuide = Provenance.published(
    "CUDA C++ Programming Guide, technical specifications by compute capability")
  /// NVIDIA's tuning guides, which give shared memory.
  static let tuningGuide = Provenance.published("NVIDIA tuning guide of the architecture")
  /// A rate of multiply-adds a cycle.
  static let fromPeak = Provenance.derived("published peak / (2 · multiprocessors · clock)")
}

extension DeviceSpec {
  /// Passes of the data stage that an arriving sector takes; no part is known to differ.
  static let fillPasses = Sourced(
    1,
    .derived(
      "vllm-project/vllm#55462: L1 busy 70 % of a profile of the AWQ kernel, 298 cycles a block "
        + "step at two row tiles; shared and global passes explain 196, 106 sectors arrive"))

  /// A device that is `base` but for what `change` sets.
  static func variant(of base: DeviceSpec, _ change: (inout DeviceSpec) -> Void) -> DeviceSpec {
    var copy = base
    change(&copy)
    return copy
  }
}
