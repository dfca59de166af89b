extension DeviceSpec {
  /// RTX A6000.
  public static let a6000 = DeviceSpec(
    identifier: "a6000", name: "RTX A6000",
    capability: Sourced(8.6, .published("digest 3.1")),
    multiprocessors: Sourced(84, .published("digest 3.1")),
    boostClock: Sourced(1.80, .published("digest 3.1")),
    sustainedClock: Sourced(
      1.725,
      .derived(
        "mean of boost 1.80 and 1.65, the lowest clock of an A40 at its power limit in "
          + "te42kyfo/gpu-benches gpu-roofline/alex_a40.txt")),
    sharedPerMultiprocessor: Sourced(100 * 1024, .published("digest 1.5")),
    sharedPerBlock: Sourced(99 * 1024, .published("digest 3.1")),
    sharedReservedPerBlock: Sourced(1024, .published("digest 1.5")),
    registers: Sourced(65_536, .published("digest 3.1")),
    warps: Sourced(48, .published("digest 3.1")),
    blocks: Sourced(16, .published("digest 3.1")),
    subCores: Sourced(4, .published("digest 3.1")),
    l2Bytes: Sourced(6_000_000, .published("digest 3.1")),
    l2BytesPerCycle: Sourced(
      16.7, .measured("te42kyfo/gpu-benches gpu-cache/a40.txt: 2435 GB/s / 84 / 1.74 GHz")),
    dramPeak: Sourced(768, .published("digest 3.1")),
    dramShare: Sourced(0.89, .assumed("as V100 and L40, digest 2.5")),
    float16Peak: Sourced(154.8, .derived("84 x 1.80 GHz x 1024, digest 3.1")),
    tensorFloat32Sums: Sourced(512, .derived("digest 2.2")),
    tensorFloat16Sums: Sourced(512, .derived("digest 2.2")),
    tensorInt8: Sourced(1024, .derived("digest 2.2")),
    loadStoreCycles: Sourced(
      2,
      .published(
        "NVIDIA forum 261150, post 15: GA104 sustains half an instruction and one "
          + "wavefront a cycle")),
    sharedStoreExtraCycles: Sourced(
      2,
      .recalled(
        "Yan et al., IPDPS 2020, Turing: STS takes two cycles beyond LDS of the same "
          + "width; GA10x and Ada keep the half-rate unit")),
    fillPassesPerSector: Sourced(
      1,
      .derived(
        "vllm-project/vllm#55462: L1 busy 70 % of a profile of the AWQ kernel, 298 "
          + "cycles a block step at two row tiles; shared and global passes explain 196, "
          + "106 sectors arrive")),
    sharedLatency: Sourced(33, .assumed("as A100")),
    wideSharedLatency: Sourced(36, .assumed("as A100")),
    l1Latency: Sourced(39, .measured("digest 2.3: RTX 3070 setting")),
    l2Latency: Sourced(240, .assumed("RTX 2070 236, digest 2.3")),
    dramLatency: Sourced(500, .assumed("between RTX 2070 and RTX 4090, digest 2.3")),
    matrixLatency: Sourced(33, .assumed("A100 at full rate, twice the interval")),
    barrierLatency: Sourced(20, .assumed("no measurement found")),
    launchMicroseconds: Sourced(
      2.05, .measured("te42kyfo/gpu-benches gpu-small-kernels/a40.txt: 64 KiB at 32 GB/s")),
    nvlink: Sourced(112, .recalled("bridge, digest 3.1")),
    pcie: Sourced(32, .published("PCI Express 4 x16")))
}
