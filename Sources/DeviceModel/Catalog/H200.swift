extension DeviceSpec {
  /// H200 SXM.
  public static let h200 = DeviceSpec(
    identifier: "h200", name: "H200 SXM",
    capability: Sourced(9.0, .published("digest 3.1")),
    multiprocessors: Sourced(132, .published("digest 3.1")),
    boostClock: Sourced(1.83, .published("digest 3.1")),
    sustainedClock: Sourced(1.83, .assumed("clock of the published peak")),
    sharedPerMultiprocessor: Sourced(228 * 1024, .published("digest 1.5")),
    sharedPerBlock: Sourced(227 * 1024, .published("digest 3.1")),
    sharedReservedPerBlock: Sourced(1024, .published("digest 1.5")),
    registers: Sourced(65_536, .published("digest 3.1")),
    warps: Sourced(64, .published("digest 3.1")),
    blocks: Sourced(32, .published("digest 3.1")),
    subCores: Sourced(4, .published("digest 3.1")),
    l2Bytes: Sourced(50_000_000, .published("digest 3.1")),
    l2BytesPerCycle: Sourced(46, .derived("digest 2.5: 12000 GB/s / 132 / 1.98 GHz")),
    dramPeak: Sourced(4800, .published("digest 3.1")),
    dramShare: Sourced(0.70, .measured("digest 2.5: 0.66-0.74")),
    float16Peak: Sourced(989, .published("digest 3.1")),
    tensorFloat32Sums: Sourced(
      1270, .recalled("mma.sync reaches some 62 % of the warpgroup peak, digest 2.2")),
    tensorFloat16Sums: Sourced(1270, .recalled("as float32 sums")),
    tensorInt8: Sourced(2540, .recalled("twice binary16")),
    tensorWarpgroup: Sourced(2048, .derived("digest 2.2")),
    loadStoreCycles: Sourced(1, .published("NVIDIA forum 261150, post 15")),
    sharedStoreExtraCycles: Sourced(0, .assumed("full-rate load-store unit; unmeasured")),
    fillPassesPerSector: Sourced(
      1,
      .derived(
        "vllm-project/vllm#55462: L1 busy 70 % of a profile of the AWQ kernel, 298 "
          + "cycles a block step at two row tiles; shared and global passes explain 196, "
          + "106 sectors arrive")),
    sharedLatency: Sourced(33, .assumed("as H100")),
    wideSharedLatency: Sourced(36, .assumed("as H100")),
    l1Latency: Sourced(34, .assumed("as H100")),
    l2Latency: Sourced(265, .assumed("as H100")),
    dramLatency: Sourced(658, .assumed("as H100")),
    matrixLatency: Sourced(33, .recalled("not found for mma.sync")),
    barrierLatency: Sourced(20, .assumed("no measurement found")),
    launchMicroseconds: Sourced(
      2.4, .measured("te42kyfo/gpu-benches gpu-small-kernels/h200.txt: 64 KiB at 27 GB/s")),
    nvlink: Sourced(900, .published("digest 3.1")),
    pcie: Sourced(64, .published("digest 3.1")))
}
