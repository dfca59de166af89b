extension DeviceSpec {
  /// V100 SXM2.
  public static let v100 = DeviceSpec(
    identifier: "v100", name: "V100 SXM2",
    capability: Sourced(7.0, .published("digest 3.1")),
    multiprocessors: Sourced(80, .published("digest 3.1")),
    boostClock: Sourced(1.53, .published("digest 3.1")),
    sustainedClock: Sourced(1.53, .assumed("boost; no power-limited clock found")),
    sharedPerMultiprocessor: Sourced(96 * 1024, .published("digest 1.5")),
    sharedPerBlock: Sourced(96 * 1024, .published("digest 3.1")),
    sharedReservedPerBlock: Sourced(0, .recalled("no reserve before compute capability 8.0")),
    registers: Sourced(65_536, .published("digest 3.1")),
    warps: Sourced(64, .published("digest 3.1")),
    blocks: Sourced(32, .published("digest 3.1")),
    subCores: Sourced(4, .published("digest 3.1")),
    l2Bytes: Sourced(6_000_000, .published("digest 3.1")),
    l2BytesPerCycle: Sourced(
      19.5, .recalled("Jia et al. V100: 2155 GB/s over 80 multiprocessors at 1.38 GHz")),
    dramPeak: Sourced(900, .published("digest 3.1")),
    dramShare: Sourced(0.89, .measured("digest 2.5: ~800 GB/s")),
    float16Peak: Sourced(125, .published("digest 3.1")),
    tensorFloat32Sums: Sourced(512, .derived("digest 2.2")),
    tensorFloat16Sums: Sourced(512, .derived("digest 2.2")),
    tensorInt8: Sourced(0, .published("digest 2.2: dp4a only")),
    loadStoreCycles: Sourced(
      1, .published("NVIDIA forum 261150, post 15: 7.0, 8.0 and 9.0 sustain one a cycle")),
    sharedStoreExtraCycles: Sourced(0, .assumed("as the other full-rate load-store units")),
    fillPassesPerSector: Sourced(
      1,
      .derived(
        "vllm-project/vllm#55462: L1 busy 70 % of a profile of the AWQ kernel, 298 "
          + "cycles a block step at two row tiles; shared and global passes explain 196, "
          + "106 sectors arrive")),
    sharedLatency: Sourced(27, .measured("digest 2.3: TITAN V, loop included")),
    wideSharedLatency: Sourced(30, .assumed("27 and three more passes")),
    l1Latency: Sourced(30, .measured("digest 2.3")),
    l2Latency: Sourced(215, .measured("digest 2.3")),
    dramLatency: Sourced(437, .measured("digest 2.3: 425-437")),
    matrixLatency: Sourced(35, .measured("digest 2.3: wmma 35.3, TITAN V")),
    barrierLatency: Sourced(20, .assumed("no measurement found")),
    launchMicroseconds: Sourced(2.6, .assumed("as A100")),
    nvlink: Sourced(300, .published("digest 3.1")),
    pcie: Sourced(16, .published("digest 3.1")))
}
