import DeviceModel
import QuantKernels
import TestSupport
import Testing

/// A cache split between simulated devices and the host gives what one on the devices gives.
@Suite struct CooperativeAttentionTests {
  /// Layers of random queries, keys and values.
  private struct Case {
    let planner: CooperationPlanner
    let cases: [ShardedLayer]
    let tokens: Int
    let firstRow: Int

    var model: DecoderShape { planner.model }
    var rows: Int { tokens - firstRow }
    var queries: [[Float]] {
      cases.map { Array($0.queries[(firstRow * model.queryHeads * model.headDimension)...]) }
    }

    init(
      layers: Int = 5, heads: Int = 4, keyValueHeads: Int = 2, devices: Int = 2, tokens: Int = 30,
      firstRow: Int = 0, deviceBytes: Int = 1 << 30
    ) throws {
      let model = try DecoderShape(
        name: "test", layers: layers, queryHeads: heads, keyValueHeads: keyValueHeads,
        headDimension: 8, width: 8, parameters: Sourced(0, .assumed("test")), elementBytes: 4,
        provenance: .assumed("test"))
      var machine = CooperationMachine.dgx1V100(gigabytes: 16)
      machine.devices = devices
      machine.devicesPerHostLink = 1
      machine.deviceMemory = Sourced(Double(deviceBytes), .assumed("test"))
      machine.reserve = Sourced(0, .assumed("test"))
      machine.activationBuffers = Sourced(0, .assumed("test"))
      planner = try CooperationPlanner(model: model, machine: machine)
      self.tokens = tokens
      self.firstRow = firstRow
      cases = (0..<layers).map {
        ShardedLayer(
          heads: heads, keyValueHeads: keyValueHeads, dimension: 8, width: 1, positions: tokens,
          seed: UInt64(40 + $0))
      }
    }

    func place(_ placement: KeyValuePlacement, _ part: HostPart) throws -> CooperativeAttention {
      try CooperativeAttention(
        planner, placement: placement, hostPart: part, keys: cases.map(\.keys),
        values: cases.map(\.values))
    }

    func run(_ placement: KeyValuePlacement, _ part: HostPart) throws
      -> CooperativeAttention.Output
    {
      try place(placement, part).run(
        queries: queries, rows: rows, firstPosition: firstRow, scale: cases[0].options.scale)
    }

    /// The layers' attention in float64, and how far float32 may be from it: scores are off by e =
    /// (2d + 3) u Σ|q||k| scale (products and sums rounded apart), weights by exp(2e), sums of `tokens`
    /// terms, their rescales and the merge by (2 tokens + 40) u, on Σ w|v|.
    func reference() -> (values: [[Double]], tolerance: [[Double]]) {
      let unit = 0x1p-24
      let dimension = model.headDimension
      var values: [[Double]] = []
      var tolerance: [[Double]] = []
      for layer in cases {
        var all: [Double] = []
        var bound: [Double] = []
        for row in firstRow..<tokens {
          for head in 0..<model.queryHeads {
            let shared = head / (model.queryHeads / model.keyValueHeads)
            var scores: [Double] = []
            var error = 0.0
            for key in 0...row {
              var sum = 0.0
              var magnitude = 0.0
              for k in 0..<dimension {
                let product =
                  Double(layer.queries[(row * model.queryHeads + head) * dimension + k])
                  * Double(layer.keys[(key * model.keyValueHeads + shared) * dimension + k])
                sum += product
                magnitude += product.magnitude
              }
              let scale = Double(layer.options.scale)
              scores.append(sum * scale)
              error = max(
                error,
                (Double(2 * dimension + 3) * magnitude * scale + 2 * scores[key].magnitude) * unit)
            }
            let largest = scores.max() ?? 0
            let weights = scores.map { exponential($0 - largest) }
            let total = weights.reduce(0, +)
            let relative = exponential(2 * error) - 1 + Double(2 * tokens + 40) * unit
            for k in 0..<dimension {
              let terms = (0...row).map { key in
                weights[key] / total
                  * Double(layer.values[(key * model.keyValueHeads + shared) * dimension + k])
              }
              all.append(terms.reduce(0, +))
              bound.append(terms.reduce(0) { $0 + $1.magnitude } * relative)
            }
          }
        }
        values.append(all)
        tolerance.append(bound)
      }
      return (values, tolerance)
    }
  }

  /// Within the bound of the reference, and within twice the bound of all on the devices.
  private func check(
    _ output: [[Float]], _ all: [[Float]], _ reference: (values: [[Double]], tolerance: [[Double]]),
    _ what: String
  ) {
    for layer in output.indices {
      for index in output[layer].indices {
        let found = Double(output[layer][index])
        let bound = reference.tolerance[layer][index]
        guard (found - reference.values[layer][index]).magnitude <= bound,
          (found - Double(all[layer][index])).magnitude <= 2 * bound
        else {
          Issue.record("\(what), layer \(layer), element \(index): \(found)")
          return
        }
      }
    }
  }

  /// Every L_cpu from 0 to n, the host computing with the processor's kernels or copied from.
  @Test(arguments: HostPart.allCases)
  func everyNumberOfLayers(part: HostPart) throws {
    for test in [
      try Case(), try Case(firstRow: 29), try Case(heads: 8, keyValueHeads: 8, devices: 4),
    ] {
      let reference = test.reference()
      let all = try test.run(.layers(onHost: 0), .computed)
      check(all.values, all.values, reference, "all on the devices")
      #expect(all.traffic == CooperativeAttention.Traffic())
      for count in 0...5 {
        let output = try test.run(.layers(onHost: count), part)
        check(output.values, all.values, reference, "\(count) layers \(part)")
        // Copied keys are computed as the devices' own, bit for bit.
        if part == .copied { #expect(output.values == all.values) }
        // Layers that stay are untouched by the others' place.
        for layer in 0..<5 where !KeyValuePlacement.spread(count, over: 5).contains(layer) {
          #expect(output.values[layer] == all.values[layer])
        }
      }
    }
  }

  @Test(arguments: HostPart.allCases)
  func everyTokenRange(part: HostPart) throws {
    let test = try Case(layers: 2)
    let decode = try Case(layers: 2, heads: 4, keyValueHeads: 1, firstRow: 28)
    for test in [test, decode] {
      let reference = test.reference()
      let all = try test.run(.tokens(onHost: 0), part)
      for count in 0...30 {
        let output = try test.run(.tokens(onHost: count), part)
        check(output.values, all.values, reference, "\(count) tokens \(part)")
      }
    }
  }

  /// What crosses the links is what the formulas say.
  @Test func traffic() throws {
    let test = try Case()
    let planner = test.planner
    let devices = planner.machine.devices
    for count in 1...5 {
      let computed = try test.run(.layers(onHost: count), .computed).traffic
      let bytes = planner.exchangeBytes(queries: test.rows, merges: false)
      #expect(computed.queryBytes == count * devices * Int(bytes.down))
      #expect(computed.resultBytes == count * devices * Int(bytes.up))
      #expect(computed.copiedBytes == 0 && computed.messages == 2 * count * devices)
      let copied = try test.run(.layers(onHost: count), .copied).traffic
      #expect(
        copied.copiedBytes == count * devices * planner.layerBytesPerDevice(tokens: test.tokens))
      #expect(copied.messages == count * devices && copied.queryBytes == 0)
    }
    for count in [1, 17, 30] {
      let computed = try test.run(.tokens(onHost: count), .computed).traffic
      let bytes = planner.exchangeBytes(queries: test.rows, merges: true)
      #expect(computed.queryBytes == 5 * devices * Int(bytes.down))
      #expect(computed.resultBytes == 5 * devices * Int(bytes.up))
      #expect(computed.messages == 10 * devices)
      let copied = try test.run(.tokens(onHost: count), .copied).traffic
      #expect(copied.copiedBytes == 5 * devices * planner.layerBytesPerDevice(tokens: count))
    }
  }

  /// A cache too large for the devices is refused there, and runs with the host's help.
  @Test func memory() throws {
    // A token takes 64 B a layer and device: 5 layers of 200 tokens 64,000 B, of which 3 fit.
    let test = try Case(tokens: 200, firstRow: 198, deviceBytes: 50_000)
    let error = #expect(throws: QuantError.self) { try test.place(.layers(onHost: 0), .computed) }
    #expect(error?.code == .outOfMemory)
    #expect(try test.planner.fewestLayersOnHost(tokens: 200) == 2)
    #expect(throws: QuantError.self) { try test.place(.layers(onHost: 1), .computed) }
    let placed = try test.place(.layers(onHost: 2), .copied)
    for memory in placed.deviceMemories { #expect(memory.used == 3 * 200 * 64) }
    #expect(placed.hostMemory.used == 2 * 200 * 128)
    let reference = test.reference()
    let output = try placed.run(
      queries: test.queries, rows: test.rows, firstPosition: test.firstRow,
      scale: test.cases[0].options.scale)
    check(output.values, output.values, reference, "copied in pieces")
    // 11,600 B are left on a device: pieces of 128 tokens, then 72.
    #expect(output.traffic.messages == 2 * 2 * 2)
    for memory in placed.deviceMemories {
      #expect(memory.used == 3 * 200 * 64 && memory.peak == 3 * 200 * 64 + 128 * 64)
    }
    let plan = try test.planner.plan(queries: 2, tokens: 200)
    let planned = try test.run(plan.placement, plan.hostPart)
    check(planned.values, output.values, reference, "the planner's choice")
    #expect(planned.time == plan.time)
    // No room for a piece.
    let tight = try Case(tokens: 200, firstRow: 198, deviceBytes: 3 * 200 * 64)
    #expect(throws: QuantError.self) { try tight.run(.layers(onHost: 2), .copied) }
  }

  @Test func badCalls() throws {
    let test = try Case()
    let placed = try test.place(.layers(onHost: 2), .computed)
    func run(
      rows: Int = 30, first: Int = 0, queries: [[Float]]? = nil, scale: Float = 1
    ) -> QuantError.Code? {
      do {
        _ = try placed.run(
          queries: queries ?? test.queries, rows: rows, firstPosition: first, scale: scale)
      } catch { return error.code }
      return nil
    }
    #expect(run() == nil)
    #expect(run(rows: 0, queries: [[], [], [], [], []]) == nil)
    #expect(run(rows: -1) == .invalidArgument)
    #expect(run(rows: 29) == .invalidArgument)
    #expect(run(rows: Int.max) == .invalidArgument)
    #expect(run(first: 1) == .invalidArgument)
    #expect(run(first: -1) == .invalidArgument)
    #expect(run(first: Int.max) == .invalidArgument)
    #expect(run(queries: []) == .invalidArgument)
    #expect(run(scale: .nan) == .invalidArgument)
    func place(
      _ planner: CooperationPlanner, keys: [[Float]]? = nil, placement: KeyValuePlacement
    ) -> QuantError.Code? {
      do {
        _ = try CooperativeAttention(
          planner, placement: placement, hostPart: .computed,
          keys: keys ?? test.cases.map(\.keys), values: test.cases.map(\.values))
      } catch { return error.code }
      return nil
    }
    #expect(place(test.planner, placement: .layers(onHost: 6)) == .invalidArgument)
    #expect(place(test.planner, placement: .tokens(onHost: 31)) == .invalidArgument)
    #expect(place(test.planner, keys: [], placement: .layers(onHost: 0)) == .invalidArgument)
    #expect(
      place(test.planner, keys: [[1], [1], [1], [1], [1]], placement: .layers(onHost: 0))
        == .invalidArgument)
    func changed(
      batch: Int = 1, elementBytes: Int = 4, devices: Int = 2
    ) throws -> CooperationPlanner {
      var model = test.model
      model.elementBytes = elementBytes
      var machine = test.planner.machine
      machine.devices = devices
      return try CooperationPlanner(model: model, machine: machine, batch: batch)
    }
    #expect(try place(changed(), placement: .layers(onHost: 0)) == nil)
    #expect(try place(changed(batch: 2), placement: .layers(onHost: 0)) == .unsupported)
    #expect(try place(changed(elementBytes: 2), placement: .layers(onHost: 0)) == .unsupported)
    #expect(try place(changed(devices: 3), placement: .layers(onHost: 0)) == .unsupported)
    // No tokens at all.
    let nothing = try CooperativeAttention(
      test.planner, placement: .tokens(onHost: 0), hostPart: .computed,
      keys: [[], [], [], [], []], values: [[], [], [], [], []])
    #expect(
      try nothing.run(queries: [[], [], [], [], []], rows: 0, firstPosition: 0, scale: 1).values
        == [[], [], [], [], []])
  }
}
