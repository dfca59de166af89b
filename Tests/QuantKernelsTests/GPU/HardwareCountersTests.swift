import DeviceModel
import Foundation
import QuantKernels
import Testing

/// The simulated loops' counters beside those that a profiler read of our CUDA loops on a real GPU
/// (`Benchmarks/hardware/results`; the loops share the data paths, not the code).
@Suite struct HardwareCountersTests {
  private struct Record: Decodable {
    struct Loop: Decodable {
      let kernel: String
      let m: Int
      let n: Int
      let k: Int
      let counters: [String: Double]
    }
    let loopCounters: [Loop]
  }

  private static let records: [Record] = {
    let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent()
      .appending(path: "Benchmarks/hardware/results")
    let found = try? FileManager.default.contentsOfDirectory(
      at: folder, includingPropertiesForKeys: nil)
    return (found ?? []).filter { $0.pathExtension == "json" }.compactMap {
      try? JSONDecoder().decode(Record.self, from: Data(contentsOf: $0))
    }
  }()

  /// The simulated kernels take tiles of 16 rows (AWQ) or of all rows to 64 (QUICK).
  @Test(
    .enabled(if: !records.isEmpty, "no run on a GPU is recorded"),
    arguments: [
      ("awq-16", GPUKernel.awq, 16), ("awq-16", .awq, 64), ("quick-16", .quick, 16),
      ("quick-64", .quick, 64),
    ])
  func loopCountsWhatTheProfilerCounts(_ name: String, kernel: GPUKernel, rows: Int) throws {
    for record in Self.records {
      guard let loop = record.loopCounters.first(where: { $0.kernel == name && $0.m == rows })
      else { continue }
      let run = try Int4Matrix.countMatmul(
        count: rows, rows: loop.n, columns: loop.k, groupSize: 128,
        on: SimulatedGPU(.h100, kernel: kernel, splits: 8))
      let counters = try #require(run.counters)
      func counted(_ key: String) throws -> Double { try #require(loop.counters[key]) }

      // Loads of global memory, sector by sector. The profiler counts loads only.
      let stores = counters.site("store C").global
      #expect(
        Double(counters.globalMemory.sectors - stores.sectors) == (try counted("globalSectors")))
      #expect(
        Double(counters.globalMemory.requests - stores.requests) == (try counted("globalRequests")))

      // The profiler's wavefronts and conflicts hold some arbitration with other traffic as well:
      // never fewer than the rule's, and up to a tenth more.
      let wavefronts = try counted("wavefronts") / Double(counters.sharedMemory.wavefronts)
      #expect(wavefronts >= 1 && wavefronts < 1.1, "\(name), m \(rows): \(wavefronts)")
      let storeConflicts =
        try counted("storeConflicts") / Double(counters.site("store A").shared.conflicts)
      #expect(storeConflicts >= 1 && storeConflicts < 1.6, "\(name), m \(rows): \(storeConflicts)")
    }
  }
}
