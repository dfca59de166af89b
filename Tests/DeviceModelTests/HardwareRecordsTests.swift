import DeviceModel
import Foundation
import Testing

/// What `Benchmarks/hardware/run.sh` wrote on a real GPU, beside the bank rule.
@Suite struct HardwareRecordsTests {
  @Test(
    .enabled(
      if: !HardwareRecord.files.isEmpty,
      "no run on a GPU is recorded yet: Benchmarks/hardware/results is empty"),
    arguments: HardwareRecord.files)
  func recordAgreesWithTheRule(_ file: URL) throws {
    let record = try HardwareRecord(contentsOf: file)
    #expect(record.version == 1)
    #expect(!record.bankCases.isEmpty)
    for finding in try record.disagreements(policy: record.policy) {
      Issue.record("\(file.lastPathComponent), \(record.gpu.gpu): \(finding)")
    }
    for finding in record.unfollowedVerdicts(policy: record.policy) {
      Issue.record("\(file.lastPathComponent), \(record.gpu.gpu): \(finding)")
    }
    let wrong = record.checks.filter { !$0.correct }
    #expect(wrong.isEmpty, "an int4 loop gave a wrong product")
  }

  // The comparison itself, on made-up measurements, so that it is known to work when a record arrives.

  @Test func aGPUThatFollowsTheRuleIsAccepted() throws {
    for cyclesPerPass in [1.0, 2.0] {
      let record = try HardwareRecord.madeUp(cyclesPerPass: cyclesPerPass) { _, passes in passes }
      #expect(try record.disagreements(policy: .m1).isEmpty)
    }
  }

  @Test func aDisagreementIsNamed() throws {
    let record = try HardwareRecord.madeUp { name, passes in
      name == "x-ld128-four-way" ? passes + 2 : passes
    }
    let findings = try record.disagreements(policy: .m1)
    #expect(findings.count == 2)  // by cycles and by counter
    #expect(findings.allSatisfy { $0.contains("x-ld128-four-way") })
  }

  @Test func aCaseInDoubtIsNotCounted() throws {
    let record = try HardwareRecord.madeUp { name, passes in
      name.contains("st128") && name != "x-st128-one-segment" ? passes + 4 : passes
    }
    #expect(try !record.disagreements(policy: .m1).contains { $0.contains("two-rows") })
    #expect(
      try record.disagreements(policy: .m1, uncertain: true).contains { $0.contains("two-rows") })
    #expect(try record.disagreements(policy: .m2, uncertain: true).isEmpty)
  }

  @Test func aVerdictThatTheModelDoesNotFollowIsNamed() throws {
    var record = try HardwareRecord.madeUp { _, passes in passes }
    record.verdicts = [.init(name: "m1-or-m2", answer: "M2")]
    #expect(record.unfollowedVerdicts(policy: .m1).count == 1)
    #expect(record.unfollowedVerdicts(policy: .m2).isEmpty)
    record.verdicts = [
      .init(name: "empty phases skipped, 16-byte load", answer: "no", countedPasses: 1)
    ]
    #expect(record.unfollowedVerdicts(policy: .m1).isEmpty)
    record.verdicts = [
      .init(name: "empty phases skipped, 16-byte load", answer: "no", countedPasses: 4)
    ]
    #expect(record.unfollowedVerdicts(policy: .m1).count == 1)
    record.verdicts = [.init(name: "m1-or-m2", answer: "unsettled")]
    #expect(record.unfollowedVerdicts(policy: .m1).isEmpty)
  }
}

/// The parts of a record that are compared; `Benchmarks/hardware/README.md` describes all of it.
struct HardwareRecord: Decodable {
  struct GPU: Decodable {
    let gpu: String
    let computeCapability: String
  }
  struct Timing: Decodable {
    let median: Double
  }
  struct Case: Decodable {
    let name: String
    let op: String
    let widthBytes: Int
    let activeMask: UInt32
    let byteAddresses: [UInt32]
    let uncertain: Bool
    let cyclesPerAccess: [String: Timing]
    let counters: [String: Double]?
    let countedAccesses: Double?
  }
  struct Verdict: Decodable {
    let name: String
    let answer: String
    var countedPasses: Double?
  }
  struct Check: Decodable {
    let correct: Bool
  }
  struct Malformed: Error {
    let reason: String
  }

  let version: Int
  let gpu: GPU
  let bankCases: [Case]
  var verdicts: [Verdict]
  let checks: [Check]

  static let files: [URL] = {
    let root = URL(filePath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent()
    let folder = root.appending(path: "Benchmarks/hardware/results")
    let found = try? FileManager.default.contentsOfDirectory(
      at: folder, includingPropertiesForKeys: nil)
    return (found ?? []).filter { $0.pathExtension == "json" }.sorted { $0.path < $1.path }
  }()

  init(contentsOf file: URL) throws {
    self = try JSONDecoder().decode(HardwareRecord.self, from: Data(contentsOf: file))
  }
}

extension HardwareRecord.Case {
  func cost(policy: BankPolicy) throws -> BankCost {
    guard let operation = Access.Operation(rawValue: op), byteAddresses.count == 32 else {
      throw HardwareRecord.Malformed(reason: "\(name): op \(op), \(byteAddresses.count) addresses")
    }
    let access = try Access(
      operation, width: widthBytes, mask: LaneMask(rawValue: activeMask),
      addresses: .each { byteAddresses[Int($0)] })
    return bankCost(access, policy: policy)
  }

  /// Cycles an access with 16 warps, where latencies are hidden.
  var cycles: Double? { cyclesPerAccess["16"]?.median }
}

extension HardwareRecord {
  /// The rule that this chip is held to.
  var policy: BankPolicy { gpu.computeCapability.hasPrefix("9.") ? .hopper : .m1 }

  /// Accesses whose passes are not in doubt. The second and third give the cycles of a pass, the
  /// first the point to start from; the second and third of a store are no consecutive segments,
  /// so that a penalty on these leaves their difference alone.
  private static let references = [
    "ld": ("x-ld128-contiguous", "x-ld128-two-way", "x-ld128-eight-way"),
    "st": ("x-st128-one-segment", "x-st128-two-way", "x-st128-eight-way"),
    "ldmatrix": ("x-ldmatrix-x4-rows", "x-ldmatrix-x4-two-way", "x-ldmatrix-x4-eight-way"),
  ]

  /// Where cycles or counters are not the rule's, in words.
  ///
  /// Cycles: within a quarter of a pass and 5 % of the line through the references, or of what one
  /// instruction costs at least. Counters: not below the rule, and above by no more than 5 % and a
  /// tenth of a pass, since they count arbitration as well. Asynchronous copies are left out: their
  /// cycles are those of global memory.
  func disagreements(policy: BankPolicy, uncertain: Bool = false) throws -> [String] {
    var findings: [String] = []
    let named = Dictionary(bankCases.map { ($0.name, $0) }) { first, _ in first }
    let least = named["x-ld32-contiguous"]?.cycles ?? 0
    for item in bankCases where item.op != "ldgsts" && (uncertain || !item.uncertain) {
      let passes = Double(try item.cost(policy: policy).wavefronts)
      if let (lowName, middleName, highName) = Self.references[item.op],
        let measured = item.cycles, let low = named[lowName], let middle = named[middleName],
        let high = named[highName], let lowCycles = low.cycles, let middleCycles = middle.cycles,
        let highCycles = high.cycles
      {
        func passesByRule(_ item: Case) throws -> Double {
          Double(try item.cost(policy: policy).wavefronts)
        }
        let lowPasses = try passesByRule(low)
        let perPass =
          (highCycles - middleCycles) / (try passesByRule(high) - passesByRule(middle))
        let expected = max(least, lowCycles + (passes - lowPasses) * perPass)
        if abs(measured - expected) > 0.25 * perPass + 0.05 * expected {
          findings.append(
            "\(item.name): \(measured) cycles an access, by the rule (\(passes) passes) \(expected)"
          )
        }
      }
      if let counted = item.counters?["wavefronts"], let accesses = item.countedAccesses {
        let each = counted / accesses
        if each < passes - 0.01 || each > passes * 1.05 + 0.1 {
          findings.append(
            "\(item.name): \(each) wavefronts an access counted, the rule says \(passes)")
        }
      }
    }
    return findings
  }

  /// Settled answers that the policy contradicts. A GPU has the last word: change the policy's
  /// default, or make it one of the device's, and cite the record.
  func unfollowedVerdicts(policy: BankPolicy) -> [String] {
    verdicts.compactMap { verdict in
      let follows =
        switch (verdict.name, verdict.answer) {
        case (let name, "M1") where name.hasPrefix("m1-or-m2"): policy.splitStorePenalty == 0
        case (let name, "M2") where name.hasPrefix("m1-or-m2"): policy.splitStorePenalty > 0
        case (let name, "yes") where name.hasPrefix("pair merge"): policy.pairMerge
        case (let name, "no") where name.hasPrefix("pair merge"): !policy.pairMerge
        // The policy speaks of counted wavefronts; an H100 skips these and takes the time.
        case (let name, let answer) where name.hasPrefix("empty phases") && answer != "unsettled":
          policy.skipEmptyPhases
            == (verdict.countedPasses.map { $0 < 1.5 } ?? (answer == "yes"))
        default: true
        }
      return follows
        ? nil : "\(verdict.name) came out as \(verdict.answer), the model assumes otherwise"
    }
  }

  /// A record of a GPU that takes `actual(name, passes by the rule)` passes.
  static func madeUp(
    cyclesPerPass: Double = 1, actual: (String, Double) -> Double
  ) throws -> HardwareRecord {
    let patterns: [(String, String, Int, (Int) -> Int)] = [
      ("x-ld32-contiguous", "ld", 4, { 4 * $0 }),
      ("x-ld128-contiguous", "ld", 16, { 16 * $0 }),
      ("x-ld128-two-way", "ld", 16, { 32 * $0 }),
      ("x-ld128-four-way", "ld", 16, { 64 * $0 }),
      ("x-ld128-eight-way", "ld", 16, { 128 * $0 }),
      ("x-st128-one-segment", "st", 16, { 16 * $0 }),
      ("x-st128-two-way", "st", 16, { 32 * $0 }),
      ("x-st128-eight-way", "st", 16, { 128 * $0 }),
      ("x-st128-two-rows-pitch-272", "st", 16, { $0 / 16 * 272 + 16 * ($0 % 16) }),
    ]
    let cases = try patterns.map { name, op, width, address in
      func item(_ passes: Double) -> Case {
        Case(
          name: name, op: op, widthBytes: width, activeMask: .max,
          byteAddresses: (0..<32).map { UInt32(address($0)) },
          uncertain: name.contains("two-rows"),
          cyclesPerAccess: ["16": Timing(median: 0.05 + passes * cyclesPerPass)],
          counters: ["wavefronts": 1000 * passes + 12], countedAccesses: 1000)
      }
      return item(actual(name, Double(try item(0).cost(policy: .m1).wavefronts)))
    }
    return HardwareRecord(
      version: 1, gpu: GPU(gpu: "made up", computeCapability: "8.0"), bankCases: cases,
      verdicts: [], checks: [])
  }

  private init(
    version: Int, gpu: GPU, bankCases: [Case], verdicts: [Verdict], checks: [Check]
  ) {
    self.version = version
    self.gpu = gpu
    self.bankCases = bankCases
    self.verdicts = verdicts
    self.checks = checks
  }
}
