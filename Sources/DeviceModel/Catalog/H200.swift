extension DeviceSpec {
  /// H200 SXM: the H100 with other memory; what only the H100 was measured for is assumed to hold.
  public static let h200 = variant(of: h100) { device in
    func asH100(_ value: Double) -> Sourced { Sourced(value, .assumed("as H100")) }
    device.identifier = "h200"
    device.name = "H200 SXM"
    device.l2BytesPerCycle = Sourced(
      46, .derived("te42kyfo/gpu-benches gpu-cache, H200: 12000 GB/s / 132 / 1.98 GHz"))
    device.dramPeak = Sourced(4800, .published("lzwjava H200 notes"))
    device.dramShare = Sourced(0.70, .measured("te42kyfo/gpu-benches gpu-stream, H200: 0.66–0.74"))
    device.float16Peak = Sourced(989, .published("lzwjava H200 notes"))
    device.sharedLatency = asH100(33)
    device.wideSharedLatency = asH100(36)
    device.l1Latency = asH100(34)
    device.l2Latency = asH100(265)
    device.dramLatency = asH100(658)
    device.launchMicroseconds = Sourced(
      2.4, .measured("te42kyfo/gpu-benches gpu-small-kernels/h200.txt: 64 KiB at 27 GB/s"))
  }
}
