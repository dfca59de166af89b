/// A feed-forward block in act-order over the ranks of a communicator: one schedule for the four
/// schemes, with the same kernels and the same order of sums, so that they differ in what they move
/// and in nothing else.
///
/// Every rank has one, made of its own shard, and calls it with the same inputs.
public final class TensorParallelMLP {
  /// This rank's part.
  public let shard: MLPShard
  /// What has been counted since the last ``resetCounters()``.
  public private(set) var counters = TensorParallelCounters()

  private let communicator: any Communicator
  private let arithmetic: Arithmetic
  private let pool: WorkerPool
  private let workspace = Workspace()
  private var startTraffic: CommunicationTraffic
  private var buffers: [Slot: AlignedBuffer] = [:]
  /// Where the channels of a row stand after an all-gather of so many rows.
  private var places: (rows: Int, channels: [Int]) = (0, [])

  private enum Slot: Hashable {
    case inputs, gateInputs, joined, gate, hidden, gathered, permuted, sent, exchanged
  }

  /// Connects a shard with the other ranks', which must be of the same block, scheme and order.
  ///
  /// - Parameters:
  ///   - pool: this rank's workers.
  ///   - shard: this rank's part.
  ///   - communicator: this rank's.
  ///   - arithmetic: of the products.
  /// - Throws: ``QuantError``: `.invalidArgument` for a shard of another rank, `.invalidData` on every
  ///   rank when one has other weights or another order, and what the communicator throws.
  public init(
    _ shard: MLPShard, communicator: any Communicator, arithmetic: Arithmetic = .fast,
    pool: WorkerPool
  ) throws(QuantError) {
    guard shard.rank == communicator.rank, shard.ranks == communicator.ranks else {
      let error = QuantError(
        .invalidArgument, "rank \(communicator.rank)",
        "got the part of rank \(shard.rank) of \(shard.ranks), where there are "
          + "\(communicator.ranks)",
        remedy: "give each rank its own part")
      communicator.abort(error)
      throw error
    }
    self.shard = shard
    self.communicator = communicator
    self.arithmetic = arithmetic
    self.pool = pool
    try communicator.requireAgreement(
      shard.fingerprint, on: "weights, scheme or order of the hidden channels")
    startTraffic = communicator.traffic
  }

  /// Starts counting anew.
  public func resetCounters() {
    counters = TensorParallelCounters()
    startTraffic = communicator.traffic
  }

  /// The block's output for `x`, `[M × inputs]`; the same on every rank.
  ///
  /// - Returns: `[M × outputs]`.
  /// - Throws: ``QuantError`` `.invalidArgument` for no rows, rows of another length, values that are
  ///   not finite, and what the communicator throws. An error ends the collectives of all ranks.
  /// - Complexity: O(M · weights of the part).
  public func callAsFunction(_ x: [Float]) throws(QuantError) -> [Float] {
    let count = x.count / shard.inputs
    do throws(QuantError) {
      guard count > 0, x.count % shard.inputs == 0, x.allSatisfy(\.isFinite),
        count <= 1 << 24
      else {
        throw QuantError(
          .invalidArgument, "inputs of a feed-forward block",
          "\(x.count) values are no rows of \(shard.inputs) finite ones",
          remedy: "pass at least one whole row of finite values")
      }
    } catch {
      communicator.abort(error)
      throw error
    }
    var y = [Float](repeating: 0, count: count * shard.outputs)
    var failure: QuantError?
    x.withUnsafeBufferPointer { x in
      y.withUnsafeMutableBufferPointer { y in
        guard let from = x.baseAddress, let to = y.baseAddress else { return }
        do throws(QuantError) { try run(from, count: count, into: to) } catch { failure = error }
      }
    }
    if let failure { throw failure }
    return y
  }

  /// The same on memory of the caller's: `x` is `[count × inputs]`, finite, `y` `[count × outputs]`.
  ///
  /// - Throws: ``QuantError`` `.outOfMemory`, and what the communicator throws.
  package func run(
    _ x: UnsafePointer<Float>, count: Int, into y: UnsafeMutablePointer<Float>
  ) throws(QuantError) {
    do throws(QuantError) {
      let hidden = try hiddenChannels(x, count: count)
      let taken = try exchange(hidden, count: count)
      try multiply(shard.down, taken, count, into: y, stride: shard.outputs)
      try communicator.allReduce(
        UnsafeMutableBufferPointer(start: y, count: count * shard.outputs))
    } catch {
      communicator.abort(error)
      throw error
    }
    // After the sum, so that it is added once.
    if let bias = shard.downBias { Self.add(bias, to: y, count: count, stride: shard.outputs) }
    counters.groupSwitches = shard.groupSwitches
    counters.scaleBytes = shard.scaleBytes
    counters.traffic = communicator.traffic.since(startTraffic)
  }

  // MARK: Before the exchange

  /// φ(gate) ⊙ up of this rank's hidden channels, `[count × n]`.
  func hiddenChannels(
    _ x: UnsafePointer<Float>, count: Int
  ) throws(QuantError) -> UnsafeMutablePointer<Float> {
    let n = shard.ownHidden
    let hidden = try buffer(.hidden, count * n)
    let inputs = try gathered(x, count: count, shard.inputOrder, .inputs)
    let width = shard.isFused ? 2 * n : n
    let up: UnsafeMutablePointer<Float>
    if shard.isFused || shard.gate != nil {
      up = try buffer(.joined, count * width)
    } else {
      up = hidden
    }
    try multiply(shard.first, inputs, count, into: up, stride: width)
    if let gate = shard.gate {
      // One gather does for both where they have one order.
      let gateInputs =
        shard.gateOrder == shard.inputOrder
        ? inputs : try gathered(x, count: count, shard.gateOrder, .gateInputs)
      let gateOutputs = try buffer(.gate, count * n)
      try multiply(gate, gateInputs, count, into: gateOutputs, stride: n)
      for row in 0..<count { combine(gateOutputs + row * n, up + row * n, hidden + row * n) }
    } else if shard.isFused {
      for row in 0..<count {
        combine(up + row * width, up + row * width + n, hidden + row * n)
      }
    } else {
      for row in 0..<count { combine(nil, hidden + row * n, hidden + row * n) }
    }
    note(intermediate: count * n)
    return hidden
  }

  /// One row's hidden channels, from those of gate (nil in a plain block) and up.
  private func combine(
    _ gate: UnsafeMutablePointer<Float>?, _ up: UnsafeMutablePointer<Float>,
    _ hidden: UnsafeMutablePointer<Float>
  ) {
    let n = shard.ownHidden
    if let bias = shard.upBias { for i in 0..<n { up[i] += bias[i] } }
    if let gate, let bias = shard.gateBias { for i in 0..<n { gate[i] += bias[i] } }
    shard.activation.apply(gate, up, into: hidden, count: n)
    if let scale = shard.hiddenScale { for i in 0..<n { hidden[i] *= scale[i] } }
  }

  private func gathered(
    _ x: UnsafePointer<Float>, count: Int, _ order: [Int32]?, _ slot: Slot
  ) throws(QuantError) -> UnsafePointer<Float> {
    guard let order else { return x }
    let inputs = shard.inputs
    let result = try buffer(slot, count * inputs)
    order.withUnsafeBufferPointer { order in
      for row in 0..<count {
        let (from, to) = (x + row * inputs, result + row * inputs)
        for column in 0..<inputs { to[column] = from[Int(order[column])] }
      }
    }
    counters.gatheredElements += count * inputs
    return UnsafePointer(result)
  }

  // MARK: The exchange

  /// What the down projection's columns multiply, `[count × its columns]`.
  private func exchange(
    _ hidden: UnsafeMutablePointer<Float>, count: Int
  ) throws(QuantError) -> UnsafePointer<Float> {
    let n = shard.ownHidden
    switch shard.exchange {
    case .none: return UnsafePointer(hidden)
    case .gather(let inputs):
      let width = inputs.count
      let result = try buffer(.permuted, count * width)
      inputs.withUnsafeBufferPointer { inputs in
        for row in 0..<count {
          let (from, to) = (hidden + row * n, result + row * width)
          for column in 0..<width {
            to[column] = inputs[column] < 0 ? 0 : from[Int(inputs[column])]
          }
        }
      }
      counters.gatheredElements += count * n
      return UnsafePointer(result)
    case .allGather(let order): return try gatherAll(hidden, count: count, order)
    case .allToAll(let send, let sendCounts, let receiveCounts, let places):
      // Rows inside a part: each part is [count × its channels].
      let sent = try buffer(.sent, count * n)
      let received = try buffer(.exchanged, count * n)
      let result = try buffer(.permuted, count * n)
      var start = 0
      for part in sendCounts {
        let base = sent + count * start
        for row in 0..<count {
          for i in 0..<part { base[row * part + i] = hidden[row * n + Int(send[start + i])] }
        }
        start += part
      }
      try communicator.allToAll(
        UnsafeBufferPointer(start: sent, count: count * n), counts: sendCounts.map { $0 * count },
        into: UnsafeMutableBufferPointer(start: received, count: count * n),
        receivedCounts: receiveCounts.map { $0 * count })
      start = 0
      for part in receiveCounts {
        let base = received + count * start
        for row in 0..<count {
          for i in 0..<part { result[row * n + Int(places[start + i])] = base[row * part + i] }
        }
        start += part
      }
      // Out of the own channels, and into the needed order.
      counters.gatheredElements += 2 * count * n
      return UnsafePointer(result)
    }
  }

  /// The naive scheme as published: all channels everywhere, permuted, and a part kept.
  private func gatherAll(
    _ hidden: UnsafeMutablePointer<Float>, count: Int, _ order: [Int32]
  ) throws(QuantError) -> UnsafePointer<Float> {
    let (n, all) = (shard.ownHidden, shard.hidden)
    let gathered = try buffer(.gathered, count * all)
    let permuted = try buffer(.exchanged, count * all)
    let result = try buffer(.permuted, count * n)
    try communicator.allGather(
      UnsafeBufferPointer(start: hidden, count: count * n),
      into: UnsafeMutableBufferPointer(start: gathered, count: count * all))
    note(intermediate: count * all)
    if places.rows != count {
      // A channel lies in the block of the rank that computed it, [count × n].
      places = (count, order.map { Int($0) / n * count * n + Int($0) % n })
    }
    places.channels.withUnsafeBufferPointer { places in
      for row in 0..<count {
        let (from, to) = (gathered + row * n, permuted + row * all)
        for column in 0..<all { to[column] = from[places[column]] }
      }
    }
    counters.gatheredElements += count * all
    for row in 0..<count {
      (result + row * n).update(from: permuted + row * all + shard.rank * n, count: n)
    }
    return UnsafePointer(result)
  }

  // MARK: Parts

  private func multiply(
    _ weights: PackedWeights, _ x: UnsafePointer<Float>, _ count: Int,
    into y: UnsafeMutablePointer<Float>, stride: Int
  ) throws(QuantError) {
    try weights.multiply(
      x, count: count, into: y, outputStride: stride, arithmetic: arithmetic,
      workspace: workspace, pool: pool)
  }

  private static func add(
    _ bias: [Float], to y: UnsafeMutablePointer<Float>, count: Int, stride: Int
  ) {
    for row in 0..<count { for i in bias.indices { y[row * stride + i] += bias[i] } }
  }

  private func note(intermediate elements: Int) {
    counters.largestIntermediate = max(counters.largestIntermediate, elements)
  }

  /// Memory that is kept between calls and grows to the largest.
  private func buffer(_ slot: Slot, _ floats: Int) throws(QuantError) -> UnsafeMutablePointer<Float>
  {
    if let kept = buffers[slot], kept.count >= 4 * floats {
      return kept.base.assumingMemoryBound(to: Float.self)
    }
    let fresh = try AlignedBuffer(count: 4 * floats, for: "activations of a feed-forward block")
    buffers[slot] = fresh
    return fresh.base.assumingMemoryBound(to: Float.self)
  }
}

extension ActOrderMLP.Activation {
  /// `y = φ(gate) ⊙ up`, or φ(up) where there is no gate; each element by itself.
  func apply(
    _ gate: UnsafePointer<Float>?, _ up: UnsafeMutablePointer<Float>,
    into y: UnsafeMutablePointer<Float>, count: Int
  ) {
    if let gate {
      switch self {
      case .identity: for i in 0..<count { y[i] = gate[i] * up[i] }
      case .silu: VectorOperations.siluMultiply(gate, up, into: y, count: count)
      case .gelu: VectorOperations.geluMultiply(gate, up, into: y, count: count)
      case .squaredReLU: VectorOperations.squaredReLUMultiply(gate, up, into: y, count: count)
      }
      return
    }
    if self == .identity {
      if y != up { y.update(from: up, count: count) }
      return
    }
    // φ(up) ⊙ 1, a block of ones at a time.
    let block = 256
    withUnsafeTemporaryAllocation(of: Float.self, capacity: block) { ones in
      guard let one = ones.baseAddress else { return }
      one.update(repeating: 1, count: block)
      for start in stride(from: 0, to: count, by: block) {
        apply(up + start, one, into: y + start, count: min(block, count - start))
      }
    }
  }
}

extension CommunicationTraffic {
  /// What came after `earlier`.
  func since(_ earlier: CommunicationTraffic) -> CommunicationTraffic {
    var traffic = self
    traffic.collectives -= earlier.collectives
    traffic.messages -= earlier.messages
    traffic.bytes -= earlier.bytes
    traffic.seconds -= earlier.seconds
    traffic.modelledMicroseconds -= earlier.modelledMicroseconds
    return traffic
  }
}
