import ArgumentParser
import DeviceModel
import QuantKernels

/// Groups the commands that run on simulated hardware.
struct Simulate: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "simulate",
    abstract: "Run kernels and accesses on simulated hardware, and count.",
    subcommands: [
      SimulateBanks.self, SimulateMatmul.self, SimulateAttention.self, SimulateLowRank.self,
      SimulateTensorParallel.self,
    ])
}

/// `simulate banks`: shared-memory accesses, one by one, beside what is expected of them.
struct SimulateBanks: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "banks",
    abstract: "Wavefronts and bank conflicts of each access in a file.",
    discussion: """
      The file is JSON: {"cases": [{"name": …, "op": "ld" | "st" | "ldmatrix" | "stmatrix" | "ldgsts", \
      "width_bytes": 1…16, "active_mask": …, "byte_addresses": [32 of them], \
      "expected_wavefronts": …, "expected_conflicts": …, "uncertain": true | false}]}. Cases marked \
      uncertain, on which hardware may differ, count in neither passed nor failed.

      EXAMPLES
        quantkernels simulate banks --cases bank-cases.json
        quantkernels simulate banks --cases bank-cases.json --policy m2 --json
      """)

  enum Policy: String, ExpressibleByArgument, CaseIterable {
    case m1, m2, hopper

    var rule: BankPolicy {
      switch self {
      case .m1: .m1
      case .m2: .m2
      case .hopper: .hopper
      }
    }
  }

  @OptionGroup var common: CommonOptions

  @Option(name: .long, help: ArgumentHelp("The cases.", valueName: "file"))
  var cases: String

  @Option(
    name: .long,
    help: ArgumentHelp(
      """
      m1, the documented rule; m2: 16-byte stores of no one segment cost twice (assumed); hopper: \
      m1 and merged neighbors, as measured on an H100.
      """))
  var policy = Policy.m1

  @Flag(name: .long, help: "Merge equal neighbors of 8- and 16-byte loads (Volta, Turing, Hopper).")
  var pairMerge = false

  func run() throws {
    var rule = policy.rule
    if pairMerge { rule.pairMerge = true }
    let results = try BankCase.list(path: cases).map { ($0, $0.cost(rule)) }
    let certain = results.filter { !$0.0.isUncertain }
    let passed = certain.count { $0.1 == $0.0.expected }
    let json: JSON = [
      "cases": .array(
        results.map { entry, cost in
          [
            "name": .string(entry.name), "wavefronts": JSON(cost.wavefronts),
            "conflicts": JSON(cost.conflicts),
            "expectedWavefronts": JSON(entry.expected.wavefronts),
            "expectedConflicts": JSON(entry.expected.conflicts),
            "uncertain": .bool(entry.isUncertain), "pass": .bool(cost == entry.expected),
          ]
        }),
      "passed": JSON(passed), "failed": JSON(certain.count - passed),
      "uncertain": JSON(results.count - certain.count),
    ]
    common.finish(json, text: Self.table(results, passed: passed))
  }

  private static func table(_ results: [(BankCase, BankCost)], passed: Int) -> String {
    let width = max(4, results.map(\.0.name.count).max() ?? 0)
    var lines = [
      padded("case", width, left: true) + "  wavefronts  expected  conflicts  expected"
    ]
    for (entry, cost) in results {
      let verdict =
        cost == entry.expected
        ? (entry.isUncertain ? "  as expected, uncertain" : "")
        : (entry.isUncertain ? "  differs, uncertain" : "  WRONG")
      lines.append(
        padded(entry.name, width, left: true) + padded("\(cost.wavefronts)", 12)
          + padded("\(entry.expected.wavefronts)", 10) + padded("\(cost.conflicts)", 11)
          + padded("\(entry.expected.conflicts)", 10) + verdict)
    }
    let certain = results.count { !$0.0.isUncertain }
    lines.append(
      "\(passed) of \(certain) right, \(results.count - certain) uncertain ones apart")
    return lines.joined(separator: "\n")
  }
}
