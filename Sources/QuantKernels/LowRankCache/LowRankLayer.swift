import CQuantKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// One layer's factors in the order in which its cache and attention read them.
///
/// Holds beside the factors themselves the transposes that a product without sums across lanes
/// needs, and the angles of rebuilt keys. Immutable; any number of caches may share it.
public final class LowRankLayer: @unchecked Sendable {
  /// Angles that the rotary embedding turns each of its pairs by: radians a position, one a pair.
  public struct Rotary: Sendable, Equatable {
    /// Radians a position, one a pair.
    public var frequencies: [Double]
    /// Factor of every cosine and sine.
    public var magnitude: Double

    /// Angles, and the factor of every cosine and sine.
    public init(frequencies: [Double], magnitude: Double = 1) {
      self.frequencies = frequencies
      self.magnitude = magnitude
    }

    /// `base^(−2i/dimension)`, the plain rotary embedding.
    public init(dimension: Int, base: Double = 10_000) {
      self.init(
        frequencies: (0..<max(0, dimension) / 2).map {
          pow(base, -2 * Double($0) / Double(dimension))
        })
    }
  }

  /// The model's attention, as far as factors depend on it.
  public let shape: LowRankFactors.Shape
  /// How keys are cached.
  public let keyMode: LowRankFactors.KeyMode
  /// Key-value heads that share a latent of values, and of keys unless these are whole.
  public let headsPerGroup: Int
  /// The angles that keys are turned by.
  public let rotary: Rotary
  /// Numbers cached a token, group by group: latents, or a head's elements where keys are whole.
  public let keyWidths: [Int]
  /// Latents of values cached a token, group by group.
  public let valueWidths: [Int]

  let keyGroups: [LowRankFactors.Group]
  let valueGroups: [LowRankFactors.Group]

  /// The largest magnitude that a commuting latent's bias adds.
  let largestLatentBias: Float

  /// Query heads of a group's heads together.
  var unitHeads: Int { headsPerGroup * queriesPerHead }
  var units: Int { shape.keyValueHeads / headsPerGroup }
  /// Query heads of a key-value head.
  var queriesPerHead: Int { shape.queryHeads / shape.keyValueHeads }
  /// Groups of keys of a unit.
  var keyGroupsPerUnit: Int { keyMode == .rotated ? headsPerGroup : 1 }

  /// Numbers from group to group of something padded to 16.
  static func padded(_ count: Int) -> Int { (count + 15) / 16 * 16 }

  /// A head's width, padded.
  var headStride: Int { Self.padded(shape.headDimension) }

  private let memory: AlignedBuffer
  private let places: Places
  /// The down-projections that multiply int8; of the others `memory` holds floats.
  private let packed: [LowRankFactors.Kind: PackedWeights]

  private struct Places {
    /// `[heads · d_h × r]` of each key group, as it is.
    var keyUp: [Int] = []
    /// Of commuting keys `[heads][d_h × padded r]`.
    var keyUpHeads: [Int] = []
    var keyBias: [Int?] = []
    /// `[heads][r × padded d_h]` of each group of values.
    var valueUp: [Int] = []
    /// `[heads · d_h]`.
    var valueBias: [Int?] = []
    /// `[d × padded Σr]`; nil where they are packed.
    var keyDown: Int?
    var valueDown: Int?
    var latentBias: Int?
    /// `[pairs × 16]`, of positions 0...15.
    var cosines = 0
    var sines = 0
    /// `[d_h × padded d_h]`, where d_h is no power of two.
    var rotation: Int?
    var floats = 0

    mutating func place(_ count: Int) -> Int {
      defer { floats += (count + 15) / 16 * 16 }
      return floats
    }
  }

  /// Takes the factors of one layer.
  ///
  /// - Parameters:
  ///   - forced: how keys are cached; nil: as the factors say. `.rotated`, which needs no factors of
  ///     keys, can always be asked for.
  ///   - rotary: the angles of the model's rotary embedding; nil where it has none.
  ///   - factors: the model's factors.
  ///   - layer: which layer, from 0.
  ///   - arithmetic: of ``project(_:_:count:into:instructionSet:workspace:pool:)``. With `.fast` the
  ///     down-projections are held as int8 with a binary16 scale for 32 inputs (8.5 bits a number)
  ///     and multiply int8 tokens, as the model's weights do; but for a width that is no multiple of
  ///     32, and factors whose scales exceed binary16, which stay floats.
  ///   - instructionSet: whose kernels multiply int8; the best of this processor unless stated.
  /// - Throws: ``QuantError`` `.invalidArgument` for a layer that is not there, a mode that the
  ///   factors were not made for, angles that are not one a pair and finite, and groups wider than
  ///   8192; `.outOfMemory`.
  public init(
    _ factors: LowRankFactors, layer: Int, rotary: Rotary?,
    keyMode forced: LowRankFactors.KeyMode? = nil, arithmetic: Arithmetic = .exact,
    instructionSet: InstructionSet = .best
  ) throws(QuantError) {
    guard factors.layers.indices.contains(layer) else {
      throw QuantError(
        .invalidArgument, "layer \(layer)", "the factors have \(factors.layers.count)",
        remedy: "use factors of this model")
    }
    let mode = forced ?? factors.keyMode
    guard mode == factors.keyMode || mode == .rotated else {
      throw QuantError(
        .invalidArgument, "key mode \(mode.rawValue)",
        "the factors were made for \(factors.keyMode.rawValue) keys",
        remedy: "use that or rotated, or calibrate again")
    }
    let shape = factors.shape
    let rotary = rotary ?? Rotary(frequencies: [])
    guard rotary.frequencies.count == shape.rotaryPairs, rotary.magnitude.isFinite,
      rotary.frequencies.allSatisfy({ $0.isFinite && abs($0) <= 64 })
    else {
      throw QuantError(
        .invalidArgument, "rotary embedding",
        "\(rotary.frequencies.count) angles for \(shape.rotaryPairs) pairs, or not all finite",
        remedy: "pass the model's own")
    }
    self.shape = shape
    self.rotary = rotary
    self.keyMode = mode
    headsPerGroup = factors.headsPerGroup
    keyGroups = mode == .rotated ? [] : factors.layers[layer].keys
    valueGroups = factors.layers[layer].values
    largestLatentBias = keyGroups.flatMap { $0.latentBias ?? [] }.map(abs).max() ?? 0
    keyWidths =
      mode == .rotated
      ? [Int](repeating: shape.headDimension, count: shape.keyValueHeads) : keyGroups.map(\.rank)
    valueWidths = valueGroups.map(\.rank)
    for width in keyWidths + valueWidths where width > Int(QK_LATENT_MOST_WIDTH) {
      throw QuantError(
        .invalidArgument, "low-rank layer", "a group of \(width) latents",
        remedy: "use at most \(QK_LATENT_MOST_WIDTH)")
    }

    let headDimension = shape.headDimension
    let headStride = Self.padded(headDimension)
    var places = Places()
    for group in keyGroups {
      places.keyUp.append(places.place(group.up.count))
      if mode == .commuting {
        places.keyUpHeads.append(
          places.place(headsPerGroup * headDimension * Self.padded(group.rank)))
      }
      places.keyBias.append(group.bias == nil ? nil : places.place(headsPerGroup * headDimension))
    }
    for group in valueGroups {
      places.valueUp.append(places.place(headsPerGroup * group.rank * headStride))
      places.valueBias.append(
        group.bias == nil ? nil : places.place(headsPerGroup * headDimension))
    }
    let keySum = keyGroups.reduce(0) { $0 + $1.rank }
    var packed: [LowRankFactors.Kind: PackedWeights] = [:]
    if arithmetic == .fast {
      packed[.key] = try Self.packed(
        keyGroups, shape.modelWidth, "keys", layer: layer, instructionSet)
      packed[.value] = try Self.packed(
        valueGroups, shape.modelWidth, "values", layer: layer, instructionSet)
    }
    self.packed = packed
    if packed[.key] == nil {
      places.keyDown = places.place(shape.modelWidth * Self.padded(keySum))
    }
    if packed[.value] == nil {
      places.valueDown = places.place(
        shape.modelWidth * Self.padded(valueWidths.reduce(0, +)))
    }
    if keyGroups.contains(where: { $0.latentBias != nil }) {
      places.latentBias = places.place(keySum)
    }
    places.cosines = places.place(16 * shape.rotaryPairs)
    places.sines = places.place(16 * shape.rotaryPairs)
    let isPowerOfTwo = headDimension & (headDimension - 1) == 0
    if mode == .rotated, !isPowerOfTwo {
      places.rotation = places.place(headDimension * headStride)
    }
    memory = try AlignedBuffer(count: 4 * max(places.floats, 1), for: "low-rank layer")
    self.places = places
    fill(places)
  }

  /// The down-projections of groups one below the other as int8; nil where floats must do.
  private static func packed(
    _ groups: [LowRankFactors.Group], _ width: Int, _ name: String, layer: Int,
    _ instructionSet: InstructionSet
  ) throws(QuantError) -> PackedWeights? {
    guard !groups.isEmpty, width % GGMLType.q8_0.blockElements == 0,
      let blocks = try? GGMLBlocks.quantize(.q8_0, groups.flatMap(\.down))
    else { return nil }
    let rows = groups.reduce(0) { $0 + $1.rank }
    return try blocks.withUnsafeBufferPointer { bytes throws(QuantError) in
      try PackedWeights(
        type: .q8_0, parts: [(UnsafeRawBufferPointer(bytes), rows)], columns: width,
        name: "factors of \(name) of layer \(layer)", instructionSet: instructionSet)
    }
  }

  private func fill(_ places: Places) {
    let base = memory.base.assumingMemoryBound(to: Float.self)
    let d = shape.headDimension
    for (index, group) in keyGroups.enumerated() {
      for (at, value) in group.up.enumerated() { base[places.keyUp[index] + at] = value }
      if keyMode == .commuting {
        let stride = Self.padded(group.rank)
        for row in 0..<headsPerGroup * d {
          for column in 0..<group.rank {
            base[places.keyUpHeads[index] + row * stride + column] =
              group.up[row * group.rank + column]
          }
        }
      }
      if let place = places.keyBias[index], let bias = group.bias {
        for (at, value) in bias.enumerated() { base[place + at] = value }
      }
    }
    for (index, group) in valueGroups.enumerated() {
      for head in 0..<headsPerGroup {
        let target = base + places.valueUp[index] + head * group.rank * headStride
        for element in 0..<d {
          for latent in 0..<group.rank {
            target[latent * headStride + element] =
              group.up[(head * d + element) * group.rank + latent]
          }
        }
      }
      if let place = places.valueBias[index], let bias = group.bias {
        for (at, value) in bias.enumerated() { base[place + at] = value }
      }
    }
    func transpose(_ groups: [LowRankFactors.Group], _ place: Int?) {
      guard let place else { return }
      let stride = Self.padded(groups.reduce(0) { $0 + $1.rank })
      var column = 0
      for group in groups {
        for latent in 0..<group.rank {
          for row in 0..<shape.modelWidth {
            base[place + row * stride + column] = group.down[latent * shape.modelWidth + row]
          }
          column += 1
        }
      }
    }
    transpose(keyGroups, places.keyDown)
    transpose(valueGroups, places.valueDown)
    if let place = places.latentBias {
      var at = place
      for group in keyGroups {
        for latent in 0..<group.rank {
          base[at] = group.latentBias?[latent] ?? 0
          at += 1
        }
      }
    }
    for (pair, frequency) in rotary.frequencies.enumerated() {
      for position in 0..<16 {
        base[places.cosines + pair * 16 + position] = Float(cos(frequency * Double(position)))
        base[places.sines + pair * 16 + position] = Float(sin(frequency * Double(position)))
      }
    }
    if let place = places.rotation, let rotation = try? HadamardRotation(rank: d) {
      for row in 0..<d {
        for column in 0..<d {
          base[place + row * headStride + column] = Float(rotation[row, column])
        }
      }
    }
  }

  // MARK: What kernels read

  private func at(_ place: Int) -> UnsafeMutablePointer<Float> {
    memory.base.assumingMemoryBound(to: Float.self) + place
  }

  func keyUp(_ group: Int) -> UnsafePointer<Float> { UnsafePointer(at(places.keyUp[group])) }
  /// A head's rows of a group's up-projection, `[d_h × padded r]`.
  func keyUp(_ group: Int, head: Int) -> UnsafePointer<Float> {
    UnsafePointer(
      at(places.keyUpHeads[group])
        + head * shape.headDimension * Self.padded(keyGroups[group].rank))
  }
  func keyBias(_ group: Int) -> UnsafePointer<Float>? {
    places.keyBias[group].map { UnsafePointer(at($0)) }
  }
  /// A head's up-projection, `[r × padded d_h]`.
  func valueUp(_ group: Int, head: Int) -> UnsafePointer<Float> {
    UnsafePointer(at(places.valueUp[group]) + head * valueWidths[group] * headStride)
  }
  func valueBias(_ group: Int, head: Int) -> UnsafePointer<Float>? {
    places.valueBias[group].map { UnsafePointer(at($0) + head * shape.headDimension) }
  }
  var latentBias: UnsafePointer<Float>? { places.latentBias.map { UnsafePointer(at($0)) } }
  var cosines: UnsafePointer<Float> { UnsafePointer(at(places.cosines)) }
  var sines: UnsafePointer<Float> { UnsafePointer(at(places.sines)) }
  /// The rotation of whole keys and their queries, `[d_h × padded d_h]`, symmetric; nil for a
  /// Hadamard matrix, which the kernel knows.
  var rotation: UnsafePointer<Float>? { places.rotation.map { UnsafePointer(at($0)) } }

  /// `[d × padded Σr]` floats; nil where the projection is packed.
  func down(_ kind: LowRankFactors.Kind) -> UnsafePointer<Float>? {
    (kind == .key ? places.keyDown : places.valueDown).map { UnsafePointer(at($0)) }
  }
  /// The projection as int8; nil where there are floats.
  func packedDown(_ kind: LowRankFactors.Kind) -> PackedWeights? { packed[kind] }

  /// Numbers that a token brings: what ``LowRankCache/append(keys:values:count:nonFinite:pool:)`` takes.
  public func inputWidth(_ kind: LowRankFactors.Kind) -> Int {
    (kind == .key ? keyWidths : valueWidths).reduce(0, +)
  }

  /// Bytes of the factors as they are held.
  public var byteCount: Int { memory.count + packed.values.reduce(0) { $0 + $1.byteCount } }

  /// The angle of a pair of commuting latents by position, as the position's cosine and sine.
  func angle(frequency: Int, position: Int) -> (cos: Float, sin: Float) {
    guard rotary.frequencies.indices.contains(frequency) else { return (1, 0) }
    let angle = rotary.frequencies[frequency] * Double(position)
    return (Float(cos(angle) * rotary.magnitude), Float(sin(angle) * rotary.magnitude))
  }

  /// Cosines and sines of the first positions of the blocks of a partition, `[16 × pairs]` each, in
  /// double from the position itself: at 2²⁰ positions an angle is within 2e-10 rad.
  func fillAngles(
    partition: Int, cosines: UnsafeMutablePointer<Float>, sines: UnsafeMutablePointer<Float>
  ) {
    let pairs = shape.rotaryPairs
    for block in 0..<Int(QK_LATENT_BLOCKS) {
      let position = partition * Int(QK_LATENT_PARTITION) + block * LatentType.block
      for pair in 0..<pairs {
        let (cosine, sine) = angle(frequency: pair, position: position)
        cosines[block * pairs + pair] = cosine
        sines[block * pairs + pair] = sine
      }
    }
  }
}
