private let tables = Provenance.published(
  "device tables: Hugging Face RajBhope/gpu-runtime-predictor gpu_catalog.json, PMC10448217")

extension DeviceSpec {
  /// V100 SXM2.
  public static let v100 = DeviceSpec(
    identifier: "v100", name: "V100 SXM2",
    capability: Sourced(7.0, .programmingGuide),
    multiprocessors: Sourced(80, tables),
    boostClock: Sourced(1.53, tables),
    sustainedClock: Sourced(1.53, .assumed("boost; no power-limited clock found")),
    sharedPerMultiprocessor: Sourced(96 * 1024, .tuningGuide),
    sharedPerBlock: Sourced(96 * 1024, .programmingGuide),
    sharedReservedPerBlock: Sourced(0, .recalled("no reserve before compute capability 8.0")),
    registers: Sourced(65_536, .programmingGuide),
    warps: Sourced(64, .programmingGuide),
    blocks: Sourced(32, .programmingGuide),
    subCores: Sourced(4, .programmingGuide),
    l2Bytes: Sourced(6_000_000, tables),
    l2BytesPerCycle: Sourced(
      19.5, .recalled("Jia et al. V100: 2155 GB/s over 80 multiprocessors at 1.38 GHz")),
    dramPeak: Sourced(900, tables),
    dramShare: Sourced(0.89, .measured("te42kyfo/gpu-benches gpu-stream: ~800 GB/s")),
    float16Peak: Sourced(125, tables),
    tensorFloat32Sums: Sourced(512, .fromPeak),
    tensorFloat16Sums: Sourced(512, .fromPeak),
    tensorInt8: Sourced(0, .published("CUDA C++ Programming Guide: no int8 mma before 7.2")),
    loadStoreCycles: Sourced(
      1, .published("NVIDIA forum 261150, post 15: 7.0, 8.0 and 9.0 sustain one a cycle")),
    sharedStoreExtraCycles: Sourced(0, .assumed("as the other full-rate load-store units")),
    fillPassesPerSector: fillPasses,
    sharedLatency: Sourced(
      27, .measured("accel-sim/accel-sim-framework tuner output, TITAN V, loop included")),
    wideSharedLatency: Sourced(30, .assumed("27 and three more passes")),
    l1Latency: Sourced(30, .measured("te42kyfo/gpu-benches gpu-latency")),
    l2Latency: Sourced(215, .measured("te42kyfo/gpu-benches gpu-latency")),
    dramLatency: Sourced(437, .measured("te42kyfo/gpu-benches gpu-latency: 425-437")),
    matrixLatency: Sourced(
      35, .measured("accel-sim/accel-sim-framework tuner output, TITAN V: wmma 35.3")),
    barrierLatency: Sourced(20, .assumed("no measurement found")),
    launchMicroseconds: Sourced(2.6, .assumed("as A100")),
    nvlink: Sourced(300, tables),
    pcie: Sourced(16, tables))
}
