import QuantKernels
import TestSupport

/// A feed-forward block as a checkpoint has it: codes by original input, a group for each input.
/// Its products are computed from that, without any permutation and with one rank.
struct ActOrderCase {
  /// What the numbers are: small integers, of which every sum is exact, or anything.
  enum Numbers { case integers, random }

  struct Layer {
    let rows: Int
    let columns: Int
    let groups: Int
    /// `[rows × columns]`, by original input.
    var codes: [Int]
    /// `[rows × groups]`.
    var zeros: [Int]
    var scales: [Float]
    var indices: [Int32]

    init(
      rows: Int, columns: Int, group: Int, numbers: Numbers, indices: [Int32],
      using random: inout RepeatableRandom
    ) {
      self.rows = rows
      self.columns = columns
      groups = columns / group
      self.indices = indices
      let groups = groups
      zeros = (0..<rows * groups).map { _ in Int.random(in: 3...13, using: &random) }
      scales = (0..<rows * groups).map { _ in
        numbers == .integers
          ? Float.random(in: 0..<1, using: &random) < 0.5 ? 1 : -1
          : HalfPrecision.float(
            fromHalf: HalfPrecision.half(.random(in: 0.002..<0.02, using: &random)))
      }
      codes = []
      codes.reserveCapacity(rows * columns)
      for row in 0..<rows {
        for input in 0..<columns {
          codes.append(
            numbers == .integers
              ? zeros[row * groups + Int(indices[input])] + .random(in: -2...2, using: &random)
              : .random(in: 0...15, using: &random))
        }
      }
    }

    func value(_ row: Int, _ input: Int) -> Double {
      let at = row * groups + Int(indices[input])
      return Double(scales[at]) * Double(codes[row * columns + input] - zeros[at])
    }

    /// `x Wᵀ` in float64.
    func product(_ x: [Double], count: Int) -> [Double] {
      var weights = [Double](repeating: 0, count: columns)
      var y = [Double](repeating: 0, count: count * rows)
      for row in 0..<rows {
        for input in 0..<columns { weights[input] = value(row, input) }
        for m in 0..<count {
          var sum = 0.0
          for input in 0..<columns { sum += x[m * columns + input] * weights[input] }
          y[m * rows + row] = sum
        }
      }
      return y
    }

    /// The tensors of an old-style GPTQ file, packed word by word.
    func tensors(_ format: Int4Tensors.Format = .gptq) throws -> Int4Tensors {
      var weights = [UInt32](repeating: 0, count: columns / 8 * rows)
      for row in 0..<rows {
        for input in 0..<columns {
          weights[input / 8 * rows + row] |=
            UInt32(codes[row * columns + input]) << UInt32(4 * (input % 8))
        }
      }
      var zeroWords = [UInt32](repeating: 0, count: groups * rows / 8)
      var halves = [UInt16](repeating: 0, count: groups * rows)
      for group in 0..<groups {
        for row in 0..<rows {
          let stored = zeros[row * groups + group] - (format == .gptq ? 1 : 0)
          zeroWords[group * rows / 8 + row / 8] |= UInt32(stored) << UInt32(4 * (row % 8))
          halves[group * rows + row] = HalfPrecision.half(scales[row * groups + group])
        }
      }
      return try Int4Tensors(
        format: format, weights: weights, weightShape: [columns / 8, rows], scales: halves,
        scaleShape: [groups, rows], zeroPoints: zeroWords, zeroPointShape: [groups, rows / 8],
        groupIndices: indices)
    }

    func matrix() throws -> Int4Matrix { try Int4Matrix(tensors()) }
  }

  let inputs: Int
  let hidden: Int
  let outputs: Int
  let gate: Layer?
  let up: Layer
  let down: Layer
  let gateBias: [Float]?
  let upBias: [Float]?
  let downBias: [Float]?
  let hiddenScale: [Float]?
  let activation: ActOrderMLP.Activation
  /// `[17 × inputs]`.
  let x: [Float]
  /// `[17 × outputs]`.
  let expected: [Double]

  static let rows = 17

  /// Each group's number equally often, in a random order.
  static func shuffledIndices(
    _ count: Int, group: Int, using random: inout RepeatableRandom
  ) -> [Int32] {
    (0..<count).map { Int32($0 / group) }.shuffled(using: &random)
  }

  /// - Parameter hasOrder: whether inputs of the layers are in act-order.
  init(
    inputs: Int, hidden: Int, outputs: Int, group: Int = 32, isGated: Bool,
    activation: ActOrderMLP.Activation, hasBias: Bool, numbers: Numbers, hasOrder: Bool = true,
    seed: UInt64
  ) {
    var random = RepeatableRandom(seed: seed)
    func indices(_ count: Int) -> [Int32] {
      hasOrder
        ? Self.shuffledIndices(count, group: group, using: &random)
        : (0..<count).map { Int32($0 / group) }
    }
    func vector(_ count: Int) -> [Float]? {
      guard hasBias else { return nil }
      return (0..<count).map { _ in
        numbers == .integers
          ? Float(Int.random(in: -2...2, using: &random)) : .random(in: -1..<1, using: &random)
      }
    }
    self.inputs = inputs
    self.hidden = hidden
    self.outputs = outputs
    self.activation = activation
    // Gate and up read the same inputs, hence one Hessian and one order.
    let first = indices(inputs)
    gate =
      isGated
      ? Layer(
        rows: hidden, columns: inputs, group: group, numbers: numbers, indices: first,
        using: &random) : nil
    up = Layer(
      rows: hidden, columns: inputs, group: group, numbers: numbers, indices: first, using: &random)
    down = Layer(
      rows: outputs, columns: hidden, group: group, numbers: numbers, indices: indices(hidden),
      using: &random)
    gateBias = isGated ? vector(hidden) : nil
    upBias = vector(hidden)
    downBias = vector(outputs)
    hiddenScale = vector(hidden)
    x = (0..<Self.rows * inputs).map { _ in
      numbers == .integers
        ? Float(Int.random(in: -1...1, using: &random)) : .random(in: -1..<1, using: &random)
    }
    expected = Self.reference(
      x, gate: gate, up: up, down: down, gateBias: gateBias, upBias: upBias, downBias: downBias,
      hiddenScale: hiddenScale, activation: activation)
  }

  private static func reference(
    _ x: [Float], gate: Layer?, up: Layer, down: Layer, gateBias: [Float]?, upBias: [Float]?,
    downBias: [Float]?, hiddenScale: [Float]?, activation: ActOrderMLP.Activation
  ) -> [Double] {
    func function(_ x: Double) -> Double {
      switch activation {
      case .identity: x
      case .silu: x / (1 + exponential(-x))
      case .gelu:
        x / 2 * (1 + hyperbolicTangent(0.7978845608028654 * (x + 0.044715 * x * x * x)))
      case .squaredReLU: max(x, 0) * max(x, 0)
      }
    }
    func added(_ y: [Double], _ bias: [Float]?, _ width: Int) -> [Double] {
      guard let bias else { return y }
      return y.enumerated().map { $1 + Double(bias[$0 % width]) }
    }
    let x = x.map(Double.init)
    let ups = added(up.product(x, count: rows), upBias, up.rows)
    var hidden: [Double]
    if let gate {
      let gates = added(gate.product(x, count: rows), gateBias, up.rows)
      hidden = zip(gates, ups).map { function($0) * $1 }
    } else {
      hidden = ups.map(function)
    }
    if let hiddenScale {
      hidden = hidden.enumerated().map { $1 * Double(hiddenScale[$0 % up.rows]) }
    }
    return added(down.product(hidden, count: rows), downBias, down.rows)
  }

  func block() throws -> ActOrderMLP {
    try ActOrderMLP(
      gate: gate?.matrix(), up: up.matrix(), down: down.matrix(), gateBias: gateBias,
      upBias: upBias, downBias: downBias, hiddenScale: hiddenScale, activation: activation)
  }

  /// Runs a scheme and gives each rank's output and counters.
  static func run(
    _ block: ActOrderMLP, _ scheme: TensorParallelScheme, ranks: Int, x: [Float],
    fusesGate: Bool = true, arithmetic: Arithmetic = .exact
  ) throws -> [(y: [Float], counters: TensorParallelCounters)] {
    let prepared =
      scheme == .tpAware && block.movedOrder == nil ? try block.movingInputOrder() : block
    return try ThreadCommunicator.run(ranks: ranks) { communicator in
      let shard = try MLPShard(
        prepared, scheme: scheme, rank: communicator.rank, ranks: ranks, fusesGate: fusesGate)
      let layer = try TensorParallelMLP(
        shard, communicator: communicator, arithmetic: arithmetic, pool: WorkerPool(threads: 1))
      return (y: try layer(x), counters: layer.counters)
    }
  }
}
