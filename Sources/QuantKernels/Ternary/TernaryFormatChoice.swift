import CQuantKernels
import Synchronization

/// Which of the two general formats reads weights faster with a pool's threads, measured.
///
/// Five-trit weights are a fifth smaller and take twice the instructions: they pay where many
/// threads share a memory that they saturate, and cost where one thread cannot. So both are timed
/// with one token on weights from memory, and the better is taken.
public struct TernaryFormatChoice: Sendable, Equatable {
  /// The format that was taken.
  public let format: PackedTernary.Format
  /// What was measured and why the format was taken, for reports.
  public let reason: String
  /// Weights a second in 10⁹, and bytes a second, of each format.
  public let twoBitGigaweights: Double
  /// The same of five-trit weights.
  public let fiveTritGigaweights: Double

  private struct Key: Hashable {
    let threads: Int
    let instructionSet: InstructionSet
  }
  private static let known = Mutex<[Key: TernaryFormatChoice]>([:])

  /// The choice for products with the threads of `pool`; measured once for each number of threads
  /// (about a tenth of a second, and as much memory as four last-level caches), then remembered.
  ///
  /// - Throws: ``QuantError`` when the level does not run here or memory is short.
  public static func measured(
    instructionSet: InstructionSet = .best, pool: WorkerPool = .standard
  ) throws(QuantError) -> TernaryFormatChoice {
    let key = Key(threads: pool.threads, instructionSet: instructionSet)
    if let choice = known.withLock({ $0[key] }) { return choice }
    // Rows of 4096: 1 MiB of 2-bit codes hold 1024 of them.
    let columns = 4096
    let bytes = min(max(4 * CacheSizes.lastLevel, 32 << 20), 256 << 20)
    let rows = bytes / (columns / 4)
    var fastest: [PackedTernary.Format: Double] = [:]
    var weights: [PackedTernary] = []
    for format in [PackedTernary.Format.twoBit, .fiveTrit] {
      // Codes of zeros: their values do not change the time. Touched once below, as a warm-up.
      let packed = try PackedTernary(
        rows: rows, columns: columns, format: format, instructionSet: instructionSet)
      let base = packed.storage.base
      let pages = packed.byteCount / 4096
      for page in 0..<pages { base.storeBytes(of: 1, toByteOffset: 4096 * page, as: UInt8.self) }
      weights.append(packed)
    }
    let x = [Float](repeating: 1, count: columns)
    var y = [Float](repeating: 0, count: rows)
    let workspace = Workspace()
    for _ in 0..<4 {
      for packed in weights {
        let seconds = try time(packed, x, &y, workspace, pool)
        fastest[packed.format] = min(fastest[packed.format] ?? .infinity, seconds)
      }
    }
    let count = Double(rows) * Double(columns) * 1e-9
    let choice = TernaryFormatChoice(
      twoBit: count / (fastest[.twoBit] ?? .infinity),
      fiveTrit: count / (fastest[.fiveTrit] ?? .infinity),
      threads: pool.threads)
    known.withLock { $0[key] = choice }
    return choice
  }

  private static func time(
    _ weights: PackedTernary, _ x: [Float], _ y: inout [Float], _ workspace: Workspace,
    _ pool: WorkerPool
  ) throws(QuantError) -> Double {
    var failure: QuantError?
    let seconds = x.withUnsafeBufferPointer { input in
      y.withUnsafeMutableBufferPointer { output -> Double in
        guard let from = input.baseAddress, let to = output.baseAddress else { return .infinity }
        let start = MonotonicClock.nanoseconds()
        do throws(QuantError) {
          try pool.withHotRegion { () throws(QuantError) in
            try weights.multiply(
              from, count: 1, into: to, outputStride: weights.rows, workspace: workspace,
              pool: pool)
          }
        } catch { failure = error }
        return MonotonicClock.seconds(since: start)
      }
    }
    if let failure { throw failure }
    return seconds
  }

  /// The faster of two rates; 2 bits where they tie, since more rows favor it.
  init(twoBit: Double, fiveTrit: Double, threads: Int) {
    twoBitGigaweights = twoBit
    fiveTritGigaweights = fiveTrit
    format = fiveTrit > twoBit ? .fiveTrit : .twoBit
    func tenths(_ value: Double) -> String {
      value.isFinite && value < 1e9 ? "\((value * 10).rounded() / 10)" : "\(value)"
    }
    reason =
      "\(threads) thread\(threads == 1 ? "" : "s") read \(tenths(twoBit)) Gweights/s at 2 bits "
      + "(\(tenths(twoBit / 4)) GB/s) and \(tenths(fiveTrit)) at 1.6 bits "
      + "(\(tenths(fiveTrit / 5)) GB/s)"
  }
}
