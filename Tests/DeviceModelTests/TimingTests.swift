import DeviceModel
import Testing

@Suite("Timing layers and the catalog")
struct TimingTests {
  @Test("Published tensor peaks are multiply-adds times clock times multiprocessors")
  func peakIdentities() {
    for spec in DeviceSpec.all {
      let rate = (spec.tensorWarpgroup ?? spec.tensorFloat32Sums).value
      let peak = 2 * rate * spec.multiprocessors.value * spec.boostClock.value / 1e3
      #expect(abs(peak / spec.float16Peak.value - 1) < 0.005, "\(spec.identifier): \(peak)")
    }
  }

  @Test("Every number of every device has a source")
  func sourcesAreStated() {
    #expect(
      DeviceSpec.all.map(\.identifier)
        == ["v100", "a100-40", "a100-80", "a6000", "rtx4090", "l40", "h100", "h200"])
    for spec in DeviceSpec.all {
      for entry in spec.numbers {
        #expect(!entry.number.provenance.source.isEmpty, "\(spec.identifier) \(entry.label)")
        #expect(entry.number.value.isFinite && entry.number.value >= 0)
      }
    }
  }

  @Test("Assumed and recalled numbers are marked when printed")
  func printingMarks() {
    #expect(Sourced(24, .recalled("tables")).description == "24 [recalled]")
    #expect(Sourced(1.5, .assumed("nobody measured it")).description == "1.5 [assumed]")
    #expect(Sourced(108, .published("sheet")).description == "108")
  }

  @Test("An unknown device is refused with the known names")
  func unknownDevice() throws {
    #expect(try DeviceSpec.named("a100-80") == .a100x80)
    let error = #expect(throws: DeviceError.self) { try DeviceSpec.named("a100") }
    #expect(error?.code == .unknownDevice)
    #expect(error?.description.contains("a100-40, a100-80") == true)
  }

  @Test("AWQ's tile fits an A100 fifteen times by shared memory, fourteen by registers")
  func occupancy() throws {
    let awq = AnalyticKernel.awq(m: 64, on: .a100x80)
    let result = try Occupancy.of(awq.launch, on: .a100x80)
    #expect(result.allowed[.sharedMemory] == 15)
    #expect(result.residentBlocks == 14 && result.limit == .registers)
    let quick = AnalyticKernel.quick(m: 64, on: .a100x80)
    #expect(try Occupancy.of(quick.launch, on: .a100x80).residentBlocks == 4)
    let consumer = AnalyticKernel.awq(m: 64, on: .rtx4090)
    let limited = try Occupancy.of(consumer.launch, on: .rtx4090)
    #expect(limited.residentBlocks == 9 && limited.limit == .sharedMemory)
    #expect(limited.residentWarps == 18)
  }

  @Test("A block that a device cannot hold is refused with limit and value")
  func refusals() throws {
    let kernel = AnalyticKernel.awq(m: 16, on: .l40)
    func refusal(_ change: (inout Launch) -> Void) -> DeviceError? {
      var launch = kernel.launch
      change(&launch)
      return #expect(throws: DeviceError.self) {
        try LatencyBound().estimate(kernel.counters, launch, .l40)
      }
    }
    #expect(refusal { $0.sharedBytesPerBlock = 101_377 }?.limit == 99 * 1024)
    #expect(refusal { $0.blocks = 0 }?.code == .launch)
    #expect(refusal { $0.warpsPerBlock = 33 }?.limit == 32)
    #expect(refusal { $0.registersPerThread = Sourced(256, .assumed("too many")) }?.limit == 255)
    #expect(refusal { $0.registersPerThread = Sourced(.nan, .assumed("no number")) } != nil)
    #expect(refusal { $0.missShare = -1 } != nil)
    #expect(refusal { $0.stepsPerBlock = 0 } != nil)
    var counters = kernel.counters
    counters.matrixInstructions = [.m16n8k32: 1]
    #expect(throws: DeviceError.self) {
      try PipeBound().estimate(counters, kernel.launch, .v100)
    }
  }

  @Test("More work is never faster, more hardware never slower, latency never free")
  func monotonicity() throws {
    for spec in DeviceSpec.all {
      for m in [1, 16, 64, 200] {
        let kernel = AnalyticKernel.awq(m: m, on: spec)
        func time(
          _ model: some TimingModel, _ counters: Counters, _ launch: Launch, _ spec: DeviceSpec
        )
          throws -> Double
        {
          try model.estimate(counters, launch, spec).microseconds
        }
        let base = try time(LatencyBound(), kernel.counters, kernel.launch, spec)
        let pipes = try time(PipeBound(), kernel.counters, kernel.launch, spec)
        #expect(pipes > 0 && base >= 0.95 * pipes, "\(spec.identifier) \(m)")
        for index in kernel.counters.sites.indices {
          var more = kernel.counters
          more.sites[index].shared.wavefronts *= 2
          more.sites[index].global.sectors *= 2
          #expect(try time(LatencyBound(), more, kernel.launch, spec) >= base - 1e-9)
          #expect(try time(PipeBound(), more, kernel.launch, spec) >= pipes - 1e-9)
        }
        var faster = spec
        faster.dramLatency = spec.dramLatency.scaled(by: 0.5)
        faster.l2Latency = spec.l2Latency.scaled(by: 0.5)
        #expect(try time(LatencyBound(), kernel.counters, kernel.launch, faster) <= base + 1e-9)
        var wider = spec
        wider.multiprocessors = spec.multiprocessors.scaled(by: 2)
        wider.dramPeak = spec.dramPeak.scaled(by: 2)
        #expect(try time(LatencyBound(), kernel.counters, kernel.launch, wider) <= base + 1e-9)
        let slow = LatencyBound(latencyFactors: [
          spec.identifier: FittedConstant(2, fittedOn: "nothing")
        ])
        let estimate = try slow.estimate(kernel.counters, kernel.launch, spec)
        #expect(estimate.microseconds >= base - 1e-9)
        #expect(estimate.fitted?.value == 2)
      }
    }
  }

  @Test("One block alone takes its chain; the estimate adds up and names what is uncertain")
  func estimateAddsUp() throws {
    let kernel = AnalyticKernel.quick(m: 64, on: .a100x80)
    let estimate = try LatencyBound().estimate(kernel.counters, kernel.launch, .a100x80)
    let sum =
      estimate.kernelMicroseconds + estimate.launchMicroseconds + estimate.splitSumMicroseconds
    #expect(abs(estimate.microseconds - sum) < 1e-9)
    #expect(estimate.microsecondsWithoutLatency < estimate.microseconds)
    #expect(estimate.pipeCycles.map(\.pipe) == [.issue, .dataStage, .tensor, .l2, .dram])
    #expect(estimate.uncertainNumbers.contains { $0.contains("barrier 20 [assumed]") })
    #expect(abs(estimate.teraflopPerSecond(flop: 2e12) - 2e6 / estimate.microseconds) < 1e-6)
  }

  @Test("A speed-up is the product of its causes")
  func causes() throws {
    let spec = DeviceSpec.a6000
    let awq = AnalyticKernel.awq(m: 256, on: spec)
    let quick = AnalyticKernel.quick(m: 256, on: spec)
    let noWriteBack = SpeedupCauses.Case(
      awq.counters.removingSharedTraffic(of: ["B store", "B ldmatrix"]), awq.launch)
    let split = try SpeedupCauses(
      from: awq, through: [(.noWriteBack, noWriteBack)], to: quick, model: LatencyBound(),
      on: spec)
    let product = split.factors.reduce(1) { $0 * $1.factor }
    #expect(abs(product / split.speedup - 1) < 1e-9)
    #expect(split.factors.map(\.cause) == [.noWriteBack, .other])
    #expect(split.factors[0].factor > 1)
  }
}
