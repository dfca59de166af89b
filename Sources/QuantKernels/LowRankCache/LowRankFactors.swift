/// A model's key and value projections as products of two thin matrices (Palu, arXiv 2407.21118): what
/// a low-rank cache stores tokens with and reads them back by.
///
/// Key and value heads stand in groups of `headsPerGroup`, s. For a token x `[d]` a group caches the
/// latent `h = A x` `[r]` in place of the heads' `W x` `[s·d_h]`, and gives back
/// `B h + bias ≈ W x + bias`:
///
/// - ``Group/down``: A, `[r × d]`;
/// - ``Group/up``: B, `[s·d_h × r]`, the heads of the group one below the other.
///
/// s = 1 is the paper's M-LRD, s = all key-value heads its J-LRD, what lies between its G-LRD. Keys
/// stand **before** the rotary embedding in both factors; ``KeyMode`` says how they meet it.
///
/// Everything here was checked when it was made: whoever holds a value may index by its shape.
public struct LowRankFactors: Sendable, Equatable {
  /// The two things that attention caches.
  public enum Kind: String, Sendable, CaseIterable {
    /// Keys.
    case key
    /// Values.
    case value
  }

  /// How keys, which the rotary embedding turns by their position, are cached.
  public enum KeyMode: String, Sendable, CaseIterable {
    /// The latent before the rotation; the key is rebuilt and rotated whenever it is read.
    case rebuilt
    /// A latent that the rotation passes through: each pair of latents is one complex coordinate of
    /// one frequency, `k(t) = B rot(A x, t)`. It is cached rotated and read as `Bᵀ q`; nothing is
    /// rebuilt.
    case commuting
    /// No factors: keys are cached whole, after the rotary embedding, turned by a Hadamard rotation
    /// and quantized (the hybrid).
    case rotated
  }

  /// The model's attention, as far as factors depend on it.
  public struct Shape: Sendable, Equatable {
    /// Decoder layers.
    public var layers: Int
    /// Query heads.
    public var queryHeads: Int
    /// Key and value heads.
    public var keyValueHeads: Int
    /// Elements of a head.
    public var headDimension: Int
    /// d: the width of the residual stream, which keys and values are projected from.
    public var modelWidth: Int
    /// Elements of a head that the rotary embedding turns, the leading ones; 0 without one.
    public var rotaryDimension: Int
    /// Which two elements of a head the rotary embedding turns together.
    public var rotaryStyle: VectorOperations.RotaryStyle

    /// A shape; it is checked where factors are made of it.
    public init(
      layers: Int, queryHeads: Int, keyValueHeads: Int, headDimension: Int, modelWidth: Int,
      rotaryDimension: Int, rotaryStyle: VectorOperations.RotaryStyle
    ) {
      self.layers = layers
      self.queryHeads = queryHeads
      self.keyValueHeads = keyValueHeads
      self.headDimension = headDimension
      self.modelWidth = modelWidth
      self.rotaryDimension = rotaryDimension
      self.rotaryStyle = rotaryStyle
    }

    /// Width of all key heads together, and of all value heads.
    public var keyValueWidth: Int { keyValueHeads * headDimension }
    /// Pairs that the rotary embedding turns, each at its own frequency.
    public var rotaryPairs: Int { rotaryDimension / 2 }

    /// The two elements of a head that make up a rotated pair: `a + ib` turns by `e^{iθt}`.
    public func elements(ofPair pair: Int) -> (a: Int, b: Int) {
      switch rotaryStyle {
      case .interleaved: (2 * pair, 2 * pair + 1)
      case .halves: (pair, rotaryPairs + pair)
      }
    }

    /// The rotated pair of each element of a head; ``rotaryPairs`` for elements that stand still.
    public var pairOfElement: [Int] {
      var pairs = [Int](repeating: rotaryPairs, count: headDimension)
      for pair in 0..<rotaryPairs {
        let (a, b) = elements(ofPair: pair)
        pairs[a] = pair
        pairs[b] = pair
      }
      return pairs
    }
  }

  /// The factors of one group of heads.
  public struct Group: Sendable, Equatable {
    /// r: numbers cached for a token.
    public var rank: Int
    /// A, `[rank × d]`, row-major.
    public var down: [Float]
    /// B, `[s·d_h × rank]`, row-major.
    public var up: [Float]
    /// Added to the rebuilt heads, `[s·d_h]`; nil without one.
    public var bias: [Float]?
    /// Added to the latent before it is rotated and cached, `[rank]`: where a commuting latent holds
    /// the projection's bias. Nil without one.
    public var latentBias: [Float]?
    /// Of a commuting latent, the rotary pair whose frequency turns latents 2i and 2i + 1; the
    /// number of pairs for latents that stand still. Empty otherwise.
    public var frequencies: [Int]

    /// One group's factors; sizes are checked where ``LowRankFactors`` are made of them.
    public init(
      rank: Int, down: [Float], up: [Float], bias: [Float]? = nil, latentBias: [Float]? = nil,
      frequencies: [Int] = []
    ) {
      self.rank = rank
      self.down = down
      self.up = up
      self.bias = bias
      self.latentBias = latentBias
      self.frequencies = frequencies
    }
  }

  /// One layer's groups, in the order of their heads; no key groups where keys are cached whole.
  public struct Layer: Sendable, Equatable {
    /// Groups of keys; empty where keys are cached whole.
    public var keys: [Group]
    /// Groups of values.
    public var values: [Group]

    /// One layer's groups, in the order of their heads.
    public init(keys: [Group], values: [Group]) {
      self.keys = keys
      self.values = values
    }

    /// The groups of one kind.
    public subscript(kind: Kind) -> [Group] {
      switch kind {
      case .key: keys
      case .value: values
      }
    }
  }

  /// The model's attention, as far as factors depend on it.
  public let shape: Shape
  /// s: key-value heads that share a latent.
  public let headsPerGroup: Int
  /// How keys are cached.
  public let keyMode: KeyMode
  /// Bits of a latent that the factors were made for; a cache may take others.
  public let bits: Int
  /// Whether latents are turned by ``HadamardRotation``, `A' = R A`, `B' = B Rᵀ`; for the record, as
  /// nothing is left to do. Commuting key latents never are.
  public let isRotated: Bool
  /// One element a decoder layer.
  public let layers: [Layer]

  /// Bits that a cached latent may have.
  public static let possibleBits = [2, 3, 4, 8]

  /// Groups of each of keys and values.
  public var groupCount: Int { shape.keyValueHeads / headsPerGroup }
  /// Width of a group's heads together, s·d_h.
  public var groupWidth: Int { headsPerGroup * shape.headDimension }
  /// The most that a group's rank can be: min(d, s·d_h).
  public var fullRank: Int { min(shape.modelWidth, groupWidth) }

  /// Checks factors and takes them.
  ///
  /// - Throws: ``QuantError`` `.invalidArgument` for a shape, group size, mode or number of bits that
  ///   cannot be; `.invalidData`, naming layer, kind and group, for a rank of 0 or above
  ///   min(d, s·d_h), a matrix of another size, a value that is not finite, and key factors that do
  ///   not commute with the rotary embedding though they say so.
  /// - Complexity: O(values).
  public init(
    shape: Shape, headsPerGroup: Int, keyMode: KeyMode, bits: Int, isRotated: Bool, layers: [Layer]
  ) throws(QuantError) {
    try Self.check(shape, headsPerGroup: headsPerGroup, keyMode: keyMode, bits: bits)
    guard layers.count == shape.layers else {
      throw QuantError(
        .invalidData, "low-rank factors", "\(layers.count) layers where \(shape.layers) belong",
        remedy: "calibrate again")
    }
    let check = GroupCheck(shape: shape, headsPerGroup: headsPerGroup)
    for (index, layer) in layers.enumerated() {
      for kind in Kind.allCases {
        let groups = layer[kind]
        let wanted =
          kind == .key && keyMode == .rotated ? 0 : shape.keyValueHeads / headsPerGroup
        guard groups.count == wanted else {
          throw QuantError(
            .invalidData, "layer \(index), \(kind.rawValue)s",
            "\(groups.count) groups where \(wanted) belong", remedy: "calibrate again")
        }
        let commutes = kind == .key && keyMode == .commuting
        for (number, group) in groups.enumerated() {
          if let problem = check.problem(of: group, commutes: commutes) {
            throw QuantError(
              .invalidData, "layer \(index), \(kind.rawValue) group \(number)", problem,
              remedy: "calibrate again")
          }
        }
      }
    }
    self.shape = shape
    self.headsPerGroup = headsPerGroup
    self.keyMode = keyMode
    self.bits = bits
    self.isRotated = isRotated
    self.layers = layers
  }

  /// What can be wrong before there are any factors.
  ///
  /// - Throws: ``QuantError`` `.invalidArgument`.
  public static func check(
    _ shape: Shape, headsPerGroup: Int, keyMode: KeyMode, bits: Int
  ) throws(QuantError) {
    func refuse(_ subject: String, _ problem: String, _ remedy: String) -> QuantError {
      QuantError(.invalidArgument, subject, problem, remedy: remedy)
    }
    for (name, value, limit) in [
      ("layers", shape.layers, 1 << 10), ("query heads", shape.queryHeads, 1 << 12),
      ("key-value heads", shape.keyValueHeads, 1 << 12),
      ("head dimension", shape.headDimension, 1 << 12),
      ("model width", shape.modelWidth, 1 << 18),
    ] where !(1...limit).contains(value) {
      throw refuse(name, "\(value) is outside 1…\(limit)", "pass the model's own shape")
    }
    guard shape.queryHeads % shape.keyValueHeads == 0 else {
      throw refuse(
        "query heads",
        "\(shape.queryHeads) are no multiple of \(shape.keyValueHeads) key-value heads",
        "pass the model's own shape")
    }
    guard headsPerGroup >= 1, shape.keyValueHeads % headsPerGroup == 0 else {
      throw refuse(
        "heads per group", "\(headsPerGroup) do not divide \(shape.keyValueHeads) key-value heads",
        "choose a divisor, such as 1 or \(shape.keyValueHeads)")
    }
    guard possibleBits.contains(bits) else {
      throw refuse("bits", "\(bits) is none of 2, 3, 4, 8", "choose one of these")
    }
    // A rotation turns pairs, so an odd head has an element left that no pairing accounts for.
    guard (0...shape.headDimension).contains(shape.rotaryDimension),
      shape.rotaryDimension % 2 == 0,
      shape.rotaryDimension == 0 || shape.headDimension % 2 == 0
    else {
      throw refuse(
        "rotary dimension",
        "\(shape.rotaryDimension) of heads of \(shape.headDimension) elements",
        "a rotary embedding needs an even head dimension and at most all of it")
    }
    guard keyMode != .commuting || shape.rotaryDimension > 0 else {
      throw refuse(
        "key mode", "there is no rotary embedding to commute with", "choose rebuilt keys")
    }
  }
}

/// What a group of a shape must be.
private struct GroupCheck {
  let shape: LowRankFactors.Shape
  let width: Int
  let fullRank: Int
  let pairOfElement: [Int]

  init(shape: LowRankFactors.Shape, headsPerGroup: Int) {
    self.shape = shape
    width = headsPerGroup * shape.headDimension
    fullRank = min(shape.modelWidth, width)
    pairOfElement = shape.pairOfElement
  }

  /// What is wrong with a group, or nil.
  func problem(of group: LowRankFactors.Group, commutes: Bool) -> String? {
    let rank = group.rank
    // The rank is bounded by widths that were bounded, so the products below do not overflow.
    // A commuting latent may need more than d numbers: each frequency is cut by itself.
    let most = commutes ? width : fullRank
    guard rank >= 1, rank <= most else { return "rank \(rank) is outside 1…\(most)" }
    let matrices = [
      ("down", group.down, rank * shape.modelWidth, "[\(rank) × \(shape.modelWidth)]"),
      ("up", group.up, width * rank, "[\(width) × \(rank)]"),
      ("bias", group.bias ?? [], group.bias == nil ? 0 : width, "[\(width)]"),
      ("latent bias", group.latentBias ?? [], group.latentBias == nil ? 0 : rank, "[\(rank)]"),
    ]
    for (name, values, count, shape) in matrices {
      guard values.count == count else {
        return "\(values.count) values of \(name) where \(shape) belong"
      }
      if let index = values.firstIndex(where: { !$0.isFinite }) {
        return "value \(index) of \(name) is \(values[index])"
      }
    }
    if commutes { return commutingProblem(of: group) }
    if !group.frequencies.isEmpty { return "frequencies belong to commuting latents only" }
    if group.latentBias != nil { return "a latent bias belongs to commuting latents only" }
    return nil
  }

  /// `B` must join latents of one frequency with elements of that frequency, by complex numbers:
  /// only then does `B rot(h) = rot(B h)`.
  private func commutingProblem(of group: LowRankFactors.Group) -> String? {
    let rank = group.rank
    guard rank % 2 == 0 else { return "a commuting latent of odd length \(rank)" }
    guard group.bias == nil else { return "a bias outside of a commuting latent does not turn" }
    guard group.frequencies.count == rank / 2 else {
      return "\(group.frequencies.count) frequencies for \(rank / 2) pairs of latents"
    }
    let still = shape.rotaryPairs
    for frequency in group.frequencies where !(0...still).contains(frequency) {
      return "frequency \(frequency) is outside 0…\(still)"
    }
    for head in 0..<width / shape.headDimension {
      for element in 0..<shape.headDimension {
        let row = (head * shape.headDimension + element) * rank
        for pair in 0..<rank / 2 where group.frequencies[pair] != pairOfElement[element] {
          guard group.up[row + 2 * pair] == 0, group.up[row + 2 * pair + 1] == 0 else {
            return "head \(head), element \(element) takes latents of another frequency"
          }
        }
      }
      for pair in 0..<rank / 2 where group.frequencies[pair] < still {
        let (a, b) = shape.elements(ofPair: group.frequencies[pair])
        let real = (head * shape.headDimension + a) * rank + 2 * pair
        let imaginary = (head * shape.headDimension + b) * rank + 2 * pair
        guard group.up[real] == group.up[imaginary + 1],
          group.up[real + 1] == -group.up[imaginary]
        else { return "head \(head), latents \(2 * pair) do not turn as a complex number" }
      }
    }
    return nil
  }
}
