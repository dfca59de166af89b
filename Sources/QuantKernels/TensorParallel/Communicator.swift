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

  /// Returns when all ranks have called it.
  ///
  /// - Throws: as ``allReduce(_:)``.
  func barrier() throws(QuantError)

  /// Ends the collectives of all ranks, present and future, with this error.
  func abort(_ error: QuantError)
}
