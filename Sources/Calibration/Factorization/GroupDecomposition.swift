import QuantKernels

/// A group's projection taken apart, so that it can be cut to any rank.
protocol GroupDecomposition: Sendable {
  /// What each latent saves of the error, the most first: the error of rank r is the sum of
  /// `energies[r...]`.
  var energies: [Double] { get }

  /// The factors of a rank of 1…`energies.count`, in double.
  func factors(rank: Int) -> FactorPair
}

extension GroupDecomposition {
  var fullRank: Int { energies.count }
}

/// Both factors of a group, in double, before they are rotated and rounded.
struct FactorPair: Sendable {
  /// A, `[rank × d]`.
  var down: Matrix
  /// B, `[s·d_h × rank]`.
  var up: Matrix
  var bias: [Double]?
  var latentBias: [Double]?
  var frequencies: [Int] = []

  /// In float32, latents turned by a `HadamardRotation` of their number if `rotates`.
  ///
  /// - Throws: `QuantError` `.invalidData` for a value that float32 does not hold.
  func group(rotates: Bool, subject: String) throws(QuantError) -> LowRankFactors.Group {
    var (down, up) = (down.values, up.values)
    let rank = self.down.rows
    if rotates { try HadamardRotation(rank: rank).fold(into: &down, &up) }
    let group = LowRankFactors.Group(
      rank: rank, down: down.map { Float($0) }, up: up.map { Float($0) },
      bias: bias?.map { Float($0) }, latentBias: latentBias?.map { Float($0) },
      frequencies: frequencies)
    guard group.down.allSatisfy(\.isFinite), group.up.allSatisfy(\.isFinite) else {
      throw Matrix.notFinite(subject)
    }
    return group
  }
}

/// The best approximations of `W [s·d_h × d]` on given inputs: a whitened singular value
/// decomposition.
///
/// With X the inputs and `C = X Xᵀ = L Lᵀ`, `W L = U Σ Vᵀ` gives `B = U_r √Σ_r`, `A = √Σ_r V_rᵀ L⁻¹`,
/// whose error `‖(W − B A) X‖²` is Σ σ² over what was cut. With outputs weighted by a Gram
/// `G = M Mᵀ` of the loss's gradients there, it is `Mᵀ W L` that is decomposed and
/// `tr(G ΔW C ΔWᵀ)` that is least: to second order, and with inputs and gradients taken as
/// independent, what the change of W costs in loss.
///
/// Σ is split evenly. In exact arithmetic the split does not matter, but latents are quantized: after
/// a rotation they share one range, whose square is as the sum of their variances `Σ a_i²`, and the
/// error of each comes back as `Σ σ_i² / a_i²`; the product of the two is least for `a_i² = σ_i`.
struct WhitenedDecomposition: GroupDecomposition {
  private let svd: Matrix.SingularValues
  private let inputs: Whitening
  private let outputs: Whitening?
  private let bias: [Double]?
  let energies: [Double]

  /// - Parameter bias: of the projection, `[s·d_h]`.
  /// - Throws: as ``Matrix/singularValues(of:)``.
  init(
    weights: Matrix, bias: [Double]? = nil, inputs: Whitening, outputs: Whitening? = nil,
    subject: String
  ) throws(QuantError) {
    guard weights.values.allSatisfy(\.isFinite) else { throw Matrix.notFinite(subject) }
    var product = inputs.whitened(weights)
    if let outputs { product = outputs.whitenedRows(product) }
    svd = try product.singularValues(of: subject)
    energies = svd.values.map { $0 * $0 }
    self.inputs = inputs
    self.outputs = outputs
    self.bias = bias
  }

  func factors(rank: Int) -> FactorPair {
    let rank = min(max(rank, 1), energies.count)
    let columns = svd.right.columns
    var up = Matrix(zeros: svd.left.rows, rank)
    var down = Matrix(zeros: rank, columns)
    for latent in 0..<rank {
      // A singular value of 0 leaves its latent at 0, whatever the scale.
      let sigma = svd.values[latent]
      let scale = sigma > 0 ? sigma.squareRoot() : 1
      for row in 0..<up.rows { up[row, latent] = svd.left[row, latent] * scale }
      for column in 0..<columns {
        down[latent, column] = svd.right[latent, column] * (sigma / scale)
      }
    }
    return FactorPair(
      down: inputs.unwhitened(down), up: outputs?.unwhitenedRows(up) ?? up, bias: bias)
  }
}

/// Key factors that the rotary embedding passes through.
///
/// The two elements of each rotated pair are a complex number, which position t turns by `e^{iθt}`:
/// the same turn for all heads. So for each pair the heads of a group are one complex matrix
/// `M [s × d]`, and any `M ≈ U Z` gives `rot(M x) ≈ U (e^{iθt} Z x)`: the turned latent can be cached.
/// Each pair's matrix is decomposed by itself, whitened like the whole, and the pairs compete for the
/// group's rank; what a latent cannot use is likeness between frequencies. Elements that the
/// embedding leaves alone are decomposed together, as real numbers.
struct CommutingDecomposition: GroupDecomposition {
  /// Two latents, which are taken or cut together.
  private struct Pair {
    let energy: Double
    let frequency: Int
    /// The columns of B and rows of A of both latents.
    let up: [(Double, Double)]
    let down: ([Double], [Double])
    let latentBias: (Double, Double)
  }

  private let pairs: [Pair]
  private let hasBias: Bool
  private let inputs: Whitening
  private let width: Int
  let energies: [Double]

  /// - Parameters:
  ///   - weights: `[s·d_h × d]`.
  ///   - outputWeights: what an error of each output costs, `[s·d_h]`; nil counts all alike. Elements
  ///     of a pair share their mean.
  /// - Throws: as ``Matrix/singularValues(of:)``; `.invalidArgument` without a rotary embedding.
  init(
    weights: Matrix, bias: [Double]? = nil, shape: LowRankFactors.Shape, inputs: Whitening,
    outputWeights: [Double]? = nil, subject: String
  ) throws(QuantError) {
    guard shape.rotaryPairs > 0 else {
      throw QuantError(
        .invalidArgument, "key mode", "there is no rotary embedding to commute with",
        remedy: "choose rebuilt keys")
    }
    let heads = weights.rows / shape.headDimension
    var pairs: [Pair] = []
    for frequency in 0..<shape.rotaryPairs {
      let (a, b) = shape.elements(ofPair: frequency)
      let real = (0..<heads).map { $0 * shape.headDimension + a }
      let imaginary = (0..<heads).map { $0 * shape.headDimension + b }
      let scales = (0..<heads).map { head -> Double in
        guard let outputWeights else { return 1 }
        let mean = (outputWeights[real[head]] + outputWeights[imaginary[head]]) / 2
        // An output that costs nothing is still rebuilt.
        return max(mean, 1e-30).squareRoot()
      }
      func scaled(_ rows: [Int]) -> Matrix {
        var matrix = inputs.whitened(weights.selecting(rows: rows))
        for head in 0..<heads {
          for column in 0..<matrix.columns { matrix[head, column] *= scales[head] }
        }
        return matrix
      }
      let svd = try ComplexSingularValues(
        real: scaled(real), imaginary: scaled(imaginary), of: "\(subject), frequency \(frequency)")
      for (index, sigma) in svd.values.enumerated() {
        let scale = sigma > 0 ? sigma.squareRoot() : 1
        var up = [(Double, Double)](repeating: (0, 0), count: weights.rows)
        var latentBias = (0.0, 0.0)
        for head in 0..<heads {
          let (u, v) = (svd.left.real[head, index], svd.left.imaginary[head, index])
          let factor = scale / scales[head]
          // (u + iv)(z + iw) = (uz − vw) + i(vz + uw).
          up[real[head]] = (u * factor, -v * factor)
          up[imaginary[head]] = (v * factor, u * factor)
          if let bias {
            // conj(u + iv) times the scaled bias.
            let (x, y) = (bias[real[head]], bias[imaginary[head]])
            latentBias.0 += (u * x + v * y) * scales[head] / scale
            latentBias.1 += (u * y - v * x) * scales[head] / scale
          }
        }
        func row(_ part: Matrix) -> [Double] {
          (0..<part.columns).map { part[index, $0] * (sigma / scale) }
        }
        pairs.append(
          Pair(
            energy: sigma * sigma, frequency: frequency, up: up,
            down: (row(svd.right.real), row(svd.right.imaginary)), latentBias: latentBias))
      }
    }
    pairs += try Self.stillPairs(
      weights: weights, bias: bias, shape: shape, inputs: inputs, outputWeights: outputWeights,
      subject: subject)
    // Equal energies keep the order of frequencies, so that the result does not hang on a sort.
    pairs = pairs.enumerated().sorted {
      $0.element.energy != $1.element.energy
        ? $0.element.energy > $1.element.energy : $0.offset < $1.offset
    }.map(\.element)
    self.pairs = pairs
    hasBias = bias != nil
    self.inputs = inputs
    width = weights.rows
    energies = pairs.flatMap { [$0.energy / 2, $0.energy / 2] }
  }

  /// Latents of the elements that are not rotated, two by two.
  private static func stillPairs(
    weights: Matrix, bias: [Double]?, shape: LowRankFactors.Shape, inputs: Whitening,
    outputWeights: [Double]?, subject: String
  ) throws(QuantError) -> [Pair] {
    let elements = shape.pairOfElement
    let rows = (0..<weights.rows).filter {
      elements[$0 % shape.headDimension] == shape.rotaryPairs
    }
    guard !rows.isEmpty else { return [] }
    let scales = rows.map { row in
      outputWeights.map { max($0[row], 1e-30).squareRoot() } ?? 1
    }
    var matrix = inputs.whitened(weights.selecting(rows: rows))
    for index in rows.indices {
      for column in 0..<matrix.columns { matrix[index, column] *= scales[index] }
    }
    let svd = try matrix.singularValues(of: subject)
    /// One latent; past the last one that does nothing.
    func latent(_ index: Int) -> (energy: Double, up: [Double], down: [Double], bias: Double) {
      var up = [Double](repeating: 0, count: weights.rows)
      guard index < svd.values.count else {
        return (0, up, [Double](repeating: 0, count: matrix.columns), 0)
      }
      let sigma = svd.values[index]
      let scale = sigma > 0 ? sigma.squareRoot() : 1
      var latentBias = 0.0
      for (place, row) in rows.enumerated() {
        up[row] = svd.left[place, index] * scale / scales[place]
        if let bias { latentBias += svd.left[place, index] * bias[row] * scales[place] / scale }
      }
      let down = (0..<matrix.columns).map { svd.right[index, $0] * (sigma / scale) }
      return (sigma * sigma, up, down, latentBias)
    }
    return stride(from: 0, to: svd.values.count, by: 2).map { first in
      let (a, b) = (latent(first), latent(first + 1))
      return Pair(
        energy: a.energy + b.energy, frequency: shape.rotaryPairs,
        up: zip(a.up, b.up).map { ($0, $1) }, down: (a.down, b.down),
        latentBias: (a.bias, b.bias))
    }
  }

  /// An odd rank is rounded up: a complex number has two parts.
  func factors(rank: Int) -> FactorPair {
    let chosen = pairs.prefix(min(max((rank + 1) / 2, 1), pairs.count))
    var up = Matrix(zeros: width, 2 * chosen.count)
    for (index, pair) in chosen.enumerated() {
      for row in 0..<width {
        up[row, 2 * index] = pair.up[row].0
        up[row, 2 * index + 1] = pair.up[row].1
      }
    }
    let down = Matrix(
      rows: 2 * chosen.count, columns: inputs.width,
      values: chosen.flatMap { $0.down.0 + $0.down.1 })
    return FactorPair(
      down: inputs.unwhitened(down), up: up,
      latentBias: hasBias ? chosen.flatMap { [$0.latentBias.0, $0.latentBias.1] } : nil,
      frequencies: chosen.map(\.frequency))
  }
}
