import DeviceModel
import QuantKernels
import TestSupport
import Testing

@Suite("Counters of attention on a simulated NPU")
struct NPUAttentionCountersTests {
  private func count(
    _ shape: NPUAttentionShape, _ options: NPUAttentionOptions, on spec: NPUSpec = .ascend910b2
  ) throws -> NPURun {
    try #require(try NPUAttention.count(shape, options: options, on: spec).npu)
  }

  private func square(_ length: Int, heads: Int = 1, keyValueHeads: Int? = nil) -> NPUAttentionShape
  {
    NPUAttentionShape(
      queryLength: length, keyLength: length, heads: heads, keyValueHeads: keyValueHeads,
      headDimension: 128)
  }

  @Test(
    "Counting equals the run with values: counters, operations and time", arguments: NPUSpec.all)
  func countingIsRunning(spec: NPUSpec) throws {
    // Few cores, so that each has several tiles.
    var spec = spec
    spec.cores = Sourced(3, .assumed("a test"))
    let shape = NPUAttentionShape(
      queryLength: 75, keyLength: 200, heads: 6, keyValueHeads: 2, headDimension: 24)
    let attention = NPUAttentionCase(shape)
    for mask in [
      TileMask.none, try TileMask(isCausal: true, offset: 125),
      try TileMask(isCausal: true, offset: -20, leftWindow: 40),
    ] {
      for var options in NPUAttentionOptions.all(mask, firstLevelKeys: 64, secondLevelKeys: 16) {
        options.blockRows = 32
        let run = try #require(try attention.run(options, on: spec).npu)
        let counted = try count(shape, options, on: spec)
        let label = "\(spec.identifier) \(options.kernel) \(options.maskMode) \(mask)"
        #expect(run.counters == counted.counters, "\(label)")
        #expect(run.report.peakBytes == counted.report.peakBytes, "\(label)")
        #expect(run.report.workspaceBytes == counted.report.workspaceBytes, "\(label)")
        for (all, one) in zip(run.report.launches, counted.report.launches) {
          #expect(all.coresUsed == one.coresUsed && all.programs.count == all.coresUsed)
          #expect(one.programs.count == 1 && all.programs.contains(one.programs[0]), "\(label)")
          #expect(all.regions == one.regions)
        }
        // The core with the most work is the slowest, or nearly so.
        let times = (run.estimate.microseconds, counted.estimate.microseconds)
        #expect(times.1 <= times.0 && times.1 >= 0.9 * times.0, "\(label): \(times)")
        // Skipped repetitions change no time.
        for report in [run.report, counted.report] {
          let walked = try NPUEstimate(report, on: spec, skipsRepetitions: false)
          let skipped = try NPUEstimate(report, on: spec)
          #expect(walked.microseconds == skipped.microseconds, "\(label)")
          for (a, b) in zip(walked.kernels, skipped.kernels) {
            #expect(a.busyCycles == b.busyCycles)
          }
        }
      }
    }
  }

  @Test("Skipping repetitions changes no time at lengths where it skips most")
  func longRepetitions() throws {
    for options in [
      NPUAttentionOptions(firstLevelKeys: 256),
      NPUAttentionOptions(mask: try TileMask(isCausal: true), firstLevelKeys: 256),
      NPUAttentionOptions(kernel: .unified), NPUAttentionOptions(kernel: .unfused),
    ] {
      for spec in NPUSpec.all {
        let run = try count(square(8192, heads: 4), options, on: spec)
        let walked = try NPUEstimate(run.report, on: spec, skipsRepetitions: false)
        #expect(walked.microseconds == run.estimate.microseconds, "\(options.kernel)")
      }
    }
  }

  @Test("Hand-overs 3·⌈visible/N₁⌉ and rescales ⌈visible/N₁⌉ − 1 a tile, both alignments, windows")
  func handOvers() throws {
    let shape = NPUAttentionShape(
      queryLength: 700, keyLength: 1500, heads: 6, keyValueHeads: 2, headDimension: 64)
    for mask in [
      TileMask.none, try TileMask(isCausal: true, offset: 800),
      try TileMask(isCausal: true, offset: 0), try TileMask(isCausal: true, offset: -300),
      try TileMask(isCausal: true, offset: 800, leftWindow: 257),
    ] {
      for first in [128, 256, 512, 1024] {
        var handOvers = 0
        var rescales = 0
        // 3 heads a group: tiles of 42 positions.
        for start in stride(from: 0, to: 700, by: 42) {
          let rows = start..<min(700, start + 42)
          let seen = (0..<1500).filter { key in
            rows.contains { !mask.isMasked(row: $0, key: key) }
          }
          guard let low = seen.first, let high = seen.last else { continue }
          // Blocks of 128 are computed whole.
          let visible = min(1500, (high / 128 + 1) * 128) - low / 128 * 128
          handOvers += 2 * FirstLevelCost.handOvers(visibleKeys: visible, firstLevelKeys: first)
          rescales += 2 * FirstLevelCost.rescales(visibleKeys: visible, firstLevelKeys: first)
        }
        for spec in NPUSpec.all {
          let run = try count(
            shape,
            NPUAttentionOptions(
              mask: mask, firstLevelKeys: first,
              blockRows: spec.coupling == .coupled ? 126 : nil), on: spec.withRoom)
          #expect(run.counters.handOvers == handOvers)
          #expect(run.counters.marks["rescales"] ?? 0 == rescales)
          // Scores and products: one flag each, probabilities: one a vector unit.
          let units = spec.coupling == .split ? 2 : 1
          #expect(run.counters.flags == handOvers / 3 * (2 + units))
        }
      }
    }
  }

  @Test("The table of §3.3: hand-overs of a tile without a mask")
  func publishedTable() throws {
    let table = [
      1024: [24, 12, 6, 3, 3], 8192: [192, 96, 48, 24, 12], 65536: [1536, 768, 384, 192, 96],
      131_072: [3072, 1536, 768, 384, 192],
    ]
    for (keys, wanted) in table {
      for (first, handOvers) in zip([128, 256, 512, 1024, 2048], wanted) {
        #expect(
          FirstLevelCost.handOvers(visibleKeys: keys, firstLevelKeys: first) == handOvers)
        let shape = NPUAttentionShape(
          queryLength: 128, keyLength: keys, heads: 1, headDimension: 128)
        let run = try count(shape, NPUAttentionOptions(firstLevelKeys: first))
        #expect(run.counters.handOvers == handOvers)
      }
    }
  }

  @Test("Two-level to unified hand-overs are as N₀ to N₁")
  func ratio() throws {
    for spec in NPUSpec.all {
      let rows = spec.coupling == .split ? 128 : 64
      let unified = try count(
        square(4096), NPUAttentionOptions(kernel: .unified, blockRows: rows), on: spec)
      for first in [256, 512] where spec.coupling == .split || first == 256 {
        let two = try count(
          square(4096), NPUAttentionOptions(firstLevelKeys: first, blockRows: rows), on: spec)
        #expect(two.counters.handOvers * first == unified.counters.handOvers * 128)
        // The cube does the same.
        #expect(two.counters.cubeCycles == unified.counters.cubeCycles)
      }
    }
  }

  @Test(
    "Global bytes: queries and output once, keys and values once a tile and group, none skipped")
  func globalBytes() throws {
    for keyValueHeads in [8, 2, 1] {
      let shape = square(1024, heads: 8, keyValueHeads: keyValueHeads)
      let mask = try TileMask(isCausal: true)
      let run = try count(shape, NPUAttentionOptions(mask: mask))
      let reads = run.counters.regionReads
      #expect(reads["queries"] == 1024 * 8 * 128 * 2)
      #expect(run.counters.regionWrites["output"] == 1024 * 8 * 128 * 2)
      #expect(run.counters.regionWrites["rowSums"] == 1024 * 8 * 4)
      // Tiles of 128 / group positions for each key-value head; keys up to the next block of 128.
      let positions = 128 / (8 / keyValueHeads)
      var keys = 0
      for start in stride(from: 0, to: 1024, by: positions) {
        keys += (start + positions + 127) / 128 * 128
      }
      #expect(reads["keys"] == keys * keyValueHeads * 128 * 2)
      #expect(reads["values"] == reads["keys"])
      // Skipped halves: without the mask twice as much, but for the diagonal.
      let full = try count(shape, NPUAttentionOptions())
      #expect(
        full.counters.regionReads["keys"] == 1024 / positions * 1024 * keyValueHeads * 128 * 2)
    }
    // A window reads the keys it needs, whatever the length.
    for length in [4096, 65536] {
      let mask = try TileMask(isCausal: true, leftWindow: 1023)
      let run = try count(square(length), NPUAttentionOptions(mask: mask))
      #expect(
        run.counters.regionReads["keys"] == (length / 128 * 9 - (8 + 1) * 8 / 2) * 128 * 128 * 2)
    }
  }

  @Test("Exchange bytes a score are 12 + 8d/N₁; a coupled core exchanges none through memory")
  func exchange() throws {
    for width in [64, 128] {
      for first in [128, 256, 512, 1024] {
        let shape = NPUAttentionShape(
          queryLength: 512, keyLength: 4096, heads: 2, headDimension: width)
        let run = try count(shape, NPUAttentionOptions(firstLevelKeys: first))
        let names = ["scores", "probabilities", "products"]
        let bytes = names.reduce(0) {
          $0 + (run.counters.regionReads[$1] ?? 0) + (run.counters.regionWrites[$1] ?? 0)
        }
        let cost = FirstLevelCost(blockRows: 128, headDimension: width)
        #expect(
          Double(bytes)
            == cost.exchangeBytesPerScore(firstLevelKeys: first) * Double(2 * 512 * 4096))
      }
    }
    #expect(
      FirstLevelCost(blockRows: 128, headDimension: 128).exchangeBytesPerScore(firstLevelKeys: 128)
        == 20)
    let coupled = try count(square(2048), NPUAttentionOptions(), on: .ascend910a)
    #expect(coupled.report.workspaceBytes == 0)
    #expect(coupled.counters.regionReads["scores"] == nil)
    #expect(coupled.counters.bytes(.l0cToUB) > 0 && coupled.counters.bytes(.ubToL1) > 0)
    #expect(coupled.counters.bytes(.l0cToGlobal) == 0)
  }

  @Test("Workspace: 1.31 MiB a core by the formula, and no more at 128K than at 8K")
  func workspace() throws {
    let cost = FirstLevelCost(blockRows: 128, headDimension: 128)
    #expect(cost.workspaceBytes(firstLevelKeys: 512) == 3 * (128 * 512 * 6 + 128 * 128 * 4))
    #expect((3400...3600).contains(cost.cacheBound(cores: 24, cacheBytes: 192 << 20)))
    var found: Set<Int> = []
    for length in [8192, 131_072] {
      let run = try count(square(length), NPUAttentionOptions(firstLevelKeys: 512))
      found.insert(run.report.workspaceBytes)
    }
    #expect(found == [24 * cost.workspaceBytes(firstLevelKeys: 512)])
  }

  @Test("Mask bytes: none computed, (2M)² stored for tiling, never of the order of S², 1K to 1M")
  func maskBytes() throws {
    for length in [1024, 16384, 65536, 1 << 20] {
      let mask = try TileMask(isCausal: true)
      let computed = try count(square(length), NPUAttentionOptions(mask: mask))
      #expect(computed.counters.regionReads["mask"] == nil)
      #expect(!computed.report.launches[0].regions.contains { $0.name == "mask" })
      let tiling = try count(
        square(length), NPUAttentionOptions(mask: mask, maskMode: .tiling))
      let region = try #require(tiling.report.launches[0].regions.first { $0.name == "mask" })
      #expect(region.distinctBytes == 256 * 256)
      // Only the diagonal blocks of each tile look at it.
      #expect(tiling.counters.regionReads["mask"] == length / 128 * 128 * 128)
      guard length <= 65536 else { continue }
      let full = try count(square(length), NPUAttentionOptions(mask: mask, maskMode: .full))
      #expect(full.counters.regionReads["mask"] == length * length)
    }
  }

  @Test("Peak occupancy stays under each buffer's size; the sizes of §2 are filled")
  func occupancy() throws {
    for spec in NPUSpec.all {
      for width in [64, 128, 256] {
        let shape = NPUAttentionShape(
          queryLength: 1024, keyLength: 1024, heads: 1, headDimension: width)
        for kernel in NPUAttentionKernel.allCases {
          let run = try count(shape, NPUAttentionOptions(kernel: kernel), on: spec)
          for (memory, bytes) in run.report.peakBytes {
            #expect(bytes > 0 && bytes <= spec.capacity(memory), "\(memory)")
          }
        }
      }
    }
    let run = try count(square(1024), NPUAttentionOptions(firstLevelKeys: 512))
    #expect(run.report.peakBytes[.l0a] == 64 * 1024)
    #expect(run.report.peakBytes[.l0c] == 128 * 1024)
  }

  @Test("Tiles that do not fit are refused as unsupported, bad sizes as bad arguments")
  func refusals() throws {
    func code(
      _ options: NPUAttentionOptions, _ shape: NPUAttentionShape? = nil,
      on spec: NPUSpec = .ascend910b2
    ) -> QuantError.Code? {
      #expect(throws: QuantError.self) {
        try NPUAttention.count(shape ?? square(1024), options: options, on: spec)
      }?.code
    }
    // L0C: two halves of 128 × 256 sums are 256 KiB.
    #expect(code(NPUAttentionOptions(secondLevelKeys: 256)) == .unsupported)
    #expect(code(NPUAttentionOptions(firstLevelKeys: 128 * 128)) == .unsupported)
    #expect(code(NPUAttentionOptions(blockRows: 512)) == .unsupported)
    #expect(code(NPUAttentionOptions(firstLevelKeys: 1024), on: .ascend910a) == .unsupported)
    // N₀ > N₁, N₁ no multiple of N₀.
    #expect(code(NPUAttentionOptions(firstLevelKeys: 64)) == .invalidArgument)
    #expect(code(NPUAttentionOptions(firstLevelKeys: 192)) == .invalidArgument)
    #expect(code(NPUAttentionOptions(firstLevelKeys: 0)) == .invalidArgument)
    #expect(code(NPUAttentionOptions(firstLevelKeys: -128)) == .invalidArgument)
    #expect(code(NPUAttentionOptions(secondLevelKeys: 0)) == .invalidArgument)
    #expect(code(NPUAttentionOptions(secondLevelKeys: 24)) == .invalidArgument)
    #expect(code(NPUAttentionOptions(blockRows: 0)) == .invalidArgument)
    #expect(code(NPUAttentionOptions(slots: 0)) == .invalidArgument)
    #expect(code(NPUAttentionOptions(scale: .nan)) == .invalidArgument)
    #expect(code(NPUAttentionOptions(mask: try TileMask(chunk: 4))) == .unsupported)
    #expect(
      code(NPUAttentionOptions(kernel: .unfused, mask: try TileMask(isCausal: true)))
        == .unsupported)
    for (queries, keys, heads, keyValueHeads, width) in [
      (-1, 4, 1, 1, 8), (4, -1, 1, 1, 8), (4, 4, 0, 1, 8), (4, 4, 3, 2, 8), (4, 4, 2, 0, 8),
      (4, 4, 1, 1, 0), (4, 4, 1, 1, 257), (.max, 4, 1, 1, 8), (4, .max, 1, 1, 8),
      (4, 4, .max, 1, 8),
    ] {
      #expect(
        code(
          NPUAttentionOptions(),
          NPUAttentionShape(
            queryLength: queries, keyLength: keys, heads: heads, keyValueHeads: keyValueHeads,
            headDimension: width)) == .invalidArgument)
    }
    var none = NPUSpec.ascend910b2
    none.cores = Sourced(0, .assumed("a test"))
    #expect(code(NPUAttentionOptions(), on: none) != nil)
    none = .ascend910b2
    none.l1Bytes = Sourced(0, .assumed("a test"))
    #expect(code(NPUAttentionOptions(), on: none) != nil)
    none = .ascend910b2
    none.ubBytes = Sourced(100_000, .assumed("a test"))
    #expect(code(NPUAttentionOptions(), on: none) == .unsupported)
  }

  @Test("Inputs of the wrong size or not finite are refused")
  func inputs() throws {
    let shape = NPUAttentionShape(queryLength: 2, keyLength: 3, heads: 1, headDimension: 4)
    let attention = NPUAttentionCase(shape)
    func code(_ queries: [Float], _ keys: [Float]) -> QuantError.Code? {
      #expect(throws: QuantError.self) {
        try NPUAttention.run(
          queries: queries, keys: keys, values: attention.values, shape: shape, on: .ascend910b2)
      }?.code
    }
    #expect(code([], attention.keys) == .invalidArgument)
    #expect(code(attention.queries, attention.keys + [1]) == .invalidArgument)
    for bad in [Float.nan, .infinity, 65520] {
      var keys = attention.keys
      keys[5] = bad
      #expect(code(attention.queries, keys) == .invalidData)
    }
    let long = NPUAttentionShape(
      queryLength: 1 << 20, keyLength: 1 << 20, heads: 1, headDimension: 1)
    #expect(throws: QuantError.self) {
      try NPUAttention.run(
        queries: [Float](repeating: 0, count: 1 << 20),
        keys: [Float](repeating: 0, count: 1 << 20),
        values: [Float](repeating: 0, count: 1 << 20), shape: long, on: .ascend910b2)
    }
    // Past 2³¹ elements, counted.
    let run = try count(
      NPUAttentionShape(
        queryLength: 1 << 21, keyLength: 1 << 21, heads: 16, headDimension: 128),
      NPUAttentionOptions(mask: try TileMask(isCausal: true, leftWindow: 4095)))
    #expect(run.counters.regionReads["queries"] == (1 << 21) * 16 * 128 * 2)
  }

  @Test("Modelled time falls from N₁ = 128 to 512 from 4K on for any flag cost, causal or not")
  func timeFalls() throws {
    for length in [4096, 16384, 65536] {
      for mask in [TileMask.none, try TileMask(isCausal: true)] {
        let reports = try [128, 256, 512].map { first in
          try count(
            square(length, heads: 8), NPUAttentionOptions(mask: mask, firstLevelKeys: first)
          ).report
        }
        for flag in [0.001, 1, 50, 200, 800, 5000] {
          var spec = NPUSpec.ascend910b2
          spec.flagCycles = Sourced(flag, .assumed("a test"))
          let times = try reports.map { try NPUEstimate($0, on: spec).microseconds }
          #expect(
            times[0] > times[1] && times[1] > times[2], "\(length), flag \(flag): \(times)")
        }
      }
    }
  }

  @Test("Modelled time rises when the workspaces leave the cache")
  func timeRises() throws {
    for length in [16384, 65536] {
      let times = try [512, 4096].map { first in
        try count(square(length, heads: 8), NPUAttentionOptions(firstLevelKeys: first)).estimate
      }
      #expect(times[0].kernels[0].residentRegions.contains("scores"))
      #expect(!times[1].kernels[0].residentRegions.contains("scores"))
      #expect(times[1].microseconds > times[0].microseconds, "\(length)")
    }
    // The same block in a smaller cache.
    let run = try count(square(16384, heads: 8), NPUAttentionOptions(firstLevelKeys: 512))
    let small = NPUSpec.ascend910b2.scaled(.cacheSize, by: 0.05)
    #expect(
      try NPUEstimate(run.report, on: small).microseconds > 1.05 * run.estimate.microseconds)
  }

  @Test("The chosen first-level block is within 10 % of the best of all, whatever flags cost")
  func choice() throws {
    for (length, heads) in [(512, 8), (1024, 1), (2048, 8), (4096, 1), (4096, 8), (16384, 8)] {
      for mask in [TileMask.none, try TileMask(isCausal: true)] {
        let shape = square(length, heads: heads)
        let reports = try [128, 256, 512, 1024, 2048, 4096].map {
          try count(shape, NPUAttentionOptions(mask: mask, firstLevelKeys: $0)).report
        }
        for flag in [0.25, 1.0, 4.0] {
          let spec = NPUSpec.ascend910b2.scaled(.flag, by: flag)
          let chosen = try count(shape, NPUAttentionOptions(mask: mask), on: spec)
            .estimate.microseconds
          let best = try reports.map { try NPUEstimate($0, on: spec).microseconds }.min() ?? 0
          #expect(
            chosen <= 1.1 * best, "\(length), flag × \(flag): \(chosen), best \(best)")
        }
      }
    }
  }

  @Test("910A claims no banks")
  func banks() throws {
    let coupled = try count(square(2048), NPUAttentionOptions(), on: .ascend910a)
    #expect(coupled.counters.bankConflictCycles == 0)
    let split = try count(square(2048), NPUAttentionOptions())
    #expect(split.counters.bankConflictCycles > 0)
    #expect(split.counters.bankConflictCycles < split.counters.vectorRepeats / 4)
  }
}

extension NPUSpec {
  /// With buffers large enough for any block: for counts that do not depend on sizes.
  var withRoom: NPUSpec {
    var spec = self
    let room = Provenance.assumed("a test")
    spec.l0cBytes = Sourced(Double(1 << 22), room)
    spec.l1Bytes = Sourced(Double(1 << 22), room)
    return spec
  }
}
