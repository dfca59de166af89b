import LanguageModel
import QuantKernels

/// Windows of a text that calibration reads.
public struct CalibrationSamples: Sendable, Equatable {
  /// Each of `context` tokens.
  let windows: [[Int32]]
  /// Which of them, by index, are also read backward.
  let withGradients: Set<Int>
  let context: Int

  /// Tokens of all windows.
  public var tokenCount: Int { windows.count * context }

  /// Picks windows spread evenly over a text, and of these some for gradients, spread evenly too.
  ///
  /// - Parameters:
  ///   - samples: at most so many; fewer where the text has fewer.
  ///   - gradientSamples: of these, at most so many.
  ///   - text: UTF-8 of the text.
  ///   - file: the model, for its tokenizer.
  ///   - configuration: the model's.
  ///   - context: tokens of a window.
  /// - Throws: `QuantError` `.invalidArgument` for numbers that are not positive and for a text
  ///   that has no window, or fewer tokens in all than the model's width: inputs of which there are
  ///   fewer than dimensions say nothing of most of them.
  public init(
    text: [UInt8], model file: GGUFFile, configuration: ModelConfiguration, context: Int,
    samples: Int, gradientSamples: Int
  ) throws(QuantError) {
    func refuse(_ subject: String, _ problem: String, _ remedy: String) -> QuantError {
      QuantError(.invalidArgument, subject, problem, remedy: remedy)
    }
    guard context >= 2, context <= configuration.contextLength else {
      throw refuse(
        "context", "\(context) tokens where 2…\(configuration.contextLength) are possible",
        "choose a context that the model was trained for")
    }
    guard samples >= 1, gradientSamples >= 0 else {
      throw refuse("samples", "\(samples) and \(gradientSamples)", "ask for at least one")
    }
    let tokenizer = try Tokenizer(metadata: file.metadata)
    let tokens = tokenizer.encode(text, parseSpecial: false)
    let available = tokens.count / context
    guard available >= 1 else {
      throw refuse(
        "calibration text", "\(tokens.count) tokens are fewer than one sample of \(context)",
        "use a longer text or a shorter context")
    }
    let count = min(samples, available)
    guard count * context >= configuration.embeddingLength else {
      throw refuse(
        "calibration text",
        "\(count) samples of \(context) tokens are fewer tokens than the model's width, "
          + "\(configuration.embeddingLength)", "use a longer text or more samples")
    }
    let beginning = tokenizer.addsBeginningOfSequence ? tokenizer.beginningOfSequence : nil
    windows = (0..<count).map { index in
      let start = index * available / count * context
      var window = Array(tokens[start..<start + context])
      if let beginning { window[0] = beginning }
      return window
    }
    let gradients = min(gradientSamples, count)
    withGradients = Set((0..<gradients).map { $0 * count / max(gradients, 1) })
    self.context = context
  }

  /// The windows in the order they are read, some at a time: those with gradients first.
  func batches(of size: Int) -> [(windows: [Int], hasGradients: Bool)] {
    [true, false].flatMap { hasGradients in
      let members = windows.indices.filter { withGradients.contains($0) == hasGradients }
      return stride(from: 0, to: members.count, by: size).map {
        (Array(members[$0..<min($0 + size, members.count)]), hasGradients)
      }
    }
  }
}
