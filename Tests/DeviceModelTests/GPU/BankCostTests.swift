import DeviceModel
import Foundation
import TestSupport
import Testing

/// A case of the fixture, read with Foundation, apart from the tool's own reader.
private struct Fixture: Decodable {
  struct Case: Decodable {
    let name: String
    let op: String
    let widthBytes: Int
    let activeMask: UInt32
    let byteAddresses: [UInt32]
    let expectedWavefronts: Int
    let expectedConflicts: Int
    let uncertain: Bool?
  }
  let cases: [Case]

  static let all: [Case] = {
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    let file = folder.appendingPathComponent("../../Fixtures/DeviceModel/bank-cases.json")
    guard let data = try? Data(contentsOf: file) else { return [] }
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return (try? decoder.decode(Fixture.self, from: data))?.cases ?? []
  }()
}

/// The bank rule written a second way: banks are drained pass by pass, each pass serving one word a
/// bank, until a phase's lanes are done.
private func drainedWavefronts(_ access: Access) -> BankCost {
  var wavefronts = 0
  var ideal = 0
  for first in stride(from: 0, to: 32, by: access.lanesPerPhase) {
    var waiting: [Set<UInt32>] = []
    for lane in first..<first + access.lanesPerPhase where access.mask[lane] {
      let start = access.addresses[lane] / 4
      waiting.append(Set(start...start + UInt32((access.width - 1) / 4)))
    }
    if waiting.isEmpty { continue }
    ideal += 1
    while waiting.contains(where: { !$0.isEmpty }) {
      var served: [UInt32: UInt32] = [:]
      for lane in waiting.indices {
        for word in waiting[lane].sorted() {
          if let other = served[word % 32], other != word { continue }
          served[word % 32] = word
        }
        waiting[lane] = waiting[lane].filter { served[$0 % 32] != $0 }
      }
      wavefronts += 1
    }
  }
  return BankCost(wavefronts: wavefronts, ideal: ideal)
}

private func randomAccess(_ random: inout RepeatableRandom) throws -> Access {
  let operations = Access.Operation.allCases.filter { $0 != .atomic }
  let operation = operations[Int.random(in: 0..<operations.count, using: &random)]
  let isMatrix = operation == .ldmatrix || operation == .stmatrix
  let widths = isMatrix ? [16] : operation == .asyncCopy ? [4, 8, 16] : [1, 2, 4, 8, 16]
  let width = widths[Int.random(in: 0..<widths.count, using: &random)]
  let masks: [UInt32] =
    isMatrix
    ? [0xFF, 0xFFFF, 0xFFFF_FFFF]
    : [
      0xFFFF_FFFF, UInt32.random(in: 1...UInt32.max, using: &random), 1, 0xFFFF, 0x1111_1111,
    ]
  let mask = LaneMask(rawValue: masks[Int.random(in: 0..<masks.count, using: &random)])
  // From few rows (much sharing) to many.
  let span = UInt32(1) << UInt32.random(in: 0...11, using: &random)
  let stride = UInt32.random(in: 0...64, using: &random)
  let isRandom = Bool.random(using: &random)
  let addresses = Lanes<UInt32>.each { lane in
    guard mask[Int(lane)] else { return .max - lane }  // rubbish that must not be looked at
    let element = isRandom ? UInt32.random(in: 0..<span, using: &random) : lane * stride
    return element * UInt32(width)
  }
  return try Access(operation, width: width, mask: mask, addresses: addresses)
}

@Suite struct BankCostTests {
  @Test func everyKnownCaseIsRight() throws {
    #expect(Fixture.all.count == 67)
    for entry in Fixture.all {
      let operation = try #require(Access.Operation(rawValue: entry.op))
      let access = try Access(
        operation, width: entry.widthBytes, mask: LaneMask(rawValue: entry.activeMask),
        addresses: .each { entry.byteAddresses[Int($0)] })
      let cost = bankCost(access)
      #expect(cost.wavefronts == entry.expectedWavefronts, "\(entry.name)")
      #expect(cost.conflicts == entry.expectedConflicts, "\(entry.name)")
      #expect(drainedWavefronts(access) == cost, "\(entry.name), drained")
      #expect(access.bankLoad().reduce(0) { $0 + ($1.max() ?? 0) } == cost.wavefronts)
    }
  }

  /// The ten cases on which GPGPU-Sim's rule (first address of a lane, no phases, no width) is too
  /// low, so that a rule like it cannot pass.
  @Test func tenCasesThatAWidthBlindRuleMisses() throws {
    let names: Set = [
      "ld128-four-distinct-quads", "ld128-quarters-on-separate-banks",
      "ldmatrix-x4-matrices-on-separate-banks", "ldmatrix-x4-pitch-128", "ldmatrix-x4-pitch-32",
      "st128-lane-major-pitch-512", "awq-a-store-pitch-80", "ld64-block-width-4-pitch-4098",
      "ld64-halves-on-separate-banks", "ld128-adjacent-pairs-equal",
    ]
    let cases = Fixture.all.filter { names.contains($0.name) }
    #expect(cases.count == 10)
    for entry in cases {
      var words: [UInt32: Set<UInt32>] = [:]
      for lane in 0..<32 where entry.activeMask >> UInt32(lane) & 1 == 1 {
        let word = entry.byteAddresses[lane] / 4
        words[word % 32, default: []].insert(word)
      }
      let blind = words.values.map(\.count).max() ?? 0
      #expect(blind < entry.expectedWavefronts, "\(entry.name) does not tell the rules apart")
      let access = try Access(
        try #require(Access.Operation(rawValue: entry.op)), width: entry.widthBytes,
        mask: LaneMask(rawValue: entry.activeMask),
        addresses: .each { entry.byteAddresses[Int($0)] })
      #expect(bankCost(access).wavefronts == entry.expectedWavefronts, "\(entry.name)")
    }
  }

  @Test func closedFormsOfStrides() throws {
    func gcd(_ a: Int, _ b: Int) -> Int { b == 0 ? a : gcd(b, a % b) }
    for stride in 0...130 {
      for (width, banks, phases) in [(4, 32, 1), (8, 16, 2), (16, 8, 4)] {
        let access = try Access(
          .load, width: width, addresses: .each { $0 * UInt32(stride * width) })
        let wanted = stride == 0 ? phases : phases * gcd(stride, banks)
        #expect(bankCost(access).wavefronts == wanted, "stride \(stride) of \(width) bytes")
      }
      let rows = try Access(.ldmatrix, width: 16, addresses: .each { $0 * UInt32(16 * stride) })
      #expect(bankCost(rows).wavefronts == (stride == 0 ? 4 : 4 * gcd(stride, 8)))
    }
  }

  @Test func randomAccessesAgreeWithDrainingAndKeepTheInvariants() throws {
    var random = RepeatableRandom(seed: 41)
    for _ in 0..<3000 {
      let access = try randomAccess(&random)
      let cost = bankCost(access)
      #expect(cost == drainedWavefronts(access))
      #expect(cost.wavefronts >= cost.ideal)
      #expect(cost.ideal >= 1)
      #expect(cost.wavefronts <= 32)

      // Any phase costs at most its active lanes.
      let active = access.mask.count
      #expect(cost.wavefronts <= active)

      // Shifting every address by a multiple of 128 bytes changes nothing.
      let shifted = Lanes<UInt32>.each { lane in
        access.mask[Int(lane)] ? access.addresses[Int(lane)] + 128 * 37 : lane
      }
      #expect(
        bankCost(
          try Access(
            access.operation, width: access.width, mask: access.mask, addresses: shifted)) == cost)

      // Permuting lanes inside a phase changes nothing.
      let phase = UInt32(access.lanesPerPhase)
      let turn = UInt32.random(in: 0..<phase, using: &random)
      let isMatrix = access.operation == .ldmatrix || access.operation == .stmatrix
      if isMatrix || access.mask == .all {
        let turned = Lanes<UInt32>.each { lane in
          access.addresses[Int(lane / phase * phase + (lane + turn) % phase)]
        }
        #expect(
          bankCost(
            try Access(
              access.operation, width: access.width, mask: access.mask, addresses: turned))
            == cost)
      }

      // Removing a lane never raises wavefronts.
      if !isMatrix {
        let lane = Int.random(in: 0..<32, using: &random)
        let fewer = LaneMask(rawValue: access.mask.rawValue & ~(1 << UInt32(lane)))
        let less = bankCost(
          try Access(
            access.operation, width: access.width, mask: fewer, addresses: access.addresses))
        #expect(less.wavefronts <= cost.wavefronts)
      }
    }
  }

  @Test func uncertainRulesAreSwitches() throws {
    let pairs = try Access(.load, width: 16, addresses: .each { 16 * ($0 / 2) })
    #expect(bankCost(pairs) == BankCost(wavefronts: 4, ideal: 4))
    #expect(
      bankCost(pairs, policy: BankPolicy(pairMerge: true)) == BankCost(wavefronts: 2, ideal: 2))
    let quads = try Access(.load, width: 16, addresses: .each { 16 * ($0 % 4) })
    #expect(bankCost(quads, policy: BankPolicy(pairMerge: true)).wavefronts == 4)
    let wide = try Access(.load, width: 8, addresses: Lanes(repeating: 64))
    #expect(bankCost(wide, policy: BankPolicy(pairMerge: true)).wavefronts == 1)
    let store = try Access(.store, width: 16, addresses: .each { 16 * ($0 / 2) })
    #expect(bankCost(store, policy: BankPolicy(pairMerge: true)).wavefronts == 4, "loads only")

    // AWQ's write-back: two rows with a gap of 16 bytes.
    let split = try Access(.store, width: 16, addresses: .each { $0 / 16 * 272 + 16 * ($0 % 16) })
    #expect(bankCost(split, policy: .m1).wavefronts == 4)
    #expect(bankCost(split, policy: .m2).wavefronts == 8)
    let whole = try Access(.store, width: 16, addresses: .each { 16 * ($0 ^ 5) })
    #expect(bankCost(whole, policy: .m2).wavefronts == 4, "one segment in any order")

    let half = try Access(
      .load, width: 16, mask: .first(8), addresses: .each { 16 * $0 })
    #expect(bankCost(half) == BankCost(wavefronts: 1, ideal: 1))
    #expect(
      bankCost(half, policy: BankPolicy(skipEmptyPhases: false))
        == BankCost(wavefronts: 4, ideal: 4))
    let empty = try Access(.load, width: 4, mask: [], addresses: Lanes(repeating: 7))
    #expect(bankCost(empty) == BankCost(wavefronts: 0, ideal: 0))
  }

  @Test func malformedAccessesAreRefused() {
    func code(_ make: () throws -> Access) -> DeviceError.Code? {
      do {
        _ = try make()
        return nil
      } catch { return (error as? DeviceError)?.code }
    }
    let zeros = Lanes<UInt32>(repeating: 0)
    #expect(code { try Access(.load, width: 3, addresses: zeros) } == .invalidArgument)
    #expect(code { try Access(.load, width: 32, addresses: zeros) } == .invalidArgument)
    #expect(code { try Access(.load, width: 0, addresses: zeros) } == .invalidArgument)
    #expect(code { try Access(.load, width: -4, addresses: zeros) } == .invalidArgument)
    #expect(code { try Access(.ldmatrix, width: 8, addresses: zeros) } == .invalidArgument)
    #expect(code { try Access(.asyncCopy, width: 2, addresses: zeros) } == .invalidArgument)
    #expect(
      code { try Access(.ldmatrix, width: 16, mask: .first(9), addresses: zeros) }
        == .invalidArgument)
    var odd = zeros
    odd[17] = 6
    do {
      _ = try Access(.load, width: 4, addresses: odd)
      Issue.record("a misaligned address was accepted")
    } catch {
      #expect(error.code == .misaligned)
      #expect(error.lane == 17)
      #expect(error.address == 6)
    }
    #expect(code { try Access(.load, width: 4, mask: .first(17), addresses: odd) } == nil)
  }
}
