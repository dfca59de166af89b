private let tables = Provenance.published(
  "device tables: Hugging Face RajBhope/gpu-runtime-predictor gpu_catalog.json, cputronic")

extension DeviceSpec {
  /// GeForce RTX 4090.
  public static let rtx4090 = DeviceSpec(
    identifier: "rtx4090", name: "GeForce RTX 4090",
    capability: Sourced(8.9, .programmingGuide),
    multiprocessors: Sourced(128, tables),
    boostClock: Sourced(2.52, tables),
    sustainedClock: Sourced(2.52, .assumed("boost: its 450 W did not bind in the profiles found")),
    sharedPerMultiprocessor: Sourced(100 * 1024, .tuningGuide),
    sharedPerBlock: Sourced(99 * 1024, .programmingGuide),
    sharedReservedPerBlock: Sourced(1024, .tuningGuide),
    registers: Sourced(65_536, .programmingGuide),
    warps: Sourced(48, .programmingGuide),
    blocks: Sourced(24, .recalled("CUDA C++ Programming Guide, compute capability 8.9")),
    subCores: Sourced(4, .programmingGuide),
    l2Bytes: Sourced(72_000_000, tables),
    l2BytesPerCycle: Sourced(14.7, .derived("as L40, the same chip")),
    dramPeak: Sourced(1008, tables),
    dramShare: Sourced(0.89, .assumed("as L40")),
    float16Peak: Sourced(165.2, tables),
    tensorFloat32Sums: Sourced(256, .fromPeak),
    tensorFloat16Sums: Sourced(512, .fromPeak),
    tensorInt8: Sourced(1024, .fromPeak),
    loadStoreCycles: Sourced(
      2,
      .assumed(
        "as GA10x: L1 hits of 4 bytes a lane at 64 B a cycle on L40, "
          + "te42kyfo/gpu-benches gpu-cache/l40.txt")),
    sharedStoreExtraCycles: Sourced(2, .recalled("as RTX A6000")),
    fillPassesPerSector: fillPasses,
    sharedLatency: Sourced(33, .assumed("as A100")),
    wideSharedLatency: Sourced(36, .assumed("as A100")),
    l1Latency: Sourced(36, .measured("HPMLL/NVIDIA-Hopper-Benchmark, RTX 4090")),
    l2Latency: Sourced(285, .measured("HPMLL/NVIDIA-Hopper-Benchmark, RTX 4090")),
    dramLatency: Sourced(
      571, .measured("HPMLL/NVIDIA-Hopper-Benchmark, RTX 4090: upper end of 500-571")),
    matrixLatency: Sourced(33, .assumed("as RTX A6000")),
    barrierLatency: Sourced(20, .assumed("no measurement found")),
    launchMicroseconds: Sourced(1.64, .assumed("as L40")),
    nvlink: Sourced(0, tables),
    pcie: Sourced(32, .published("PCI Express 4 x16")))
}
