private let platform = Provenance.published("CANN platform_config/Ascend910A.ini")

extension NPUSpec {
  /// Ascend 910A: 32 cores with cube and vector unit in one. No bank rule of its unified buffer is
  /// documented, so none is modelled.
  public static let ascend910a = NPUSpec(
    identifier: "ascend910a", name: "Ascend 910A", coupling: .coupled, bankRule: nil,
    cores: Sourced(32, platform), vectorUnits: Sourced(1, platform), clock: Sourced(1, platform),
    cubeRate: Sourced(4096, platform),
    float16Peak: Sourced(262.1, .derived("32 · 4096 · 2 · 1 GHz; 256 is published")),
    l1Bytes: Sourced(1024 * 1024, platform), l0aBytes: Sourced(64 * 1024, platform),
    l0bBytes: Sourced(64 * 1024, platform), l0cBytes: Sourced(256 * 1024, platform),
    ubBytes: Sourced(256 * 1024, platform), l2Bytes: Sourced(32 * 1024 * 1024, platform),
    memoryBytes: Sourced(32 * 1024 * 1024 * 1024, .recalled("32 GB of HBM2")),
    memoryRate: Sourced(1200, .published("Hot Chips slides as summarized in public pages")),
    memoryPort: Sourced(32, platform), l2Read: Sourced(110, platform),
    l2Write: Sourced(86, platform), l1ToL0A: Sourced(512, platform),
    l1ToL0B: Sourced(256, platform), l0cToUB: Sourced(256, platform),
    ubToL1: Sourced(128, platform), ubToGlobal: Sourced(64, platform),
    flagCycles: Sourced(32, .noFlagCost), copyStartCycles: Sourced(32, .noStartCost),
    cubeStartCycles: Sourced(16, .noStartCost), vectorStartCycles: Sourced(16, .noStartCost),
    repeatCycles: Sourced(1, .assumed("one 256-byte repeat a cycle")),
    exponentialRepeatCycles: Sourced(2, .assumed("twice a plain repeat; no measurement found")),
    launchMicroseconds: Sourced(10, .assumed("no measurement found")))

  /// Every NPU of the catalog.
  public static let all: [NPUSpec] = [.ascend910a, .ascend910b2]

  /// The NPU of that identifier.
  ///
  /// - Throws: ``DeviceError`` with `.unknownDevice`, naming the known ones.
  public static func named(_ identifier: String) throws(DeviceError) -> NPUSpec {
    if let spec = all.first(where: { $0.identifier == identifier }) { return spec }
    throw DeviceError(
      .unknownDevice, "device \"\(identifier)\"", "not among the NPUs of the catalog",
      remedy: "use one of " + all.map(\.identifier).joined(separator: ", "))
  }
}
