private let tables = Provenance.published(
  "NVIDIA L40 data sheet; topcpu")

extension DeviceSpec {
  /// L40.
  public static let l40 = DeviceSpec(
    identifier: "l40", name: "L40",
    capability: Sourced(8.9, .programmingGuide),
    multiprocessors: Sourced(142, tables),
    boostClock: Sourced(2.49, tables),
    sustainedClock: Sourced(
      1.9125,
      .derived(
        "mean of boost 2.49 and 1.335, the lowest clock at the 300 W limit in "
          + "te42kyfo/gpu-benches gpu-roofline/genoa_l40.txt")),
    sharedPerMultiprocessor: Sourced(100 * 1024, .tuningGuide),
    sharedPerBlock: Sourced(99 * 1024, .programmingGuide),
    sharedReservedPerBlock: Sourced(1024, .tuningGuide),
    registers: Sourced(65_536, .programmingGuide),
    warps: Sourced(48, .programmingGuide),
    blocks: Sourced(24, .recalled("CUDA C++ Programming Guide, compute capability 8.9")),
    subCores: Sourced(4, .programmingGuide),
    l2Bytes: Sourced(96_000_000, tables),
    l2BytesPerCycle: Sourced(
      14.7, .derived("te42kyfo/gpu-benches gpu-cache, L40: 5200 GB/s / 142 / 2.49 GHz")),
    dramPeak: Sourced(864, tables),
    dramShare: Sourced(0.89, .measured("te42kyfo/gpu-benches gpu-stream: ~770 GB/s")),
    float16Peak: Sourced(181.05, tables),
    tensorFloat32Sums: Sourced(256, .fromPeak),
    tensorFloat16Sums: Sourced(
      512, .assumed("not found; twice the float32 rate as on the RTX 4090")),
    tensorInt8: Sourced(512, .derived("362 TOPS / (2 · multiprocessors · clock)")),
    loadStoreCycles: Sourced(
      2,
      .measured(
        "L1 hits of 4 bytes a lane at 64 B a cycle, te42kyfo/gpu-benches gpu-cache/l40.txt")),
    sharedStoreExtraCycles: Sourced(2, .recalled("as RTX A6000")),
    fillPassesPerSector: fillPasses,
    sharedLatency: Sourced(33, .assumed("as A100")),
    wideSharedLatency: Sourced(36, .assumed("as A100")),
    l1Latency: Sourced(36.1, .measured("te42kyfo/gpu-benches gpu-latency, L40")),
    l2Latency: Sourced(276.5, .measured("te42kyfo/gpu-benches gpu-latency, L40")),
    dramLatency: Sourced(632, .measured("te42kyfo/gpu-benches gpu-latency, L40")),
    matrixLatency: Sourced(33, .assumed("as RTX A6000")),
    barrierLatency: Sourced(20, .assumed("no measurement found")),
    launchMicroseconds: Sourced(
      1.64, .measured("te42kyfo/gpu-benches gpu-small-kernels/l40.txt: 64 KiB at 40 GB/s")),
    nvlink: Sourced(0, tables),
    pcie: Sourced(32, .published("PCI Express 4 x16")))
}
