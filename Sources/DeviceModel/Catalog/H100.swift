private let tables = Provenance.published(
  "device tables: Hugging Face RajBhope/gpu-runtime-predictor gpu_catalog.json, glennklockwood.com")

extension DeviceSpec {
  /// H100 SXM.
  public static let h100 = DeviceSpec(
    identifier: "h100", name: "H100 SXM",
    capability: Sourced(9.0, .programmingGuide),
    multiprocessors: Sourced(132, tables),
    boostClock: Sourced(1.83, tables),
    sustainedClock: Sourced(1.83, .assumed("clock of the published peak")),
    sharedPerMultiprocessor: Sourced(228 * 1024, .tuningGuide),
    sharedPerBlock: Sourced(227 * 1024, .programmingGuide),
    sharedReservedPerBlock: Sourced(1024, .tuningGuide),
    registers: Sourced(65_536, .programmingGuide),
    warps: Sourced(64, .programmingGuide),
    blocks: Sourced(32, .programmingGuide),
    subCores: Sourced(4, .programmingGuide),
    l2Bytes: Sourced(50_000_000, tables),
    l2BytesPerCycle: Sourced(
      37.5, .derived("te42kyfo/gpu-benches gpu-cache, H100 PCIe: 7500 GB/s / 114 / 1.755 GHz")),
    dramPeak: Sourced(3350, tables),
    dramShare: Sourced(0.87, .assumed("as H100 PCIe, te42kyfo/gpu-benches gpu-stream: 0.85–0.9")),
    float16Peak: Sourced(989.4, tables),
    tensorFloat32Sums: Sourced(
      1270, .recalled("mma.sync reaches some 62 % of the warpgroup peak")),
    tensorFloat16Sums: Sourced(1270, .recalled("as float32 sums")),
    tensorInt8: Sourced(2540, .recalled("twice binary16")),
    tensorWarpgroup: Sourced(2048, .fromPeak),
    loadStoreCycles: Sourced(1, .published("NVIDIA forum 261150, post 15")),
    sharedStoreExtraCycles: Sourced(
      0, .measured("Benchmarks/hardware/results: 4.00 cycles for a 16-byte store's 4 passes")),
    fillPassesPerSector: fillPasses,
    sharedLatency: Sourced(33, .measured("HPMLL/NVIDIA-Hopper-Benchmark, H800")),
    wideSharedLatency: Sourced(36, .assumed("33 and three more passes")),
    l1Latency: Sourced(34.2, .measured("te42kyfo/gpu-benches gpu-latency, H100 PCIe")),
    l2Latency: Sourced(265, .measured("te42kyfo/gpu-benches gpu-latency: the far partition")),
    dramLatency: Sourced(658, .measured("te42kyfo/gpu-benches gpu-latency: upper end of 403-658")),
    matrixLatency: Sourced(33, .recalled("not found for mma.sync")),
    barrierLatency: Sourced(20, .assumed("no measurement found")),
    launchMicroseconds: Sourced(2.4, .assumed("as H200")),
    nvlink: Sourced(900, tables),
    pcie: Sourced(64, tables))
}
