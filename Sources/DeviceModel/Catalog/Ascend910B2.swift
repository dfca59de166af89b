private let platform = Provenance.published("CANN platform_config/Ascend910B2C.ini")

extension Provenance {
  static let noFlagCost = Provenance.assumed("no measurement found; varied by every claim")
  static let noStartCost = Provenance.assumed("no measurement found")
}

extension NPUSpec {
  /// Ascend 910B2: 24 cube and 48 vector cores, which exchange data through global memory.
  public static let ascend910b2 = NPUSpec(
    identifier: "ascend910b2", name: "Ascend 910B2", coupling: .split, bankRule: .arch220,
    cores: Sourced(24, platform), vectorUnits: Sourced(2, platform), clock: Sourced(1.8, platform),
    cubeRate: Sourced(4096, platform),
    float16Peak: Sourced(353.9, .derived("24 · 4096 · 2 · 1.8 GHz")),
    l1Bytes: Sourced(512 * 1024, platform), l0aBytes: Sourced(64 * 1024, platform),
    l0bBytes: Sourced(64 * 1024, platform), l0cBytes: Sourced(128 * 1024, platform),
    ubBytes: Sourced(192 * 1024, platform), l2Bytes: Sourced(192 * 1024 * 1024, platform),
    memoryBytes: Sourced(64 * 1024 * 1024 * 1024, .published("public notes on the part: 64 GB")),
    memoryRate: Sourced(
      1382.4,
      .assumed("24 · 32 B · 1.8 GHz of the platform file; public pages say 400 and 1600 GB/s")),
    memoryPort: Sourced(32, platform), l2Read: Sourced(110, platform),
    l2Write: Sourced(86, platform), l1ToL0A: Sourced(512, platform),
    l1ToL0B: Sourced(256, platform),
    l0cToUB: Sourced(
      0, .published("hiascend.com architecture pages: split cores exchange through GM")),
    ubToL1: Sourced(
      0, .published("hiascend.com architecture pages: split cores exchange through GM")),
    ubToGlobal: Sourced(64, platform), flagCycles: Sourced(200, .noFlagCost),
    copyStartCycles: Sourced(32, .noStartCost), cubeStartCycles: Sourced(16, .noStartCost),
    vectorStartCycles: Sourced(16, .noStartCost),
    repeatCycles: Sourced(1, .assumed("one 256-byte repeat a cycle")),
    exponentialRepeatCycles: Sourced(2, .assumed("twice a plain repeat; no measurement found")),
    launchMicroseconds: Sourced(10, .assumed("no measurement found")))
}
