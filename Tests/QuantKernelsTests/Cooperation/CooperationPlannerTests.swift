import DeviceModel
import QuantKernels
import Testing

/// Where a cache lies between devices and host, by formula.
@Suite struct CooperationPlannerTests {
  private func planner(
    _ model: DecoderShape = .llama2At7B, gigabytes: Int = 16, batch: Int = 1,
    _ change: (inout CooperationMachine) -> Void = { _ in }
  ) throws -> CooperationPlanner {
    var machine = CooperationMachine.dgx1V100(gigabytes: gigabytes)
    change(&machine)
    return try CooperationPlanner(model: model, machine: machine, batch: batch)
  }

  /// Llama-2-7B in half precision: 512 KiB a token, 128 GiB for 256K, 16 GiB a device of eight.
  @Test func scale() throws {
    #expect(DecoderShape.llama2At7B.keyValueBytesPerToken == 512 << 10)
    let planner = try planner()
    let tokens = 256 << 10
    #expect(32 * planner.layerBytesOnHost(tokens: tokens) == 128 << 30)
    #expect(32 * planner.layerBytesPerDevice(tokens: tokens) == 16 << 30)
    // Grouped heads: one of eight on each of eight devices.
    let grouped = try self.planner(.llama2At70B)
    #expect(grouped.layerBytesPerDevice(tokens: 1) == 2 * 128 * 2)
    #expect(DecoderShape.llama2At70B.keyValueBytesPerToken == 320 << 10)
    // 12 · 48 · 8192² is the 38 billion of the name, within 2 %.
    #expect(abs(12 * 48 * 8192 * 8192 / DecoderShape.pangu38B.parameters.value - 1) < 0.02)
  }

  /// L_cpu from the formula: as many layers as just do not fit, none fewer would do; never fewer for
  /// more tokens.
  @Test func fewestLayers() throws {
    for planner in [try planner(), try planner(.pangu38B, gigabytes: 32), try planner(batch: 3)] {
      var last = (layers: 0, tokens: 0)
      for tokens in stride(from: 0, to: 400_000, by: 3_001) {
        let layers = try planner.fewestLayersOnHost(tokens: tokens)
        let free = try planner.freeBytes(tokens: tokens)
        let layer = planner.layerBytesPerDevice(tokens: tokens)
        #expect((planner.model.layers - layers) * layer <= free)
        if layers > 0 { #expect((planner.model.layers - layers + 1) * layer > free) }
        let range = try planner.fewestTokensOnHost(tokens: tokens)
        #expect(planner.deviceBytes(.tokens(onHost: range), tokens: tokens) <= free)
        if range > 0 {
          #expect(planner.deviceBytes(.tokens(onHost: range - 1), tokens: tokens) > free)
        }
        #expect(layers >= last.layers && range >= last.tokens)
        last = (layers, range)
      }
      #expect(last.layers > 0 && last.tokens > 0)
    }
  }

  /// A machine small enough to place by hand: 8 layers, 1 KiB of cache a layer and token on each
  /// of 2 devices.
  @Test func byHand() throws {
    let model = try DecoderShape(
      name: "test", layers: 8, queryHeads: 4, keyValueHeads: 4, headDimension: 128, width: 1,
      parameters: Sourced(0, .assumed("test")), provenance: .assumed("test"))
    let planner = try CooperationPlanner(
      model: model, machine: small(device: 20 << 10, host: 64 << 10))
    // 20 KiB hold 5 layers of 4 tokens, 3 are on the host with 2 KiB a token: 24 KiB.
    #expect(planner.layerBytesPerDevice(tokens: 4) == 4 << 10)
    #expect(try planner.layersOnDevice(tokens: 4) == 5)
    #expect(planner.hostBytes(.layers(onHost: 3), tokens: 4) == 24 << 10)
    try planner.checkFits(.layers(onHost: 3), tokens: 4)
    // Or 2 of 4 tokens of all layers: 16 KiB, and 32 KiB on the host.
    #expect(try planner.fewestTokensOnHost(tokens: 4) == 2)
    #expect(planner.hostBytes(.tokens(onHost: 2), tokens: 4) == 32 << 10)
    // 6 tokens: 3 layers of 6 KiB; the other 5 take 60 KiB. 7 tokens: 6 of 14 KiB, too many.
    #expect(planner.longestInput(usesHost: true) == 6)
    #expect(planner.longestInput(usesHost: false) == 2)
    // By tokens: 2 on the devices, 4 on the host (64 KiB).
    #expect(planner.longestInput(usesHost: true, byTokens: true) == 6)
    let short = #expect(throws: QuantError.self) { try planner.plan(tokens: 7) }
    #expect(short?.code == .outOfMemory)
    #expect(short?.description.contains("of the host") == true)
  }

  private func small(device: Int, host: Int) -> CooperationMachine {
    var machine = CooperationMachine.dgx1V100(gigabytes: 16)
    machine.devices = 2
    machine.devicesPerHostLink = 1
    machine.deviceMemory = Sourced(Double(device), .assumed("test"))
    machine.hostMemory = Sourced(Double(host), .assumed("test"))
    machine.reserve = Sourced(0, .assumed("test"))
    machine.hostReserve = Sourced(0, .assumed("test"))
    machine.activationBuffers = Sourced(0, .assumed("test"))
    return machine
  }

  @Test func errors() throws {
    // The weights alone exceed a device.
    let heavy = try planner(.pangu38B) { $0.deviceMemory = Sourced(1e9, .assumed("test")) }
    let error = #expect(throws: QuantError.self) { try heavy.plan(tokens: 1) }
    #expect(error?.code == .outOfMemory)
    #expect(heavy.longestInput(usesHost: true) == 0)
    // Host memory short: what fits without it still does.
    let poor = try planner { $0.hostMemory = Sourced(0, .assumed("test")) }
    #expect(poor.longestInput(usesHost: true) == poor.longestInput(usesHost: false))
    let longest = poor.longestInput(usesHost: false)
    #expect(try poor.plan(tokens: longest).placement.isAllOnDevice)
    let short = #expect(throws: QuantError.self) { try poor.plan(tokens: longest + 1) }
    #expect(short?.code == .outOfMemory && short?.description.contains("of the host") == true)
    let good = try planner()
    for tokens in [-1, Int.max, (1 << 40) + 1] {
      let error = #expect(throws: QuantError.self) { try good.plan(tokens: tokens) }
      #expect(error?.code == .invalidArgument)
    }
    // Sizes whose products pass 2⁶³ are too large, not wrapped.
    let huge = try planner(batch: 1 << 20) {
      $0.activationBuffers = Sourced(0, .assumed("test"))
    }
    #expect(huge.layerBytesOnHost(tokens: 1 << 40) == .max)
    let overflow = #expect(throws: QuantError.self) { try huge.plan(tokens: 1 << 40) }
    #expect(overflow?.code == .outOfMemory)
    for placement in [
      KeyValuePlacement.layers(onHost: -1), .layers(onHost: 33), .tokens(onHost: -1),
      .tokens(onHost: 11),
    ] {
      #expect(throws: QuantError.self) { try good.checkFits(placement, tokens: 10) }
      #expect(throws: QuantError.self) {
        try good.time(placement, .computed, queries: 1, tokens: 10)
      }
    }
    for batch in [0, -1, Int.max] {
      #expect(throws: QuantError.self) { try planner(batch: batch) }
    }
    #expect(throws: QuantError.self) { try planner { $0.devices = 0 } }
    #expect(throws: QuantError.self) { try planner { $0.hostMemory = Sourced(.nan, .assumed("")) } }
    #expect(throws: QuantError.self) {
      try planner { $0.host.bandwidth = Sourced(0, .assumed("")) }
    }
    for (layers, heads) in [(0, 8), (8, 0), (8, 3), (Int.max, 8)] {
      #expect(throws: QuantError.self) {
        try DecoderShape(
          name: "test", layers: layers, queryHeads: 8, keyValueHeads: heads, headDimension: 8,
          width: 8, parameters: Sourced(1, .assumed("")), provenance: .assumed(""))
      }
    }
  }

  /// The plan is no slower than any placement that fits, tried one by one.
  @Test(arguments: [1, 16, 4096], [0.0, 100])
  func fastest(queries: Int, overlap: Double) throws {
    let model = try DecoderShape(
      name: "test", layers: 6, queryHeads: 8, keyValueHeads: 4, headDimension: 64, width: 512,
      parameters: Sourced(1e6, .assumed("test")), provenance: .assumed("test"))
    for (device, host) in [(2_300_000, 3_000_000), (4_000_000, 2_000_000), (9_000_000, 9_000_000)] {
      for (hostGigabytes, linkGigabytes) in [(110.0, 12.0), (5000, 12), (20, 400)] {
        var machine = small(device: device, host: host)
        machine.host.bandwidth = Sourced(hostGigabytes, .assumed("test"))
        machine.hostLink.bandwidth = Sourced(linkGigabytes, .assumed("test"))
        machine.hostLink.latency = Sourced(0.1, .assumed("test"))
        machine.host.launch = Sourced(0.1, .assumed("test"))
        let planner = try CooperationPlanner(model: model, machine: machine, overlap: overlap)
        for tokens in [1, 300, 640] {
          var best = Double.infinity
          let placements =
            (0...6).map { KeyValuePlacement.layers(onHost: $0) }
            + (0...tokens).map { KeyValuePlacement.tokens(onHost: $0) }
          for placement in placements {
            guard (try? planner.checkFits(placement, tokens: tokens)) != nil else { continue }
            for part in HostPart.allCases {
              best = min(
                best,
                try planner.time(placement, part, queries: queries, tokens: tokens).total)
            }
          }
          guard best.isFinite else {
            #expect(throws: QuantError.self) { try planner.plan(queries: queries, tokens: tokens) }
            continue
          }
          let plan = try planner.plan(queries: queries, tokens: tokens)
          #expect(plan.time.total <= best * (1 + 1e-12))
          try planner.checkFits(plan.placement, tokens: tokens)
        }
      }
    }
  }

  /// A decode step: the host computes when its memory is faster than the links together, and a long
  /// prompt is copied, whose products the host is too slow for.
  @Test func copiedOrComputed() throws {
    let tokens = 256 << 10
    let decode = try planner(.pangu38B, gigabytes: 32).plan(queries: 1, tokens: tokens)
    #expect(decode.hostPart == .computed && !decode.placement.isAllOnDevice)
    let prompt = try planner(.pangu38B, gigabytes: 32).plan(queries: 4096, tokens: tokens)
    #expect(prompt.hostPart == .copied)
    let slow = try planner(.pangu38B, gigabytes: 32) {
      $0.host.bandwidth = Sourced(20, .assumed("test"))
    }.plan(queries: 1, tokens: tokens)
    #expect(slow.hostPart == .copied)
    // Token ranges run beside the devices' own, so they beat whole layers.
    let planner = try planner(.pangu38B, gigabytes: 32)
    let layers = try planner.time(
      .layers(onHost: planner.fewestLayersOnHost(tokens: tokens)), .computed, queries: 1,
      tokens: tokens)
    #expect(decode.time.total < layers.total)
    if case .layers = decode.placement { Issue.record("layers on the host") }
  }

  /// The formula of a decode step on a host layer, by hand.
  @Test func layerTime() throws {
    let planner = try planner()
    let tokens = 100_000
    // 4 heads of 128 in half precision down and up, two devices a link of 12 GB/s.
    let exchange = 2 * (5.7 + 2 * 4 * 128 * 2 / 12e3)
    #expect(abs(planner.exchangeMicroseconds(queries: 1, merges: false) - exchange) < 1e-9)
    // 16 KiB a token over 110 GB/s.
    let host = 10 + 1e5 * 16384 / 110e3
    #expect(abs(planner.hostMicroseconds(queries: 1, tokens: tokens) - host) < 1e-6)
    let copy = 5.7 + 2 * 1e5 * 2048 / 12e3
    #expect(abs(planner.copyMicroseconds(tokens: tokens) - copy) < 1e-6)
    let device = 1e5 * 2048 / (900 * 0.89 * 1e3)
    #expect(abs(planner.deviceMicroseconds(queries: 1, tokens: tokens) - device) < 1e-6)
    let time = try planner.time(.layers(onHost: 5), .computed, queries: 1, tokens: tokens)
    #expect(abs(time.total - (27 * device + 5 * (exchange + host))) < 1e-6)
    #expect(abs(time.host - 5 * host) < 1e-6 && abs(time.link - 5 * exchange) < 1e-6)
    // What another micro-batch can hide is not waited for.
    let hidden = try CooperationPlanner(
      model: planner.model, machine: planner.machine, overlap: 1e9)
    #expect(
      try hidden.time(.layers(onHost: 5), .computed, queries: 1, tokens: tokens).total
        == time.device)
  }

  @Test func spread() {
    for layers in 1...40 {
      for count in 0...layers {
        let chosen = KeyValuePlacement.spread(count, over: layers)
        #expect(chosen.count == count && Set(chosen).count == count)
        #expect(chosen.allSatisfy { (0..<layers).contains($0) })
        let gaps = zip(chosen, chosen.dropFirst()).map { $1 - $0 }
        #expect((gaps.max() ?? 0) - (gaps.min() ?? 0) <= 1)
      }
    }
    #expect(KeyValuePlacement.spread(2, over: 8) == [2, 6])
    #expect(KeyValuePlacement.spread(-1, over: 8).isEmpty)
    #expect(KeyValuePlacement.spread(9, over: 8) == Array(0..<8))
    #expect(KeyValuePlacement.spread(1, over: -1).isEmpty)
  }

  /// The longest input grows with the host and with token ranges; 256K tokens need the host.
  @Test func longestInputs() throws {
    for model in [DecoderShape.llama2At7B, .pangu38B] {
      for gigabytes in [16, 32] {
        let planner = try planner(model, gigabytes: gigabytes)
        let alone = planner.longestInput(usesHost: false)
        let layers = planner.longestInput(usesHost: true)
        let tokens = planner.longestInput(usesHost: true, byTokens: true)
        #expect(alone > 0 && alone < layers && layers <= tokens)
        for (usesHost, length) in [(false, alone), (true, tokens)] {
          let placement: KeyValuePlacement =
            usesHost
            ? .tokens(onHost: try planner.fewestTokensOnHost(tokens: length)) : .layers(onHost: 0)
          try planner.checkFits(placement, tokens: length)
          #expect(throws: QuantError.self) {
            try planner.checkFits(
              usesHost
                ? .tokens(onHost: planner.fewestTokensOnHost(tokens: length + 1)) : placement,
              tokens: length + 1)
          }
        }
      }
    }
  }
}
