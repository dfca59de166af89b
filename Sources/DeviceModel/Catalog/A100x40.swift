extension DeviceSpec {
  /// A100 40 GB: the 80 GB part with slower memory.
  public static let a100x40 = variant(of: a100x80) { device in
    device.identifier = "a100-40"
    device.name = "A100 40 GB"
    device.dramPeak = Sourced(1555, device.dramPeak.provenance)
    device.dramShare = Sourced(
      0.88, .measured("te42kyfo/gpu-benches gpu-stream/a100_40.txt: 1372 GB/s"))
    device.l1Latency = Sourced(33, .measured("HPMLL/NVIDIA-Hopper-Benchmark, A100 PCIe: 32.7"))
  }
}
