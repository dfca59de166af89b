/// What a rank has sent so far, and how long it took.
public struct CommunicationTraffic: Sendable, Hashable {
  /// Collectives that had something to send.
  public var collectives = 0
  /// Messages that this rank sent.
  public var messages = 0
  /// Bytes that this rank sent.
  public var bytes = 0
  /// Seconds inside collectives, measured, waiting for others included.
  public var seconds = 0.0
  /// µs that the collectives take on modelled links; 0 where none are modelled.
  public var modelledMicroseconds = 0.0

  /// Nothing yet.
  public init() {}
}

/// One rank's end of the connection between the ranks that share a layer.
///
/// Every rank calls the same collectives in the same order, each from one thread at a time; a call
/// returns when the result is there. Waits block, so that more ranks than cores work. Whatever a
/// rank gets wrong ends the call of every rank with the same error, and every later one: no rank
/// waits for one that has failed or gone.
public protocol Communicator: AnyObject, Sendable {
  /// This rank: 0 ..< ``ranks``.
  var rank: Int { get }
  /// Ranks in all.
  var ranks: Int { get }
  /// What this rank has sent so far.
  var traffic: CommunicationTraffic { get }

  /// Replaces the values of every rank by their sums over the ranks, added in ascending order of
  /// ranks: ((x₀ + x₁) + x₂) + …, each rounded to float32. So all ranks get the same bits, whoever
  /// comes first and however a vector is cut into calls.
  ///
  /// - Throws: ``QuantError``: `.invalidArgument` when ranks disagree on the collective or its size,
  ///   or one has ended without taking part; what another rank failed with.
  func allReduce(_ values: UnsafeMutableBufferPointer<Float>) throws(QuantError)

  /// Puts the values of all ranks one after the other, by rank, into `all` of every rank.
  ///
  /// - Parameters:
  ///   - own: this rank's, as many as every other's; not part of `all`.
  ///   - all: ranks · own.count values.
  /// - Throws: as ``allReduce(_:)``.
  func allGather(
    _ own: UnsafeBufferPointer<Float>, into all: UnsafeMutableBufferPointer<Float>
  ) throws(QuantError)

  /// Sends a part of this rank's values to each rank and takes one from each; the part for itself
  /// is copied.
  ///
  /// - Parameters:
  ///   - values: the parts one after the other, by destination; not part of `received`.
  ///   - counts: how long each is, `[ranks]`.
  ///   - received: the parts that come, one after the other, by source.
  ///   - receivedCounts: how long each of these is, `[ranks]`.
  /// - Throws: as ``allReduce(_:)``; ranks disagree when one expects another count than is sent.
  func allToAll(
    _ values: UnsafeBufferPointer<Float>, counts: [Int],
    into received: UnsafeMutableBufferPointer<Float>, receivedCounts: [Int]
  ) throws(QuantError)

  /// Returns when all ranks have called it.
  ///
  /// - Throws: as ``allReduce(_:)``.
  func barrier() throws(QuantError)

  /// Ends the collectives of all ranks, present and future, with this error.
  func abort(_ error: QuantError)
}

extension Communicator {
  /// What every rank passes, by rank; all pass as many.
  ///
  /// - Throws: as ``allReduce(_:)``.
  public func gather(_ values: [UInt64]) throws(QuantError) -> [[UInt64]] {
    // Four pieces of 16 bits each, which floats hold exactly.
    let pieces = values.flatMap { value in (0..<4).map { Float(value >> UInt64(16 * $0) & 0xFFFF) }
    }
    var all = [Float](repeating: 0, count: pieces.count * ranks)
    var failure: QuantError?
    pieces.withUnsafeBufferPointer { pieces in
      all.withUnsafeMutableBufferPointer { all in
        do throws(QuantError) { try allGather(pieces, into: all) } catch { failure = error }
      }
    }
    if let failure { throw failure }
    return (0..<ranks).map { rank in
      values.indices.map { index in
        (0..<4).reduce(0) {
          $0 | UInt64(all[rank * pieces.count + 4 * index + $1]) << UInt64(16 * $1)
        }
      }
    }
  }

  /// Holds what must be the same on all ranks against the others': a permutation's checksum, a
  /// file's.
  ///
  /// - Throws: ``QuantError`` `.invalidData` on every rank when one differs, and as
  ///   ``allReduce(_:)``.
  public func requireAgreement(_ value: UInt64, on subject: String) throws(QuantError) {
    let all = try gather([value])
    // Every rank sees the same values, so that all of them name the same rank.
    if let other = all.firstIndex(where: { $0 != all[0] }) {
      throw QuantError(
        .invalidData, subject, "rank \(other) has another one than rank 0",
        remedy: "give every rank the same file and the same options")
    }
  }
}
