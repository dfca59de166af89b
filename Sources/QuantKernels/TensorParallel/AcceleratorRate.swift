import DeviceModel

/// What an accelerator sustains, as the models of whole layers see it.
public struct AcceleratorRate: Sendable, Hashable {
  /// The device's name.
  public var name: String
  /// Attention and projections in half precision, TFLOP/s.
  public var compute: Sourced
  /// Reads from its memory, GB/s.
  public var bandwidth: Sourced
  /// Start of a kernel, µs.
  public var launch: Sourced

  /// An accelerator's rates.
  public init(name: String, compute: Sourced, bandwidth: Sourced, launch: Sourced) {
    self.name = name
    self.compute = compute
    self.bandwidth = bandwidth
    self.launch = launch
  }

  /// µs of work on one device.
  public func microseconds(flop: Double, bytes: Double, launches: Int = 0) -> Double {
    max(flop / (compute.value * 1e6), bytes / (bandwidth.value * 1e3))
      + Double(launches) * launch.value
  }

  /// V100 SXM2.
  public static let v100 = AcceleratorRate(
    name: "V100",
    compute: Sourced(50, .published("ai-bond/flash-attention-v100: 50–52 TFLOP/s in applications")),
    bandwidth: Sourced(
      DeviceSpec.v100.dramBandwidth, .derived("peak and share of the catalog's V100")),
    launch: DeviceSpec.v100.launchMicroseconds)

  /// Ascend 910B2.
  public static let ascend910B = AcceleratorRate(
    name: "Ascend 910B",
    compute: Sourced(
      106, .measured("huawei-csl/pto-dsl PR #126: torch_npu attention, 3072 rows, 16K keys")),
    bandwidth: Sourced(1380, .derived("platform file: 24 cores · 32 B/cycle · 1.8 GHz")),
    launch: Sourced(5, .assumed("no measurement found")))
}
