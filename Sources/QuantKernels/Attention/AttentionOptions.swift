/// What a layer's attention computes besides softmax(q·kᵀ)·v.
public struct AttentionOptions: Sendable, Equatable {
  /// Scores are `scale · q·k`; usually 1/√headDimension.
  public var scale: Float
  /// A query sees its own position and the `window − 1` before it; nil: all before it.
  public var window: Int?
  /// Scores become `softCap · tanh(score / softCap)`; nil: they stay.
  public var softCap: Float?

  public init(scale: Float, window: Int? = nil, softCap: Float? = nil) {
    self.scale = scale
    self.window = window
    self.softCap = softCap
  }

  func check() throws(QuantError) {
    guard scale.isFinite else {
      throw QuantError(
        .invalidArgument, "attention scale", "\(scale)", remedy: "use 1/√headDimension")
    }
    if let window, window < 1 {
      throw QuantError(
        .invalidArgument, "attention window", "\(window) positions",
        remedy: "use at least 1, or nil for none")
    }
    if let softCap, !(softCap > 0 && softCap.isFinite) {
      throw QuantError(
        .invalidArgument, "attention soft-cap", "\(softCap)",
        remedy: "use a positive number, or nil for none")
    }
  }
}
