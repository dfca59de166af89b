import QuantKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// The exact-match test of BitNet inference (arXiv 2410.16144, table 7): models that should compute
/// the same continue the same prompts greedily, and a prompt counts as matched when every token is
/// equal. Logits are compared as well, bit for bit.
///
/// A network that is certain of its next token would match under any arithmetic, so the report says
/// how uncertain this one was.
public struct ExactMatch {
  /// One model beside the first.
  public struct Comparison: Sendable, Equatable {
    /// Prompts all of whose tokens are equal to the first model's.
    public var matchedPrompts = 0
    /// Steps up to the first unequal token of each prompt, and those of them whose logits are equal
    /// in every bit.
    public var steps = 0
    /// Steps whose logits are equal in every bit.
    public var equalSteps = 0
  }

  /// Prompts that were added.
  public private(set) var prompts = 0
  /// Tokens that the first model generated, and how many different ones.
  public private(set) var tokens = 0
  /// Different tokens among those generated.
  public var distinctTokens: Int { seen.count }
  /// Mean entropy of the first model's next-token distributions, in bits.
  public var meanEntropy: Double { tokens == 0 ? 0 : entropy / Double(tokens) }
  /// One for each model after the first.
  public private(set) var comparisons: [Comparison]
  private var entropy = 0.0
  private var seen: Set<Int32> = []

  private let sessions: [Session]

  /// - Parameter models: at least one; each computes the same network.
  /// - Throws: `QuantError` when there is none or they differ in shape; what sessions throw.
  public init(_ models: [LanguageModel]) throws(QuantError) {
    guard let first = models.first,
      models.allSatisfy({ $0.configuration == first.configuration })
    else {
      throw QuantError(
        .invalidArgument, "exact match",
        models.isEmpty ? "there is no model" : "the models have different shapes",
        remedy: "compare files of one network")
    }
    var sessions: [Session] = []
    for model in models { sessions.append(try model.makeSession()) }
    self.sessions = sessions
    comparisons = [Comparison](repeating: Comparison(), count: models.count - 1)
  }

  /// Continues one prompt by `count` tokens with every model.
  ///
  /// - Throws: `QuantError` as ``Session/forward(_:cancellation:)``.
  public mutating func add(
    prompt: [Int32], tokens count: Int, cancellation: CancellationFlag? = nil
  ) throws(QuantError) {
    var reference: [(token: Int32, digest: UInt64)] = []
    for (index, session) in sessions.enumerated() {
      session.reset()
      try session.forward(prompt, cancellation: cancellation)
      var step = 0
      while step < count {
        try cancellation.check()
        let token = Self.best(session.logits)
        let digest = Self.digest(session.logits)
        if index == 0 {
          reference.append((token, digest))
          entropy += Self.entropy(session.logits)
          seen.insert(token)
          tokens += 1
        } else {
          comparisons[index - 1].steps += 1
          if digest == reference[step].digest { comparisons[index - 1].equalSteps += 1 }
          if token != reference[step].token { break }
        }
        step += 1
        if step < count { try session.forward(token: token) }
      }
      if index > 0, step == count { comparisons[index - 1].matchedPrompts += 1 }
    }
    prompts += 1
  }

  /// The first of the largest logits.
  private static func best(_ logits: UnsafeBufferPointer<Float>) -> Int32 {
    var best = 0
    for index in 1..<logits.count where logits[index] > logits[best] { best = index }
    return Int32(best)
  }

  /// A number that differs when any bit of the logits does, but for chance of 2⁻⁶⁴.
  private static func digest(_ logits: UnsafeBufferPointer<Float>) -> UInt64 {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for value in logits {
      hash = (hash ^ UInt64(value.bitPattern)) &* 0x9E37_79B9_7F4A_7C15
      hash ^= hash >> 32
    }
    return hash
  }

  private static func entropy(_ logits: UnsafeBufferPointer<Float>) -> Double {
    let top = Double(logits.max() ?? 0)
    var total = 0.0
    var weighted = 0.0
    for value in logits {
      let x = Double(value) - top
      let weight = exp(x)
      total += weight
      weighted += weight * x
    }
    return (log(total) - weighted / total) / log(2)
  }
}
