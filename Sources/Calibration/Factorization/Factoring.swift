import LanguageModel
import QuantKernels

/// One making of factors: decompose, share out the ranks, cut.
struct Factoring {
  let weights: DenseWeights
  let statistics: CalibrationStatistics
  let options: Calibrator.Options
  let pool: WorkerPool

  /// Smallest eigenvalue of the gradients' Gram, in mean ones. Gradients of some outputs are nearly
  /// nothing on any text of this length; without a floor far above rounding, what was cut there
  /// would be chosen by noise.
  static let gradientFloor = 1e-4

  private var shape: LowRankFactors.Shape { statistics.shape }

  /// A group by its place.
  private struct Unit {
    let layer: Int
    let kind: LowRankFactors.Kind
    let group: Int
  }

  private var kinds: [LowRankFactors.Kind] {
    options.keyMode == .rotated ? [.value] : [.key, .value]
  }

  private var groupWidth: Int { options.headsPerGroup * shape.headDimension }

  private func rows(of group: Int) -> Range<Int> {
    group * groupWidth..<(group + 1) * groupWidth
  }

  /// Bytes that decompositions of all layers would take together.
  private var decompositionBytes: Int {
    MemoryRequirement.sum([
      [8, 2, kinds.count, shape.layers, shape.keyValueWidth, shape.modelWidth],
      [8, shape.layers, shape.modelWidth, shape.modelWidth],
    ])
  }

  func result(
    cancellation: CancellationFlag?, progress: ((_ done: Int, _ all: Int) -> Void)?
  ) throws(QuantError) -> Calibrator.Result {
    if options.method == .loss, statistics.headsPerBlock % options.headsPerGroup != 0 {
      throw QuantError(
        .invalidArgument, "heads per group",
        "\(options.headsPerGroup) do not divide the \(statistics.headsPerBlock) whose gradients were "
          + "gathered together", remedy: "read the text for groups of that size")
    }
    BLAS.use(threads: pool.threads)
    // Decompositions are made twice where holding all of them would take too much.
    let holds = decompositionBytes < MemoryRequirement.availableBytes / 4
    var held: [any GroupDecomposition] = []
    var units: [Unit] = []
    var energies: [[Double]] = []
    for layer in 0..<shape.layers {
      try check(cancellation)
      for (unit, decomposition) in try decompositions(of: layer) {
        units.append(unit)
        energies.append(decomposition.energies)
        if holds { held.append(decomposition) }
      }
      progress?(layer + 1, holds ? shape.layers : 2 * shape.layers)
    }
    let ranks = try share(units, energies)

    var layers = (0..<shape.layers).map { _ in LowRankFactors.Layer(keys: [], values: []) }
    var next = 0
    for layer in 0..<shape.layers {
      try check(cancellation)
      var ofLayer: [any GroupDecomposition] = []
      if !holds { ofLayer = try decompositions(of: layer).map(\.1) }
      let first = next
      while next < units.count, units[next].layer == layer {
        let decomposition = holds ? held[next] : ofLayer[next - first]
        let unit = units[next]
        let commutes = unit.kind == .key && options.keyMode == .commuting
        let group = try decomposition.factors(rank: ranks[next]).group(
          rotates: options.rotates && !commutes, subject: name(unit))
        switch unit.kind {
        case .key: layers[layer].keys.append(group)
        case .value: layers[layer].values.append(group)
        }
        next += 1
      }
      if !holds { progress?(shape.layers + layer + 1, 2 * shape.layers) }
    }
    let factors = try LowRankFactors(
      shape: shape, headsPerGroup: options.headsPerGroup, keyMode: options.keyMode,
      bits: options.bits, isRotated: options.rotates, layers: layers)
    let total = energies.reduce(0) { $0 + $1.reduce(0, +) }
    let kept = zip(energies, ranks).reduce(0) { $0 + $1.0.prefix($1.1).reduce(0, +) }
    return Calibrator.Result(
      factors: factors,
      ranks: layers.map { layer in kinds.map { kind in layer[kind].map(\.rank) } },
      achievedRatio: Double(layers.flatMap { $0.keys + $0.values }.reduce(0) { $0 + $1.rank })
        / Double(units.count * groupWidth),
      keptEnergy: total > 0 ? kept / total : 1)
  }

  private func check(_ flag: CancellationFlag?) throws(QuantError) {
    guard flag?.isCancelled == true else { return }
    throw QuantError(
      .cancelled, "calibration", "the work was cancelled", remedy: "start it again when wanted")
  }

  private func name(_ unit: Unit) -> String {
    "layer \(unit.layer), \(unit.kind.rawValue) group \(unit.group)"
  }

  private func decompositions(
    of layer: Int
  ) throws(QuantError) -> [(Unit, any GroupDecomposition)] {
    let inputs = try Whitening(
      statistics.layers[layer].inputs, floor: options.eigenvalueFloor)
    var result: [(Unit, any GroupDecomposition)] = []
    for kind in kinds {
      let matrix = try matrix(kind, layer: layer)
      let bias = weights.bias(of: kind == .key ? .key : .value, layer: layer)
      for group in 0..<shape.keyValueHeads / options.headsPerGroup {
        let unit = Unit(layer: layer, kind: kind, group: group)
        let rows = rows(of: group)
        let part = matrix.selecting(rows: rows)
        let groupBias = bias.map { $0[rows].map { Double($0) } }
        let gradients =
          options.method == .loss
          ? statistics.gradientGram(kind, layer: layer, rows: rows) : nil
        if kind == .key, options.keyMode == .commuting {
          result.append(
            (
              unit,
              try CommutingDecomposition(
                weights: part, bias: groupBias, shape: shape, inputs: inputs,
                outputWeights: gradients?.meanSquares, subject: name(unit))
            ))
        } else {
          let outputs = try gradients.map { gram throws(QuantError) in
            try Whitening(gram, floor: Self.gradientFloor)
          }
          result.append(
            (
              unit,
              try WhitenedDecomposition(
                weights: part, bias: groupBias, inputs: inputs, outputs: outputs,
                subject: name(unit))
            ))
        }
      }
    }
    return result
  }

  private func matrix(
    _ kind: LowRankFactors.Kind, layer: Int
  ) throws(QuantError) -> Matrix {
    let buffer = ScalarBuffer<Float>(count: shape.keyValueWidth * shape.modelWidth)
    try weights.read(
      kind == .key ? .key : .value, layer: layer, into: buffer.pointer, pool: pool)
    return Matrix(
      rows: shape.keyValueWidth, columns: shape.modelWidth,
      values: (0..<buffer.count).map { Double(buffer.pointer[$0]) })
  }

  private func share(_ units: [Unit], _ energies: [[Double]]) throws(QuantError) -> [Int] {
    let fullRanks = energies.map(\.count)
    let step = options.rankStep
    switch options.method {
    case .uniform:
      return try RankAllocation.proportional(
        to: fullRanks.map { Double($0) }, fullRanks: fullRanks, ratio: options.ratio, step: step)
    case .fisher:
      let scores = units.map {
        statistics.fisherScore($0.kind, layer: $0.layer, rows: rows(of: $0.group))
      }
      return try RankAllocation.proportional(
        to: scores, fullRanks: fullRanks, ratio: options.ratio, step: step)
    case .waterFill, .loss:
      return try RankAllocation.waterFilling(
        energies: energies, ratio: options.ratio, step: step)
    }
  }
}
