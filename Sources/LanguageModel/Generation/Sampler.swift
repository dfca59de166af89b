import QuantKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Chooses the next token from a row of logits.
///
/// The filters work in llama.cpp's order: repetition penalty, top-k, top-p, min-p, then
/// temperature, so that top-p and min-p see the model's own distribution. Equal logits rank by
/// token id, and the generator is ours, so a seed determines the text. Buffers are made once:
/// sampling allocates nothing.
public final class Sampler {
  /// How tokens are drawn.
  public struct Options: Sendable, Equatable {
    /// 0 takes the likeliest token (greedy); larger values flatten the distribution.
    public var temperature: Float = 0
    /// Only the k likeliest tokens stay; 0 keeps all.
    public var topK = 40
    /// Only the likeliest tokens whose probabilities sum up to p stay; 1 keeps all.
    public var topP: Float = 0.95
    /// Only tokens at least so likely, relative to the likeliest, stay; 0 keeps all.
    public var minP: Float = 0.05
    /// Logits of recent tokens are divided by it when positive and multiplied when negative; 1
    /// changes nothing.
    public var repetitionPenalty: Float = 1
    /// How many of the last tokens count as recent.
    public var penaltyWindow = 64
    /// Seed of the generator; the same seed gives the same text.
    public var seed: UInt64 = 0

    /// The defaults: the likeliest token.
    public init() {}
  }

  /// How tokens are drawn.
  public let options: Options
  private var random: SeededRandom
  /// Candidates as a heap, then as a sorted list; room for a whole vocabulary.
  private var candidates: UnsafeMutableBufferPointer<Candidate>
  private var penalized: UnsafeMutableBufferPointer<Float>
  private var recent: [Int32] = []
  private var recentNext = 0

  private struct Candidate {
    var logit: Float
    var token: Int32

    /// Whether it ranks before another: higher logit, then lower token.
    func precedes(_ other: Candidate) -> Bool {
      logit > other.logit || (logit == other.logit && token < other.token)
    }
  }

  /// - Throws: `QuantError` `.invalidArgument` when an option is out of its range or not finite.
  public init(options: Options = Options()) throws(QuantError) {
    func check(_ holds: Bool, _ name: String, _ problem: String) throws(QuantError) {
      guard !holds else { return }
      throw QuantError(.invalidArgument, name, problem, remedy: "pass a value in that range")
    }
    try check(
      options.temperature.isFinite && options.temperature >= 0, "temperature",
      "\(options.temperature) is not at least 0")
    try check(options.topK >= 0, "top-k", "\(options.topK) is not at least 0")
    try check(options.topP > 0 && options.topP <= 1, "top-p", "\(options.topP) is not in 0<p≤1")
    try check(options.minP >= 0 && options.minP <= 1, "min-p", "\(options.minP) is not in 0…1")
    try check(
      options.repetitionPenalty.isFinite && options.repetitionPenalty > 0, "repetition penalty",
      "\(options.repetitionPenalty) is not positive")
    try check(
      (0...(1 << 20)).contains(options.penaltyWindow), "penalty window",
      "\(options.penaltyWindow) is not in 0…\(1 << 20)")
    self.options = options
    random = SeededRandom(seed: options.seed)
    candidates = .init(start: nil, count: 0)
    penalized = .init(start: nil, count: 0)
    recent.reserveCapacity(options.penaltyWindow)
  }

  deinit {
    candidates.deallocate()
    penalized.deallocate()
  }

  /// Tells which token came next, for the repetition penalty; ``sample(_:)`` does so for its own.
  public func accept(_ token: Int32) {
    guard options.repetitionPenalty != 1, options.penaltyWindow > 0 else { return }
    if recent.count < options.penaltyWindow {
      recent.append(token)
    } else {
      recent[recentNext] = token
    }
    recentNext = (recentNext + 1) % options.penaltyWindow
  }

  /// The next token.
  ///
  /// - Parameter logits: one finite value or −∞ (never chosen) a token.
  /// - Throws: `QuantError` `.invalidData` when a logit is NaN or +∞ or none is finite.
  /// - Complexity: O(vocabulary), plus O(log vocabulary) for each candidate that the filters look
  ///   at.
  public func sample(_ logits: UnsafeBufferPointer<Float>) throws(QuantError) -> Int32 {
    reserve(logits.count)
    let values = applyPenalty(logits)
    let best = try Self.likeliest(values)
    let token = options.temperature == 0 ? best : draw(values)
    accept(token)
    return token
  }

  /// The likeliest token, the lowest id among equals.
  ///
  /// - Throws: as ``sample(_:)``.
  public static func likeliest(_ logits: UnsafeBufferPointer<Float>) throws(QuantError) -> Int32 {
    var best = -Float.infinity
    var token = -1
    var sum: Float = 0
    for index in logits.indices {
      let value = logits[index]
      // x − x is 0 for finite x and NaN for NaN and infinities; −∞ alone is allowed.
      sum += value == -.infinity ? 0 : value - value
      if value > best {
        best = value
        token = index
      }
    }
    guard sum == 0, token >= 0 else {
      let bad = logits.firstIndex { $0.isNaN || $0 == .infinity }
      throw QuantError(
        .invalidData, "logits",
        bad.map { "the logit of token \($0) is \(logits[$0])" } ?? "no logit is finite",
        remedy: "the model's weights or activations overflow; export the model again")
    }
    return Int32(token)
  }

  private func reserve(_ count: Int) {
    guard candidates.count < count else { return }
    candidates.deallocate()
    penalized.deallocate()
    candidates = .allocate(capacity: count)
    penalized = .allocate(capacity: count)
  }

  private func applyPenalty(_ logits: UnsafeBufferPointer<Float>) -> UnsafeBufferPointer<Float> {
    guard options.repetitionPenalty != 1, !recent.isEmpty else { return logits }
    let copy = UnsafeMutableBufferPointer(rebasing: penalized[..<logits.count])
    _ = copy.update(from: logits)
    for index in 0..<recent.count {
      let token = Int(recent[index])
      guard token >= 0, token < logits.count else { continue }
      // From the original, so that a token that occurs twice is penalized once.
      let value = logits[token]
      copy[token] =
        value > 0 ? value / options.repetitionPenalty : value * options.repetitionPenalty
    }
    return UnsafeBufferPointer(copy)
  }

  private func draw(_ logits: UnsafeBufferPointer<Float>) -> Int32 {
    var kept = logits.count
    let truncates = options.topP < 1 || options.minP > 0
    if options.topK > 0, options.topK < logits.count {
      kept = selectTop(options.topK, of: logits)
    } else {
      for token in 0..<logits.count {
        candidates[token] = Candidate(logit: logits[token], token: Int32(token))
      }
      if truncates { kept = truncateUnsorted(logits.count) }
      return pick(kept)
    }
    if truncates { kept = truncateSorted(kept, sum: sumOfExponentials(kept)) }
    return pick(kept)
  }

  /// Keeps the k likeliest, sorted: a heap of k with the least likely on top, which most logits do
  /// not enter.
  private func selectTop(_ k: Int, of logits: UnsafeBufferPointer<Float>) -> Int {
    for token in 0..<k { candidates[token] = Candidate(logit: logits[token], token: Int32(token)) }
    for node in stride(from: k / 2 - 1, through: 0, by: -1) { sift(node, k, likeliestFirst: false) }
    var bar = candidates[0].logit
    for token in k..<logits.count where logits[token] > bar {
      candidates[0] = Candidate(logit: logits[token], token: Int32(token))
      sift(0, k, likeliestFirst: false)
      bar = candidates[0].logit
    }
    // The rest of a heap sort: the least likely goes to the end, so the likeliest ends up first.
    for end in stride(from: k - 1, to: 0, by: -1) {
      candidates.swapAt(0, end)
      sift(0, end, likeliestFirst: false)
    }
    return k
  }

  private func sift(_ start: Int, _ count: Int, likeliestFirst: Bool) {
    var node = start
    while true {
      var top = node
      for child in 2 * node + 1..<min(2 * node + 3, max(count, 2 * node + 1))
      where candidates[child].precedes(candidates[top]) == likeliestFirst {
        top = child
      }
      if top == node { return }
      candidates.swapAt(top, node)
      node = top
    }
  }

  private func sumOfExponentials(_ count: Int) -> Double {
    var maximum = -Float.infinity
    for index in 0..<count { maximum = max(maximum, candidates[index].logit) }
    var sum = 0.0
    for index in 0..<count { sum += exp(Double(candidates[index].logit - maximum)) }
    return sum
  }

  /// How many of the sorted candidates top-p and then min-p keep; at least one.
  private func truncateSorted(_ count: Int, sum: Double) -> Int {
    let maximum = candidates[0].logit
    var cumulative = 0.0
    var kept = 0
    while kept < count {
      let weight = exp(Double(candidates[kept].logit - maximum))
      if kept > 0, weight < Double(options.minP) { break }
      cumulative += weight
      kept += 1
      if options.topP < 1, cumulative >= Double(options.topP) * sum { break }
    }
    return kept
  }

  /// The same over unsorted candidates: a heap gives them up in order until the filters are
  /// satisfied, which is after few, so the vocabulary is never sorted.
  private func truncateUnsorted(_ count: Int) -> Int {
    let sum = sumOfExponentials(count)
    for node in stride(from: count / 2 - 1, through: 0, by: -1) {
      sift(node, count, likeliestFirst: true)
    }
    let maximum = candidates[0].logit
    var left = count
    var cumulative = 0.0
    // Taken candidates gather at the end of the buffer, the likeliest last.
    while left > 0 {
      let weight = exp(Double(candidates[0].logit - maximum))
      if left < count, weight < Double(options.minP) { break }
      cumulative += weight
      left -= 1
      candidates.swapAt(0, left)
      sift(0, left, likeliestFirst: true)
      if options.topP < 1, cumulative >= Double(options.topP) * sum { break }
    }
    let kept = count - left
    for index in 0..<kept where index < count - 1 - index {
      candidates.swapAt(index, count - 1 - index)
    }
    return kept
  }

  /// Draws one of the first `count` candidates by their probabilities at the temperature.
  private func pick(_ count: Int) -> Int32 {
    var maximum = -Float.infinity
    for index in 0..<count { maximum = max(maximum, candidates[index].logit) }
    let inverse = 1 / Double(options.temperature)
    var sum = 0.0
    for index in 0..<count { sum += exp(Double(candidates[index].logit - maximum) * inverse) }
    var left = random.uniform() * sum
    var last: Int32 = 0
    for index in 0..<count {
      let weight = exp(Double(candidates[index].logit - maximum) * inverse)
      if weight > 0 { last = candidates[index].token }
      left -= weight
      if left < 0 { return candidates[index].token }
    }
    // Rounding may leave a remainder: the last candidate that can occur takes it.
    return last
  }
}
