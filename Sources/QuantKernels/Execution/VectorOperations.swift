import CQuantKernels

/// Operations on float32 vectors between the matrix products of a decoder.
///
/// Every element's value is one fixed sequence of IEEE operations whatever the count, and sums run
/// in 16 lanes by index modulo 16, so that every instruction set gives the same bits. Exponentials
/// are within 1 ulp, `tanh` within 2. Infinities and NaN go through the arithmetic as IEEE 754 has
/// it.
///
/// Pointers must hold as many elements as the counts say; a count below 1 does nothing. `x` and the
/// destination may be the same memory, but must not overlap otherwise. Nothing allocates.
public enum VectorOperations {
  /// `y[i] = x[i] / √(mean(x²) + epsilon) · weight[i]` (Zhang and Sennrich, arXiv 1910.07467).
  public static func rmsNorm(
    _ x: UnsafePointer<Float>, weight: UnsafePointer<Float>, epsilon: Float,
    into y: UnsafeMutablePointer<Float>, count: Int, instructionSet: InstructionSet = .best
  ) {
    kernels(instructionSet).rms_norm(x, weight, epsilon, y, count)
  }

  /// `y[i] = gate[i] / (1 + exp(−gate[i])) · up[i]`: SwiGLU (Shazeer, arXiv 2002.05202).
  public static func siluMultiply(
    _ gate: UnsafePointer<Float>, _ up: UnsafePointer<Float>,
    into y: UnsafeMutablePointer<Float>, count: Int, instructionSet: InstructionSet = .best
  ) {
    kernels(instructionSet).silu_multiply(gate, up, y, count)
  }

  /// `y[i] = gelu(gate[i]) · up[i]`, GELU in the tanh form of Hendrycks and Gimpel (arXiv
  /// 1606.08415):
  /// `x / (1 + exp(−2 √(2/π) (x + 0.044715 x³)))`, which is `x/2 · (1 + tanh(…))` without its
  /// cancellation.
  public static func geluMultiply(
    _ gate: UnsafePointer<Float>, _ up: UnsafePointer<Float>,
    into y: UnsafeMutablePointer<Float>, count: Int, instructionSet: InstructionSet = .best
  ) {
    kernels(instructionSet).gelu_multiply(gate, up, y, count)
  }

  /// `y[i] = max(gate[i], 0)² · up[i]`.
  public static func squaredReLUMultiply(
    _ gate: UnsafePointer<Float>, _ up: UnsafePointer<Float>,
    into y: UnsafeMutablePointer<Float>, count: Int, instructionSet: InstructionSet = .best
  ) {
    kernels(instructionSet).squared_relu_multiply(gate, up, y, count)
  }

  /// `y[i] += x[i]`.
  public static func add(
    _ x: UnsafePointer<Float>, into y: UnsafeMutablePointer<Float>, count: Int,
    instructionSet: InstructionSet = .best
  ) {
    kernels(instructionSet).add(x, y, count)
  }

  /// `x[i] *= factor`.
  public static func scale(
    _ x: UnsafeMutablePointer<Float>, _ factor: Float, count: Int,
    instructionSet: InstructionSet = .best
  ) {
    kernels(instructionSet).scale(x, factor, count)
  }

  /// `x[i] = cap · tanh(x[i] / cap)`, for `cap` > 0.
  public static func softCap(
    _ x: UnsafeMutablePointer<Float>, _ cap: Float, count: Int,
    instructionSet: InstructionSet = .best
  ) {
    kernels(instructionSet).soft_cap(x, cap, count)
  }

  /// `x[i] = exp(x[i] − max x) / Σ exp(x − max x)`, in place.
  public static func softmax(
    _ x: UnsafeMutableBufferPointer<Float>, instructionSet: InstructionSet = .best
  ) {
    guard let base = x.baseAddress else { return }
    kernels(instructionSet).softmax(base, x.count)
  }

  /// Which elements of a head a rotation pairs.
  public enum RotaryStyle: Sendable {
    /// Element 2i with 2i + 1 (RoFormer, arXiv 2104.09864; GGUF's `llama`).
    case interleaved
    /// Element i with `rotaryDimension / 2` + i (GPT-NeoX; GGUF's `qwen2`, `gemma3`, …).
    case halves
  }

  /// Rotates each head's first `rotaryDimension` elements in place: the pair `(a, b)` of angle i
  /// becomes `(a cos − b sin, b cos + a sin)`.
  ///
  /// - Parameters:
  ///   - x: `heads × headDimension` values of one position.
  ///   - rotaryDimension: even, at most `headDimension`; what exceeds that is left alone.
  ///   - cos: `rotaryDimension / 2` cosines of this position's angles; `sin` likewise.
  ///   - heads: heads in `x`.
  ///   - headDimension: elements of a head.
  ///   - sin: `rotaryDimension / 2` sines.
  ///   - style: which two elements form a pair.
  ///   - instructionSet: the kernels' instruction set; the best of this processor unless stated.
  public static func rotate(
    _ x: UnsafeMutablePointer<Float>, heads: Int, headDimension: Int, rotaryDimension: Int,
    cos: UnsafePointer<Float>, sin: UnsafePointer<Float>, style: RotaryStyle,
    instructionSet: InstructionSet = .best
  ) {
    let pairs = min(rotaryDimension, headDimension) / 2
    switch style {
    case .interleaved:
      kernels(instructionSet).rotate_interleaved(x, heads, headDimension, pairs, cos, sin)
    case .halves:
      kernels(instructionSet).rotate_halves(x, heads, headDimension, pairs, cos, sin)
    }
  }

  /// `y[i]` = the float32 of the IEEE half `x[i]`; exact.
  public static func floats(
    fromHalves x: UnsafePointer<UInt16>, into y: UnsafeMutablePointer<Float>, count: Int,
    instructionSet: InstructionSet = .best
  ) {
    kernels(instructionSet).half_to_float(x, y, count)
  }

  /// `y[i]` = the IEEE half nearest to `x[i]`, ties to even; infinite from ±65520 on.
  public static func halves(
    fromFloats x: UnsafePointer<Float>, into y: UnsafeMutablePointer<UInt16>, count: Int,
    instructionSet: InstructionSet = .best
  ) {
    kernels(instructionSet).float_to_half(x, y, count)
  }

  /// Whether |x[i]| ≤ `limit` for every element; false when one is NaN.
  public static func areWithin(
    _ limit: Float, _ x: UnsafePointer<Float>, count: Int, instructionSet: InstructionSet = .best
  ) -> Bool {
    kernels(instructionSet).all_within(x, limit, count) != 0
  }

  /// The C kernels of a level, looked up once.
  static func kernels(_ set: InstructionSet) -> qk_vector_kernels {
    tables[Int(set.kernelTableIdentifier.rawValue)].pointee
  }

  private nonisolated(unsafe) static let tables: [UnsafePointer<qk_vector_kernels>] =
    (0..<QK_ISA_COUNT.rawValue).map { qk_vector_kernels_for(qk_isa(rawValue: $0)) }
}
