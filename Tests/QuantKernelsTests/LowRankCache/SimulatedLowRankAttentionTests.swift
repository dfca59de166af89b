import DeviceModel
import TestSupport
import Testing

@testable import QuantKernels

@Suite struct SimulatedLowRankAttentionTests {
  typealias Case = DeviceLowRankCase

  /// Groups of every size, several queries a head, both rotary styles, part of a head turned, biases,
  /// ranks and lengths in and beside the tiles, windows that begin elsewhere.
  static let cases: [Case] = [
    Case(heads: 4, width: 128, group: 4, rank: 64, positions: 129),
    Case(heads: 4, width: 128, group: 4, rank: 256, positions: 33, style: .interleaved),
    Case(heads: 2, width: 128, group: 1, rank: 64, positions: 65),
    Case(heads: 4, queriesPerHead: 3, width: 64, group: 2, rank: 37, positions: 200, bias: true),
    Case(
      heads: 2, queriesPerHead: 4, width: 80, group: 2, rank: 100, positions: 1, rotary: 40,
      bias: true),
    Case(heads: 3, width: 16, group: 3, rank: 1, positions: 17),
    Case(heads: 2, width: 10, group: 1, rank: 7, positions: 70, style: .interleaved),
    Case(heads: 2, queriesPerHead: 2, width: 32, group: 2, rank: 40, positions: 128, rotary: 0),
    Case(heads: 2, width: 9, group: 2, rank: 18, positions: 40, rotary: 0, bias: true),
    // More latents than 64 or 32 positions leave room for.
    Case(heads: 8, width: 128, group: 8, rank: 700, positions: 70),
    Case(heads: 8, width: 96, group: 8, rank: 520, positions: 40, bias: true, type: .fourBit),
    Case(heads: 4, width: 128, group: 4, rank: 352, positions: 100, type: .threeBit),
    Case(heads: 4, queriesPerHead: 2, width: 64, group: 4, rank: 129, positions: 77, type: .twoBit),
    Case(heads: 2, width: 64, group: 2, rank: 31, positions: 130, bias: true, type: .fourBit),
    Case(
      heads: 2, width: 64, group: 2, rank: 45, positions: 16, style: .interleaved, type: .threeBit),
    Case(heads: 2, width: 32, group: 2, rank: 50, positions: 300, rotary: 0, type: .fourBit),
  ]

  /// Halves of probabilities, sums and results: a few units of 2⁻¹¹.
  @Test(arguments: LowRankGPUKernel.allCases, cases)
  func isAttentionByDefinition(_ kernel: LowRankGPUKernel, _ test: Case) throws {
    // Dense keys are rebuilt from the unquantized latents.
    if kernel == .dense, test.step.keyType.isPacked { return }
    let run = try test.run(kernel, checks: test.positions < 80)
    let error = Case.error(run.output, try test.reference())
    #expect(error <= (kernel == .paluGroup ? 1.5e-3 : 3e-3), "\(error)")
    #expect(run.estimate != nil)
  }

  /// Every length around a tile, both kernels; and a tail that Palu's own would read past.
  @Test(arguments: [LowRankGPUKernel.palu, .paluGroup], [LatentType.f16, .threeBit])
  func everyTail(_ kernel: LowRankGPUKernel, _ type: LatentType) throws {
    for positions in [1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257] {
      let test = Case(
        heads: 2, width: 32, group: 2, rank: 33, positions: positions, type: type)
      let error = Case.error(try test.run(kernel).output, try test.reference())
      #expect(error <= 3e-3, "\(positions): \(error)")
    }
  }

  /// A window that begins far out: our angles hold, float32 ones of Palu's kernel do not.
  @Test func farPositions() throws {
    let first = 1 << 20
    let test = Case(
      heads: 2, width: 128, group: 2, rank: 64, positions: 40, firstPosition: first - 40)
    let reference = try test.reference()
    let ours = Case.error(try test.run(.paluGroup).output, reference)
    #expect(ours <= 1.5e-3, "\(ours)")
    let palu = Case.error(try test.run(.palu).output, reference)
    #expect(palu > 2 * ours, "\(palu)")
    let frequencies = LowRankLayer.Rotary(dimension: 128).frequencies
    let fixed = RotaryPhases.fixedPoint(frequencies, magnitude: 1)
    let float = RotaryPhases.float32(frequencies, magnitude: 1)
    var worst = (fixed: 0.0, float: 0.0)
    for position in [0, 1, 2, 999, 65_535, 65_536, first - 1, first, 16_777_215] {
      for pair in frequencies.indices {
        let exact = frequencies[pair] * Double(position)
        func off(_ angle: Double) -> Double {
          let difference = (angle - exact) / (2 * .pi)
          return (difference - difference.rounded()).magnitude * 2 * .pi
        }
        worst.fixed = max(worst.fixed, off(fixed.angle(pair: pair, position: position)))
        worst.float = max(worst.float, off(float.angle(pair: pair, position: position)))
      }
    }
    #expect(worst.fixed <= 1e-8, "\(worst.fixed)")
    #expect(worst.float > 1e-3, "\(worst.float)")
  }

  /// Without a rotary embedding queries meet latents as they are, and both kernels are one.
  @Test func withoutRotaryNothingIsRebuilt() throws {
    let test = Case(heads: 4, width: 64, group: 4, rank: 96, positions: 100, rotary: 0)
    let run = try test.run(.palu)
    #expect(run.launches.map(\.kernel).contains("latent scores"))
    #expect(!run.launches.map(\.kernel).contains { $0.hasSuffix("rebuild") })
    #expect(run.output == (try test.run(.paluGroup).output))
  }

  /// The same bits on every device, whose numbers of splits may differ by rounding alone.
  @Test func devices() throws {
    let test = Case(heads: 4, width: 64, group: 2, rank: 64, positions: 300, type: .fourBit)
    let reference = try test.reference()
    for device in DeviceSpec.all where device.capability.value >= 8 {
      for kernel in [LowRankGPUKernel.palu, .paluGroup] {
        #expect(Case.error(try test.run(kernel, on: device).output, reference) <= 3e-3)
      }
    }
  }

  // MARK: Counters

  static let counted: [LowRankDecodeShape] = {
    var shapes: [LowRankDecodeShape] = []
    for type in [LatentType.f16, .fourBit, .threeBit, .twoBit] {
      for (queries, heads, group, rank) in [(8, 8, 4, 256), (16, 4, 2, 128), (4, 4, 1, 64)] {
        if let shape = try? LowRankDecodeShape(
          positions: 1024, queryHeads: queries, keyValueHeads: heads, headDimension: 128,
          headsPerGroup: group, keyRank: rank, valueRank: rank, keyType: type)
        {
          shapes.append(shape)
        }
      }
    }
    return shapes
  }()

  private func part(
    _ step: SimulatedLowRankAttention, _ name: String
  ) throws -> Counters {
    try #require(step.parts.first { $0.name == name }).counters
  }

  private func bytes(_ counters: Counters, _ names: String...) -> Int {
    counters.sites.reduce(0) { $0 + (names.contains($1.name) ? $1.global.bytes : 0) }
  }

  /// Bytes and multiply-accumulates are the formulas': latents once a group for ours, once a query head
  /// for Palu's.
  @Test(arguments: counted)
  func countersAreFormulas(_ shape: LowRankDecodeShape) throws {
    #expect(Self.counted.count == 12)
    let cost = shape.cost
    let keyBytes = shape.positions * shape.groups * shape.keyType.bytes(width: shape.keyRank)
    let rebuild = shape.positions * cost.rebuildMultipliesPerToken
    let group = try SimulatedLowRankAttention.count(.paluGroup, shape: shape, on: .rtx4090)
    let ours = try part(group, "group rebuild")
    #expect(bytes(ours, "latent load", "scale load") == keyBytes)
    #expect(ours.matrixInstructionCount * 2048 == rebuild)
    let palu = try SimulatedLowRankAttention.count(.palu, shape: shape, on: .rtx4090)
    let theirs = try part(palu, "palu rebuild")
    #expect(
      bytes(theirs, "latent load", "scale load") == shape.queriesPerGroup * keyBytes)
    #expect(theirs.matrixInstructionCount * 2048 == shape.queriesPerHead * rebuild)
    // Sums: once a group in both; a tensor instruction has sixteen rows whatever it needs.
    for step in [group, palu] {
      let sums = try part(step, "latent sums")
      #expect(
        bytes(sums, "latent load", "scale load")
          == shape.positions * shape.groups * shape.valueType.bytes(width: shape.valueRank))
      let rows = (shape.queriesPerGroup + 15) / 16 * 16
      #expect(
        sums.matrixInstructionCount * 2048 * shape.queriesPerGroup / rows
          == shape.positions * cost.valueMultipliesPerToken)
      // Whole cache, scales counted.
      #expect(
        bytes(sums, "latent load", "scale load") + keyBytes
          == shape.positions * cost.bytesPerToken)
    }
    let dense = try SimulatedLowRankAttention.count(.dense, shape: shape, on: .rtx4090)
    #expect(
      bytes(try part(dense, "latent scores"), "latent load")
        + bytes(try part(dense, "latent sums"), "latent load")
        == shape.positions * cost.denseBytesPerToken)
    // Nothing of the cache's length but scores and sums of splits is written.
    for step in [group, palu, dense] {
      for part in step.parts
      where !["latent sums", "split sums", "late up-projection"].contains(part.name) {
        #expect(
          part.counters.globalStores.bytes == 2 * shape.positions * shape.queryHeads,
          "\(part.name)")
      }
    }
    // Swizzled tiles: operands without conflicts.
    for counters in [ours, theirs] {
      for site in counters.sites where site.name.hasSuffix("operand") {
        #expect(site.shared.conflicts == 0, "\(site.name)")
      }
    }
  }

  /// Counting one block of each class is exactly what running everything counts.
  @Test(
    arguments: LowRankGPUKernel.allCases,
    cases + [
      Case(heads: 2, width: 64, group: 2, rank: 88, positions: 1000, type: .threeBit),
      Case(heads: 2, width: 64, group: 2, rank: 88, positions: 700),
      Case(heads: 8, width: 64, group: 8, rank: 300, positions: 600, type: .twoBit),
    ])
  func countingIsRunning(_ kernel: LowRankGPUKernel, _ test: Case) throws {
    // A bias is not counted: without one.
    var plain = test
    plain.step.hasBias = false
    let run = try plain.run(kernel)
    let counted = try SimulatedLowRankAttention.count(
      kernel, shape: try plain.shape(), on: .rtx4090)
    #expect(run.launches.map(\.kernel) == counted.parts.map(\.name))
    for (launch, part) in zip(run.launches, counted.parts) {
      for (a, b) in zip(launch.counters.sites, part.counters.sites) {
        #expect(a.shared == b.shared, "\(part.name) \(a.name)")
        #expect(a.global == b.global, "\(part.name) \(a.name)")
      }
      #expect(launch.counters.matrixInstructions == part.counters.matrixInstructions)
      #expect(launch.counters.instructions == part.counters.instructions, "\(part.name)")
      #expect(launch.counters.barriers == part.counters.barriers, "\(part.name)")
      #expect(launch.counters.blocks == part.counters.blocks)
    }
    #expect(run.estimate?.microseconds == (try counted.estimate().microseconds))
  }

  /// Memory beside the caches does not depend on the kernels' rebuilt keys: there is none for them.
  @Test func paddedWorkIsStated() throws {
    // 37 latents of 64: the tensor cores do the padding too.
    let shape = try LowRankDecodeShape(
      positions: 100, queryHeads: 2, headDimension: 64, headsPerGroup: 2, keyRank: 37,
      valueRank: 37)
    let step = try SimulatedLowRankAttention.count(.paluGroup, shape: shape, on: .rtx4090)
    #expect(
      try part(step, "group rebuild").matrixInstructionCount * 2048 == 128 * 64 * 64 * 2)
  }

  // MARK: Balance

  /// Rebuilding wins over whole keys of 16 bits only on devices whose arithmetic is worth more bytes
  /// than it takes: 256·(s/4) FLOP for each byte of a whole key at 50 % even if nothing else took
  /// time, which a device of less cannot have, whatever its other numbers.
  @Test(arguments: [1, 2, 4])
  func rebuildingNeedsItsBalance(_ group: Int) throws {
    let shape = try LowRankDecodeShape(
      positions: 16_384, queryHeads: 32, headDimension: 128, headsPerGroup: group,
      keyRank: 64 * group, valueRank: 64 * group)
    let bound = Double(256 * group) / 4
    #expect(shape.cost.rebuildBalance == 2 * bound)
    let kernels = try LowRankGPUKernel.allCases.map {
      try SimulatedLowRankAttention.count($0, shape: shape, on: .rtx4090)
        .only(SimulatedLowRankAttention.scoreParts)
    }
    var wins = 0
    for base in DeviceSpec.all where base.capability.value >= 8 {
      for compute in [0.25, 0.5, 1, 2, 4] {
        for bandwidth in [0.25, 0.5, 1, 2, 4] {
          let device = base.scaled(compute: compute, bandwidth: bandwidth)
          let times = try kernels.map { try $0.moved(to: device).estimate().microseconds }
          for rebuilt in [times[1], times[2]] where rebuilt < times[0] {
            wins += 1
            #expect(
              device.flopPerByte > bound, "\(device.identifier) ×\(compute) ×\(bandwidth)")
          }
        }
      }
    }
    #expect(wins > 0)
  }

  // MARK: Bad input

  private func code(_ body: () throws -> Void) -> QuantError.Code? {
    do {
      try body()
      return nil
    } catch let error as QuantError {
      return error.code
    } catch {
      Issue.record("\(error)")
      return nil
    }
  }

  @Test func shapesThatCannotBe() {
    func shape(
      positions: Int = 10, first: Int = 0, queries: Int = 4, heads: Int? = 4, width: Int = 8,
      group: Int = 2, rank: Int = 8, type: LatentType = .f16, rotary: Int? = nil
    ) -> QuantError.Code? {
      code {
        _ = try LowRankDecodeShape(
          positions: positions, firstPosition: first, queryHeads: queries, keyValueHeads: heads,
          headDimension: width, headsPerGroup: group, keyRank: rank, valueRank: rank,
          keyType: type, rotaryDimension: rotary)
      }
    }
    #expect(shape() == nil)
    for positions in [0, -1, Int.max, 1 << 25] {
      #expect(shape(positions: positions) == .invalidArgument)
    }
    #expect(shape(first: -1) == .invalidArgument)
    #expect(shape(first: .max) == .invalidArgument)
    #expect(shape(queries: 5) == .invalidArgument)
    #expect(shape(queries: 0) == .invalidArgument)
    #expect(shape(heads: 0) == .invalidArgument)
    #expect(shape(queries: .max, heads: .max) == .invalidArgument)
    for group in [0, -1, 3, 8, Int.max] { #expect(shape(group: group) == .invalidArgument) }
    for rank in [0, -1, 17, Int.max] { #expect(shape(rank: rank) == .invalidArgument) }
    #expect(shape(width: 9) == .invalidArgument)
    #expect(shape(width: 9, rotary: 0) == nil)
    #expect(shape(width: 0) == .invalidArgument)
    #expect(shape(rotary: 10) == .invalidArgument)
    #expect(shape(width: 256) == .unsupported)
    #expect(shape(queries: 512, heads: 4) == .unsupported)
    #expect(shape(type: .eightBit) == .unsupported)
    #expect(shape(type: .f32) == .unsupported)
  }

  @Test func contentsThatCannotBe() throws {
    let test = Case(heads: 2, width: 16, group: 2, rank: 8, positions: 5)
    let latents = try test.latents(.key)
    func run(
      queries: Int, keys: [Float]? = nil, values: [Float]? = nil, scale: Float? = nil,
      rotary: LowRankLayer.Rotary?? = nil, layer: Int = 0, device: DeviceSpec = .rtx4090
    ) -> QuantError.Code? {
      code {
        _ = try SimulatedLowRankAttention.run(
          .paluGroup, factors: test.step.factors(), layer: layer,
          rotary: rotary ?? test.step.rotary, queries: Array(repeating: 1, count: queries),
          keyLatents: keys ?? latents, valueLatents: values ?? latents, scale: scale, on: device)
      }
    }
    #expect(run(queries: 32) == nil)
    #expect(run(queries: 31) == .invalidArgument)
    #expect(run(queries: 32, keys: []) == .invalidArgument)
    #expect(run(queries: 32, keys: Array(latents.dropLast())) == .invalidArgument)
    #expect(run(queries: 32, values: Array(latents.dropLast(8))) == .invalidArgument)
    #expect(run(queries: 32, scale: .nan) == .invalidArgument)
    #expect(run(queries: 32, rotary: .some(nil)) == .invalidArgument)
    #expect(run(queries: 32, layer: 1) == .invalidArgument)
    #expect(run(queries: 32, device: .v100) == .unsupported)
    for bad in [Float.nan, .infinity, 1e6] {
      var keys = latents
      keys[3] = bad
      #expect(run(queries: 32, keys: keys) == .invalidData)
    }
    // Past a device's shared memory: refused, and nothing runs.
    let wide = try LowRankDecodeShape(
      positions: 64, queryHeads: 32, headDimension: 128, headsPerGroup: 32, keyRank: 4096,
      valueRank: 64)
    #expect(
      code { _ = try SimulatedLowRankAttention.count(.paluGroup, shape: wide, on: .rtx4090) }
        == .unsupported)
    #expect(
      code { _ = try SimulatedLowRankAttention.count(.paluGroup, shape: wide, on: .h100) } == nil)
    // Past 4 GiB of a buffer.
    let huge = try LowRankDecodeShape(
      positions: 1 << 24, queryHeads: 32, headDimension: 128, headsPerGroup: 4, keyRank: 256,
      valueRank: 256)
    #expect(
      code { _ = try SimulatedLowRankAttention.count(.palu, shape: huge, on: .h100) }
        == .invalidArgument)
  }
}
