private let tables = Provenance.published(
  "device tables: Hugging Face RajBhope/gpu-runtime-predictor gpu_catalog.json")

extension DeviceSpec {
  /// RTX A6000.
  public static let a6000 = DeviceSpec(
    identifier: "a6000", name: "RTX A6000",
    capability: Sourced(8.6, .programmingGuide),
    multiprocessors: Sourced(84, tables),
    boostClock: Sourced(1.80, tables),
    sustainedClock: Sourced(
      1.725,
      .derived(
        "mean of boost 1.80 and 1.65, the lowest clock of an A40 at its power limit in "
          + "te42kyfo/gpu-benches gpu-roofline/alex_a40.txt")),
    sharedPerMultiprocessor: Sourced(100 * 1024, .tuningGuide),
    sharedPerBlock: Sourced(99 * 1024, .programmingGuide),
    sharedReservedPerBlock: Sourced(1024, .tuningGuide),
    registers: Sourced(65_536, .programmingGuide),
    warps: Sourced(48, .programmingGuide),
    blocks: Sourced(16, .programmingGuide),
    subCores: Sourced(4, .programmingGuide),
    l2Bytes: Sourced(6_000_000, tables),
    l2BytesPerCycle: Sourced(
      16.7, .measured("te42kyfo/gpu-benches gpu-cache/a40.txt: 2435 GB/s / 84 / 1.74 GHz")),
    dramPeak: Sourced(768, tables),
    dramShare: Sourced(0.89, .assumed("as V100 and L40")),
    float16Peak: Sourced(154.8, .derived("84 × 1.80 GHz × 1024")),
    tensorFloat32Sums: Sourced(512, .fromPeak),
    tensorFloat16Sums: Sourced(512, .fromPeak),
    tensorInt8: Sourced(1024, .fromPeak),
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
    fillPassesPerSector: fillPasses,
    sharedLatency: Sourced(33, .assumed("as A100")),
    wideSharedLatency: Sourced(36, .assumed("as A100")),
    l1Latency: Sourced(
      39, .measured("accel-sim/gpgpu-sim_distribution tested-cfgs, RTX 3070 setting")),
    l2Latency: Sourced(240, .assumed("sjfeng1999/gpu-arch-microbenchmark, RTX 2070: 236")),
    dramLatency: Sourced(500, .assumed("between RTX 2070 and RTX 4090")),
    matrixLatency: Sourced(33, .assumed("A100 at full rate, twice the interval")),
    barrierLatency: Sourced(20, .assumed("no measurement found")),
    launchMicroseconds: Sourced(
      2.05, .measured("te42kyfo/gpu-benches gpu-small-kernels/a40.txt: 64 KiB at 32 GB/s")),
    nvlink: Sourced(112, .recalled("bridge")),
    pcie: Sourced(32, .published("PCI Express 4 x16")))
}
