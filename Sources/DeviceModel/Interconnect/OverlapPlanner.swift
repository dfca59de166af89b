/// How rows are cut into chunks so that communication hides behind computation.
public struct OverlapPlan: Sendable {
  /// The chunks, ascending; together all rows.
  public let chunks: [Range<Int>]
  /// Their times.
  public let shop: FlowShop
  /// When what happens, in the order with the least makespan.
  public let timeline: FlowShop.Timeline
  /// The makespan of everything as one chunk, of which all communication is exposed.
  public let unchunked: Double
  /// That communication.
  public let unchunkedExposed: Double

  /// Chunks in the order in which they run.
  public var orderedChunks: [Range<Int>] { timeline.order.map { chunks[$0] } }

  /// The least exposed time that any order of these chunks could have.
  public var exposedBound: Double { shop.lowerBound - shop.computeTotal }
}

/// Searches for the cut of rows with the least makespan.
///
/// Tried are, for every number of chunks: parts of equal rows and parts of equal computation, each
/// with a first and a last chunk of the whole, half, a quarter or an eighth of the others' size. A
/// small last chunk leaves little to send at the end; a small first one starts the links early. The
/// best is refined by moving the ends of its chunks. Chosen is the least makespan among cuts that
/// expose at most 1.05 times what no order of their chunks could hide.
public struct OverlapPlanner: Sendable, Hashable {
  /// The most chunks to try.
  public var mostChunks: Int
  /// Chunks begin at multiples of this.
  public var granularity: Int

  /// A search over up to `mostChunks` chunks.
  public init(mostChunks: Int = 32, granularity: Int = 1) {
    self.mostChunks = mostChunks
    self.granularity = granularity
  }

  private static let tapers = [1.0, 0.5, 0.25, 0.125]

  private func check(rows: Int, chunks: Int) throws(DeviceError) {
    guard rows >= 0, chunks >= 1, granularity >= 1 else {
      throw DeviceError(
        .invalidArgument, "chunks", "\(rows) rows in \(chunks) chunks of whole \(granularity)",
        remedy: "use at least 0 rows, 1 chunk and a granularity of 1")
    }
  }

  /// Cuts `rows` into at most `chunks` parts of equal rows; fewer when there are not as many rows,
  /// none of no rows.
  ///
  /// - Throws: ``DeviceError`` `.invalidArgument` for negative rows and less than one chunk.
  public func equalChunks(rows: Int, chunks: Int) throws(DeviceError) -> [Range<Int>] {
    try check(rows: rows, chunks: chunks)
    return cut(rows: rows, weights: [Double](repeating: 1, count: min(chunks, max(rows, 1)))) {
      $0 * Double(rows)
    }
  }

  /// Parts whose ends stand where `position` puts the cumulated weights.
  private func cut(
    rows: Int, weights: [Double], at position: (Double) -> Double
  ) -> [Range<Int>] {
    let total = weights.reduce(0, +)
    var chunks: [Range<Int>] = []
    var start = 0
    var sum = 0.0
    for (index, weight) in weights.enumerated() {
      sum += weight
      let step = Double(granularity)
      let whole = (position(sum / total) / step).rounded() * step
      let end = index == weights.count - 1 ? rows : min(rows, max(start, Int(whole)))
      if end > start {
        chunks.append(start..<end)
        start = end
      }
    }
    return chunks
  }

  /// The times of given chunks.
  ///
  /// - Throws: ``DeviceError`` `.invalidArgument` for chunks that are not all rows once, and what
  ///   `cost` throws.
  public func plan(
    rows: Int, chunks: [Range<Int>],
    cost: (Range<Int>) throws(DeviceError) -> FlowShop.Job
  ) throws(DeviceError) -> OverlapPlan {
    try check(rows: rows, chunks: 1)
    var next: Int? = 0
    for chunk in chunks {
      next = chunk.lowerBound == next && !chunk.isEmpty ? chunk.upperBound : nil
    }
    guard next == rows else {
      throw DeviceError(
        .invalidArgument, "chunks", "\(chunks) are not the rows 0 ..< \(rows), once each",
        remedy: "cut the rows without gaps, ascending")
    }
    var jobs: [FlowShop.Job] = []
    for chunk in chunks { jobs.append(try cost(chunk)) }
    let shop = try FlowShop(jobs)
    let whole = rows == 0 ? nil : try cost(0..<rows)
    return OverlapPlan(
      chunks: chunks, shop: shop, timeline: try shop.timeline(),
      unchunked: whole.map { $0.compute + $0.communicate } ?? 0,
      unchunkedExposed: whole?.communicate ?? 0)
  }

  /// The best cut found; one chunk where none is better.
  ///
  /// - Parameters:
  ///   - rows: rows to cut; none give an empty plan.
  ///   - cost: the times of a chunk of rows.
  /// - Throws: ``DeviceError`` `.invalidArgument` for negative rows, fewer than one chunk and bad
  ///   times; what `cost` throws.
  /// - Complexity: O(16 · mostChunks²) calls of `cost`, and as many again for the refinement of
  ///   large cuts by log₂ rows steps.
  public func best(
    rows: Int, cost: @escaping (Range<Int>) throws(DeviceError) -> FlowShop.Job
  ) throws(DeviceError) -> OverlapPlan {
    try check(rows: rows, chunks: mostChunks)
    if rows == 0 { return try plan(rows: 0, chunks: [], cost: cost) }
    let best = try plan(rows: rows, chunks: [0..<rows], cost: cost)
    let most = min(mostChunks, (rows + granularity - 1) / granularity)
    if most == 1 { return best }
    // Where the cumulated computation reaches a share, by samples.
    let samples = min(rows, 256)
    var cumulated = [0.0]
    for sample in 1...samples {
      let row = CollectiveSchedule.part(sample - 1, of: samples, in: 0..<rows).upperBound
      cumulated.append(max(cumulated[sample - 1], try cost(0..<row).compute))
    }
    func computePosition(_ share: Double) -> Double {
      let wanted = share * cumulated[samples]
      let above = cumulated.firstIndex { $0 >= wanted } ?? samples
      if above == 0 { return 0 }
      let (low, high) = (cumulated[above - 1], cumulated[above])
      let inside = high > low ? (wanted - low) / (high - low) : 0
      return (Double(above - 1) + inside) / Double(samples) * Double(rows)
    }
    var search = Search(best, cost: cost)
    for count in 2...most {
      for first in Self.tapers {
        for last in Self.tapers {
          var weights = [Double](repeating: 1, count: count)
          weights[0] = first
          weights[count - 1] = last
          try search.look(at: cut(rows: rows, weights: weights) { $0 * Double(rows) })
          try search.look(at: cut(rows: rows, weights: weights, at: computePosition))
        }
      }
    }
    var step = max(1, rows / granularity / 8)
    while step >= 1 {
      try search.refine(rows: rows, step: step * granularity)
      step /= 2
    }
    return try plan(rows: rows, chunks: search.best.chunks, cost: cost)
  }

  /// Cuts that were looked at.
  private struct Search {
    let cost: (Range<Int>) throws(DeviceError) -> FlowShop.Job
    /// The least makespan among cuts that expose what they must.
    var best: (chunks: [Range<Int>], makespan: Double)
    /// The same among all, a longer exposure than that added to the makespan: where to look on.
    var lead: (chunks: [Range<Int>], makespan: Double)
    var jobs: [Range<Int>: FlowShop.Job] = [:]

    init(
      _ whole: OverlapPlan, cost: @escaping (Range<Int>) throws(DeviceError) -> FlowShop.Job
    ) {
      self.cost = cost
      best = (whole.chunks, whole.timeline.makespan)
      lead = best
    }

    /// Whether the cut is a better lead.
    @discardableResult
    mutating func look(at chunks: [Range<Int>]) throws(DeviceError) -> Bool {
      var times: [FlowShop.Job] = []
      for chunk in chunks {
        if let known = jobs[chunk] {
          times.append(known)
        } else {
          let job = try cost(chunk)
          jobs[chunk] = job
          times.append(job)
        }
      }
      let shop = try FlowShop(times)
      let timeline = try shop.timeline()
      let excess = timeline.exposed - 1.05 * (shop.lowerBound - shop.computeTotal)
      // A billionth of the whole is rounding.
      let isTight = excess <= 1e-9 * timeline.makespan
      let makespan = timeline.makespan + (isTight ? 0 : excess)
      if isTight, makespan < best.makespan { best = (chunks, makespan) }
      guard makespan < lead.makespan * (1 - 1e-12) else { return false }
      lead = (chunks, makespan)
      return true
    }

    /// Moves single ends of the lead's chunks by a step, and all ends before or after one.
    mutating func refine(rows: Int, step: Int) throws(DeviceError) {
      for _ in 0..<8 {
        var isBetter = false
        for index in 0..<max(0, lead.chunks.count - 1) {
          for change in [-step, step] {
            let last = lead.chunks.count - 2
            for moved in [index...index, index...last, 0...index] {
              var ends = lead.chunks.map(\.upperBound)
              for end in moved { ends[end] += change }
              let starts = [0] + ends.dropLast()
              guard zip(starts, ends).allSatisfy({ $0 < $1 }) else { continue }
              if try look(at: zip(starts, ends).map { $0..<$1 }) { isBetter = true }
            }
          }
        }
        if !isBetter { return }
      }
    }
  }
}
