extension DeviceSpec {
  /// A100 40 GB.
  public static let a100x40 = DeviceSpec(
    identifier: "a100-40", name: "A100 40 GB",
    capability: Sourced(8.0, .published("digest 3.1")),
    multiprocessors: Sourced(108, .published("digest 3.1")),
    boostClock: Sourced(1.41, .published("digest 3.1")),
    sustainedClock: Sourced(
      1.41, .measured("te42kyfo/gpu-benches gpu-roofline/alex_a100_40.txt: 1410 MHz throughout")),
    sharedPerMultiprocessor: Sourced(164 * 1024, .published("digest 1.5")),
    sharedPerBlock: Sourced(163 * 1024, .published("digest 3.1")),
    sharedReservedPerBlock: Sourced(1024, .published("digest 1.5")),
    registers: Sourced(65_536, .published("digest 3.1")),
    warps: Sourced(64, .published("digest 3.1")),
    blocks: Sourced(32, .published("digest 3.1")),
    subCores: Sourced(4, .published("digest 3.1")),
    l2Bytes: Sourced(40_000_000, .published("digest 3.1")),
    l2BytesPerCycle: Sourced(35.5, .derived("digest 2.5, A100 80 GB: 5400 GB/s / 108 / 1.41 GHz")),
    dramPeak: Sourced(1555, .published("digest 3.1")),
    dramShare: Sourced(0.88, .measured("te42kyfo/gpu-benches gpu-stream/a100_40.txt: 1372 GB/s")),
    float16Peak: Sourced(312, .published("digest 3.1")),
    tensorFloat32Sums: Sourced(1024, .derived("digest 2.2")),
    tensorFloat16Sums: Sourced(1024, .derived("digest 2.2")),
    tensorInt8: Sourced(2048, .derived("digest 2.2")),
    loadStoreCycles: Sourced(1, .published("NVIDIA forum 261150, post 15")),
    sharedStoreExtraCycles: Sourced(0, .assumed("full-rate load-store unit; unmeasured")),
    fillPassesPerSector: Sourced(
      1,
      .derived(
        "vllm-project/vllm#55462: L1 busy 70 % of a profile of the AWQ kernel, 298 "
          + "cycles a block step at two row tiles; shared and global passes explain 196, "
          + "106 sectors arrive")),
    sharedLatency: Sourced(33, .recalled("digest 2.3 has 23-29 for ldmatrix, PPT-GPU 33")),
    wideSharedLatency: Sourced(36, .assumed("33 and three more passes")),
    l1Latency: Sourced(33, .measured("digest 2.3: A100 PCIe 32.7")),
    l2Latency: Sourced(
      407, .measured("digest 2.3: the far partition, a step waits for its slowest load")),
    dramLatency: Sourced(572, .measured("digest 2.3: upper end of 424-572")),
    matrixLatency: Sourced(24.7, .measured("Sun et al. 2206.02874, table 3")),
    barrierLatency: Sourced(20, .assumed("no measurement found")),
    launchMicroseconds: Sourced(
      2.6, .measured("te42kyfo/gpu-benches gpu-small-kernels/a100_80.txt: 64 KiB at 25 GB/s")),
    nvlink: Sourced(600, .published("digest 3.1")),
    pcie: Sourced(32, .published("PCI Express 4 x16")))
}
