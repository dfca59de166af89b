import ArgumentParser
import DeviceModel
import QuantKernels
import TestSupport
import Testing

@testable import QuantKernelsTool

/// Cases files and arguments, changed at random: each is read or refused by an error that says what,
/// where and what to do. Tests/Fuzz does the same for minutes, led by what is executed.
@Suite struct HostileInputTests {
  /// One to four changes: a byte changed, left out or put in, a piece left out or repeated, the end
  /// cut off.
  private func changed(_ bytes: [UInt8], _ random: inout RepeatableRandom) -> [UInt8] {
    var bytes = bytes
    for _ in 0..<Int.random(in: 1...4, using: &random) where !bytes.isEmpty {
      let at = Int.random(in: 0..<bytes.count, using: &random)
      let end = min(at + Int.random(in: 1...24, using: &random), bytes.count)
      switch Int.random(in: 0...6, using: &random) {
      case 0: bytes[at] = UInt8.random(in: 0...255, using: &random)
      case 1: bytes.remove(at: at)
      case 2: bytes.insert(Array("0-9.eE\"{[,:\n".utf8).randomElement(using: &random) ?? 0, at: at)
      case 3: bytes.removeSubrange(at..<end)
      case 4: bytes.insert(contentsOf: bytes[at..<end], at: at)
      case 5: bytes.insert(contentsOf: Array("99999999999999999999".utf8), at: at)
      default: bytes.removeSubrange(at...)
      }
    }
    return bytes
  }

  @Test func casesFiles() {
    let seed = Array(
      """
      {"version": 1, "description": "two", "cases": [
       {"name": "a", "op": "ld", "width_bytes": 4, "active_mask": 4294967295, "byte_addresses":
       [\((0..<32).map { "\($0 * 8)" }.joined(separator: ", "))],
       "expected_wavefronts": 2, "expected_conflicts": 1, "source": "x", "derived": true},
       {"name": "b", "op": "ldmatrix", "width_bytes": 16, "active_mask": 4294967295,
       "byte_addresses": [\((0..<32).map { "\($0 * 16)" }.joined(separator: ", "))],
       "expected_wavefronts": 4, "expected_conflicts": 0, "source": "y", "derived": false}]}
      """.utf8)
    var random = RepeatableRandom(seed: 31)
    var refused = 0
    for _ in 0..<20_000 {
      let bytes = changed(seed, &random)
      do {
        for item in try bytes.withUnsafeBytes({ try BankCase.list($0, path: "cases.json") }) {
          let cost = item.cost(.m1)
          #expect(cost.wavefronts >= 0 && cost.conflicts >= 0)
        }
      } catch let error as QuantError {
        refused += 1
        #expect(error.code == .invalidData)
        #expect(!error.problem.isEmpty && !error.subject.isEmpty && !error.remedy.isEmpty)
      } catch {
        Issue.record(error)
      }
    }
    #expect(refused > 1000)
  }

  @Test func arguments() {
    let seeds = [
      "bench\nmatmul\n--format\nint4\n--m\n1\n--n\n4096\n--k\n4096\n--group\n128",
      "generate\n--model\nm.gguf\n--prompt\nHello\n--temperature\n0.8\n--top-k\n40\n--seed\n7",
      "simulate\nattention\n--device\nv100\n--kernel\nvolta\n--query-length\n2048\n--causal",
      "convert\nm.gguf\n--to\nq8_0\n-o\nout.gguf", "perplexity\n--kv-cache\npalu:f\n--chunks\n4",
      "calibrate-kv\n--ratio\n0.5\n--group\n4\n--bits\n3\n-o\nf.palu\n--help",
    ]
    var random = RepeatableRandom(seed: 32)
    for round in 0..<1200 {
      let bytes = changed(Array(seeds[round % seeds.count].utf8), &random)
      let arguments = bytes.split(separator: 10, omittingEmptySubsequences: false).map {
        String(decoding: $0, as: UTF8.self)
      }
      do {
        _ = try QuantKernelsTool.parseAsRoot(arguments)
      } catch let error as QuantError {
        #expect(error.code == .invalidArgument, "\(arguments): \(error)")
      } catch {
        let code = QuantKernelsTool.exitCode(for: error)
        #expect(code.isSuccess || code == .validationFailure, "\(arguments): \(error)")
        #expect(code.isSuccess || !QuantKernelsTool.fullMessage(for: error).isEmpty)
      }
    }
  }
}
