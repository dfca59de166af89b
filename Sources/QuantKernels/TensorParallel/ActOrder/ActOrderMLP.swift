/// A feed-forward block of int4 layers that may be in act-order:
///
///     y = (φ(x Wgᵀ + bg) ⊙ (x Wuᵀ + bu) ⊙ s) Wdᵀ + bd       gated
///     y = (φ(x Wuᵀ + bu) ⊙ s) Wdᵀ + bd                        plain
///
/// with weights as ``Int4Matrix`` holds them: columns sorted by group, and an input permutation.
/// P1 is that of gate and up, P2 that of down.
public struct ActOrderMLP: Sendable {
  /// φ, elementwise.
  public enum Activation: String, Sendable, CaseIterable {
    /// `identity`: x; `silu`: `x · sigmoid(x)`; `gelu`: the tanh form of GELU.
    /// `identity`: x; `silu`: x · sigmoid(x); `gelu`: the tanh form of GELU.
    case identity, silu, gelu
    /// max(x, 0)².
    case squaredReLU
  }

  /// `[hidden × inputs]`; nil in a plain block.
  public let gate: Int4Matrix?
  /// `[hidden × inputs]`.
  public let up: Int4Matrix
  /// `[outputs × hidden]`.
  public let down: Int4Matrix
  /// `[hidden]`.
  public let gateBias: [Float]?
  /// `[hidden]`.
  public let upBias: [Float]?
  /// `[outputs]`.
  public let downBias: [Float]?
  /// s, a factor for each hidden channel (AWQ's and SmoothQuant's), `[hidden]`.
  public let hiddenScale: [Float]?
  /// φ.
  public let activation: Activation
  /// The checksum of P2 where the hidden channels stand in its order already: the marker of
  /// ``movingInputOrder(consumers:)``, without which a second pass could not be told from a first.
  public let movedOrder: UInt64?
  /// XXH64 of all weights and orders: ranks compare it.
  public let checksum: UInt64

  /// K1.
  public var inputs: Int { up.columns }
  /// N1.
  public var hidden: Int { up.rows }
  /// N2.
  public var outputs: Int { down.rows }
  /// P2; the identity where there is none.
  public var hiddenOrder: Permutation {
    down.inputPermutation.map { Permutation(unchecked: $0) } ?? .identity(hidden)
  }

  /// A block of layers that belong together.
  ///
  /// - Parameters:
  ///   - movedOrder: from a file, what ``movedOrder`` was when it was written.
  ///   - gate: `[hidden × inputs]`; nil for a block without a gate.
  ///   - up: `[hidden × inputs]`.
  ///   - down: `[outputs × hidden]`.
  ///   - gateBias: `[hidden]`.
  ///   - upBias: `[hidden]`.
  ///   - downBias: `[outputs]`.
  ///   - hiddenScale: `[hidden]`: factors of the hidden channels.
  ///   - activation: φ.
  /// - Throws: ``QuantError`` `.invalidArgument` for sizes that do not fit each other, vectors of the
  ///   wrong length, values that are not finite, and a file that says that its order was moved and
  ///   whose down projection still has one.
  /// - Complexity: O(weights), for the checksum.
  public init(
    gate: Int4Matrix? = nil, up: Int4Matrix, down: Int4Matrix, gateBias: [Float]? = nil,
    upBias: [Float]? = nil, downBias: [Float]? = nil, hiddenScale: [Float]? = nil,
    activation: Activation, movedOrder: UInt64? = nil
  ) throws(QuantError) {
    let subject = "feed-forward block"
    guard up.rows == down.columns else {
      throw QuantError(
        .invalidArgument, subject,
        "up has \(up.rows) outputs and down \(down.columns) inputs",
        remedy: "pass layers of one block")
    }
    if let gate, gate.rows != up.rows || gate.columns != up.columns {
      throw QuantError(
        .invalidArgument, subject,
        "gate is \(gate.rows)×\(gate.columns) and up \(up.rows)×\(up.columns)",
        remedy: "pass layers of one block")
    }
    guard gate != nil || gateBias == nil else {
      throw QuantError(
        .invalidArgument, subject, "a bias of a gate that is not there", remedy: "leave it out")
    }
    for (name, vector, count) in [
      ("gate's bias", gateBias, up.rows), ("up's bias", upBias, up.rows),
      ("down's bias", downBias, down.rows), ("hidden scale", hiddenScale, up.rows),
    ] {
      guard let vector else { continue }
      guard vector.count == count, vector.allSatisfy(\.isFinite) else {
        throw QuantError(
          .invalidArgument, subject, "\(name) has \(vector.count) values for \(count), all finite",
          remedy: "pass one finite value a channel")
      }
    }
    guard movedOrder == nil || down.inputPermutation == nil else {
      throw QuantError(
        .invalidData, subject,
        "its hidden channels are marked as moved, and its down projection has an input order",
        remedy: "take gate, up and down from one file")
    }
    self.gate = gate
    self.up = up
    self.down = down
    self.gateBias = gateBias
    self.upBias = upBias
    self.downBias = downBias
    self.hiddenScale = hiddenScale
    self.activation = activation
    self.movedOrder = movedOrder
    var hash = XXH64()
    for matrix in [gate, up, down].compactMap({ $0 }) { matrix.update(&hash) }
    for vector in [gateBias, upBias, downBias, hiddenScale] {
      var count = Int64(vector?.count ?? -1).littleEndian
      withUnsafeBytes(of: &count) { hash.update($0) }
      vector?.withUnsafeBytes { hash.update($0) }
    }
    var tail = [UInt64(ActOrderMLP.Activation.allCases.firstIndex(of: activation) ?? 0)]
    if let movedOrder { tail.append(movedOrder) }
    tail.withUnsafeBytes { hash.update($0) }
    checksum = hash.finish()
  }

  /// The TP-aware pass: P2 moves from the input of the down projection to the outputs of gate and up,
  /// with all that belongs to a hidden channel. Since φ is elementwise, products do not change; and
  /// what a rank computes is what it needs.
  ///
  /// Without act-order nothing moves. Done offline, once.
  ///
  /// - Parameter consumers: all layers that read the hidden channels.
  /// - Returns: the block with ``movedOrder`` set.
  /// - Throws: ``QuantError`` `.invalidArgument` when the pass was made already, `.unsupported` when
  ///   another layer reads the hidden channels too and would find them in another order.
  /// - Complexity: O(weights of gate and up).
  ///
  /// Source: Hoque et al., TP-Aware Dequantization, arXiv 2402.04925.
  public func movingInputOrder(consumers: [String] = ["down"]) throws(QuantError) -> ActOrderMLP {
    if let movedOrder {
      throw QuantError(
        .invalidArgument, "TP-aware pass",
        "was made already (order \(String(movedOrder, radix: 16)))",
        remedy: "use the block as it is, or load the original weights")
    }
    if let other = consumers.first(where: { $0 != "down" }) {
      throw QuantError(
        .unsupported, "TP-aware pass",
        "\(other) reads the hidden channels beside the down projection",
        remedy: "give it weights of its own, or use another scheme")
    }
    let order = hiddenOrder
    let isIdentity = order.isIdentity
    return try ActOrderMLP(
      gate: isIdentity ? gate : gate?.permutingRows(order.order),
      up: isIdentity ? up : up.permutingRows(order.order),
      down: isIdentity && down.inputPermutation == nil
        ? down : down.storedColumns(0..<down.columns),
      gateBias: gateBias.map(order.gather), upBias: upBias.map(order.gather), downBias: downBias,
      hiddenScale: hiddenScale.map(order.gather), activation: activation,
      movedOrder: order.checksum)
  }
}

extension Int4Matrix {
  /// Adds everything that the matrix holds.
  func update(_ hash: inout XXH64) {
    [Int64(rows), Int64(columns), Int64(groupSize)].withUnsafeBytes { hash.update($0) }
    codes.withUnsafeBytes { hash.update($0) }
    scales.withUnsafeBytes { hash.update($0) }
    switch offsets {
    case .symmetric: break
    case .zeroPoints(let zeros): zeros.withUnsafeBytes { hash.update($0) }
    case .minimums(let minimums): minimums.withUnsafeBytes { hash.update($0) }
    }
    inputPermutation?.withUnsafeBytes { hash.update($0) }
  }
}
