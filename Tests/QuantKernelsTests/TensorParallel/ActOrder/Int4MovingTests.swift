import QuantKernels
import TestSupport
import Testing

/// Permutations and shards of packed tensors: the same as unpacking, moving and packing again.
@Suite struct Int4MovingTests {
  private static func tensors(
    _ format: Int4Tensors.Format, rows: Int = 256, columns: Int = 256, hasOrder: Bool = false
  ) throws -> Int4Tensors {
    let zeros: ClosedRange<UInt8>? =
      switch format {
      case .awq, .gptqV2, .quick: 0...15
      case .gptq: 1...16
      case .marlin: nil
      }
    let matrix = try Int4TensorsTests.random(
      rows: rows, columns: columns, groupSize: 64, zeros: zeros, seed: 11)
    guard hasOrder else { return try matrix.tensors(format) }
    var random = RepeatableRandom(seed: 12)
    return try Int4Matrix(
      rows: rows, columns: columns, groupSize: 64, codes: matrix.codes, scales: matrix.scales,
      offsets: matrix.offsets,
      inputPermutation: GroupIndices(
        ActOrderCase.shuffledIndices(columns, group: 64, using: &random), inputs: columns,
        groups: columns / 64
      ).order.order
    ).tensors(format)
  }

  @Test(arguments: Int4Tensors.Format.allCases)
  func outputsMoveInPlace(format: Int4Tensors.Format) throws {
    var random = RepeatableRandom(seed: 13)
    let order = try Permutation((0..<256).map { Int32($0) }.shuffled(using: &random))
    for hasOrder in format == .gptq || format == .gptqV2 ? [false, true] : [false] {
      let tensors = try Self.tensors(format, hasOrder: hasOrder)
      let moved = try tensors.permutingOutputs(order)
      let expected = try Int4Matrix(tensors).permutingRows(order.order).tensors(format)
      #expect(moved.weights == expected.weights && moved.scales == expected.scales)
      #expect(moved.zeroPoints == expected.zeroPoints && moved.groupIndices == tensors.groupIndices)
      #expect(try moved.permutingOutputs(order.inverse) == tensors)
      #expect(try tensors.permutingOutputs(.identity(256)) == tensors)
    }
    #expect(throws: QuantError.self) {
      try Self.tensors(format).permutingOutputs(.identity(255))
    }
  }

  @Test(arguments: [Int4Tensors.Format.gptq, .gptqV2])
  func inputsAreSortedInPlace(format: Int4Tensors.Format) throws {
    let tensors = try Self.tensors(format, hasOrder: true)
    let (sorted, order) = try tensors.sortingInputs()
    let matrix = try Int4Matrix(tensors)
    #expect(order?.order == matrix.inputPermutation && sorted.groupIndices == nil)
    let plain = try Int4Matrix(sorted)
    #expect(plain.codes == matrix.codes && plain.scales == matrix.scales)
    #expect(plain.offsets == matrix.offsets && plain.inputPermutation == nil)
    let plainTensors = try Self.tensors(format)
    #expect(try plainTensors.sortingInputs().order == nil)
    #expect(try plainTensors.sortingInputs().tensors == plainTensors)
  }

  @Test(arguments: Int4Tensors.Format.allCases)
  func shardsAreThoseOfTheMatrix(format: Int4Tensors.Format) throws {
    let rows = format == .quick ? 512 : 256
    let tensors = try Self.tensors(format, rows: rows)
    let matrix = try Int4Matrix(tensors)
    for ranks in [1, 2, 4] {
      for rank in 0..<ranks {
        #expect(
          try tensors.outputShard(rank: rank, ranks: ranks)
            == matrix.outputShard(rank: rank, ranks: ranks).tensors(format))
        #expect(
          try tensors.inputShard(rank: rank, ranks: ranks)
            == matrix.inputShard(rank: rank, ranks: ranks).tensors(format))
      }
    }
    for (rank, ranks) in [(0, 0), (0, -1), (2, 2), (-1, 2), (0, 3), (0, 512), (0, 8192)] {
      #expect(throws: QuantError.self) { try tensors.inputShard(rank: rank, ranks: ranks) }
      #expect(throws: QuantError.self) { try matrix.inputShard(rank: rank, ranks: ranks) }
      #expect(throws: QuantError.self) { try tensors.outputShard(rank: rank, ranks: ranks * 5) }
    }
    // Groups of 64 over eight ranks of 32 inputs.
    #expect(throws: QuantError.self) { try tensors.inputShard(rank: 0, ranks: 8) }
  }

  @Test func unsortedInputsHaveNoShards() throws {
    let tensors = try Self.tensors(.gptq, hasOrder: true)
    let error = #expect(throws: QuantError.self) { try tensors.inputShard(rank: 0, ranks: 2) }
    #expect(error?.problem.contains("not sorted") == true)
  }

  /// Local sort: the rank's own inputs, each with its weight and the scale of its group.
  @Test(arguments: [1, 2, 4, 8])
  func locallySortedShardsHoldTheirInputs(ranks: Int) throws {
    let matrix = try Int4Matrix(Self.tensors(.gptq, rows: 16, hasOrder: true))
    let place = Permutation.identity(256).order.map { input in
      matrix.inputPermutation?.firstIndex(of: input) ?? -1
    }
    for rank in 0..<ranks {
      let (shard, inputs) = try matrix.locallySortedShard(rank: rank, ranks: ranks)
      #expect(inputs.count == shard.columns && shard.columns % 32 == 0)
      #expect(inputs.filter { $0 >= 0 }.sorted() == (0..<Int32(256 / ranks)).map { $0 })
      for (column, input) in inputs.enumerated() where input >= 0 {
        let stored = place[rank * 256 / ranks + Int(input)]
        for row in 0..<16 { #expect(shard[row, column] == matrix[row, stored]) }
      }
    }
  }
}
