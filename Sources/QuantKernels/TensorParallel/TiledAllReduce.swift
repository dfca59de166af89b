/// Attention and its output projection over several ranks, with the all-reduce of one chunk of rows
/// running while later chunks compute.
///
/// Every rank computes its heads' attention and its terms of the projection for one chunk after the
/// other; a second thread of the rank sends finished chunks. Outputs have the same bits on every
/// rank, for every way of cutting the rows and whoever comes first: a row's attention and product do
/// not depend on the rows beside it, and ``Communicator/allReduce(_:)`` adds in the order of ranks.
///
/// Derived from: FastAttention's tiling-AllReduce (arXiv 2410.16663), in words only; the schedule is
/// ours.
public enum TiledAllReduce {
  /// When a chunk was worked on; seconds from the rank's start.
  public struct Chunk: Sendable, Hashable {
    /// Its rows.
    public let rows: Range<Int>
    /// Attention and projection.
    public internal(set) var compute = 0.0..<0.0
    /// The all-reduce, waiting for other ranks included.
    public internal(set) var communicate = 0.0..<0.0
  }

  /// What a rank got, and when.
  public struct Output: Sendable {
    /// `[count × width]`, the same on every rank.
    public let values: [Float]
    /// The chunks in the order in which they were computed.
    public let chunks: [Chunk]
    /// What this rank sent in this call.
    public let traffic: CommunicationTraffic

    /// Seconds from the start to the last result.
    public var makespan: Double {
      chunks.reduce(0) { max($0, $1.compute.upperBound, $1.communicate.upperBound) }
    }
    /// Seconds of computation.
    public var computeSeconds: Double {
      chunks.reduce(0) { $0 + $1.compute.upperBound - $1.compute.lowerBound }
    }
    /// Seconds that computation did not hide.
    public var exposedSeconds: Double { max(0, makespan - computeSeconds) }
  }

  /// One rank's part; all ranks call it with their own shares and queries and the same rest.
  ///
  /// - Parameters:
  ///   - queries: this rank's, `[count × shard.columns]`.
  ///   - firstPosition: the position of the first row; the cache holds all of them already.
  ///   - chunks: the rows 0 ..< count, cut without gaps, in the order in which to run them, the same
  ///     on every rank.
  ///   - pool: this rank's workers.
  ///   - shard: this rank's part.
  ///   - count: rows.
  ///   - options: scale, window, soft-cap, slopes and sinks.
  ///   - communicator: this rank's.
  /// - Throws: ``QuantError``: `.invalidArgument` for sizes and chunks that do not fit; what
  ///   ``Attention`` and the communicator throw. An error ends the collectives of all ranks.
  public static func run(
    _ shard: AttentionShard, queries: [Float], count: Int, firstPosition: Int,
    options: AttentionOptions, chunks: [Range<Int>], communicator: any Communicator,
    pool: WorkerPool
  ) throws(QuantError) -> Output {
    do throws(QuantError) {
      return try Call(
        shard: shard, queries: queries, count: count, firstPosition: firstPosition,
        options: options, communicator: communicator, pool: pool
      ).run(chunks)
    } catch {
      communicator.abort(error)
      throw error
    }
  }

  /// - Throws: ``QuantError`` `.invalidArgument` unless the chunks are 0 ..< count, once each.
  static func check(_ chunks: [Range<Int>], count: Int) throws(QuantError) {
    var next = 0
    for chunk in chunks.sorted(by: { $0.lowerBound < $1.lowerBound }) {
      guard chunk.lowerBound == next, !chunk.isEmpty else {
        next = -1
        break
      }
      next = chunk.upperBound
    }
    guard next == count else {
      throw QuantError(
        .invalidArgument, "chunks of rows", "\(chunks) are not the rows 0 ..< \(count), once each",
        remedy: "cut the rows without gaps; OverlapPlanner does")
    }
  }

  private struct Call {
    let shard: AttentionShard
    let queries: [Float]
    let count: Int
    let firstPosition: Int
    let options: AttentionOptions
    let communicator: any Communicator
    let pool: WorkerPool

    func run(_ chunks: [Range<Int>]) throws(QuantError) -> Output {
      let width = shard.layer.width
      let (expected, isTooMany) = count.multipliedReportingOverflow(by: shard.columns)
      guard count >= 0, !isTooMany, queries.count == expected,
        communicator.ranks == shard.layer.keyValueHeads / shard.keyValueHeads.count,
        communicator.rank == shard.rank
      else {
        throw QuantError(
          .invalidArgument, "tiled all-reduce",
          "\(queries.count) floats of queries for \(count) rows of \(shard.columns), share "
            + "\(shard.rank) on rank \(communicator.rank) of \(communicator.ranks)",
          remedy: "pass the rank's own queries, and its own share of a layer cut for these ranks")
      }
      try TiledAllReduce.check(chunks, count: count)
      let (floats, overflows) = count.multipliedReportingOverflow(by: width)
      guard !overflows, floats < Int.max / 8 else {
        throw QuantError(
          .outOfMemory, "tiled all-reduce", "the output's size overflows",
          remedy: "attend from fewer rows at a time")
      }
      let before = communicator.traffic
      let output = try AlignedBuffer(count: 4 * floats, for: "output of a tiled all-reduce")
      let longest = chunks.reduce(0) { max($0, $1.count) }
      let attended = try AlignedBuffer(
        count: 4 * longest * shard.columns, for: "chunk of a tiled all-reduce")
      let line = ChunkLine(chunks)
      if communicator.ranks == 1 {
        try compute(line, attended, output)
      } else {
        let sender = try JoinableThread { [communicator] in
          line.send(output, width: width, by: communicator)
        }
        defer { sender.join() }
        do throws(QuantError) { try compute(line, attended, output) } catch {
          // The sender may be waiting for ranks that wait for this one.
          line.fail(error)
          communicator.abort(error)
          throw error
        }
      }
      let finished = try line.finish()
      let traffic = communicator.traffic.since(before)
      let values = UnsafeBufferPointer(
        start: output.base.assumingMemoryBound(to: Float.self), count: floats)
      return Output(values: Array(values), chunks: finished, traffic: traffic)
    }

    /// Computes chunk by chunk and hands them over.
    private func compute(
      _ line: ChunkLine, _ attended: AlignedBuffer, _ output: AlignedBuffer
    ) throws(QuantError) {
      let heads = attended.base.assumingMemoryBound(to: Float.self)
      let results = output.base.assumingMemoryBound(to: Float.self)
      var failure: QuantError?
      queries.withUnsafeBufferPointer { queries in
        guard let source = queries.baseAddress else { return }
        for (index, rows) in line.rows.enumerated() {
          do throws(QuantError) {
            let start = try line.start(index)
            try Attention.run(
              queries: source + rows.lowerBound * shard.columns, heads: shard.heads.count,
              count: rows.count, firstPosition: firstPosition + rows.lowerBound, cache: shard.cache,
              options: options, output: heads, workspace: shard.attentionWorkspace, pool: pool)
            try shard.projection.multiply(
              heads, count: rows.count, into: results + rows.lowerBound * shard.layer.width,
              outputStride: shard.layer.width, arithmetic: .exact,
              workspace: shard.productWorkspace, pool: pool)
            line.post(index, since: start, isLast: communicator.ranks == 1)
          } catch {
            failure = error
            return
          }
        }
      }
      if let failure { throw failure }
    }
  }
}
