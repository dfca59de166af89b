import LanguageModel
import QuantKernels

/// The operations between a decoder's products, forward and backward, on rows spread over a pool.
///
/// Backward forms take the gradient of the loss at the output and give that at the input; what they
/// are derived from stands above each.
struct DecoderOperations<Scalar: DenseScalar>: Sendable {
  typealias Pointer = UnsafeMutablePointer<Scalar>

  let pool: WorkerPool

  /// Runs `body` on every row, a contiguous range of rows a part.
  func overRows(_ rows: Int, _ body: (Int) -> Void) {
    let parts = min(rows, 4 * pool.threads)
    pool.run(parts: parts) { part, _ in
      for row in part * rows / parts..<(part + 1) * rows / parts { body(row) }
    }
  }

  /// `y = x · r · weight`, `r = 1 / √(mean x² + ε)`; keeps r of each row in `inverse`.
  func normalize(
    _ x: Pointer, weight: Pointer, epsilon: Scalar, into y: Pointer, inverse: Pointer, rows: Int,
    width: Int
  ) {
    overRows(rows) { row in
      let (x, y) = (x + row * width, y + row * width)
      var sum: Scalar = 0
      for index in 0..<width { sum += x[index] * x[index] }
      let scale = 1 / (sum / Scalar(width) + epsilon).squareRoot()
      inverse[row] = scale
      for index in 0..<width { y[index] = x[index] * scale * weight[index] }
    }
  }

  /// `∂/∂x_j = r (w_j g_j − x_j r² mean(w g x))`, added to `dx` if `adds`, else written.
  func normalizeBackward(
    _ gradient: Pointer, _ x: Pointer, weight: Pointer, inverse: Pointer, into dx: Pointer,
    adds: Bool, rows: Int, width: Int
  ) {
    overRows(rows) { row in
      let offset = row * width
      let (gradient, x, dx) = (gradient + offset, x + offset, dx + offset)
      let scale = inverse[row]
      var sum: Scalar = 0
      for index in 0..<width { sum += weight[index] * gradient[index] * x[index] }
      let common = sum / Scalar(width) * scale * scale
      for index in 0..<width {
        let value = scale * (weight[index] * gradient[index] - x[index] * common)
        dx[index] = adds ? dx[index] + value : value
      }
    }
  }

  /// Turns the pairs of every head by the angles of its row's position; `backward` by their negative,
  /// which is the transpose.
  func rotate(
    _ x: Pointer, rows: Int, heads: Int, headDimension: Int, angles: Angles<Scalar>,
    style: RotaryEmbedding.Style, backward: Bool
  ) {
    let pairs = angles.pairs
    let length = angles.positions
    overRows(rows) { row in
      let cosines = angles.cosines.pointer + row % length * pairs
      let sines = angles.sines.pointer + row % length * pairs
      for head in 0..<heads {
        let values = x + (row * heads + head) * headDimension
        for pair in 0..<pairs {
          let a = style == .interleaved ? 2 * pair : pair
          let b = style == .interleaved ? 2 * pair + 1 : pairs + pair
          let sine = backward ? -sines[pair] : sines[pair]
          let (u, v) = (values[a], values[b])
          values[a] = u * cosines[pair] - v * sine
          values[b] = v * cosines[pair] + u * sine
        }
      }
    }
  }

  /// `hidden = activation(gate) · up`.
  func gate(
    _ gate: Pointer, _ up: Pointer, into hidden: Pointer, count: Int,
    activation: ModelConfiguration.Activation
  ) {
    inBlocks(count) { range in
      for index in range {
        hidden[index] = Self.value(gate[index], activation).value * up[index]
      }
    }
  }

  /// Overwrites gate and up with their gradients, given the hidden layer's.
  func gateBackward(
    _ gradient: Pointer, _ gate: Pointer, _ up: Pointer, count: Int,
    activation: ModelConfiguration.Activation
  ) {
    inBlocks(count) { range in
      for index in range {
        let (value, slope) = Self.value(gate[index], activation)
        gate[index] = gradient[index] * up[index] * slope
        up[index] = gradient[index] * value
      }
    }
  }

  private func inBlocks(_ count: Int, _ body: (Range<Int>) -> Void) {
    let parts = min(max(count / 4096, 1), 4 * pool.threads)
    pool.run(parts: parts) { part, _ in
      body(part * count / parts..<(part + 1) * count / parts)
    }
  }

  /// An activation and its derivative.
  @inline(__always)
  private static func value(
    _ x: Scalar, _ activation: ModelConfiguration.Activation
  ) -> (value: Scalar, slope: Scalar) {
    switch activation {
    case .silu:
      let sigmoid = 1 / (1 + Scalar.exponential(-x))
      return (x * sigmoid, sigmoid * (1 + x * (1 - sigmoid)))
    case .geluTanh:
      // √(2/π)
      let factor = Scalar(0.797_884_560_802_865_355_88)
      let cubic = Scalar(0.044715)
      let tangent = Scalar.hyperbolicTangent(factor * (x + cubic * x * x * x))
      let half = Scalar(0.5)
      let inner = factor * (1 + 3 * cubic * x * x)
      return (
        half * x * (1 + tangent),
        half * (1 + tangent) + half * x * (1 - tangent * tangent) * inner
      )
    case .squaredReLU: return x > 0 ? (x * x, 2 * x) : (0, 0)
    }
  }

  /// Adds a bias to every row.
  func add(_ bias: ScalarBuffer<Scalar>?, to x: Pointer, rows: Int) {
    guard let bias else { return }
    let width = bias.count
    let values = bias.pointer
    overRows(rows) { row in
      for index in 0..<width { x[row * width + index] += values[index] }
    }
  }

  func add(_ x: Pointer, to y: Pointer, count: Int) {
    inBlocks(count) { range in for index in range { y[index] += x[index] } }
  }
}

/// Cosines and sines of the rotary embedding, magnitude included, `[positions × pairs]`.
struct Angles<Scalar: DenseScalar>: Sendable {
  let positions: Int
  let pairs: Int
  let cosines: ScalarBuffer<Scalar>
  let sines: ScalarBuffer<Scalar>

  init(_ rotary: RotaryEmbedding, positions: Int) {
    self.positions = positions
    pairs = rotary.frequencies.count
    cosines = ScalarBuffer(count: positions * pairs)
    sines = ScalarBuffer(count: positions * pairs)
    for position in 0..<positions {
      for (pair, frequency) in rotary.frequencies.enumerated() {
        let angle = Double(position) * frequency
        cosines.pointer[position * pairs + pair] = Scalar(Elementary.cosine(angle) * rotary.magnitude)
        sines.pointer[position * pairs + pair] = Scalar(Elementary.sine(angle) * rotary.magnitude)
      }
    }
  }
}
