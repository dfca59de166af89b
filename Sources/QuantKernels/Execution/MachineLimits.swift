import CQuantKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Measures what this machine can do at most with the threads of a pool: how fast it reads memory,
/// and how fast it multiplies when no operand comes from memory.
///
/// Neighbors on a shared machine change these limits from minute to minute, so a benchmark asks for
/// short slices between the runs that it compares with them. Memory is mapped and the best read
/// loop is found once, by ``init(pool:instructionSet:bytes:)``.
///
/// The read bandwidth is that of the best of several loops: 1, 2 or 4 streams side by side, with
/// and without software prefetch, over 4 KiB and over huge pages.
public final class MachineLimits {
  /// One way of reading memory.
  public struct ReadLoop: Sendable, Equatable, CustomStringConvertible {
    /// Addresses that are read in turn.
    public let streams: Int
    /// Whether lines are prefetched by the program.
    public let prefetches: Bool
    /// Whether memory is in huge pages, as far as the system grants them.
    public let hugePages: Bool

    public var description: String {
      "\(streams) stream\(streams == 1 ? "" : "s"), \(prefetches ? "prefetch" : "no prefetch"), "
        + (hugePages ? "huge pages" : "4 KiB pages")
    }
  }

  /// What a multiply loop multiplies.
  public enum Peak: Sendable, CaseIterable {
    /// int8 products summed to int32.
    case int8
    /// bfloat16 products summed to float32.
    case bfloat16
    /// float32 fused multiply-adds.
    case float32

    fileprivate var identifier: qk_peak {
      switch self {
      case .int8: QK_PEAK_INT8
      case .bfloat16: QK_PEAK_BF16
      case .float32: QK_PEAK_FP32
      }
    }
  }

  /// The smallest buffer whose reading counts as reading memory, 512 MiB: 16 times a last-level
  /// cache of 32 MiB.
  public static let standardBytes = 512 << 20

  /// Threads that measure, and that everything measured beside must use.
  public var threads: Int { pool.threads }
  /// The level whose instructions the loops use.
  public let instructionSet: InstructionSet
  /// The read loops, the fastest first.
  public private(set) var rankedReadLoops: [ReadLoop] = []

  private let pool: WorkerPool
  private let partBytes: Int
  private let parts: Int
  private let memory: [Bool: AlignedBuffer]

  /// Maps the memory (twice `bytes`: ordinary and huge pages), fills it and ranks the read loops.
  ///
  /// - Parameters:
  ///   - pool: all measurements use its threads.
  ///   - instructionSet: a level that this processor runs.
  ///   - bytes: how much each read pass covers; a real measurement needs ``standardBytes``.
  /// - Throws: ``QuantError`` when the level does not run here, or the memory cannot be had.
  /// - Complexity: one to two seconds with ``standardBytes``.
  public init(
    pool: WorkerPool, instructionSet: InstructionSet = .best, bytes: Int = standardBytes
  ) throws(QuantError) {
    guard instructionSet.isSupported else {
      throw QuantError(
        .invalidArgument, "instruction set \(instructionSet.rawValue)",
        "this processor does not run it",
        remedy: "choose one of "
          + InstructionSet.supported.map(\.rawValue).joined(separator: ", "))
    }
    self.pool = pool
    self.instructionSet = instructionSet
    // Several parts a thread, so that a thread that was interrupted does not hold up the pass. An
    // odd number of 16 KiB pieces in a part keeps the four streams of a loop off the same memory
    // bank.
    parts = 8 * pool.threads
    partBytes = (((max(bytes, 1) + parts - 1) / parts + 16_383) / 16_384 | 1) * 16_384
    let total = partBytes.multipliedReportingOverflow(by: parts)
    guard !total.overflow else {
      throw QuantError(
        .invalidArgument, "read buffer", "\(bytes) bytes cannot be mapped",
        remedy: "ask for \(MachineLimits.standardBytes)")
    }
    memory = [
      false: try AlignedBuffer(
        count: total.partialValue, for: "memory to measure its bandwidth", hugePages: false),
      true: try AlignedBuffer(
        count: total.partialValue, for: "memory to measure its bandwidth", hugePages: true),
    ]
    for buffer in memory.values {
      let base = Slice(buffer.base)
      let partBytes = self.partBytes
      // Written once, so that every page is a page of its own.
      pool.run(parts: parts) { part, _ in
        memset(base.pointer + part * partBytes, Int32(1 + part % 255), partBytes)
      }
    }
    rankReadLoops()
  }

  private func rankReadLoops() {
    var speeds: [(loop: ReadLoop, speed: Double)] = []
    for hugePages in [false, true] {
      for streams in [1, 2, 4] {
        for prefetches in [false, true] {
          let loop = ReadLoop(streams: streams, prefetches: prefetches, hugePages: hugePages)
          speeds.append((loop, max(readPass(loop), readPass(loop))))
        }
      }
    }
    rankedReadLoops = speeds.sorted { $0.speed > $1.speed }.map(\.loop)
  }

  /// Read bandwidth in GB/s (10⁹ bytes): whole passes for at least `milliseconds`, shared by the
  /// three best loops; the best loop's mean.
  public func readGigabytesPerSecond(milliseconds: Int = 90) -> Double {
    let candidates = rankedReadLoops.prefix(3)
    let slice = Double(max(milliseconds, 0)) * 1e-3 / Double(max(candidates.count, 1))
    var best = 0.0
    for loop in candidates {
      let start = MonotonicClock.nanoseconds()
      var inverse = 0.0
      var passes = 0
      repeat {
        inverse += 1 / readPass(loop)
        passes += 1
      } while MonotonicClock.seconds(since: start) < slice
      best = max(best, Double(passes) / inverse)
    }
    return best
  }

  /// GB/s of one pass over the buffer.
  private func readPass(_ loop: ReadLoop) -> Double {
    guard let buffer = memory[loop.hugePages] else { return 0 }
    let base = Slice(buffer.base)
    let level = instructionSet.kernelTableIdentifier
    let sums = UnsafeMutablePointer<UInt64>.allocate(capacity: pool.threads * 8)
    defer { sums.deallocate() }
    let sink = Slice(UnsafeMutableRawPointer(sums))
    var start: UInt64 = 0
    var seconds = 0.0
    pool.withHotRegion {
      start = MonotonicClock.nanoseconds()
      pool.run(parts: parts) { [partBytes] part, worker in
        // One cache line a worker.
        sink.pointer.storeBytes(
          of: qk_probe_read(
            level, Int32(loop.streams), loop.prefetches ? 1 : 0,
            base.pointer + part * partBytes, partBytes),
          toByteOffset: worker * 64, as: UInt64.self)
      }
      seconds = MonotonicClock.seconds(since: start)
    }
    return Double(partBytes * parts) / max(seconds, 1e-9) * 1e-9
  }

  /// Multiply-adds a second, in 10⁹, of all threads together; for a float kind twice that is
  /// GFLOP/s.
  public func gigaMultiplyAddsPerSecond(_ peak: Peak, milliseconds: Int = 50) -> Double {
    let level = instructionSet.kernelTableIdentifier
    let kind = peak.identifier
    // Pieces of some 0.1 ms on a fast level: short against a slice, long against a fork and join.
    let iterations: UInt64 = instructionSet == .scalar ? 8_000 : 32_000
    let pieces = 8 * pool.threads
    let sinks = UnsafeMutablePointer<Float>.allocate(capacity: pool.threads * 16)
    defer { sinks.deallocate() }
    let sink = Slice(UnsafeMutableRawPointer(sinks))
    let limit = Double(max(milliseconds, 0)) * 1e-3
    var done = 0.0
    var seconds = 0.0
    pool.withHotRegion {
      // The first round wakes the helpers and the wide units, and is not counted.
      pool.run(parts: pool.threads) { _, worker in
        _ = qk_probe_peak(
          level, kind, iterations,
          (sink.pointer + worker * 64).assumingMemoryBound(to: Float.self))
      }
      let start = MonotonicClock.nanoseconds()
      repeat {
        pool.run(parts: pieces) { _, worker in
          _ = qk_probe_peak(
            level, kind, iterations,
            (sink.pointer + worker * 64).assumingMemoryBound(to: Float.self))
        }
        done += Double(pieces)
        seconds = MonotonicClock.seconds(since: start)
      } while seconds < limit
    }
    var unused: Float = 0
    let perPiece = Double(qk_probe_peak(level, kind, iterations, &unused))
    return done * perPiece / max(seconds, 1e-9) * 1e-9
  }

  /// int8 multiply-adds a second in 10⁹ (GMAC/s), all threads together.
  public func int8GigaMACPerSecond(milliseconds: Int = 50) -> Double {
    gigaMultiplyAddsPerSecond(.int8, milliseconds: milliseconds)
  }

  /// The instruction that the loop of `peak` consists of.
  public func instruction(_ peak: Peak) -> String {
    String(cString: qk_probe_peak_name(instructionSet.kernelTableIdentifier, peak.identifier))
  }
}

/// A pointer that several threads use on disjoint parts.
private struct Slice: @unchecked Sendable {
  let pointer: UnsafeMutableRawPointer
  init(_ pointer: UnsafeMutableRawPointer) { self.pointer = pointer }
}
