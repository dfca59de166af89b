import LanguageModel
import QuantKernels

/// What a cache does to keys and values, worked on dense ones: each token's heads are projected to
/// latents, rounded as stored codes would round them, and rebuilt.
///
/// It measures what factors and bits cost in quality before any packed cache is involved, and is what
/// such a cache can be held against.
public struct SimulatedCache: Sendable {
  /// Latents by these factors; nil leaves keys and values whole.
  public var factors: LowRankFactors?
  /// Bits of a latent; 16 is IEEE half.
  public var bits: Int
  /// Bits of keys that are cached whole and rotated, beside `LowRankFactors.KeyMode.rotated`.
  public var keyBits = 4
  /// False leaves latents as they are computed.
  var rounds = true

  /// A cache of low-rank keys and values, or of whole ones where `factors` is nil; `bits` of a
  /// stored number, 16 for binary16.
  public init(factors: LowRankFactors?, bits: Int) {
    self.factors = factors
    self.bits = bits
  }

  /// Bytes that a token takes in all layers: codes packed per group, and a half each for scale and
  /// minimum; two bytes a latent at 16 bits. Whole keys are grouped by head.
  public func bytesPerToken(_ shape: LowRankFactors.Shape) -> Int {
    func bytes(_ count: Int, _ bits: Int) -> Int {
      bits == 16 ? 2 * count : (count * bits + 7) / 8 + 4
    }
    guard let factors else { return 2 * 2 * shape.layers * shape.keyValueWidth }
    let latents = factors.layers.flatMap { $0.keys + $0.values }.reduce(0) {
      $0 + bytes($1.rank, bits)
    }
    guard factors.keyMode == .rotated else { return latents }
    return latents + shape.layers * shape.keyValueHeads * bytes(shape.headDimension, keyBits)
  }

  /// Rounds a token's latents of one group to `bits` and back, by a floating minimum: codes
  /// `q = round((x − m) / s)` with m the least value and s the range over 2^bits − 1, both rounded
  /// to halves.
  ///
  /// (Palu clamps an integer zero point to the codes instead, which destroys a vector whose values
  /// are all of one sign.)
  static func round(_ x: UnsafeMutablePointer<Float>, count: Int, bits: Int) {
    guard count > 0 else { return }
    if bits == 16 {
      for index in 0..<count {
        x[index] = HalfPrecision.float(fromHalf: HalfPrecision.half(x[index]))
      }
      return
    }
    var (least, most) = (x[0], x[0])
    for index in 1..<max(count, 1) {
      least = min(least, x[index])
      most = max(most, x[index])
    }
    let codes = Float((1 << bits) - 1)
    let minimum = HalfPrecision.float(fromHalf: HalfPrecision.half(least))
    let scale = HalfPrecision.float(fromHalf: HalfPrecision.half((most - minimum) / codes))
    for index in 0..<count {
      let code = scale > 0 ? min(max(((x[index] - minimum) / scale).rounded(), 0), codes) : 0
      x[index] = minimum + scale * code
    }
  }

  /// Makes a decoder's keys and values those of this cache.
  func attach(to decoder: DenseDecoder<Float>) throws(QuantError) {
    decoder.editor = nil
    decoder.rotatedKeyEditor = nil
    guard let factors else { return }
    let rows = decoder.capacity * decoder.length
    let widest = factors.layers.flatMap { $0.keys + $0.values }.map(\.rank).max() ?? 0
    let latents = ScalarBuffer<Float>(count: rows * widest)
    let kept = factors.layers.map { layer in
      LowRankFactors.Kind.allCases.map { kind in layer[kind].map(GroupBuffers.init) }
    }
    let bits = rounds ? bits : nil
    decoder.editor = { [unowned decoder] layer, inputs, keys, values in
      for (groups, target) in zip(kept[layer], [keys, values]) {
        for (index, group) in groups.enumerated() {
          let isLocal = decoder.configuration.isLocal(layer: layer)
          group.rebuild(
            inputs, latents.pointer, into: target + index * factors.groupWidth,
            stride: factors.shape.keyValueWidth, bits: bits, decoder.operations,
            angles: decoder.angles[isLocal ? 1 : 0], rows: decoder.rows)
        }
      }
    }
    guard factors.keyMode == .rotated else { return }
    let headDimension = factors.shape.headDimension
    let rotation = try HadamardRotation(rank: headDimension)
    let heads = factors.shape.keyValueHeads
    let keyBits = keyBits
    decoder.rotatedKeyEditor = { [unowned decoder] _, keys in
      decoder.operations.overRows(decoder.rows * heads) { row in
        let head = keys + row * headDimension
        withUnsafeTemporaryAllocation(of: Double.self, capacity: 2 * headDimension) { scratch in
          guard let x = scratch.baseAddress else { return }
          for index in 0..<headDimension { x[index] = Double(head[index]) }
          rotation.apply(x, scratch: x + headDimension)
          for index in 0..<headDimension { head[index] = Float(x[index]) }
          Self.round(head, count: headDimension, bits: keyBits)
          for index in 0..<headDimension { x[index] = Double(head[index]) }
          // The rotation is its own inverse.
          rotation.apply(x, scratch: x + headDimension)
          for index in 0..<headDimension { head[index] = Float(x[index]) }
        }
      }
    }
  }

  /// A group's factors where BLAS can read them.
  private struct GroupBuffers: @unchecked Sendable {
    let rank: Int
    let down, up: ScalarBuffer<Float>
    let bias, latentBias: ScalarBuffer<Float>?
    let frequencies: [Int]

    init(_ group: LowRankFactors.Group) {
      rank = group.rank
      down = ScalarBuffer(group.down)
      up = ScalarBuffer(group.up)
      bias = group.bias.map { ScalarBuffer($0) }
      latentBias = group.latentBias.map { ScalarBuffer($0) }
      frequencies = group.frequencies
    }

    /// Rows of this group's heads from their inputs.
    func rebuild(
      _ inputs: UnsafeMutablePointer<Float>, _ latents: UnsafeMutablePointer<Float>,
      into target: UnsafeMutablePointer<Float>, stride: Int, bits: Int?,
      _ operations: DecoderOperations<Float>, angles: Angles<Float>, rows: Int
    ) {
      let rank = rank
      let width = up.count / rank
      let columns = down.count / rank
      Float.multiply(
        inputs, transposed: false, lda: columns, down.pointer, transposed: true, ldb: columns,
        into: latents, ldc: rank, m: rows, n: rank, k: columns, alpha: 1, beta: 0)
      operations.add(latentBias, to: latents, rows: rows)
      let frequencies = frequencies
      if let bits {
        operations.overRows(rows) { row in
          let values = latents + row * rank
          // A commuting latent is stored turned, and its rotation commutes with what reads it.
          let position = row % angles.positions
          turn(values, frequencies, angles, position: position, backward: false)
          SimulatedCache.round(values, count: rank, bits: bits)
          turn(values, frequencies, angles, position: position, backward: true)
        }
      }
      Float.multiply(
        latents, transposed: false, lda: rank, up.pointer, transposed: true, ldb: rank,
        into: target, ldc: stride, m: rows, n: width, k: rank, alpha: 1, beta: 0)
      guard let bias else { return }
      let values = bias.pointer
      operations.overRows(rows) { row in
        for index in 0..<width { target[row * stride + index] += values[index] }
      }
    }

    private func turn(
      _ latents: UnsafeMutablePointer<Float>, _ frequencies: [Int], _ angles: Angles<Float>,
      position: Int, backward: Bool
    ) {
      for (pair, frequency) in frequencies.enumerated() where frequency < angles.pairs {
        let place = position * angles.pairs + frequency
        // Magnitudes other than 1 (YaRN) are the decoder's to apply, and not to be undone here.
        let (c, s) = (angles.cosines.pointer[place], angles.sines.pointer[place])
        let norm = (c * c + s * s).squareRoot()
        let (cosine, sine) = (c / norm, (backward ? -s : s) / norm)
        let (u, v) = (latents[2 * pair], latents[2 * pair + 1])
        latents[2 * pair] = u * cosine - v * sine
        latents[2 * pair + 1] = v * cosine + u * sine
      }
    }
  }
}
