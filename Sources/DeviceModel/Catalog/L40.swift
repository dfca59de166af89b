extension DeviceSpec {
  /// L40.
  public static let l40 = DeviceSpec(
    identifier: "l40", name: "L40",
    capability: Sourced(8.9, .published("digest 3.1")),
    multiprocessors: Sourced(142, .published("digest 3.1")),
    boostClock: Sourced(2.49, .published("digest 3.1")),
    sustainedClock: Sourced(
      1.9125,
      .derived(
        "mean of boost 2.49 and 1.335, the lowest clock at the 300 W limit in "
          + "te42kyfo/gpu-benches gpu-roofline/genoa_l40.txt")),
    sharedPerMultiprocessor: Sourced(100 * 1024, .published("digest 1.5")),
    sharedPerBlock: Sourced(99 * 1024, .published("digest 3.1")),
    sharedReservedPerBlock: Sourced(1024, .published("digest 1.5")),
    registers: Sourced(65_536, .published("digest 3.1")),
    warps: Sourced(48, .published("digest 3.1")),
    blocks: Sourced(24, .recalled("digest 3.1: CUDA tables")),
    subCores: Sourced(4, .published("digest 3.1")),
    l2Bytes: Sourced(96_000_000, .published("digest 3.1")),
    l2BytesPerCycle: Sourced(14.7, .derived("digest 2.5: 5200 GB/s / 142 / 2.49 GHz")),
    dramPeak: Sourced(864, .published("digest 3.1")),
    dramShare: Sourced(0.89, .measured("digest 2.5: ~770 GB/s")),
    float16Peak: Sourced(181.05, .published("digest 3.1")),
    tensorFloat32Sums: Sourced(256, .derived("digest 2.2")),
    tensorFloat16Sums: Sourced(
      512, .assumed("not found; twice the float32 rate as on the RTX 4090")),
    tensorInt8: Sourced(512, .derived("digest 2.2: 362 TOPS published")),
    loadStoreCycles: Sourced(
      2,
      .measured(
        "L1 hits of 4 bytes a lane at 64 B a cycle, te42kyfo/gpu-benches gpu-cache/l40.txt")),
    sharedStoreExtraCycles: Sourced(2, .recalled("as RTX A6000")),
    fillPassesPerSector: Sourced(
      1,
      .derived(
        "vllm-project/vllm#55462: L1 busy 70 % of a profile of the AWQ kernel, 298 "
          + "cycles a block step at two row tiles; shared and global passes explain 196, "
          + "106 sectors arrive")),
    sharedLatency: Sourced(33, .assumed("as A100")),
    wideSharedLatency: Sourced(36, .assumed("as A100")),
    l1Latency: Sourced(36.1, .measured("digest 2.3")),
    l2Latency: Sourced(276.5, .measured("digest 2.3")),
    dramLatency: Sourced(632, .measured("digest 2.3")),
    matrixLatency: Sourced(33, .assumed("as RTX A6000")),
    barrierLatency: Sourced(20, .assumed("no measurement found")),
    launchMicroseconds: Sourced(
      1.64, .measured("te42kyfo/gpu-benches gpu-small-kernels/l40.txt: 64 KiB at 40 GB/s")),
    nvlink: Sourced(0, .published("digest 3.1")),
    pcie: Sourced(32, .published("PCI Express 4 x16")))
}
