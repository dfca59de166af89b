extension DeviceSpec {
  /// GeForce RTX 4090.
  public static let rtx4090 = DeviceSpec(
    identifier: "rtx4090", name: "GeForce RTX 4090",
    capability: Sourced(8.9, .published("digest 3.1")),
    multiprocessors: Sourced(128, .published("digest 3.1")),
    boostClock: Sourced(2.52, .published("digest 3.1")),
    sustainedClock: Sourced(2.52, .assumed("boost: its 450 W did not bind in the profiles found")),
    sharedPerMultiprocessor: Sourced(100 * 1024, .published("digest 1.5")),
    sharedPerBlock: Sourced(99 * 1024, .published("digest 3.1")),
    sharedReservedPerBlock: Sourced(1024, .published("digest 1.5")),
    registers: Sourced(65_536, .published("digest 3.1")),
    warps: Sourced(48, .published("digest 3.1")),
    blocks: Sourced(24, .recalled("digest 3.1: CUDA tables")),
    subCores: Sourced(4, .published("digest 3.1")),
    l2Bytes: Sourced(72_000_000, .published("digest 3.1")),
    l2BytesPerCycle: Sourced(14.7, .derived("as L40, the same chip")),
    dramPeak: Sourced(1008, .published("digest 3.1")),
    dramShare: Sourced(0.89, .assumed("as L40, digest 2.5")),
    float16Peak: Sourced(165.2, .published("digest 3.1")),
    tensorFloat32Sums: Sourced(256, .derived("digest 2.2")),
    tensorFloat16Sums: Sourced(512, .derived("digest 2.2")),
    tensorInt8: Sourced(1024, .derived("digest 2.2")),
    loadStoreCycles: Sourced(
      2,
      .assumed(
        "as GA10x: L1 hits of 4 bytes a lane at 64 B a cycle on L40, "
          + "te42kyfo/gpu-benches gpu-cache/l40.txt")),
    sharedStoreExtraCycles: Sourced(2, .recalled("as RTX A6000")),
    fillPassesPerSector: Sourced(
      1,
      .derived(
        "vllm-project/vllm#55462: L1 busy 70 % of a profile of the AWQ kernel, 298 "
          + "cycles a block step at two row tiles; shared and global passes explain 196, "
          + "106 sectors arrive")),
    sharedLatency: Sourced(33, .assumed("as A100")),
    wideSharedLatency: Sourced(36, .assumed("as A100")),
    l1Latency: Sourced(36, .measured("digest 2.3")),
    l2Latency: Sourced(285, .measured("digest 2.3")),
    dramLatency: Sourced(571, .measured("digest 2.3: upper end of 500-571")),
    matrixLatency: Sourced(33, .assumed("as RTX A6000")),
    barrierLatency: Sourced(20, .assumed("no measurement found")),
    launchMicroseconds: Sourced(1.64, .assumed("as L40")),
    nvlink: Sourced(0, .published("digest 3.1")),
    pcie: Sourced(32, .published("PCI Express 4 x16")))
}
