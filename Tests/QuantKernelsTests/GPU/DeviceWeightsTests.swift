import DeviceModel
import QuantKernels
import TestSupport
import Testing

/// The orders of weights, scales and zero points in simulated memory.
@Suite struct DeviceWeightsTests {
  /// Each value has a place of its own, and the places fill the layout.
  @Test(arguments: [4, 16])
  func laneOrderedGroupsAreABijection(elementBits: Int) throws {
    let layout = try InterleavedLayout.laneOrderedGroups(
      rows: 192, groups: 3, elementBits: elementBits)
    var places = Set<Int>()
    for n in 0..<192 {
      for group in 0..<3 {
        let bit = layout.bitOffset(row: n, column: group)
        places.insert(bit)
        // Written out: n-tile fastest, then lane group, then warp, then quantization group.
        let wanted = ((group * 192 + n / 64 * 64) + n % 8 * 8 + n % 64 / 8) * elementBits
        #expect(bit == wanted)
      }
    }
    #expect(places.count == 192 * 3)
    #expect(layout.byteCount == 192 * 3 * elementBits / 8)
  }

  /// The improved order's codes are QUICK's words, moved.
  @Test func improvedWordsAreQuicks() throws {
    let quick = try Int4DeviceWeights(zeros: .quick, rows: 256, columns: 64, groupSize: 32)
    let ours = try Int4DeviceWeights(zeros: .quickImproved, rows: 256, columns: 64, groupSize: 32)
    let permutation = try #require(quick.codes.wordPermutation(to: ours.codes))
    #expect(Set(permutation).count == 256 * 64 / 8)
  }

  @Test func paddingIsWhole() throws {
    let weights = try Int4DeviceWeights(zeros: .awq, rows: 130, columns: 40, groupSize: 40)
    #expect(weights.paddedRows == 256 && weights.paddedColumns == 64 && weights.groups == 1)
    #expect(weights.codes.byteCount == 256 * 64 / 2)
  }

  /// A run on the CPU has a time and no counters, one on a device the reverse.
  @Test func runsSayWhatTheyAre() throws {
    let test = try GemmCase(count: 2, rows: 128, columns: 64, groupSize: 32)
    let cpu = try test.matrix.matmul(test.x, on: .cpu)
    #expect(cpu.counters == nil && cpu.measured != nil && cpu.laneAccessesPerSecond == nil)
    #expect(cpu.output == (try test.matrix.matmul(test.x)))
    let gpu = try test.matrix.matmul(test.x, on: .gpu(kernel: .quick))
    #expect(gpu.counters != nil && gpu.measured == nil && gpu.laneAccessesPerSecond != nil)
    #expect(gpu.launches.map(\.kernel) == ["QUICK GEMM, 16 rows", "split-K sum"])
  }
}
