private let tables = Provenance.published(
  "device tables: Hugging Face RajBhope/gpu-runtime-predictor gpu_catalog.json, PMC10448217")

extension DeviceSpec {
  /// A100 80 GB.
  public static let a100x80 = DeviceSpec(
    identifier: "a100-80", name: "A100 80 GB",
    capability: Sourced(8.0, .programmingGuide),
    multiprocessors: Sourced(108, tables),
    boostClock: Sourced(1.41, tables),
    sustainedClock: Sourced(
      1.41, .measured("te42kyfo/gpu-benches gpu-roofline/alex_a100_40.txt: 1410 MHz throughout")),
    sharedPerMultiprocessor: Sourced(164 * 1024, .tuningGuide),
    sharedPerBlock: Sourced(163 * 1024, .programmingGuide),
    sharedReservedPerBlock: Sourced(1024, .tuningGuide),
    registers: Sourced(65_536, .programmingGuide),
    warps: Sourced(64, .programmingGuide),
    blocks: Sourced(32, .programmingGuide),
    subCores: Sourced(4, .programmingGuide),
    l2Bytes: Sourced(40_000_000, tables),
    l2BytesPerCycle: Sourced(
      35.5, .derived("te42kyfo/gpu-benches gpu-cache, A100 80 GB: 5400 GB/s / 108 / 1.41 GHz")),
    dramPeak: Sourced(2039, tables),
    dramShare: Sourced(0.85, .measured("te42kyfo/gpu-benches gpu-stream: ~1740 GB/s")),
    float16Peak: Sourced(312, tables),
    tensorFloat32Sums: Sourced(1024, .fromPeak),
    tensorFloat16Sums: Sourced(1024, .fromPeak),
    tensorInt8: Sourced(2048, .fromPeak),
    loadStoreCycles: Sourced(1, .published("NVIDIA forum 261150, post 15")),
    sharedStoreExtraCycles: Sourced(0, .assumed("full-rate load-store unit; unmeasured")),
    fillPassesPerSector: fillPasses,
    sharedLatency: Sourced(33, .recalled("ldmatrix 23–29 remembered; PPT-GPU has a flat 33")),
    wideSharedLatency: Sourced(36, .assumed("33 and three more passes")),
    l1Latency: Sourced(36, .measured("te42kyfo/gpu-benches gpu-latency, A100 80 GB")),
    l2Latency: Sourced(
      407,
      .measured(
        "te42kyfo/gpu-benches gpu-latency, A100 80 GB: the far partition, a step waits for its slowest load"
      )),
    dramLatency: Sourced(
      572, .measured("te42kyfo/gpu-benches gpu-latency, A100 80 GB: upper end of 424-572")),
    matrixLatency: Sourced(24.7, .measured("Sun et al. 2206.02874, table 3")),
    barrierLatency: Sourced(20, .assumed("no measurement found")),
    launchMicroseconds: Sourced(
      2.6, .measured("te42kyfo/gpu-benches gpu-small-kernels/a100_80.txt: 64 KiB at 25 GB/s")),
    nvlink: Sourced(600, tables),
    pcie: Sourced(32, .published("PCI Express 4 x16")))
}
