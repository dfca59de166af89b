import QuantKernels
import TestSupport
import Testing

/// `g_idx` and the permutations that come of it.
@Suite struct GroupIndicesTests {
  private func refusal(_ body: () throws -> Void) -> QuantError? {
    do { try body() } catch { return error as? QuantError }
    return nil
  }

  /// A stable sort: a permutation, groups in order, inputs of a group in theirs, and an inverse.
  @Test(arguments: [(32, 32), (128, 32), (896, 32), (1024, 128), (28672, 128)])
  func sortsByGroup(inputs: Int, group: Int) throws {
    var random = RepeatableRandom(seed: UInt64(inputs))
    let raw = ActOrderCase.shuffledIndices(inputs, group: group, using: &random)
    let indices = try GroupIndices(raw, inputs: inputs, groups: inputs / group)
    let order = indices.order.order
    #expect(order.sorted() == (0..<Int32(inputs)).map { $0 })
    let expected = raw.indices.sorted { (raw[$0], $0) < (raw[$1], $1) }
    #expect(order == expected.map { Int32($0) })
    #expect(order.map { raw[Int($0)] } == raw.sorted())
    let inverse = indices.order.inverse
    #expect((0..<inputs).allSatisfy { order[Int(inverse.order[$0])] == Int32($0) })
    #expect((0..<inputs).allSatisfy { inverse.order[Int(order[$0])] == Int32($0) })
    #expect(indices.isOrdered == (inputs == group))
    #expect(GroupIndices.switches(raw.sorted()) == inputs / group)
  }

  @Test func badIndices() {
    let good = (0..<128).map { Int32($0 / 32) }
    func code(_ indices: [Int32], inputs: Int = 128, groups: Int = 4) -> QuantError? {
      refusal { _ = try GroupIndices(indices, inputs: inputs, groups: groups) }
    }
    #expect(code(good) == nil)
    #expect(code(Array(good.dropLast()))?.code == .invalidData)
    #expect(code(good + [3])?.code == .invalidData)
    for bad in [Int32(-1), 4, .max, .min] {
      var wrong = good
      wrong[17] = bad
      #expect(code(wrong)?.code == .invalidData, "\(bad)")
    }
    var uneven = good
    uneven[0] = 1
    #expect(code(uneven)?.code == .unsupported)
    let zeros = code([Int32](repeating: 0, count: 128))
    #expect(zeros?.problem.contains("all zeros") == true)
    #expect(code([Int32](repeating: 0, count: 128), groups: 1) == nil)
    // A rank's slice of a larger layer.
    for offset in [Int32(1), 4, 100] {
      let slice = code(good.map { $0 + offset })
      #expect(slice?.code == .invalidData && slice?.problem.contains("slice") == true)
    }
    // A slice within the groups: some have no inputs.
    #expect(code((0..<128).map { Int32(2 + $0 / 64) }) != nil)
    #expect(code(good, groups: 3)?.code == .unsupported)
    for (inputs, groups) in [(0, 1), (128, 0), (-1, 1), (128, -4)] {
      #expect(code(good, inputs: inputs, groups: groups) != nil)
    }
    #expect(code([Int32](repeating: 0, count: 100), inputs: 100, groups: 3)?.code == .unsupported)
  }

  @Test func badPermutations() {
    for bad in [[Int32(0), 0], [1, 2], [-1, 0], [0, 1, 1], [.max]] {
      #expect(refusal { _ = try Permutation(bad) }?.code == .invalidArgument)
    }
    #expect(refusal { _ = try Permutation([]) } == nil)
    #expect(refusal { _ = try Permutation([2, 0, 1]) } == nil)
  }

  @Test func checksumsTellOrdersApart() throws {
    let one = try Permutation([0, 1, 2, 3])
    let other = try Permutation([0, 1, 3, 2])
    #expect(one.checksum != other.checksum && one.checksum == Permutation.identity(4).checksum)
    #expect(one.isIdentity && !other.isIdentity)
  }

  /// X · deq(W) = X[:, P] · deq(W[P, :]): exactly on integers.
  @Test func sortedWeightsAreTheSameLayer() throws {
    let example = TensorParallelSchemesTests.integers[0]
    let layer = example.up
    let expected = layer.product(example.x.map(Double.init), count: ActOrderCase.rows)
    let found = try PackedWeights(layer.matrix()).matmul(example.x, arithmetic: .exact)
    #expect(found.map(Double.init) == expected)
  }
}
