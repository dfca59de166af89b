import DeviceModel

/// How much faster one simulated attention is than another, and how much of that rests on numbers
/// without a source.
public struct AttentionComparison<Subject: SimulatedLaunches>: Sendable {
  /// The ratio with one parameter scaled, everything else as it is.
  public struct Sensitivity: Sendable {
    /// What was scaled, with its value and kind.
    public let parameter: String
    /// By how much.
    public let factors: [Double]
    /// The ratio at each factor; nil where the device cannot hold the launch.
    public let ratios: [Double?]

    /// The smallest and the largest ratio seen.
    public var range: ClosedRange<Double> {
      let seen = ratios.compactMap { $0 }
      return (seen.min() ?? 0)...(seen.max() ?? 0)
    }
  }

  /// The slower by name: what the ratio's numerator is.
  public let baseline: Subject
  /// The faster by name.
  public let improved: Subject

  /// Two simulated attentions of one shape on one device.
  public init(of improved: Subject, over baseline: Subject) {
    self.improved = improved
    self.baseline = baseline
  }

  /// Time of the baseline over time of the improved.
  ///
  /// - Throws: ``QuantError`` when one of them has no estimate on the device.
  public func ratio() throws(QuantError) -> Double { try Self.ratio(baseline, improved) }

  private static func ratio(
    _ baseline: Subject, _ improved: Subject
  ) throws(QuantError) -> Double {
    try baseline.estimate().microseconds / improved.estimate().microseconds
  }

  /// The ratio for a quarter to four times each number that is assumed or only recalled, and of the
  /// passes that an arriving sector takes, which one part's profile gave all of them: of the device,
  /// for both kernels at once; of a launch, for each kernel by itself. Registers stay below the 255 of
  /// a thread.
  ///
  /// - Complexity: some twenty estimates a number; counters are not taken anew.
  public func sensitivities(
    factors: [Double] = [0.25, 0.5, 1, 2, 4]
  ) -> [Sensitivity] {
    var list: [Sensitivity] = []
    func add(
      _ parameter: String,
      _ change: (Double) -> (Subject, Subject)
    ) {
      list.append(
        Sensitivity(
          parameter: parameter, factors: factors,
          ratios: factors.map { factor in
            let (baseline, improved) = change(factor)
            return try? Self.ratio(baseline, improved)
          }))
    }
    for (label, path) in Self.deviceNumbers {
      let number = baseline.device[keyPath: path]
      // The fill of a sector is derived, but from a profile of another part.
      let isForeign = path == \DeviceSpec.fillPassesPerSector
      guard number.provenance.isUncertain || isForeign, number.value != 0 else { continue }
      add("\(baseline.device.identifier): \(label) \(number)") { factor in
        var device = baseline.device
        device[keyPath: path] = number.scaled(by: factor)
        return (baseline.moved(to: device), improved.moved(to: device))
      }
    }
    // A store's extra cycles are assumed to be 0, which no factor changes: 0…4 instead.
    if baseline.device.sharedStoreExtraCycles.provenance.isUncertain {
      let number = baseline.device.sharedStoreExtraCycles
      add("\(baseline.device.identifier): shared store beyond wavefronts \(number) + factor") {
        factor in
        var device = baseline.device
        device.sharedStoreExtraCycles = Sourced(number.value + factor, number.provenance)
        return (baseline.moved(to: device), improved.moved(to: device))
      }
    }
    for isBaseline in [true, false] {
      let one = isBaseline ? baseline : improved
      func both(_ change: (inout Launch) -> Void) -> (Subject, Subject) {
        let changed = one.changingLaunches(change)
        return isBaseline ? (changed, improved) : (baseline, changed)
      }
      let registers = one.parts.map(\.launch.registersPerThread)
      if registers.contains(where: {
        $0.provenance.isUncertain || one.label == GPUAttentionKernel.xformers.rawValue
      }) {
        add("\(one.label): registers a thread \(registers.map(\.value))") { factor in
          both {
            $0.registersPerThread = Sourced(
              min(255, max(16, $0.registersPerThread.value * factor)),
              $0.registersPerThread.provenance)
          }
        }
      }
      add("\(one.label): cycles before and after a block's steps") { factor in
        both { $0.blockOverheadCycles = $0.blockOverheadCycles.scaled(by: factor) }
      }
    }
    return list
  }

  private static var deviceNumbers: [(label: String, path: WritableKeyPath<DeviceSpec, Sourced>)] {
    [
      ("sustained clock", \.sustainedClock), ("L2 read a multiprocessor", \.l2BytesPerCycle),
      ("barrier", \.barrierLatency), ("launch", \.launchMicroseconds),
      ("shared load latency", \.sharedLatency), ("L2 latency", \.l2Latency),
      ("memory latency", \.dramLatency), ("load-store instruction", \.loadStoreCycles),
      ("fill of a sector", \.fillPassesPerSector), ("memory share reached", \.dramShare),
    ]
  }
}
