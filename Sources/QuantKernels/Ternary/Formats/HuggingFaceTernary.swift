/// One ternary layer as Hugging Face checkpoints store it: `weight`, uint8 [⌈rows / 4⌉, columns], and
/// `weight_scale`, one element.
///
/// With R = ⌈rows / 4⌉, bits 2i, 2i + 1 of byte [r, k] are the code of row r + i · R. Rows past the
/// last hold code 0 (which the public tools take for −1 and do not cut off).
///
/// Source: huggingface/transformers `src/transformers/integrations/bitnet.py`.
public struct HuggingFaceTernary: Sendable, Equatable {
  /// What `weight_scale` means. The two kinds of layer mean the opposite, and a checkpoint's
  /// `quantization_config.linear_class` says which it has.
  public enum ScaleConvention: Sendable, Equatable, CaseIterable {
    /// A weight is (code − 1) · weight_scale: `autobitlinear`, offline mode.
    case multiplier
    /// A weight is (code − 1) / weight_scale: `bitlinear`.
    case divisor
  }

  /// Outputs, N.
  public let rows: Int
  /// Inputs, K.
  public let columns: Int
  /// `weight`, row-major.
  public let weights: [UInt8]
  /// `weight_scale`.
  public let weightScale: Float
  /// What `weightScale` means.
  public let convention: ScaleConvention

  /// Extents of `weight`.
  public var weightShape: [Int] { [(rows + 3) / 4, columns] }

  /// - Parameters:
  ///   - weightShape: [R, K].
  ///   - rows: outputs of the layer; nil means 4 · R.
  ///   - weights: the packed bytes, `[R × K]`.
  ///   - weightScale: the one element of `weight_scale`.
  ///   - convention: whether it multiplies or divides.
  /// - Throws: ``QuantError`` when the shape has not two extents or does not fit the data or `rows`,
  ///   a code is 3, or the scale is not finite, or 0 and a divisor.
  /// - Complexity: O(`weights.count`), at the speed of memory.
  public init(
    weights: [UInt8], weightShape: [Int], weightScale: Float, convention: ScaleConvention,
    rows: Int? = nil
  ) throws(QuantError) {
    let subject = "Hugging Face ternary tensor \(weightShape)"
    func invalid(_ problem: String) -> QuantError {
      QuantError(
        .invalidData, subject, problem,
        remedy: "check that the file is in this format and that its tensors belong together")
    }
    guard weightShape.count == 2, weightShape[0] <= Int.max >> 18 else {
      throw invalid("weights need two extents")
    }
    let (packedRows, columns) = (weightShape[0], weightShape[1])
    let count = try TernaryMatrix.elementCount(
      rows: 4 * max(packedRows, -1), columns: columns, subject)
    guard weights.count == count / 4 else {
      throw invalid("\(weights.count) bytes do not fill it")
    }
    let rows = rows ?? 4 * packedRows
    guard rows >= 0, rows <= 4 * packedRows, rows > 4 * (packedRows - 1) else {
      throw invalid("\(rows) rows do not go into \(packedRows) bytes of four")
    }
    let three = weights.withUnsafeBytes { ByteScan.hasThree($0) }
    if three, let bad = weights.firstIndex(where: { $0 & $0 >> 1 & 0x55 != 0 }) {
      throw invalid("code 3 at byte [\(bad / columns), \(bad % columns)]")
    }
    let scale = convention == .multiplier ? weightScale : 1 / weightScale
    guard weightScale.isFinite, scale.isFinite else {
      throw invalid("weight_scale \(weightScale)")
    }
    self.rows = rows
    self.columns = columns
    self.weights = weights
    self.weightScale = weightScale
    self.convention = convention
  }
}

extension TernaryMatrix {
  /// Takes a layer of a Hugging Face checkpoint. A divisor becomes its reciprocal, rounded once.
  ///
  /// - Throws: ``QuantError`` when the scale's reciprocal is not finite.
  /// - Complexity: O(rows · columns).
  public init(_ tensors: HuggingFaceTernary) throws(QuantError) {
    let runs = TwoBitRuns(apart: tensors.weights.count, firstIsHigh: false)
    var codes = [UInt8](repeating: 0, count: 4 * tensors.weights.count)
    codes.withUnsafeMutableBufferPointer { codes in
      tensors.weights.withUnsafeBytes { runs.unpack($0, into: codes) }
    }
    codes.removeLast(codes.count - tensors.rows * tensors.columns)
    let scale =
      tensors.convention == .multiplier ? tensors.weightScale : 1 / tensors.weightScale
    try self.init(
      rows: tensors.rows, columns: tensors.columns, codes: codes, scales: .tensor(scale))
  }

  /// The layer as a Hugging Face checkpoint stores it. A divisor is the scale's reciprocal, rounded
  /// once: 1 / (1 / s) gives s back to float32's last place, and exactly where s is a bfloat16 and
  /// the result is rounded to one.
  ///
  /// - Throws: ``QuantError`` with `.unsupported` when rows have different scales, or the scale has
  ///   no finite reciprocal and the convention wants it.
  /// - Complexity: O(rows · columns).
  public func huggingFace(
    _ convention: HuggingFaceTernary.ScaleConvention
  ) throws(QuantError) -> HuggingFaceTernary {
    let subject = "Hugging Face ternary tensor \(rows)×\(columns)"
    guard let scale = commonScale else {
      throw QuantError(
        .unsupported, subject, "has one scale, and the rows of the matrix have different ones",
        remedy: "use a format with a scale a row, such as IQ2_BN")
    }
    let weightScale = convention == .multiplier ? scale : 1 / scale
    guard weightScale.isFinite, (1 / weightScale).isFinite || convention == .multiplier else {
      throw QuantError(
        .unsupported, subject, "scale \(scale) has no finite reciprocal",
        remedy: "store the scale as a multiplier")
    }
    let packedRows = (rows + 3) / 4
    let padded = codes + [UInt8](repeating: 0, count: (4 * packedRows - rows) * columns)
    var weights = [UInt8](repeating: 0, count: packedRows * columns)
    let runs = TwoBitRuns(apart: weights.count, firstIsHigh: false)
    weights.withUnsafeMutableBytes { weights in
      padded.withUnsafeBufferPointer { runs.pack($0, into: weights) }
    }
    return try HuggingFaceTernary(
      weights: weights, weightShape: [packedRows, columns], weightScale: weightScale,
      convention: convention, rows: rows)
  }
}
