/// Chunks on their way from the thread that computes them to the one that sends them.
final class ChunkLine: @unchecked Sendable {
  /// The chunks' rows, in order.
  let rows: [Range<Int>]
  private let monitor = Monitor()
  private let start = MonotonicClock.nanoseconds()
  private var chunks: [TiledAllReduce.Chunk]
  private var posted = 0
  private var sent = 0
  private var failure: QuantError?

  init(_ rows: [Range<Int>]) {
    self.rows = rows
    chunks = rows.map { TiledAllReduce.Chunk(rows: $0) }
  }

  private var now: Double { MonotonicClock.seconds(since: start) }

  /// The time at which chunk `index` begins.
  ///
  /// - Throws: what the sender failed with: there is no use in computing on.
  func start(_ index: Int) throws(QuantError) -> Double {
    try monitor.locked { () throws(QuantError) in
      if let failure { throw failure }
      return now
    }
  }

  /// Hands a computed chunk over; one that nobody sends (`isLast`) is finished.
  func post(_ index: Int, since start: Double, isLast: Bool) {
    monitor.locked {
      let time = now
      chunks[index].compute = start..<max(start, time)
      chunks[index].communicate = time..<time
      posted = index + 1
      if isLast { sent = posted }
      monitor.signal()
    }
  }

  /// Ends the line.
  func fail(_ error: QuantError) {
    monitor.locked {
      if failure == nil { failure = error }
      monitor.signal()
    }
  }

  /// Waits for the next chunk; false when the line has ended.
  private func wait(for index: Int) -> Bool {
    monitor.locked {
      while posted <= index, failure == nil { monitor.wait() }
      return failure == nil
    }
  }

  /// Sends chunk after chunk of the rows of `output` as they come.
  func send(_ output: AlignedBuffer, width: Int, by communicator: any Communicator) {
    let values = output.base.assumingMemoryBound(to: Float.self)
    for (index, rows) in rows.enumerated() {
      guard wait(for: index) else { return }
      let begin = now
      do throws(QuantError) {
        try communicator.allReduce(
          UnsafeMutableBufferPointer(
            start: values + rows.lowerBound * width, count: rows.count * width))
      } catch {
        fail(error)
        return
      }
      monitor.locked {
        chunks[index].communicate = begin..<max(begin, now)
        sent = index + 1
        monitor.signal()
      }
    }
  }

  /// Waits until all chunks are sent and returns when each was worked on.
  ///
  /// - Throws: what the sender failed with.
  func finish() throws(QuantError) -> [TiledAllReduce.Chunk] {
    try monitor.locked { () throws(QuantError) in
      while sent < rows.count, failure == nil { monitor.wait() }
      if let failure { throw failure }
      return chunks
    }
  }
}
